//! Not yet written.

/// Who owns which row.
#[derive(Debug)]
pub struct Rows {}
