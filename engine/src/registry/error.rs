//! What can be wrong with a registry.

use std::fmt;

use crate::error::NamedError;

/// One problem of models.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryProblem {
    /// Line, from 1, where the text tells one.
    pub line: Option<usize>,
    /// The model it concerns, where it has a name.
    pub model: Option<String>,
    /// What is wrong, with the value.
    pub what: String,
}

impl fmt::Display for RegistryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(model) = &self.model {
            write!(f, "`{model}`: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text has problems: all of them.
    #[error("models.toml: {} problem(s)\n{}", problems.len(), listed(problems))]
    Invalid {
        /// In the order of their lines.
        problems: Vec<RegistryProblem>,
    },
}

fn listed(problems: &[RegistryProblem]) -> String {
    problems.iter().map(|it| format!("  {it}")).collect::<Vec<_>>().join("\n")
}

impl NamedError for RegistryError {
    fn name(&self) -> &'static str {
        match self {
            RegistryError::Invalid { .. } => "registry-invalid",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            RegistryError::Invalid { .. } => Some("correct the lines named above".to_owned()),
        }
    }
}
