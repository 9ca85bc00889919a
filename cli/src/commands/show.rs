//! `minicrit show`: what a model is.

use std::{collections::BTreeMap, path::Path};

use minicrit_engine::{registry::Registry, source::ModelFiles};
use serde_json::{Value, json};

use super::{Status, list};
use crate::{
    errors::Failure,
    memory::{self, Needs},
    model::{self, ModelRef},
    printer,
};

/// Prints it. The weights are mapped but not read.
///
/// # Errors
/// Absent or broken files.
pub fn show(model: &ModelRef, registry: &Registry, as_json: bool) -> anyhow::Result<Status> {
    let files = model.files()?;
    let about = describe(model, registry, &files);
    if as_json {
        printer::json(&about)?;
        return Ok(Status::Done);
    }
    printer::data(&table(&about))?;
    Ok(Status::Done)
}

/// Prints the Modelfile of a model of the user's own.
///
/// # Errors
/// A model that has none.
pub fn modelfile(model: &ModelRef) -> anyhow::Result<Status> {
    let Some(definition) = model.definition() else {
        let message = format!("this model was not made by `create`: `{}`", model.label());
        return Err(Failure::usage("no-modelfile", message)
            .hint(format!("minicrit show {}", model.label()))
            .into());
    };
    printer::data(definition.to_modelfile().trim_end())?;
    Ok(Status::Done)
}

/// Prints the memory that a model needs, for a few lengths of context, against what there is. For a
/// model that is not here, from what models.toml knows.
///
/// # Errors
/// Broken files; a model of which nothing is known.
pub fn fit(model: &ModelRef, registry: &Registry, as_json: bool) -> anyhow::Result<Status> {
    let available = memory::available();
    let (source, needs) = match model.base() {
        ModelRef::Hub(hub) if hub.found().is_none() => {
            let needs = registry.find(&hub.label).and_then(Needs::of_entry);
            ("models.toml", needs.ok_or_else(|| model::not_downloaded(hub))?)
        }
        _ => ("its files", Needs::of(&model.files()?)),
    };
    let lengths = [512, 4096, 16384, 65536, 262_144].into_iter().filter(|it| *it < needs.context);
    let rows: Vec<(u64, u64)> =
        lengths.chain([needs.context]).map(|it| (it, needs.with_context(it))).collect();
    if as_json {
        let contexts: Vec<Value> = rows
            .iter()
            .map(|(tokens, bytes)| {
                json!({ "context": tokens, "bytes": bytes, "fits": *bytes <= available.bytes })
            })
            .collect();
        printer::json(&json!({
            "model": model.label(), "from": source, "weight_bytes": needs.weight_bytes,
            "kv_bytes_per_token": needs.kv_bytes_per_token,
            "available_bytes": available.bytes, "contexts": contexts,
        }))?;
        return Ok(Status::Done);
    }
    let cells: Vec<_> = rows
        .iter()
        .map(|(tokens, bytes)| {
            let mark = if *bytes <= available.bytes { "fits" } else { "too large" };
            [tokens.to_string(), printer::bytes(*bytes), mark.to_owned()]
        })
        .collect();
    printer::data(&printer::table(["CONTEXT", "MEMORY", "HERE"], &cells))?;
    printer::note(&format!(
        "{} are free, by {}; weights {} as stored, computed from {source}",
        printer::bytes(available.bytes),
        available.limit,
        printer::bytes(needs.weight_bytes)
    ));
    Ok(Status::Done)
}

