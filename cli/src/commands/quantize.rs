//! `minicrit quantize`: a model in a smaller format, and what that costs.

mod budget;
mod report;
mod texts;

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use minicrit_engine::{
    assemble,
    export::{self, ExportError, Written},
    importance::Importance,
    load::LoadOptions,
    recipe::Recipe,
    source::ModelFiles,
};
use minicrit_hub::atomic_file;
use serde_json::{Value, json};

use super::Status;
use crate::{
    errors::{self, Failure},
    printer,
    settings::QuantizeSettings,
    signals::Answering,
};

/// Writes, measures and prints.
///
/// # Errors
/// Those of the model, of the texts and of the disk.
pub fn quantize(settings: &QuantizeSettings) -> anyhow::Result<Status> {
    let QuantizeSettings { output, .. } = settings;
    if !settings.force && std::fs::symlink_metadata(output).is_ok_and(|it| it.is_file()) {
        let message = format!("there is a file already: `{}`", output.display());
        return Err(Failure::usage("file-exists", message)
            .hint("pass --force to replace it, or another --output")
            .into());
    }
    let files = settings.model.files()?;
    // Texts are read before hours of rounding, not after.
    let data = match settings.report || settings.budget.is_some() {
        true => Some(texts::read(settings.data.as_deref(), &files)?),
        false => None,
    };
    let importance = match &settings.calibrate {
        Some(path) => calibrate(&files, path)?,
        None => Importance::default(),
    };
    let recipe = match (settings.budget, &data) {
        (Some(bytes), Some(texts)) => budget::recipe(&files, bytes, texts, &importance)?,
        _ => Recipe::new(settings.mix),
    };
    let answering = Answering::begin();
    let written = match write(settings, &files, &recipe, &importance, &answering) {
        Err(_) if answering.interrupted() => return Ok(Status::Interrupted),
        other => other?,
    };
    drop(answering);
    let mut about = describe(settings, &recipe, &written)?;
    if let Some(texts) = data.filter(|_| settings.report) {
        about["report"] = report::measure(&files, output, texts)?;
    }
    if settings.json {
        printer::json(&about)?;
    } else {
        print(&about)?;
    }
    Ok(Status::Done)
}

fn calibrate(files: &ModelFiles, path: &Path) -> anyhow::Result<Importance> {
    let texts = texts::read(Some(path), files)?;
    let _progress = printer::Progress::start(format!("calibrating on {} tokens", texts.tokens()));
    let model = assemble::load(files, LoadOptions::default())?;
    Ok(Importance::measure(&model.decoder, &texts.ids)?)
}

/// Fails once Ctrl-C came, so that the half-written file is cleared away.
struct Watched<'a> {
    file: &'a mut BufWriter<File>,
    answering: &'a Answering,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.answering.interrupted() {
            return Err(io::Error::other("interrupted"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write(
    settings: &QuantizeSettings,
    files: &ModelFiles,
    recipe: &Recipe,
    importance: &Importance,
    answering: &Answering,
) -> anyhow::Result<Vec<Written>> {
    let QuantizeSettings { output, model, .. } = settings;
    let _progress = printer::Progress::start(format!("writing {}", output.display()));
    let mut written = Vec::new();
    let label = model.label();
    let name =
        Path::new(&label).file_stem().map_or(label.clone(), |it| it.to_string_lossy().into());
    atomic_file::write::<anyhow::Error>(output, atomic_file::Readers::Umask, |file| {
        let mut out = Watched { file, answering };
        let mut note = |it: &Written| written.push(it.clone());
        let outcome = if recipe.mix.is_packed() {
            export::write_packed(files, recipe, importance, &mut out, &mut note)
        } else {
            export::write_gguf(files, &name, recipe, importance, &mut out, &mut note)
        };
        outcome.map_err(|error| match error {
            // The command line names the file beside the cause.
            minicrit_engine::Error::Export(ExportError::Write(error)) => error.into(),
            other => anyhow::Error::new(other),
        })
    })
    .map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => errors::file("write", output, &error).into(),
        Err(error) => error,
    })?;
    Ok(written)
}

fn describe(
    settings: &QuantizeSettings,
    recipe: &Recipe,
    written: &[Written],
) -> anyhow::Result<Value> {
    let read = |error: io::Error| errors::file("read", &settings.output, &error);
    let file_bytes = std::fs::metadata(&settings.output).map_err(read)?.len();
    let bits = |bytes: usize, values: usize| 8.0 * bytes as f64 / values.max(1) as f64;
    let tensors: Vec<Value> = written
        .iter()
        .map(|it| {
            json!({
                "name": it.name,
                "format": it.format,
                "bytes": it.bytes,
                "bits_per_weight": bits(it.bytes, it.values),
            })
        })
        .collect();
    let bytes = written.iter().map(|it| it.bytes).sum();
    let values = written.iter().map(|it| it.values).sum();
    Ok(json!({
        "model": settings.model.label(),
        "format": recipe.mix.name(),
        "finer_layers": recipe.layers.keys().collect::<Vec<_>>(),
        "output": settings.output.display().to_string(),
        "file_bytes": file_bytes,
        "weight_bytes": bytes,
        "bits_per_weight": bits(bytes, values),
        "tensors": tensors,
        "report": Value::Null,
    }))
}

fn print(about: &Value) -> anyhow::Result<()> {
    if !about["report"].is_null() {
        report::print(&about["report"])?;
    }
    printer::note(&format!(
        "wrote `{}`: {}, {:.2} bits a weight",
        about["output"].as_str().unwrap_or_default(),
        printer::bytes(about["file_bytes"].as_u64().unwrap_or(0)),
        about["bits_per_weight"].as_f64().unwrap_or(0.0),
    ));
    Ok(())
}
