//! Why a model can't be written in a form.

use crate::error::NamedError;

/// Errors of [`crate::export`].
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// GGUF has no place for something that the model needs.
    #[error("GGUF can't hold this model: {}", problems.join("; "))]
    NoGgufForm {
        /// Everything that it has no place for.
        problems: Vec<String>,
    },
    /// A tokenizer that llama.cpp has no arrangement for.
    #[error("GGUF can't hold this tokenizer: {problem}")]
    NoGgufTokenizer {
        /// What it has no place for.
        problem: String,
    },
    /// Weights that were rounded once are not rounded again.
    #[error("the weights of this file are packed already")]
    AlreadyPacked,
    /// A tensor that can't be rounded to its format.
    #[error("tensor `{tensor}`: {source}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        source: minicrit_quant::Error,
    },
    /// The file can't be written.
    #[error("can't write the model: {0}")]
    Write(#[from] std::io::Error),
}

impl NamedError for ExportError {
    fn name(&self) -> &'static str {
        use std::io::ErrorKind;
        match self {
            ExportError::NoGgufForm { .. } => "no-gguf-form",
            ExportError::NoGgufTokenizer { .. } => "no-gguf-tokenizer",
            ExportError::AlreadyPacked => "already-packed",
            ExportError::Tensor { .. } => "weights",
            ExportError::Write(error) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "no-space",
                _ => "file",
            },
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            ExportError::NoGgufForm { .. } | ExportError::NoGgufTokenizer { .. } => {
                "pass --format q8 or q4: those files hold every model that runs here"
            }
            ExportError::AlreadyPacked => {
                "run it as it is, or start from the model that it was made of"
            }
            ExportError::Tensor { .. } => {
                "the weights are damaged, or need a format with a wider range such as bf16"
            }
            ExportError::Write(error) => match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "free some space, or pass an --output on another disk"
                }
                _ => "check the path and permissions of --output",
            },
        };
        Some(hint.to_owned())
    }
}
