//! Which flaw was taken for which, and the four kinds of errors.

use std::collections::BTreeMap;

use serde::Serialize;

use super::metrics::Outcome;
use crate::case::Verdict;

/// What a valid verdict is called in the matrix.
pub const VALID: &str = "valid";

/// Rows are true flaws (and valid), columns are what the critic said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeConfusion {
    /// Names of rows and columns; `valid` is the first.
    pub names: Vec<String>,
    /// Number of cases, `[true][said]`.
    pub counts: Vec<Vec<usize>>,
}

impl TypeConfusion {
    /// Counts. Only names that occur get a row and a column.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let name = |verdict, flaw: &Option<String>| match verdict {
            Verdict::Valid => VALID.to_owned(),
            Verdict::Flawed => flaw.clone().unwrap_or_else(|| "other".into()),
        };
        let pairs: Vec<(String, String)> = outcomes
            .iter()
            .map(|it| (name(it.label, &it.flaw_type), name(it.verdict, &it.named_flaw)))
            .collect();
        let mut names: Vec<String> =
            pairs.iter().flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        names.sort_by_key(|it| (it != VALID, it.clone()));
        names.dedup();
        let index: BTreeMap<&str, usize> =
            names.iter().enumerate().map(|(i, it)| (it.as_str(), i)).collect();
        let mut counts = vec![vec![0; names.len()]; names.len()];
        for (truth, said) in &pairs {
            counts[index[truth.as_str()]][index[said.as_str()]] += 1;
        }
        Self { names, counts }
    }
}

/// How a critique can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A valid rationale was called flawed.
    FalsePositive,
    /// A flaw was missed.
    FalseNegative,
    /// The flaw was seen and misnamed.
    WrongFlawType,
    /// All was right, and the explanation is poor.
    PoorExplanation,
}

impl ErrorKind {
    /// The error of an outcome, if there is one. `poor` says that a judge found the explanation
    /// poor.
    pub fn of(outcome: &Outcome, poor: bool) -> Option<Self> {
        match (outcome.label, outcome.verdict) {
            (Verdict::Valid, Verdict::Flawed) => Some(ErrorKind::FalsePositive),
            (Verdict::Flawed, Verdict::Valid) => Some(ErrorKind::FalseNegative),
            (Verdict::Flawed, Verdict::Flawed) if outcome.flaw_type != outcome.named_flaw => {
                Some(ErrorKind::WrongFlawType)
            }
            _ => poor.then_some(ErrorKind::PoorExplanation),
        }
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::FalsePositive => "false_positive",
            ErrorKind::FalseNegative => "false_negative",
            ErrorKind::WrongFlawType => "wrong_flaw_type",
            ErrorKind::PoorExplanation => "poor_explanation",
        }
    }
}