/// A model's description, as a JSON object.
pub fn describe(model: &ModelRef, registry: &Registry, files: &ModelFiles) -> Value {
    let needs = Needs::of(files);
    let stored = files.tensors.values().map(|it| it.shape.iter().product::<usize>() as u64);
    let packed = files.packed.values().map(|it| (it.header.rows * it.header.cols) as u64);
    let parameters: u64 = stored.chain(packed).sum();
    let mut formats: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in files.tensors.values() {
        *formats.entry(tensor.format.name()).or_default() += tensor.bytes.len() as u64;
    }
    let config = |key: &str| files.config.get(key).cloned().unwrap_or(Value::Null);
    for it in files.packed.values() {
        *formats.entry(it.header.kind.name()).or_default() += it.bytes.len() as u64;
    }
    json!({
        "model": model.label(),
        "architecture": config("model_type"),
        "parameters": parameters,
        "context_length": config("max_position_embeddings"),
        "vocab_size": config("vocab_size"),
        "layers": config("num_hidden_layers"),
        "hidden_size": config("hidden_size"),
        "attention_heads": config("num_attention_heads"),
        "kv_heads": config("num_key_value_heads"),
        "weight_bytes": needs.weight_bytes,
        "formats": formats,
        "kv_bytes_per_token": needs.kv_bytes_per_token,
        "tokenizer": files.tokenizer.is_some(),
        "chat_template": files.chat_template.is_some(),
        "generation": files.generation_config,
        "license": license(model, registry),
    })
}

fn table(about: &Value) -> String {
    let text = |key: &str| match &about[key] {
        Value::Null => "unknown".to_string(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_string(),
        Value::Bool(false) => "no".to_string(),
        other => other.to_string(),
    };
    let size = |value: &Value| printer::bytes(value.as_u64().unwrap_or(0));
    let formats: Vec<String> = about["formats"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, bytes)| format!("{name} {}", size(bytes)))
        .collect();
    let heads = format!("{} ({} for keys and values)", text("attention_heads"), text("kv_heads"));
    let rows = [
        ("model", text("model")),
        ("architecture", text("architecture")),
        ("parameters", list::count(about["parameters"].as_u64().unwrap_or(0))),
        ("context", format!("{} tokens", text("context_length"))),
        ("vocabulary", format!("{} tokens", text("vocab_size"))),
        ("layers", format!("{} of width {}", text("layers"), text("hidden_size"))),
        ("attention heads", heads),
        ("weights", format!("{} ({})", size(&about["weight_bytes"]), formats.join(", "))),
        ("cache", format!("{} for each token", size(&about["kv_bytes_per_token"]))),
        ("tokenizer", text("tokenizer")),
        ("chat template", text("chat_template")),
        ("license", text("license")),
    ];
    printer::table(["", ""], &rows.map(|(name, value)| [name.to_string(), value]))
}

/// From the registry, or from the head of the folder's README.md, where model cards state it.
fn license(model: &ModelRef, registry: &Registry) -> Option<String> {
    if let Some(license) = model.definition().and_then(|it| it.license.clone()) {
        return Some(license);
    }
    let path = match model.base() {
        ModelRef::Builtin => return Some(registry.find(model::BUILTIN)?.license.clone()),
        ModelRef::Path(path) => path,
        ModelRef::Hub(model) => return Some(registry.find(&model.label)?.license.clone()),
        ModelRef::Created(_) => return None,
    };
    let card = std::fs::read_to_string(Path::new(path).join("README.md")).ok()?;
    license_of_card(&card)
}

fn license_of_card(card: &str) -> Option<String> {
    let head = card.strip_prefix("---\n")?.split("\n---").next()?;
    let line = head.lines().find_map(|it| it.strip_prefix("license:"))?;
    Some(line.trim().trim_matches(['"', '\'']).to_string()).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::license_of_card;

    #[test]
    fn a_model_card_states_its_license_in_its_head() {
        let card = "---\nlanguage: en\nlicense: \"apache-2.0\"\n---\nlicense: other\n";
        assert_eq!(license_of_card(card).as_deref(), Some("apache-2.0"));
        assert_eq!(license_of_card("# Model\nlicense: mit\n"), None);
        assert_eq!(license_of_card("---\ntags: x\n---\nlicense: mit\n"), None);
    }
}
