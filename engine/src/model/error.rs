//! What can be wrong with a model's description, its weights, or a call of it.

use crate::error::NamedError;

/// Most problems that a message lists.
const MAX_LISTED: usize = 20;

/// Errors of [`crate::arch`], [`crate::load`] and [`crate::model`].
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A family that has no arithmetic here.
    #[error("models of type `{family}` are not supported")]
    Family {
        /// `model_type` of config.json.
        family: String,
    },
    /// A config.json whose numbers can't be, or ask for what is not supported.
    #[error("config.json does not describe a model that can run: {}", listed(problems))]
    Config {
        /// Every problem.
        problems: Vec<String>,
    },
    /// Weights that do not fit the config.json.
    #[error("the weights do not fit config.json: {}", listed(problems))]
    Weights {
        /// Every missing, unused or misshapen tensor.
        problems: Vec<String>,
    },
    /// A weight that is not a number.
    #[error("tensor `{tensor}` holds a value that is not finite")]
    NonFiniteWeight {
        /// Name of the tensor.
        tensor: String,
    },
    /// A token id beyond the embedding.
    #[error("token id {id} is outside the vocabulary of {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// More tokens than the model was made for.
    #[error("{needed} tokens do not fit a context of {limit}")]
    ContextOverflow {
        /// Tokens that were asked for.
        needed: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// A cache of another model, adapter or rope regime.
    #[error("a cache filled under another model or adapter can't be continued")]
    CacheTag,
    /// The caller wished no more.
    #[error("the work was called off")]
    Cancelled,
    /// NaN or infinity in the model's output.
    #[error("the model's output at position {position} is not finite")]
    NonFinite {
        /// Position in the sequence.
        position: usize,
    },
}

fn listed(problems: &[String]) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(MAX_LISTED) {
        text.push_str("\n  ");
        text.push_str(problem);
    }
    if problems.len() > MAX_LISTED {
        text.push_str(&format!("\n  and {} more", problems.len() - MAX_LISTED));
    }
    text
}

impl NamedError for ModelError {
    fn name(&self) -> &'static str {
        match self {
            ModelError::Family { .. } => "unsupported-model",
            ModelError::Config { .. } => "bad-config",
            ModelError::Weights { .. } => "bad-weights",
            ModelError::NonFiniteWeight { .. } => "non-finite-weight",
            ModelError::TokenId { .. } => "token-out-of-range",
            ModelError::ContextOverflow { .. } => "context-overflow",
            ModelError::CacheTag => "cache-mismatch",
            ModelError::Cancelled => "cancelled",
            ModelError::NonFinite { .. } => "numerics",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            ModelError::Family { .. } => {
                format!("supported types are {}", crate::arch::FAMILIES.join(", "))
            }
            ModelError::Weights { .. } => {
                "fetch the folder again; config.json and weights must be of one model".into()
            }
            ModelError::ContextOverflow { limit, .. } => {
                format!("shorten the prompt, or ask for fewer than {limit} tokens in all")
            }
            ModelError::NonFinite { .. } | ModelError::NonFiniteWeight { .. } => {
                "the weights are damaged or were stored in too narrow a format".into()
            }
            _ => return None,
        };
        Some(hint)
    }
}
