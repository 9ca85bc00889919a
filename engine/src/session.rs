//! Prompts to events: the one decode loop.
//!
//! Plain decoding is speculation with zero drafts, so there is no second loop that could drift.

use crate::error::NamedError;

/// Errors of sampling settings, drafting and generation.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {}

impl NamedError for SessionError {
    fn name(&self) -> &'static str {
        match *self {}
    }
}
