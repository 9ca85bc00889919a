//! What can go wrong with settings, drafting and generation.

use std::fmt;

use crate::error::NamedError;

/// A setting outside its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSetting {
    /// The setting's field name.
    pub field: &'static str,
    /// What was given.
    pub value: String,
    /// What would have been right.
    pub expected: &'static str,
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, expected {}", self.field, self.value, self.expected)
    }
}

/// Errors of sampling settings, drafting and generation.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Settings outside their ranges, all of them.
    #[error("{}", .0.iter().map(BadSetting::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<BadSetting>),
    /// Nothing to continue.
    #[error("the prompt holds no tokens")]
    EmptyPrompt,
    /// A continuation without tokens.
    #[error("a continuation to score holds no tokens")]
    EmptyContinuation,
    /// A prompt that fills the context or more; it is never cut.
    #[error("a prompt of {prompt} tokens leaves no room in a context of {limit}")]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt: usize,
        /// The most tokens that the context holds.
        limit: usize,
    },
    /// A prompt with an id that the model does not have.
    #[error(
        "token {id} at position {position} of the prompt is not below {vocab_size}, the size of the vocabulary"
    )]
    TokenOutsideVocabulary {
        /// The id.
        id: u32,
        /// Where in the prompt.
        position: usize,
        /// Number of ids that the model has.
        vocab_size: usize,
    },
    /// A logit that is no finite number.
    #[error("logit {value} of token {id}{}", .position.map_or(String::new(), |at| format!(" at position {at}")))]
    Numerics {
        /// The token whose logit it is.
        id: u32,
        /// NaN or an infinity.
        value: f32,
        /// Position of the token to be decided, where known.
        position: Option<usize>,
    },
    /// Every token is banned.
    #[error("no_repeat_ngram bans every token at position {position}")]
    AllBanned {
        /// Position of the token to be decided.
        position: usize,
    },
    /// A draft model with another vocabulary than the target's.
    #[error("draft model has a vocabulary of {draft}, the target one of {target}")]
    DraftMismatch {
        /// The target's number of ids.
        target: usize,
        /// The draft's number of ids.
        draft: usize,
    },
}

impl SessionError {
    /// The error for the logit at `at`.
    pub(crate) fn numerics(logits: &[f32], at: usize, position: Option<usize>) -> Self {
        Self::Numerics { id: at as u32, value: logits[at], position }
    }
}

impl NamedError for SessionError {
    fn name(&self) -> &'static str {
        match self {
            SessionError::Settings(_) => "bad-setting",
            SessionError::EmptyPrompt => "empty-prompt",
            SessionError::EmptyContinuation => "empty-continuation",
            SessionError::ContextOverflow { .. } => "context-overflow",
            SessionError::TokenOutsideVocabulary { .. } => "token-outside-vocabulary",
            SessionError::Numerics { .. } => "numerics",
            SessionError::AllBanned { .. } => "all-tokens-banned",
            SessionError::DraftMismatch { .. } => "draft-mismatch",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            SessionError::Settings(_) => None,
            SessionError::EmptyPrompt => Some("give a prompt of at least one token".into()),
            SessionError::EmptyContinuation => {
                Some("give each continuation a text of at least one token".into())
            }
            SessionError::ContextOverflow { prompt, limit } => {
                Some(format!("shorten the prompt by {} tokens or more", prompt + 1 - limit))
            }
            SessionError::TokenOutsideVocabulary { .. } => {
                Some("the ids were made by another model's tokenizer".into())
            }
            SessionError::Numerics { .. } => {
                Some("the weights, or an adapter on them, are damaged or overflow".into())
            }
            SessionError::AllBanned { .. } => Some("raise no_repeat_ngram or set it to 0".into()),
            SessionError::DraftMismatch { .. } => {
                Some("use a draft model of the same family, or none".into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_the_values() {
        let overflow = SessionError::ContextOverflow { prompt: 9, limit: 8 };
        assert_eq!(overflow.to_string(), "a prompt of 9 tokens leaves no room in a context of 8");
        assert_eq!(overflow.hint().as_deref(), Some("shorten the prompt by 2 tokens or more"));
        let nan = SessionError::Numerics { id: 3, value: f32::NAN, position: Some(7) };
        assert_eq!(nan.to_string(), "logit NaN of token 3 at position 7");
        assert_eq!(nan.name(), "numerics");
    }
}
