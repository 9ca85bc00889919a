//! tokenizer.json in the keys of a GGUF file: the inverse of `source/gguf_tokenizer.rs`.
//!
//! GGUF names an arrangement instead of describing it, so a tokenizer is written only if reading
//! the keys back gives the same model: the same splitting, the same merges in the same order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::{ExportError, metadata::Metadata};
use crate::{
    source::{ModelFiles, gguf::GgufValue, gguf_arrangements, gguf_tokenizer},
    tokens::Tokenizer,
};

/// GGUF's numbers for what a token is.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
const BYTE: i64 = 6;

type Problem<T> = Result<T, String>;

/// Keys of the tokenizer and of the chat template; none where the model has no tokenizer.
pub(super) fn vocabulary(files: &ModelFiles, vocab_size: usize) -> Result<Metadata, crate::Error> {
    let mut entries = Metadata::new();
    if let Some(json) = &files.tokenizer {
        let tokenizer = Tokenizer::from_json(json, files.tokenizer_config.as_ref(), vocab_size)?;
        let parsed: Value = serde_json::from_slice(json)
            .map_err(|error| ExportError::NoGgufTokenizer { problem: error.to_string() })?;
        let keys = Keys { files, tokenizer: &tokenizer, parsed: &parsed, vocab_size };
        entries = keys.all().map_err(|problem| ExportError::NoGgufTokenizer { problem })?;
    }
    if let Some(template) = &files.chat_template {
        entries.push(("tokenizer.chat_template".into(), GgufValue::String(template.clone())));
    }
    Ok(entries)
}

struct Keys<'a> {
    files: &'a ModelFiles,
    tokenizer: &'a Tokenizer,
    parsed: &'a Value,
    vocab_size: usize,
}

impl Keys<'_> {
    fn all(&self) -> Problem<Metadata> {
        let model = &self.parsed["model"];
        if model["type"] != "BPE" {
            return Err(format!("its model is {}, not BPE", model["type"]));
        }
        let merges = merges(model)?;
        let byte_level = gguf_arrangements::arrangement_of(self.parsed);
        let mut entries = Metadata::new();
        let mut push = |key: &str, value| entries.push((format!("tokenizer.ggml.{key}"), value));
        let tokens = self.tokens(byte_level.is_none())?;
        let (texts, kinds): (Vec<String>, Vec<i64>) = tokens.into_iter().unzip();
        match byte_level {
            Some(name) => {
                push("model", GgufValue::String("gpt2".into()));
                push("pre", GgufValue::String(name.into()));
                let joined = merges.iter().map(|[a, b]| format!("{a} {b}")).collect();
                push("merges", GgufValue::Strings(joined));
            }
            None => {
                let prefix = gguf_arrangements::adds_space_prefix(self.parsed)
                    .ok_or("it splits or normalizes text in a way that has no name there")?;
                let scores = scores(&texts, &merges);
                let read = gguf_tokenizer::merges_of_scores(&texts, &kinds, &scores);
                if by_product(&read) != by_product(&merges) {
                    return Err("its merges do not follow from one score for each token".into());
                }
                push("model", GgufValue::String("llama".into()));
                push("pre", GgufValue::String("default".into()));
                push("scores", GgufValue::F32s(scores));
                push("add_space_prefix", GgufValue::Bool(prefix));
            }
        }
        push("tokens", GgufValue::Strings(texts));
        push("token_type", GgufValue::Integers(kinds));
        self.special(&mut push)?;
        Ok(entries)
    }

    /// Text and kind of every id. Ids without a token get a name of their own, as in llama.cpp's
    /// converter.
    fn tokens(&self, sentencepiece: bool) -> Problem<Vec<(String, i64)>> {
        let model = &self.parsed["model"];
        let unk = model["unk_token"].as_str();
        let byte_fallback = model["byte_fallback"].as_bool() == Some(true);
        let mut by_id: BTreeMap<u64, (String, i64)> = BTreeMap::new();
        for (text, id) in model["vocab"].as_object().into_iter().flatten() {
            let id = id.as_u64().ok_or("its vocabulary is broken")?;
            let kind = if sentencepiece && Some(text.as_str()) == unk {
                UNKNOWN
            } else if sentencepiece && byte_fallback && is_byte(text) {
                BYTE
            } else {
                NORMAL
            };
            by_id.insert(id, (text.clone(), kind));
        }
        for added in self.parsed["added_tokens"].as_array().into_iter().flatten() {
            let (Some(id), Some(text)) = (added["id"].as_u64(), added["content"].as_str()) else {
                return Err("its added tokens are broken".into());
            };
            let kind = if sentencepiece && Some(text) == unk {
                UNKNOWN
            } else if added["special"].as_bool() == Some(true) {
                CONTROL
            } else {
                USER_DEFINED
            };
            by_id.insert(id, (text.to_owned(), kind));
        }
        let unused = |id: u64| (format!("[PAD{id}]"), UNUSED);
        Ok((0..self.vocab_size as u64)
            .map(|id| by_id.remove(&id).unwrap_or_else(|| unused(id)))
            .collect())
    }

    /// Ids of the tokens with a task, and what goes around a text.
    fn special(&self, push: &mut impl FnMut(&str, GgufValue)) -> Problem<()> {
        let named = |key: &str| {
            let value = self.files.tokenizer_config.as_ref()?.get(key)?;
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            self.tokenizer.id_of(text)
        };
        let configured = |key: &str| {
            let value = self.files.config.get(key)?;
            value.as_u64().and_then(|it| u32::try_from(it).ok())
        };
        let bos = named("bos_token").or_else(|| configured("bos_token_id"));
        let around = self.tokenizer.encode_raw("").map_err(|error| error.to_string())?;
        let ends = self.end_ids(named("eos_token").or_else(|| configured("eos_token_id")));
        let (before, after) = match around[..] {
            [] => (None, None),
            [one] if Some(one) == bos => (Some(one), None),
            [one] if ends.first() == Some(&one) => (None, Some(one)),
            [first, last] if Some(first) == bos && ends.first() == Some(&last) => {
                (Some(first), Some(last))
            }
            _ => return Err(format!("it puts ids {around:?} around a text")),
        };
        let mut id = |key: &str, id: u32| {
            push(&format!("{key}_token_id"), GgufValue::Unsigned(id.into()));
        };
        if let Some(bos) = bos {
            id("bos", bos);
        }
        for (key, end) in ["eos", "eot", "eom"].into_iter().zip(&ends) {
            id(key, *end);
        }
        if let Some(unknown) = named("unk_token") {
            id("unknown", unknown);
        }
        if let Some(pad) = named("pad_token") {
            id("padding", pad);
        }
        push("add_bos_token", GgufValue::Bool(before.is_some()));
        push("add_eos_token", GgufValue::Bool(after.is_some()));
        if ends.len() > 3 {
            return Err(format!("{} tokens end an answer, and there are keys for 3", ends.len()));
        }
        Ok(())
    }

    /// Tokens that end an answer, the tokenizer's own first.
    fn end_ids(&self, own: Option<u32>) -> Vec<u32> {
        let mut ends: Vec<u32> = own.into_iter().collect();
        let lists = [self.files.generation_config.as_ref(), Some(&self.files.config)];
        for value in lists.into_iter().flatten().filter_map(|it| it.get("eos_token_id")) {
            let several = value.as_array().map(Vec::as_slice).unwrap_or_default();
            for id in several.iter().chain([value]).filter_map(Value::as_u64) {
                let id = u32::try_from(id).unwrap_or(u32::MAX);
                if !ends.contains(&id) {
                    ends.push(id);
                }
            }
        }
        ends
    }
}

