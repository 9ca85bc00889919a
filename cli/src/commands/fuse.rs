//! `minicrit fuse`: base and adapter as one model, and how far it is from the two.

use std::{fs, path::Path, sync::Arc};

use minicrit_engine::{
    adapter::Adapter, assemble, load::LoadOptions, sequence::Sequence, source::ModelFiles,
    tokens::Tokenizer,
};
use minicrit_lora::{
    LoraError, adapters,
    divergence::{Divergence, divergence},
    fingerprint::fingerprint,
    fuse::Fused,
};
use serde_json::{Value, json};

use super::Status;
use crate::{
    env::Environment,
    errors::{self, Failure},
    journal, model, printer,
    settings::FuseSettings,
};

/// Tokens of a text that are compared.
const MOST_TOKENS: usize = 256;
/// What is compared where the user gives no text.
const TEXTS: &[&str] = &[
    "The last three trades of this kind made money, so the fourth will make money too.",
    "Rivers carry sand and stones down from the mountains and leave them where the water slows.",
    "fn largest(values: &[i32]) -> Option<i32> { values.iter().copied().max() }",
    "Two trains leave at noon, one at 60 and one at 80 kilometres an hour. After two hours they are",
];

/// Merges, writes, compares, and keeps the result if it is close enough.
///
/// # Errors
/// Those of the model, the adapter and the disk; `fuse-diverges`.
pub fn fuse(settings: &FuseSettings, environment: &Environment) -> anyhow::Result<Status> {
    let label = settings.model.label();
    let progress = printer::Progress::start(format!("fusing {label}"));
    let files = settings.model.files()?;
    let base = assemble::load(&files, LoadOptions::default())?;
    let tokenizer = base.tokenizer.clone().ok_or_else(|| model::no_tokenizer(&label))?;
    let texts = texts(settings.text.as_deref(), &tokenizer)?;
    let lora = Arc::new(settings.adapter.load(&base.decoder)?);
    let mut found = Divergence::default();
    adapters::create::<anyhow::Error>(&settings.output, |folder| {
        write(folder, &Fused::new(&files, &lora, settings.dtype)?, &files)?;
        let fused = ModelFiles::open(folder)?;
        let fused = assemble::load(&fused, LoadOptions { quantize: settings.quantize })?;
        let adapter: Arc<dyn Adapter> = lora.clone();
        found = divergence(
            || Sequence::new(Arc::clone(&base.decoder), Some(Arc::clone(&adapter))),
            || Sequence::new(Arc::clone(&fused.decoder), None),
            &texts,
        )?;
        refuse(found, settings.max_kl)
    })?;
    drop(progress);
    let fields = json!({
        "base": fingerprint(&base.decoder)?, "adapter": settings.adapter.dir.file_name().map(|it| it.to_string_lossy()),
        // As text: a number that is read and written again may have another last digit.
        "kl_mean": format!("{:.3e}", found.kl_mean),
    });
    journal::note_if_failed(journal::record(environment, "merge", fields));
    report(settings, found)?;
    Ok(Status::Done)
}

fn refuse(found: Divergence, max_kl: f64) -> anyhow::Result<()> {
    // A comparison with NaN is false: what is not known to be close is refused.
    if found.kl_mean <= max_kl {
        return Ok(());
    }
    let message = format!(
        "the fused model is {:.4} nats from base and adapter, more than {max_kl}; nothing is written",
        found.kl_mean
    );
    Err(Failure::failed("fuse-diverges", message)
        .hint("pass --dtype f32, a larger --max-kl, or keep the adapter: run --adapter")
        .into())
}

fn texts(file: Option<&Path>, tokenizer: &Tokenizer) -> anyhow::Result<Vec<Vec<u32>>> {
    let texts: Vec<String> = match file {
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|it| errors::file("read", path, &it))?;
            text.lines().filter(|it| !it.trim().is_empty()).take(64).map(str::to_owned).collect()
        }
        None => TEXTS.iter().map(|it| (*it).to_owned()).collect(),
    };
    let mut all = Vec::new();
    for text in texts {
        let mut ids = tokenizer.encode_raw("")?;
        ids.extend(tokenizer.encode_content(&text)?);
        ids.truncate(MOST_TOKENS);
        all.extend((!ids.is_empty()).then_some(ids));
    }
    if all.is_empty() {
        let message = "there is no text to compare on";
        return Err(Failure::failed("empty-prompt", message)
            .hint("give --text a file with lines")
            .into());
    }
    Ok(all)
}

fn write(folder: &Path, fused: &Fused<'_>, files: &ModelFiles) -> anyhow::Result<()> {
    adapters::write_file(&folder.join("model.safetensors"), |out| fused.write(out))?;
    let json = |name: &str, value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
        bytes(folder, name, text.as_bytes())
    };
    json("config.json", &fused.config())?;
    for (name, value) in [
        ("tokenizer_config.json", &files.tokenizer_config),
        ("generation_config.json", &files.generation_config),
    ] {
        if let Some(value) = value {
            json(name, value)?;
        }
    }
    if let Some(tokenizer) = &files.tokenizer {
        bytes(folder, "tokenizer.json", tokenizer)?;
    }
    if let Some(template) = &files.chat_template {
        bytes(folder, "chat_template.jinja", template.as_bytes())?;
    }
    Ok(())
}

fn bytes(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), LoraError> {
    let path = folder.join(name);
    adapters::write_file(&path, |out| {
        out.write_all(bytes).map_err(|it| LoraError::file("write", &path, it))
    })
}

fn report(settings: &FuseSettings, found: Divergence) -> anyhow::Result<()> {
    let Divergence { kl_mean, kl_max, same_top1, positions } = found;
    if settings.json {
        return printer::json(&json!({
            "output": settings.output, "kl_mean": kl_mean, "kl_max": kl_max,
            "same_top1": same_top1, "positions": positions, "max_kl": settings.max_kl,
        }));
    }
    printer::note(&format!(
        "KL from base and adapter: mean {kl_mean:.2e}, largest {kl_max:.2e} nats; \
         same first choice at {:.1} % of {positions} positions",
        100.0 * same_top1
    ));
    Ok(printer::data(&settings.output.display().to_string())?)
}
