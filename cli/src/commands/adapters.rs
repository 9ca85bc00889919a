//! `minicrit adapters`: look at adapters, combine them, write them in other forms.

use std::path::{Path, PathBuf};

use minicrit_engine::{assemble, load::LoadOptions};
use minicrit_hub::atomic_file;
use minicrit_lora::{
    adapters::{self, AdapterSummary, Combination, Factors, GgufBase},
    fingerprint::fingerprint,
    peft::{self, Targets},
};
use serde_json::{Value, json};

use super::Status;
use crate::{
    adapter::AdapterRef,
    args::{AdaptersCommand, MergeArgs, MergeMethod},
    catalog::Catalog,
    data_folder,
    env::Environment,
    errors::{self, Failure},
    journal,
    model::ModelRef,
    printer,
};

/// What minicrit writes about how an adapter was made.
const RECEIPT: &str = "minicrit.json";

/// Runs one of the commands.
///
/// # Errors
/// Adapters that are absent or broken, files that can't be written.
pub fn adapters(
    command: AdaptersCommand,
    environment: &Environment,
    catalog: &Catalog,
) -> anyhow::Result<Status> {
    let folder = |text: &str| AdapterRef::named(text, environment).dir;
    match command {
        AdaptersCommand::List { folder, json } => list(folder, json, environment),
        AdaptersCommand::Show { adapter, json } => show(&folder(&adapter), json),
        AdaptersCommand::Verify { adapter, model, json } => {
            verify(&folder(&adapter), &ModelRef::parse(&model, catalog)?, json)
        }
        AdaptersCommand::Merge(args) => merge(args, environment),
        AdaptersCommand::Export { adapter, model, output } => {
            export(&folder(&adapter), &ModelRef::parse(&model, catalog)?, &output)
        }
        AdaptersCommand::Rm { adapter, yes } => remove(&folder(&adapter), yes, environment),
        AdaptersCommand::Promote(_)
        | AdaptersCommand::History(_)
        | AdaptersCommand::Rollback(_) => {
            unreachable!("invariant: versions have a command of their own")
        }
    }
}

