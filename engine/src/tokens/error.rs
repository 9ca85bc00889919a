//! What can be wrong with tokenizers and token ids.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {}

impl NamedError for TokensError {
    fn name(&self) -> &'static str {
        match *self {}
    }
}
