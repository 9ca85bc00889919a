//! Not yet written.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {}

impl NamedError for RegistryError {
    fn name(&self) -> &'static str {
        match *self {}
    }
}
