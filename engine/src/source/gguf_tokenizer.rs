//! Tokenizer files from a GGUF file's metadata. Not yet written.

use super::{Result, gguf::Gguf};

/// What [`tokenizer_files`] makes of a GGUF file.
pub(super) struct TokenizerFiles {
    /// tokenizer.json.
    pub(super) tokenizer: Vec<u8>,
    /// tokenizer_config.json.
    pub(super) config: serde_json::Value,
}

/// tokenizer.json and tokenizer_config.json from `gguf`, or `None` where it has no vocabulary.
pub(super) fn tokenizer_files(_gguf: &Gguf) -> Result<Option<TokenizerFiles>> {
    Ok(None)
}