fn is_byte(text: &str) -> bool {
    text.len() == 6 && text.starts_with("<0x") && text.ends_with('>')
}

/// Pairs in order; both spellings of a list are in use.
fn merges(model: &Value) -> Problem<Vec<[String; 2]>> {
    let list = model["merges"].as_array().ok_or("it has no merges")?;
    let pair = |merge: &Value| match merge {
        Value::String(text) => {
            let (a, b) = text.split_once(' ')?;
            Some([a.to_owned(), b.to_owned()])
        }
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(a), Value::String(b)] => Some([a.clone(), b.clone()]),
            _ => None,
        },
        _ => None,
    };
    list.iter().map(|it| pair(it).ok_or_else(|| format!("merge {it} is not two pieces"))).collect()
}

/// The pieces that merges make, in order, each with its merges. Ways to make one piece share its
/// score, so their order among themselves is nobody's choice.
fn by_product(merges: &[[String; 2]]) -> Vec<(String, BTreeSet<usize>)> {
    let mut products: Vec<(String, BTreeSet<usize>)> = Vec::new();
    for [a, b] in merges {
        let product = format!("{a}{b}");
        match products.last_mut() {
            Some((last, cuts)) if *last == product => {
                cuts.insert(a.len());
            }
            _ => products.push((product, BTreeSet::from([a.len()]))),
        }
    }
    products
}

/// A score for each token, so that the best score has the first merge.
fn scores(texts: &[String], merges: &[[String; 2]]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (rank, [a, b]) in merges.iter().enumerate() {
        ranks.entry(format!("{a}{b}")).or_insert(rank);
    }
    let last = merges.len();
    texts.iter().map(|it| -(ranks.get(it).copied().unwrap_or(last) as f32)).collect()
}
