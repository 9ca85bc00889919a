//! The state of a run in a folder: parameters, moments, step, best evaluation, and what the run is
//! made of. A checkpoint appears whole, by renaming its folder.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use minicrit_engine::source::{StoredTensor, safetensors};
use minicrit_hub::atomic_file::{self, Readers};
use minicrit_quant::QuantTensor;
use serde::{Deserialize, Serialize};

use super::{Best, Form, result};
use crate::{LoraError, Result, optimizer::Moments, peft, trainer::Trainer};

/// Moments of a checkpoint.
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// All else of a checkpoint.
const STATE_FILE: &str = "run_state.json";
/// In front of the number of steps.
const PREFIX: &str = "checkpoint-";
/// Behind the name of a folder that is not complete.
const PART: &str = ".part";

/// What a run is made of: hashes and settings by name. Two runs with the same identity give the
/// same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity(pub BTreeMap<String, String>);

impl Identity {
    /// Adds one thing.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_string(), value.to_string());
    }

    /// One thing, or nothing.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// In what two runs differ.
    fn differences(&self, saved: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> =
            self.0.keys().chain(saved.0.keys()).collect();
        let differs = |name: &&&String| self.0.get(**name) != saved.0.get(**name);
        let shown = |map: &Self, name: &String| {
            let text = map.0.get(name).map_or("absent", String::as_str);
            text.chars().take(60).collect::<String>()
        };
        let line =
            |name: &String| format!("{name} was {}, is {}", shown(saved, name), shown(self, name));
        names.iter().filter(differs).map(|it| line(it)).collect()
    }
}

#[derive(Serialize, Deserialize)]
struct State {
    steps_done: u64,
    best: Option<SavedBest>,
    identity: Identity,
}

#[derive(Serialize, Deserialize)]
struct SavedBest {
    step: u64,
    /// The bits of the loss: a decimal number might lose the last one.
    loss_bits: u64,
    since: u64,
}

/// The checkpoint with the most steps in `output`.
///
/// # Errors
/// A folder that can't be read.
pub fn newest(output: &Path) -> Result<Option<PathBuf>> {
    Ok(list(output)?.pop().map(|it| it.1))
}

