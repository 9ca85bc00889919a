//! A critic over a suite, case by case; a run that was killed goes on where it stopped.

use std::{collections::HashMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{Outcome, suite::Suite};
use crate::{
    Result,
    case::{Case, Verdict},
    critique::Critic,
    log::Log,
};

/// What a critic said about one case, as a line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// The case.
    pub id: String,
    /// The verdict; none where an error came instead.
    pub verdict: Option<Verdict>,
    /// The flaw that was named.
    pub flaw_type: Option<String>,
    /// Calibrated probability that it is flawed.
    pub flawed_probability: Option<f64>,
    /// The model's log-odds.
    pub log_odds: Option<f64>,
    /// Time of the verdict.
    pub latency_ms: f64,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The first line of a file of results.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    suite: String,
    suite_hash: String,
    model: String,
}

/// Judges every case of `suite`, in its order. `model` names the critic and all its settings. With
/// a file, results go there one by one, and those that it already holds are not made again.
/// `progress` gets the number of cases done and says whether to go on.
///
/// # Errors
/// A file of another suite or model, or that can't be written. What a model can't answer becomes a
/// result with an error.
pub fn run(
    critic: &mut Critic,
    suite: &Suite,
    model: &str,
    file: Option<&Path>,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<CaseResult>> {
    let header = Header {
        suite: suite.name.clone(),
        suite_hash: suite.content_hash(),
        model: model.to_owned(),
    };
    let mut known: HashMap<String, CaseResult> = HashMap::new();
    let mut log = None;
    if let Some(path) = file {
        let (opened, finished) = Log::open::<Header, CaseResult>(path, &header)?;
        // What failed is tried again.
        let good = finished.into_iter().filter(|it| it.error.is_none());
        known.extend(good.map(|it| (it.id.clone(), it)));
        log = Some(opened);
    }
    let mut results = Vec::with_capacity(suite.cases.len());
    for case in &suite.cases {
        let result = match known.remove(&case.id) {
            Some(result) => result,
            None => {
                let result = judge(critic, case);
                if let Some(log) = &mut log {
                    log.append(&result)?;
                }
                as_read_back(result)
            }
        };
        results.push(result);
        if !progress(results.len()) {
            break;
        }
    }
    Ok(results)
}

/// The result as a later run reads it from its line: the JSON reader may lose the last bit of a
/// number, and a run that went on must give the figures of one that was never stopped.
fn as_read_back(result: CaseResult) -> CaseResult {
    let line = serde_json::to_string(&result).expect("invariant: a plain struct");
    serde_json::from_str(&line).unwrap_or(result)
}

fn judge(critic: &mut Critic, case: &Case) -> CaseResult {
    match critic.critique(&case.rationale) {
        Ok(it) => CaseResult {
            id: case.id.clone(),
            verdict: Some(it.verdict),
            flaw_type: it.flaw_type,
            flawed_probability: Some(it.flawed_probability),
            log_odds: Some(it.log_odds),
            latency_ms: it.latency_ms,
            error: None,
        },
        Err(error) => CaseResult {
            id: case.id.clone(),
            verdict: None,
            flaw_type: None,
            flawed_probability: None,
            log_odds: None,
            latency_ms: 0.0,
            error: Some(error.to_string()),
        },
    }
}

/// Verdicts with their truth; cases that met an error are left out.
pub fn outcomes(cases: &[Case], results: &[CaseResult]) -> Vec<Outcome> {
    std::iter::zip(cases, results)
        .filter_map(|(case, it)| {
            Some(Outcome {
                label: case.label,
                flaw_type: case.flaw_type.clone(),
                operator: case.operator,
                verdict: it.verdict?,
                named_flaw: it.flaw_type.clone(),
                flawed_probability: it.flawed_probability?,
                latency_ms: it.latency_ms,
            })
        })
        .collect()
}
