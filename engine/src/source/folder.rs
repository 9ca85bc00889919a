//! A folder in Hugging Face format: config.json, weights in safetensors, tokenizer, chat template.
//!
//! It knows file names and how they refer to each other, and must not know what a config key or a
//! tensor means, nor how text is rendered. A folder that holds one GGUF file and no safetensors is
//! opened as that file, and so is one with a packed file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    ModelFiles, Result, SourceError, StoredTensor,
    error::{Problems, quoted, unreadable},
    gguf_model, json, packed_file, safetensors,
};

const CONFIG_LIMIT: u64 = 1 << 20;
const JSON_LIMIT: u64 = 64 << 20;
const TEMPLATE_LIMIT: u64 = 1 << 20;

/// How packed files are named.
const PACKED_EXTENSION: &str = "minicrit";

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

pub(super) fn open(folder: &Path) -> Result<ModelFiles> {
    let names = file_names(folder)?;
    let has = |name: &str| names.contains(name);
    if !has(CONFIG) || !(has(WEIGHTS) || has(INDEX)) {
        if let [file] = with_extension(&names, PACKED_EXTENSION).as_slice() {
            return packed_file::open(&folder.join(file));
        }
        return match gguf_files(&names).as_slice() {
            [] => Err(incomplete(folder, &names)),
            [file] => gguf_model::open(&folder.join(file)),
            files => Err(SourceError::SeveralGguf {
                folder: folder.to_path_buf(),
                files: files.iter().map(ToString::to_string).collect(),
            }),
        };
    }
    let optional = |name: &str| has(name).then(|| folder.join(name));
    let config = read_object(&folder.join(CONFIG), CONFIG_LIMIT)?;
    let tokenizer =
        optional("tokenizer.json").map(|path| json::read_limited(&path, JSON_LIMIT)).transpose()?;
    let tokenizer_config =
        optional("tokenizer_config.json").map(|path| read_object(&path, JSON_LIMIT)).transpose()?;
    let generation_config = optional("generation_config.json")
        .map(|path| read_object(&path, CONFIG_LIMIT))
        .transpose()?;
    let chat_template = read_chat_template(folder, &names, tokenizer_config.as_ref())?;
    // As transformers does, one file goes before an index.
    let tensors =
        if has(WEIGHTS) { safetensors::open(&folder.join(WEIGHTS))? } else { open_shards(folder)? };
    Ok(ModelFiles {
        origin: folder.display().to_string(),
        config,
        tensors,
        packed: BTreeMap::new(),
        tokenizer,
        tokenizer_config,
        generation_config,
        chat_template,
    })
}

/// Names of everything in the folder; one that is not Unicode can't be a file that we look for.
fn file_names(folder: &Path) -> Result<BTreeSet<String>> {
    let io = |source| unreadable(folder, source);
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.insert(name);
        }
    }
    Ok(names)
}

fn with_extension<'a>(names: &'a BTreeSet<String>, extension: &str) -> Vec<&'a str> {
    let has_it = |name: &&str| {
        Path::new(name).extension().is_some_and(|it| it.eq_ignore_ascii_case(extension))
    };
    names.iter().map(String::as_str).filter(has_it).collect()
}

fn gguf_files(names: &BTreeSet<String>) -> Vec<&str> {
    match with_extension(names, "safetensors").is_empty() && !names.contains(INDEX) {
        true => with_extension(names, "gguf"),
        false => Vec::new(),
    }
}

/// Why a folder without GGUF files can't be opened.
fn incomplete(folder: &Path, names: &BTreeSet<String>) -> SourceError {
    let missing = |file, advice: &str| SourceError::MissingFile {
        folder: folder.to_path_buf(),
        file,
        advice: advice.to_owned(),
    };
    let pickle = ["bin", "pt", "pth", "ckpt", "pkl"]
        .iter()
        .find_map(|it| with_extension(names, it).first().copied());
    let safetensors = with_extension(names, "safetensors");
    let has_weights = names.contains(WEIGHTS) || names.contains(INDEX);
    match pickle {
        Some(file) if safetensors.is_empty() && !has_weights => {
            SourceError::PickledWeights { folder: folder.to_path_buf(), file: file.to_owned() }
        }
        _ if !names.contains(CONFIG) && names.contains("adapter_config.json") => missing(
            CONFIG,
            "this is an adapter: give the model that it was trained on, and the adapter beside it",
        ),
        _ if !names.contains(CONFIG) => {
            missing(CONFIG, "give a folder in Hugging Face format, or a .gguf file")
        }
        _ if !safetensors.is_empty() => {
            let found = safetensors.join(", ");
            missing(
                WEIGHTS,
                &format!("the folder has {found}; name the file {WEIGHTS}, or add {INDEX}"),
            )
        }
        _ => missing(WEIGHTS, "the weights were not downloaded, or lie elsewhere"),
    }
}

fn read_object(path: &Path, limit: u64) -> Result<Value> {
    json::parse_object(&path.display().to_string(), &json::read_limited(path, limit)?)
}

