//! A critic over a suite, case by case; a run that was killed goes on where it stopped.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Outcome, suite::Suite};
use crate::{
    Error, Result,
    case::{Case, Verdict},
    critique::Critic,
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
    let mut known = HashMap::new();
    let mut log = match file {
        Some(path) => Some((path, open_log(path, &header, &mut known)?)),
        None => None,
    };
    let mut results = Vec::with_capacity(suite.cases.len());
    for case in &suite.cases {
        let result = match known.remove(&case.id) {
            Some(result) => result,
            None => {
                let result = judge(critic, case);
                if let Some((path, log)) = &mut log {
                    append(path, log, &result)?;
                }
                result
            }
        };
        results.push(result);
        if !progress(results.len()) {
            break;
        }
    }
    Ok(results)
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

/// Opens a log to append to, after reading what an earlier run left. A line that a kill cut short
/// is dropped.
fn open_log(path: &Path, header: &Header, known: &mut HashMap<String, CaseResult>) -> Result<File> {
    let failed = |source| Error::File { path: path.to_path_buf(), source };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let mut whole = 0;
    let mut lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    if let Some(first) = lines.next() {
        let found: Option<Header> = serde_json::from_str(first).ok();
        if found.as_ref() != Some(header) {
            return Err(Error::OtherRun { path: path.to_path_buf() });
        }
        whole += first.len();
        for line in lines {
            let Ok(result) = serde_json::from_str::<CaseResult>(line) else { break };
            whole += line.len();
            // What failed is tried again.
            if result.error.is_none() {
                known.insert(result.id.clone(), result);
            }
        }
    }
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(false).open(path).map_err(failed)?;
    file.set_len(whole as u64).map_err(failed)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).map_err(failed)?;
    if whole == 0 {
        append(path, &mut file, header)?;
    }
    Ok(file)
}

fn append(path: &Path, file: &mut File, value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value).expect("invariant: a plain struct");
    line.push('\n');
    file.write_all(line.as_bytes())
        .map_err(|source| Error::File { path: path.to_path_buf(), source })
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
