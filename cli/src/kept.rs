//! Rounded weights that were kept by an earlier start, or are kept by this one: `--quant`.
//!
//! Keeping is a convenience: where the disk does not want, the model is rounded in memory and a note
//! says why. What was kept and is damaged is dropped, said, and made again.

use std::path::{Path, PathBuf};

use minicrit_engine::{NamedError, recipe::Mix, source::ModelFiles};
use minicrit_hub::{
    Error as HubError,
    kept::{KeptModels, Key},
};

use crate::{
    memory::{self, Needs},
    model::{self, ModelRef},
    printer,
    settings::Compute,
};

/// The files of a model that is about to be loaded.
pub struct Opened {
    /// The files.
    pub files: ModelFiles,
    /// What their weights have to be rounded to still.
    pub mix: Option<Mix>,
    kept: Option<(KeptModels, PathBuf)>,
}

/// Opens a model whose weights may have to be rounded: from a file of an earlier start, or from one
/// that is made now, or as it is.
///
/// # Errors
/// Those of the model itself.
pub fn open(model: &ModelRef, compute: &Compute) -> anyhow::Result<Opened> {
    let Some((key, mix, all)) = key(model, compute)? else {
        return Ok(Opened { files: model.files()?, mix: compute.quantize, kept: None });
    };
    if let Some(opened) = found(model, &all, &key) {
        return Ok(opened);
    }
    let files = model.base().files()?;
    let mut opened = Opened { files, mix: Some(mix), kept: None };
    // Weights that are packed already are refused by whoever loads them.
    if opened.files.packed.is_empty() {
        model::check_context(compute.context, &opened.files)?;
        let needs = needs(&opened.files, Some(mix))?;
        needs.check(compute.context, &memory::available())?;
        let label = model.label();
        let progress =
            printer::Progress::start(format!("rounding {label} to {}, once", mix.name()));
        let written = all.write(&key, &opened.files, needs.weight_bytes);
        drop(progress);
        match written {
            Ok(_) => {
                if let Some(kept) = found(model, &all, &key) {
                    return Ok(kept);
                }
            }
            Err(HubError::Model(error)) => return Err((*error).into()),
            Err(error) => {
                printer::note(&format!("note: the rounded weights are not kept: {error}"));
            }
        }
    }
    opened.files = model.dressed(opened.files);
    Ok(opened)
}

/// What the kept file is looked up by, where one may be kept.
fn key(model: &ModelRef, compute: &Compute) -> anyhow::Result<Option<(Key, Mix, KeptModels)>> {
    let (Some(mix), Some(folder)) = (compute.quantize, &compute.kept) else { return Ok(None) };
    // GGUF's types have files of their own kind: `minicrit quantize`.
    if !mix.is_packed() {
        return Ok(None);
    }
    // The built-in model is part of the program, and small.
    let source = match model.base() {
        ModelRef::Path(path) if path.exists() => path.clone(),
        ModelRef::Hub(it) => match it.found() {
            Some(found) => found.path,
            None => return Err(model::not_downloaded(it).into()),
        },
        _ => return Ok(None),
    };
    Ok(Key::of(&source, mix).map(|key| (key, mix, KeptModels::new(folder))))
}

/// The kept file, if it is there and its outside is sound.
fn found(model: &ModelRef, all: &KeptModels, key: &Key) -> Option<Opened> {
    let path = all.find(key)?;
    match ModelFiles::open(&path) {
        Ok(files) => {
            let files = model.dressed(files);
            Some(Opened { files, mix: None, kept: Some((all.clone(), path)) })
        }
        Err(error) => {
            drop_damaged(all, &path, &error.to_string());
            None
        }
    }
}

/// What the model takes, rounded where that is asked for.
///
/// # Errors
/// A config.json that describes no model that is run.
pub fn needs(files: &ModelFiles, mix: Option<Mix>) -> anyhow::Result<Needs> {
    let needs = Needs::of(files);
    match mix {
        Some(mix) if files.packed.is_empty() => needs.rounded(files, mix),
        _ => Ok(needs),
    }
}

impl Opened {
    /// Takes a kept file away if that is what `error` is about; then the model is opened anew.
    pub fn drop_if_damaged(&self, error: &anyhow::Error) -> bool {
        let name = error.downcast_ref::<minicrit_engine::Error>().map(NamedError::name);
        match &self.kept {
            Some((all, path)) if matches!(name, Some("bad-packed-file" | "weights")) => {
                drop_damaged(all, path, &error.to_string());
                true
            }
            _ => false,
        }
    }
}

fn drop_damaged(all: &KeptModels, path: &Path, why: &str) {
    printer::note(&format!("note: kept weights were damaged and are made again: {why}"));
    all.discard(path);
}
