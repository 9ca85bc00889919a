//! Not yet written.

/// Text to ids.
#[derive(Debug)]
pub struct Tokenizer {}
