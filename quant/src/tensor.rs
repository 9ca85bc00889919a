//! Not yet written.

/// Matrix.
#[derive(Debug)]
pub struct QuantTensor {}
