//! Not yet written.

/// Op.
#[derive(Debug)]
pub struct QuantMatmul {}
