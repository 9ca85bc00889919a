//! Not yet written.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {}

impl NamedError for ModelError {
    fn name(&self) -> &'static str {
        match *self {}
    }
}
