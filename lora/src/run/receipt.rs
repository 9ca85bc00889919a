//! minicrit.json: what an adapter was made from, so that it can be checked and made again.

use std::{collections::BTreeMap, path::Path};

use minicrit_engine::model::Decoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Best, Identity};
use crate::{LoraError, Result, fingerprint::fingerprint, trainer::Trainer};

/// The receipt's name in an adapter's folder.
pub const RECEIPT_FILE: &str = "minicrit.json";

/// Longest receipt that is read.
const LIMIT: u64 = 1 << 20;

/// What was trained on what, how, and with which result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of the program.
    pub minicrit: String,
    /// Everything that decides the bytes: hashes of base, tokenizer, template and data, seed and
    /// settings.
    pub made_of: BTreeMap<String, String>,
    /// Steps done.
    pub steps: u64,
    /// The step whose parameters these are.
    pub from_step: u64,
    /// Examples.
    pub examples: u64,
    /// Tokens that carry loss in one epoch.
    pub trained_tokens: f64,
    /// Loss of the first step.
    pub first_loss: Option<f64>,
    /// Mean loss of the last tenth of the steps.
    pub final_loss: Option<f64>,
    /// Best loss of an evaluation.
    pub best_eval_loss: Option<f64>,
    /// Hash of the parameters, BLAKE3 over names and values.
    pub parameters: String,
}

impl Receipt {
    /// The receipt of a finished run; `taken` is the evaluation whose parameters are the result.
    pub fn new(
        identity: &Identity,
        trainer: &Trainer,
        history: &[Value],
        best: Option<Best>,
        taken: Option<Best>,
    ) -> Self {
        let losses: Vec<f64> = history.iter().filter_map(|it| it["loss"].as_f64()).collect();
        let tail = &losses[losses.len() - losses.len().div_ceil(10)..];
        let mean = tail.iter().sum::<f64>() / tail.len().max(1) as f64;
        let mut hasher = blake3::Hasher::new();
        for param in trainer.learner.params() {
            hasher.update(param.name.as_bytes());
            for value in param.values().unwrap_or_default() {
                hasher.update(&value.to_le_bytes());
            }
        }
        Self {
            minicrit: env!("CARGO_PKG_VERSION").to_string(),
            made_of: identity.0.clone(),
            steps: trainer.steps_done(),
            from_step: taken.map_or(trainer.steps_done(), |it| it.step),
            examples: trainer.data().len() as u64,
            trained_tokens: trainer.data().weight(),
            first_loss: losses.first().copied(),
            final_loss: (!losses.is_empty()).then_some(mean),
            best_eval_loss: best.map(|it| it.loss),
            parameters: hasher.finalize().to_hex().to_string(),
        }
    }
}

/// The receipt in an adapter's folder, if there is one.
///
/// # Errors
/// A receipt that can't be read.
pub fn read_receipt(folder: &Path) -> Result<Option<Receipt>> {
    let path = folder.join(RECEIPT_FILE);
    let bad =
        |problem: String| LoraError::AdapterConfig { path: path.clone(), problems: vec![problem] };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LoraError::file("read", &path, error)),
        Ok(it) if it.len() > LIMIT => return Err(bad(format!("it has {} bytes", it.len()))),
        Ok(_) => {}
    }
    let text = std::fs::read(&path).map_err(|it| LoraError::file("read", &path, it))?;
    serde_json::from_slice(&text).map(Some).map_err(|it| bad(it.to_string()))
}

/// Refuses an adapter whose receipt names another base than `decoder`. An adapter without receipt
/// says nothing about its base.
///
/// # Errors
/// `wrong-base`, or a receipt that can't be read.
pub fn check_base(folder: &Path, decoder: &Decoder) -> Result<()> {
    let Some(receipt) = read_receipt(folder)? else { return Ok(()) };
    let Some(trained_on) = receipt.made_of.get("base_fingerprint") else { return Ok(()) };
    let found = fingerprint(decoder)?;
    if *trained_on == found {
        return Ok(());
    }
    let name = receipt.made_of.get("base").map_or("a base without name", String::as_str);
    let what = format!("`{name}`, whose norms hash to {trained_on}, here to {found}");
    Err(LoraError::OtherBase { origin: folder.display().to_string(), what })
}