fn list(
    folder: Option<PathBuf>,
    as_json: bool,
    environment: &Environment,
) -> anyhow::Result<Status> {
    let folder = match folder {
        Some(folder) if !folder.is_dir() => {
            let message = format!("no such folder: `{}`", folder.display());
            return Err(Failure::not_found("file-not-found", message)
                .hint("minicrit adapters list shows those in minicrit's data folder")
                .into());
        }
        Some(folder) => folder,
        None => data_folder::adapters(environment)?,
    };
    let found = adapters::list(&folder)?;
    if as_json {
        let entry =
            |(path, summary): &(PathBuf, minicrit_lora::Result<AdapterSummary>)| match summary {
                Ok(it) => about(it),
                Err(error) => json!({ "folder": path, "error": error.to_string() }),
            };
        let all: Vec<Value> = found.iter().map(entry).collect();
        printer::json(&json!({ "folder": folder, "adapters": all }))?;
        return Ok(Status::Done);
    }
    if found.is_empty() {
        printer::note(&format!("no adapters in {}", folder.display()));
        printer::note("hint: minicrit finetune trains one");
        return Ok(Status::Done);
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let row = |(path, summary): &(PathBuf, minicrit_lora::Result<AdapterSummary>)| match summary {
        Ok(it) => [
            name(path),
            kind(it),
            it.config.rank.to_string(),
            printer::bytes(it.bytes),
            it.config.base_name.clone().unwrap_or_default(),
        ],
        Err(error) => {
            [name(path), "broken".into(), String::new(), String::new(), error.to_string()]
        }
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    printer::data(&printer::table(["NAME", "KIND", "RANK", "SIZE", "BASE"], &rows))?;
    Ok(Status::Done)
}

fn kind(summary: &AdapterSummary) -> String {
    match (summary.config.dora, summary.config.rslora) {
        (true, _) => "DoRA".into(),
        (_, true) => "rsLoRA".into(),
        _ => "LoRA".into(),
    }
}

fn about(summary: &AdapterSummary) -> Value {
    let AdapterSummary { folder, config, tensors, num_parameters, bytes } = summary;
    let targets = match &config.targets {
        Targets::AllLinear => json!("all-linear"),
        Targets::Names(names) => json!(names),
        Targets::Pattern(pattern) => json!(pattern),
    };
    json!({
        "folder": folder, "kind": kind(summary), "base": config.base_name, "rank": config.rank,
        "alpha": config.alpha, "target_modules": targets, "num_tensors": tensors.len(),
        "num_parameters": num_parameters, "bytes": bytes,
    })
}

/// The receipt, if there is one that can be read.
fn receipt(folder: &Path) -> anyhow::Result<Option<Value>> {
    let path = folder.join(RECEIPT);
    if !path.exists() {
        return Ok(None);
    }
    crate::prompt::json_file(&path).map(Some)
}

fn show(folder: &Path, as_json: bool) -> anyhow::Result<Status> {
    let summary = adapters::summary(folder)?;
    let receipt = receipt(folder)?;
    let mut about = about(&summary);
    if as_json {
        about["receipt"] = receipt.unwrap_or_default();
        printer::json(&about)?;
        return Ok(Status::Done);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut rows: Vec<[String; 2]> = about
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| [key.replace('_', " "), text(value)])
        .collect();
    for (key, value) in receipt.as_ref().and_then(Value::as_object).into_iter().flatten() {
        match value.as_object() {
            Some(inner) => rows.extend(inner.iter().map(|(key, it)| [key.clone(), text(it)])),
            None => rows.push([key.replace('_', " "), text(value)]),
        }
    }
    printer::data(&printer::table(["", ""], &rows))?;
    if receipt.is_none() {
        printer::note("no receipt: minicrit did not train this adapter");
    }
    Ok(Status::Done)
}

/// Loads the adapter as `run` would, and compares its receipt with the base.
fn verify(folder: &Path, model: &ModelRef, as_json: bool) -> anyhow::Result<Status> {
    let loaded = assemble::load(&model.files()?, LoadOptions::default())?;
    let lora = peft::open(folder, &loaded.decoder)?;
    let has_effect = !lora.is_without_effect()?;
    let receipt = receipt(folder)?;
    let known = receipt.as_ref().and_then(|it| it["made_of"]["base_fingerprint"].as_str());
    let base = fingerprint(&loaded.decoder)?;
    let same_base = known.map(|it| it == base);
    let good = has_effect && same_base != Some(false);
    if as_json {
        printer::json(&json!({
            "folder": folder, "fits": true, "has_effect": has_effect, "same_base": same_base,
            "modules": lora.modules().len(), "good": good,
        }))?;
    } else {
        let answer = |it: bool| if it { "yes" } else { "NO" };
        printer::data(&format!(
            "fits the model: yes, {} modules\nchanges its output: {}\nbase of its receipt: {}",
            lora.modules().len(),
            answer(has_effect),
            same_base.map_or("no receipt", |it| if it { "this one" } else { "ANOTHER" }),
        ))?;
    }
    Ok(if good { Status::Done } else { Status::Failed })
}

fn merge(args: MergeArgs, environment: &Environment) -> anyhow::Result<Status> {
    let MergeArgs { adapters: names, method, density, seed, output } = args;
    if !(density > 0.0 && density <= 1.0) {
        let message = format!("a share must be above 0 and at most 1: `--density {density}`");
        return Err(Failure::usage("bad-setting", message).into());
    }
    let how = match method {
        MergeMethod::Cat => Combination::Cat,
        MergeMethod::Linear => Combination::Linear,
        MergeMethod::Ties => Combination::Ties { density },
        MergeMethod::DareLinear => Combination::DareLinear { density, seed },
        MergeMethod::DareTies => Combination::DareTies { density, seed },
    };
    let mut parts = Vec::new();
    for name in &names {
        let AdapterRef { dir, scale } = AdapterRef::parse(name)?.found(environment);
        parts.push((Factors::open(&dir)?, f64::from(scale)));
    }
    let bases: std::collections::BTreeSet<_> =
        parts.iter().filter_map(|it| it.0.config.base_name.as_ref()).collect();
    if bases.len() > 1 {
        let names: Vec<_> = bases.into_iter().map(String::as_str).collect();
        printer::note(&format!("note: the adapters name different bases: {}", names.join(", ")));
    }
    let merged = adapters::combine(&parts, how)?;
    adapters::create::<minicrit_lora::LoraError>(&output, |folder| {
        for (name, bytes) in merged.files()? {
            adapters::write_file(&folder.join(name), |out| {
                out.write_all(&bytes)
                    .map_err(|it| minicrit_lora::LoraError::file("write", folder, it))
            })?;
        }
        Ok(())
    })?;
    let hashes: Vec<String> = names
        .iter()
        .map(|name| {
            let AdapterRef { dir, .. } = AdapterRef::parse(name)?.found(environment);
            hash_of(&dir.join("adapter_model.safetensors"))
        })
        .collect::<anyhow::Result<_>>()?;
    let fields = json!({
        "adapters": hashes, "hash": hash_of(&output.join("adapter_model.safetensors"))?,
    });
    journal::note_if_failed(journal::record(environment, "merge", fields));
    printer::note(&format!(
        "{} adapters, {} modules, rank {}",
        parts.len(),
        merged.pairs.len(),
        merged.config.rank
    ));
    printer::data(&output.display().to_string())?;
    Ok(Status::Done)
}

fn export(folder: &Path, model: &ModelRef, output: &Path) -> anyhow::Result<Status> {
    let adapter = Factors::open(folder)?;
    let base = GgufBase::of_config(&model.files()?.config)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let bytes = adapters::gguf_bytes(&adapter, &base, &name)?;
    atomic_file::write(output, atomic_file::Readers::Umask, |out| {
        std::io::Write::write_all(out, &bytes)
    })
    .map_err(|error| errors::file("write", output, &error))?;
    printer::note(&format!("llama-cli -m BASE.gguf --lora {}", output.display()));
    printer::data(&output.display().to_string())?;
    Ok(Status::Done)
}

/// BLAKE3 hash of a file, in hexadecimal.
fn hash_of(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let failed = |error| errors::file("read", path, &error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    std::io::copy(&mut file, &mut hasher).map_err(failed)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn remove(folder: &Path, yes: bool, environment: &Environment) -> anyhow::Result<Status> {
    // What is no adapter, or more than one, is told before anybody is asked.
    let summary = adapters::summary(folder)?;
    adapters::check_removable(folder)?;
    if !yes {
        if !printer::stdin_is_terminal() {
            let message = format!("`{}` would be removed for good", folder.display());
            return Err(Failure::usage("not-confirmed", message).hint("pass --yes").into());
        }
        let size = printer::bytes(summary.bytes);
        printer::note(&format!("remove {} ({size}) and all in it? [y/N]", folder.display()));
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        if !matches!(line.trim(), "y" | "Y" | "yes") {
            return Ok(Status::Failed);
        }
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let hash = hash_of(&folder.join("adapter_model.safetensors"))?;
    journal::record(environment, "delete", json!({ "adapter": name, "hash": hash }))?;
    adapters::remove(folder)?;
    printer::note(&format!("removed {}", folder.display()));
    Ok(Status::Done)
}
