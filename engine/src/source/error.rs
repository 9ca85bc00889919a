//! What can be wrong with a model's files.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {}

impl NamedError for SourceError {
    fn name(&self) -> &'static str {
        match *self {}
    }
}