/// The chat template, from the first place that has one: chat_template.jinja, tokenizer_config.json,
/// chat_template.json.
fn read_chat_template(
    folder: &Path,
    names: &BTreeSet<String>,
    tokenizer_config: Option<&Value>,
) -> Result<Option<String>> {
    const JINJA: &str = "chat_template.jinja";
    const JSON: &str = "chat_template.json";
    if names.contains(JINJA) {
        let path = folder.join(JINJA);
        let bytes = json::read_limited(&path, TEMPLATE_LIMIT)?;
        let not_text = |_| bad_json(&path, "it is not UTF-8");
        return String::from_utf8(bytes).map(Some).map_err(not_text);
    }
    let found =
        tokenizer_config.map(|config| template_of(&folder.join("tokenizer_config.json"), config));
    if let Some(template) = found.transpose()?.flatten() {
        return Ok(Some(template));
    }
    if names.contains(JSON) {
        let path = folder.join(JSON);
        return template_of(&path, &read_object(&path, TEMPLATE_LIMIT)?);
    }
    Ok(None)
}

/// `chat_template` of an object: one text, or a list of `{name, template}` of which `default` counts.
fn template_of(path: &Path, config: &Value) -> Result<Option<String>> {
    let wrong =
        || bad_json(path, "`chat_template` is neither a text nor a list of {name, template}");
    let list = match config.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(template)) => return Ok(Some(template.clone())),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong()),
    };
    let mut templates = BTreeMap::new();
    for item in list {
        let text = |key| item.get(key).and_then(Value::as_str).ok_or_else(wrong);
        if templates.insert(text("name")?, text("template")?).is_some() {
            return Err(bad_json(path, "`chat_template` has two templates of one name"));
        }
    }
    Ok(templates.get("default").map(ToString::to_string))
}

fn bad_json(path: &Path, problem: &str) -> SourceError {
    SourceError::BadJson { file: path.display().to_string(), problem: problem.to_owned() }
}

/// All tensors of a model whose index names several files.
fn open_shards(folder: &Path) -> Result<BTreeMap<String, StoredTensor>> {
    let index_path = folder.join(INDEX);
    let index = read_object(&index_path, JSON_LIMIT)?;
    let mut problems = Problems::default();
    let mut tensors = BTreeMap::new();
    let shards = shards_of(&index, &mut problems);
    let bad =
        |problems| SourceError::BadShardIndex { file: index_path.display().to_string(), problems };
    if !problems.is_empty() {
        return Err(bad(problems));
    }
    for (shard, expected) in shards {
        let path: PathBuf = folder.join(shard);
        if !path.exists() {
            problems.push(format!(
                "shard {} with {} tensors is missing",
                quoted(shard),
                expected.len()
            ));
            continue;
        }
        let found = safetensors::open(&path)?;
        for name in expected.iter().filter(|name| !found.contains_key(**name)) {
            problems.push(format!("shard {} lacks tensor {}", quoted(shard), quoted(name)));
        }
        for (name, tensor) in found {
            if !expected.contains(name.as_str()) {
                let elsewhere = index["weight_map"].get(&name).and_then(Value::as_str);
                let place =
                    elsewhere.map_or("nowhere".to_owned(), |it| format!("in {}", quoted(it)));
                problems.push(format!(
                    "tensor {} is in shard {}, by the index {place}",
                    quoted(&name),
                    quoted(shard)
                ));
            }
            tensors.insert(name, tensor);
        }
    }
    if problems.is_empty() { Ok(tensors) } else { Err(bad(problems)) }
}

/// The shards that an index names, each with its tensors.
fn shards_of<'a>(
    index: &'a Value,
    problems: &mut Problems,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut shards: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let Some(weight_map) = index.get("weight_map").and_then(Value::as_object) else {
        problems.push("it has no object `weight_map`");
        return shards;
    };
    if weight_map.is_empty() {
        problems.push("`weight_map` names no tensors");
    }
    let mut refused = BTreeSet::new();
    for (tensor, shard) in weight_map {
        match shard.as_str() {
            Some(shard) if is_plain_file_name(shard) => {
                shards.entry(shard).or_default().insert(tensor);
            }
            Some(shard) if refused.insert(shard) => {
                problems.push(format!(
                    "shard {} is not the name of a safetensors file in this folder",
                    quoted(shard)
                ));
            }
            Some(_) => {}
            None => problems.push(format!("the shard of tensor {} is not a text", quoted(tensor))),
        }
    }
    shards
}

/// Whether `name` stays inside its folder on every system.
fn is_plain_file_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | ':');
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && name.len() <= 255
        && name.chars().all(allowed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shard_names_stay_in_their_folder() {
        assert!(is_plain_file_name("model-00001-of-00002.safetensors"));
        for name in [
            "../x.safetensors",
            "a/b.safetensors",
            "C:x.safetensors",
            "a\\b.safetensors",
            "x\0.safetensors",
            ".safetensors",
            "x.bin",
            "",
        ] {
            assert!(!is_plain_file_name(name), "{name:?}");
        }
    }

    #[test]
    fn the_default_template_of_a_list_counts() {
        let path = Path::new("tokenizer_config.json");
        let of = |config: Value| template_of(path, &config).map_err(|error| error.to_string());
        assert_eq!(of(json!({"chat_template": "x"})).unwrap().unwrap(), "x");
        let list =
            json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(of(json!({"chat_template": list})).unwrap().unwrap(), "d");
        assert_eq!(of(json!({"chat_template": [{"name": "rag", "template": "r"}]})).unwrap(), None);
        assert_eq!(of(json!({"chat_template": null})).unwrap(), None);
        assert!(of(json!({"chat_template": 3})).is_err());
        assert!(of(json!({"chat_template": [{"name": "default"}]})).is_err());
    }
}