/// All checkpoints, oldest first.
fn list(output: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in children(output)? {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
        let number = name.and_then(|it| it.strip_prefix(PREFIX)?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| path.join(STATE_FILE).is_file()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

fn children(output: &Path) -> Result<Vec<PathBuf>> {
    let read = |error| LoraError::file("read", output, error);
    let entries = std::fs::read_dir(output).map_err(read)?;
    entries.map(|it| it.map(|it| it.path()).map_err(read)).collect()
}

fn remove(folder: &Path) -> Result<()> {
    std::fs::remove_dir_all(folder).map_err(|it| LoraError::file("write", folder, it))
}

/// Removes what a killed process left unfinished.
///
/// # Errors
/// A folder that can't be removed.
pub fn remove_parts(output: &Path) -> Result<()> {
    for path in children(output)? {
        let is_part = path.extension().is_some_and(|it| format!(".{}", it.display()) == PART);
        if is_part && path.is_dir() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes all checkpoints but the newest `keep`.
///
/// # Errors
/// A folder that can't be removed.
pub fn remove_oldest(output: &Path, keep: usize) -> Result<()> {
    let all = list(output)?;
    let surplus = all.len().saturating_sub(keep.max(1));
    all[..surplus].iter().try_for_each(|it| remove(&it.1))
}

/// Removes all checkpoints.
///
/// # Errors
/// A folder that can't be removed.
pub fn remove_all(output: &Path) -> Result<()> {
    list(output)?.iter().try_for_each(|it| remove(&it.1))
}

/// Saves the state of `trainer` below `output`.
///
/// # Errors
/// Files that can't be written.
pub fn save(
    output: &Path,
    identity: &Identity,
    form: &Form,
    trainer: &Trainer,
    best: Option<Best>,
) -> Result<PathBuf> {
    let folder = output.join(format!("{PREFIX}{}", trainer.steps_done()));
    write_folder(&folder, |part| {
        result::write_weights(part, form, trainer)?;
        let mut moments = Vec::new();
        for (param, it) in trainer.learner.params().iter().zip(trainer.moments()) {
            for (which, values) in [("first", &it.first), ("second", &it.second)] {
                let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
                moments.push((format!("{}.{which}", param.name), tensor));
            }
        }
        write_file(&part.join(OPTIMIZER_FILE), &peft::safetensors_bytes(&moments)?)?;
        let best = best.map(|it| SavedBest {
            step: it.step,
            loss_bits: it.loss.to_bits(),
            since: it.since,
        });
        let identity = identity.clone();
        let state = State { steps_done: trainer.steps_done(), best, identity };
        let text = serde_json::to_vec_pretty(&state).unwrap_or_default();
        write_file(&part.join(STATE_FILE), &text)
    })?;
    Ok(folder)
}

/// Writes a folder beside its place, and renames it. An older folder of the name is replaced.
///
/// # Errors
/// Those of `fill`, or a folder that can't be written.
pub fn write_folder(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = with_suffix(folder, PART);
    let io = |error| LoraError::file("write", folder, error);
    if part.exists() {
        remove(&part)?;
    }
    std::fs::create_dir_all(&part).map_err(io)?;
    fill(&part)?;
    sync_folder(&part).map_err(io)?;
    if folder.exists() {
        let old = with_suffix(folder, ".old.part");
        std::fs::rename(folder, &old).map_err(io)?;
        std::fs::rename(&part, folder).map_err(io)?;
        remove(&old)?;
    } else {
        std::fs::rename(&part, folder).map_err(io)?;
    }
    match folder.parent() {
        Some(parent) => sync_folder(parent).map_err(io),
        None => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    let _ = folder;
    Ok(())
}

/// Writes a file that appears whole.
///
/// # Errors
/// A file that can't be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    atomic_file::write(path, Readers::Umask, |file| file.write_all(bytes))
        .map_err(|it: std::io::Error| LoraError::file("write", path, it))
}

/// Brings `trainer` into the state of the checkpoint `folder`.
///
/// # Errors
/// `bad-resume` with all that differs; files that can't be read or do not fit.
pub fn restore(folder: &Path, identity: &Identity, trainer: &mut Trainer) -> Result<Option<Best>> {
    let bad = |problems| LoraError::Resume { path: folder.to_path_buf(), problems };
    let path = folder.join(STATE_FILE);
    let text = std::fs::read(&path).map_err(|it| LoraError::file("read", &path, it))?;
    let state: State = serde_json::from_slice(&text)
        .map_err(|it| bad(vec![format!("{STATE_FILE} can't be read: {it}")]))?;
    let differences = identity.differences(&state.identity);
    if !differences.is_empty() {
        return Err(bad(differences));
    }
    let mut weights = open(&folder.join(result::weights_file(trainer)))?;
    let mut moments = open(&folder.join(OPTIMIZER_FILE))?;
    let mut problems = Vec::new();
    let mut take = |from: &mut BTreeMap<String, Vec<f32>>, name: &str, len: usize| {
        let found = from.remove(name).filter(|it| it.len() == len);
        if found.is_none() {
            problems.push(format!("`{name}` with {len} values is missing"));
        }
        found.unwrap_or_default()
    };
    let mut restored = Vec::new();
    for param in trainer.learner.params() {
        let (name, len) = (&param.name, param.len());
        let values = take(&mut weights, name, len);
        let first = take(&mut moments, &format!("{name}.first"), len);
        let second = take(&mut moments, &format!("{name}.second"), len);
        restored.push((values, Moments { first, second }));
    }
    if !problems.is_empty() {
        return Err(bad(problems));
    }
    let mut moments = Vec::with_capacity(restored.len());
    for (param, (values, it)) in trainer.learner.params().iter().zip(restored) {
        param.set(values)?;
        moments.push(it);
    }
    trainer.learner.refresh()?;
    trainer.restore(state.steps_done, moments)?;
    let best = state.best.map(|it| Best {
        step: it.step,
        loss: f64::from_bits(it.loss_bits),
        since: it.since,
    });
    Ok(best)
}

fn open(path: &Path) -> Result<BTreeMap<String, Vec<f32>>> {
    let values = |it: StoredTensor| -> Result<Vec<f32>> {
        let count = it.shape.iter().product();
        Ok(QuantTensor::new(it.format, 1, count, it.bytes)?.dequantize())
    };
    safetensors::open(path)?.into_iter().map(|(name, it)| Ok((name, values(it)?))).collect()
}
