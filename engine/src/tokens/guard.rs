//! A check of tokenizer.json before the `tokenizers` crate sees it.
//!
//! That crate trusts its file: crafted ones make it panic when loading or when encoding, and one
//! kind (a subword prefix that cuts a character) is undefined behaviour. So every number, name and
//! pattern that it would trust is checked here, and what we do not use (truncation, padding) is
//! left out. The parsed parts are handed on, so what was checked is what is loaded.
//!
//! This module must not know the crate's types.

mod components;
mod json;
mod model;
mod pattern;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::TokensError;
use json::Entries;
pub(super) use model::{Bpe, ModelPart};

/// Largest tokenizer.json; real ones have up to 20 MiB.
const MAX_BYTES: usize = 64 << 20;
/// Ids of a model; the largest vocabularies have a quarter of a million.
const MAX_VOCAB: usize = 1 << 24;
const MAX_ADDED: usize = 65_536;
const MAX_ADDED_LEN: usize = 1024;

/// An added token as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Added {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

/// The parts of a tokenizer that passed.
#[derive(Debug)]
pub(super) struct Checked {
    pub model: ModelPart,
    pub added: Vec<Added>,
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub post_processor: Option<Value>,
    pub decoder: Option<Value>,
}

/// Checks `json` against a model of `vocab_size` ids; `extra` are added tokens that only
/// tokenizer_config.json names.
///
/// # Errors
/// [`TokensError::Invalid`] with every problem.
pub(super) fn check(
    json: &[u8],
    extra: &[Added],
    vocab_size: usize,
) -> Result<Checked, TokensError> {
    if json.len() > MAX_BYTES {
        return Err(TokensError::invalid(format!(
            "it has {} bytes, more than {MAX_BYTES}",
            json.len()
        )));
    }
    if vocab_size > MAX_VOCAB {
        return Err(TokensError::invalid(format!(
            "the model has {vocab_size} ids, more than {MAX_VOCAB}"
        )));
    }
    let top: Entries<&RawValue> = serde_json::from_slice(json)
        .map_err(|error| TokensError::invalid(format!("it is not a JSON object: {error}")))?;
    let mut problems = Vec::new();
    let top = top.into_map("the file", &mut problems);
    if let Some(version) = top.get("version")
        && version.get() != "\"1.0\""
    {
        problems.push(format!("version {} is not \"1.0\"", json::shorten(version.get())));
    }
    let model = match top.get("model") {
        Some(section) => model::check(section, vocab_size, &mut problems),
        None => {
            problems.push("it has no `model`".into());
            None
        }
    };
    let mut added = added_tokens(top.get("added_tokens").copied(), &mut problems);
    for token in extra {
        if !added.iter().any(|it| it.content == token.content) {
            added.push(token.clone());
        }
    }
    added.sort_by_key(|it| it.id);
    if let Some(model) = &model {
        check_added(&added, model, vocab_size, &mut problems);
    }
    let mut section = |name: &str, check: fn(&Value, usize, &mut Vec<String>)| {
        let value: Value = match serde_json::from_str(top.get(name)?.get()) {
            Ok(value) => value,
            Err(error) => {
                problems.push(format!("{name}: {error}"));
                return None;
            }
        };
        if value.is_null() {
            return None;
        }
        check(&value, vocab_size, &mut problems);
        Some(value)
    };
    let normalizer = section("normalizer", components::normalizer);
    let pre_tokenizer = section("pre_tokenizer", components::pre_tokenizer);
    let post_processor = section("post_processor", components::post_processor);
    let decoder = section("decoder", components::decoder);
    match model {
        Some(model) if problems.is_empty() => {
            Ok(Checked { model, added, normalizer, pre_tokenizer, post_processor, decoder })
        }
        _ => Err(TokensError::Invalid { problems }),
    }
}

fn added_tokens(section: Option<&RawValue>, problems: &mut Vec<String>) -> Vec<Added> {
    let Some(section) = section else {
        return Vec::new();
    };
    match serde_json::from_str::<Option<Vec<Added>>>(section.get()) {
        Ok(added) => added.unwrap_or_default(),
        Err(error) => {
            problems.push(format!("added_tokens: {error}"));
            Vec::new()
        }
    }
}

fn check_added(added: &[Added], model: &ModelPart, vocab_size: usize, problems: &mut Vec<String>) {
    if added.len() > MAX_ADDED {
        problems.push(format!("{} added tokens are more than {MAX_ADDED}", added.len()));
        return;
    }
    let by_id: HashMap<u32, &str> = model.pieces().map(|(piece, id)| (id, piece)).collect();
    let mut ids: BTreeMap<u32, &str> = BTreeMap::new();
    let mut contents: BTreeMap<&str, u32> = BTreeMap::new();
    for token in added {
        let name = json::shorten(&token.content);
        if token.content.is_empty() {
            problems.push(format!("added token {} is empty", token.id));
        }
        if token.content.len() > MAX_ADDED_LEN {
            problems.push(format!("added token {} has {} bytes", token.id, token.content.len()));
        }
        if token.id as usize >= vocab_size {
            problems.push(format!(
                "added token `{name}` has id {}, but the model has {vocab_size} ids",
                token.id
            ));
        }
        if let Some(other) = ids.insert(token.id, &token.content) {
            problems.push(format!(
                "added tokens `{}` and `{name}` share id {}",
                json::shorten(other),
                token.id
            ));
        }
        if contents.insert(&token.content, token.id).is_some() {
            problems.push(format!("added token `{name}` occurs twice"));
        }
        if let Some(other) = by_id.get(&token.id)
            && *other != token.content
        {
            problems.push(format!(
                "added token `{name}` takes id {} from `{}`",
                token.id,
                json::shorten(other)
            ));
        }
    }
}

/// The added tokens that a tokenizer_config.json names.
pub(super) fn added_in_config(config: &Value) -> Vec<Added> {
    let Some(tokens) = config.get("added_tokens_decoder").and_then(Value::as_object) else {
        return Vec::new();
    };
    let parse = |(id, token): (&String, &Value)| {
        let mut token = token.as_object()?.clone();
        token.insert("id".into(), id.parse::<u32>().ok()?.into());
        serde_json::from_value(Value::Object(token)).ok()
    };
    tokens.iter().filter_map(parse).collect()
}

#[cfg(test)]
#[path = "guard/tests.rs"]
mod tests;
