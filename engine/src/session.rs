//! Prompts to events: the one decode loop.
//!
//! Plain decoding is speculation with zero drafts, so there is no second loop that could drift.

use crate::error::NamedError;

/// Errors of sampling settings, drafting and generation.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No tokens to start from.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A continuation without tokens.
    #[error("a continuation is empty")]
    EmptyContinuation,
}

impl NamedError for SessionError {
    fn name(&self) -> &'static str {
        match self {
            SessionError::EmptyPrompt => "empty-prompt",
            SessionError::EmptyContinuation => "empty-continuation",
        }
    }
}
