//! Not yet written.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {}

impl NamedError for ChatError {
    fn name(&self) -> &'static str {
        match *self {}
    }
}
