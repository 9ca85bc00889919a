//! What can be wrong with tokenizers and token ids.

use crate::error::NamedError;

/// Errors of this module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// A tokenizer.json is broken, dangerous, or does not fit its model: all problems at once.
    #[error("tokenizer.json can't be used: {}", listed(.problems))]
    Invalid {
        /// Every problem found.
        problems: Vec<String>,
    },
    /// The tokenizer gave up on a text.
    #[error("the tokenizer failed: {0}")]
    Failed(String),
}

impl TokensError {
    pub(super) fn invalid(problem: impl Into<String>) -> Self {
        TokensError::Invalid { problems: vec![problem.into()] }
    }
}

fn listed(problems: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = problems.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    if problems.len() > SHOWN {
        text.push_str(&format!("; and {} more", problems.len() - SHOWN));
    }
    text
}

impl NamedError for TokensError {
    fn name(&self) -> &'static str {
        match self {
            TokensError::Invalid { .. } => "tokenizer-invalid",
            TokensError::Failed(_) => "tokenizer-failed",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            TokensError::Invalid { .. } => Some("fetch the model's tokenizer.json again".into()),
            TokensError::Failed(_) => None,
        }
    }
}
