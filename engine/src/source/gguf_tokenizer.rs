//! tokenizer.json and tokenizer_config.json from a GGUF file's metadata.
//!
//! GGUF stores a vocabulary and the name of an arrangement; what the name means (which pattern
//! splits a text, whether whole words are looked up first) is knowledge of this module. A name that
//! is not known is refused: a near miss gives other ids without a word. Whether the result is a
//! sound tokenizer is for the guard in `tokens` to say.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::{
    Result, SourceError,
    error::{Problems, quoted},
    gguf::{Gguf, GgufValue},
    gguf_arrangements::arrangement,
};

/// Longest piece for which SentencePiece merges are derived; its pieces have at most 16 characters
/// unless told otherwise.
const MAX_MERGED_CHARS: usize = 256;

/// What [`tokenizer_files`] makes of a GGUF file.
pub(super) struct TokenizerFiles {
    /// tokenizer.json.
    pub(super) tokenizer: Vec<u8>,
    /// tokenizer_config.json.
    pub(super) config: Value,
}

/// tokenizer.json and tokenizer_config.json from `gguf`, or `None` where it has no vocabulary.
pub(super) fn tokenizer_files(gguf: &Gguf) -> Result<Option<TokenizerFiles>> {
    let Some(model) = gguf.get("tokenizer.ggml.model").and_then(GgufValue::as_str) else {
        return Ok(None);
    };
    if model == "no_vocab" || model == "none" {
        return Ok(None);
    }
    let files = Vocab::read(gguf).and_then(|vocab| match model {
        "gpt2" => byte_level(gguf, &vocab),
        "llama" => sentencepiece(gguf, &vocab),
        other => {
            Err(format!("tokenizer.ggml.model is {}; gpt2 and llama are known", quoted(other))
                .into())
        }
    });
    match files {
        Ok(files) => Ok(Some(files)),
        Err(problems) => Err(SourceError::GgufMetadata { file: gguf.origin.clone(), problems }),
    }
}

/// What a token is for; GGUF's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

struct Vocab<'a> {
    tokens: &'a [String],
    kinds: Vec<Kind>,
}

impl<'a> Vocab<'a> {
    fn read(gguf: &'a Gguf) -> std::result::Result<Self, Problems> {
        let mut problems = Problems::default();
        let tokens =
            gguf.get("tokenizer.ggml.tokens").and_then(GgufValue::as_strings).unwrap_or_default();
        if tokens.is_empty() {
            problems.push("tokenizer.ggml.tokens is missing or empty");
        }
        let kinds = match gguf.get("tokenizer.ggml.token_type").map(GgufValue::as_i64s) {
            None => vec![Kind::Normal; tokens.len()],
            Some(Some(numbers)) => {
                numbers.iter().map(|number| kind(*number, &mut problems)).collect()
            }
            Some(None) => {
                problems.push("tokenizer.ggml.token_type is no array of integers");
                Vec::new()
            }
        };
        if kinds.len() != tokens.len() {
            problems.push(format!("{} tokens have {} token types", tokens.len(), kinds.len()));
        }
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token, id) {
                problems.push(format!("token {} has ids {first} and {id}", quoted(token)));
            }
        }
        if problems.is_empty() { Ok(Self { tokens, kinds }) } else { Err(problems) }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a str, Kind)> {
        let tokens = self.tokens.iter().map(String::as_str);
        tokens.zip(&self.kinds).enumerate().map(|(id, (token, kind))| (id, token, *kind))
    }

    /// The text of the token whose id is stored under `key`.
    fn named(&self, gguf: &Gguf, key: &str) -> Option<&'a str> {
        let id = gguf.get(key).and_then(GgufValue::as_u64)?;
        self.tokens.get(usize::try_from(id).ok()?).map(String::as_str)
    }
}

fn kind(number: i64, problems: &mut Problems) -> Kind {
    match number {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => Kind::Byte,
        other => {
            problems.push(format!("token type {other} is not known"));
            Kind::Normal
        }
    }
}

fn byte_level(gguf: &Gguf, vocab: &Vocab<'_>) -> std::result::Result<TokenizerFiles, Problems> {
    let mut problems = Problems::default();
    let name = gguf.get("tokenizer.ggml.pre").and_then(GgufValue::as_str);
    let arrangement = name.and_then(arrangement);
    if arrangement.is_none() {
        let name = name.map_or("missing".to_owned(), quoted);
        problems.push(format!(
            "tokenizer.ggml.pre is {name}; gpt-2, llama-bpe, qwen2, deepseek-r1-qwen, tekken, smollm, smaug-bpe and dbrx are known"
        ));
    }
    let merges = gguf.get("tokenizer.ggml.merges").and_then(GgufValue::as_strings);
    if merges.is_none() {
        problems.push("tokenizer.ggml.merges is missing");
    }
    let (Some(arrangement), Some(merges)) = (arrangement, merges) else {
        return Err(problems);
    };
    let mut pairs = Vec::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        // Pieces of byte-level vocabularies hold no space, but a first character may be one.
        match merge.char_indices().skip(1).find(|it| it.1 == ' ') {
            Some((at, _)) => pairs.push(json!([&merge[..at], &merge[at + 1..]])),
            None => problems.push(format!("merge {rank} ({}) is not two pieces", quoted(merge))),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "ignore_merges": arrangement.ignore_merges,
        "vocab": vocab_object(vocab, !added_follow_the_rest(vocab)), "merges": pairs,
    });
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let parts = Parts {
        model,
        added: added_tokens(vocab, |_| false),
        normalizer: arrangement.normalizer,
        pre_tokenizer: arrangement.pre_tokenizer,
        decoder: byte_level,
        adds_bos: arrangement.adds_bos,
    };
    finish(gguf, vocab, parts)
}

/// Whether the ids of added tokens simply go on after the others'. Then they may stay outside of
/// the model's vocabulary, where no text can reach them.
fn added_follow_the_rest(vocab: &Vocab<'_>) -> bool {
    let is_added = |kind: &Kind| matches!(kind, Kind::Control | Kind::UserDefined);
    let first = vocab.kinds.iter().position(is_added).unwrap_or(vocab.kinds.len());
    let rest = &vocab.kinds[first..];
    let after = rest.iter().position(|it| !is_added(it)).unwrap_or(rest.len());
    let whole = vocab.kinds[..first].iter().all(|it| *it != Kind::Unused);
    whole && rest[after..].iter().all(|it| *it == Kind::Unused)
}

fn vocab_object(vocab: &Vocab<'_>, with_added: bool) -> Map<String, Value> {
    let belongs = |kind| match kind {
        Kind::Control | Kind::UserDefined => with_added,
        Kind::Unused => false,
        Kind::Normal | Kind::Unknown | Kind::Byte => true,
    };
    vocab
        .iter()
        .filter(|it| belongs(it.2))
        .map(|(id, token, _)| (token.to_owned(), id.into()))
        .collect()
}

fn added_tokens(vocab: &Vocab<'_>, strips_right: impl Fn(&str) -> bool) -> Vec<Value> {
    let added =
        vocab.iter().filter(|it| matches!(it.2, Kind::Control | Kind::UserDefined | Kind::Unknown));
    added
        .filter(|it| !it.1.is_empty())
        .map(|(id, token, kind)| {
            json!({"id": id, "content": token, "special": kind != Kind::UserDefined, "normalized": false,
                   "lstrip": false, "rstrip": strips_right(token), "single_word": false})
        })
        .collect()
}

fn sentencepiece(gguf: &Gguf, vocab: &Vocab<'_>) -> std::result::Result<TokenizerFiles, Problems> {
    let scores = gguf.get("tokenizer.ggml.scores").and_then(GgufValue::as_f32s).unwrap_or_default();
    if scores.len() != vocab.tokens.len() {
        return Err(format!("{} tokens have {} scores", vocab.tokens.len(), scores.len()).into());
    }
    if scores.iter().any(|it| it.is_nan()) {
        return Err("tokenizer.ggml.scores holds a NaN".into());
    }
    let flag = |key: &str, default| gguf.get(key).and_then(GgufValue::as_bool).unwrap_or(default);
    let mut normalizers =
        vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if flag("tokenizer.ggml.add_space_prefix", true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unk = vocab.iter().find(|it| it.2 == Kind::Unknown).map(|it| it.1);
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true,
        "byte_fallback": vocab.kinds.contains(&Kind::Byte), "ignore_merges": false,
        "vocab": vocab_object(vocab, true), "merges": merges_from_scores(vocab, scores),
    });
    // Phi-3's turn tokens take the space after them along; GGUF has no place to say so.
    let is_phi3 = gguf.get("general.architecture").and_then(GgufValue::as_str) == Some("phi3");
    let strips_right = |token: &str| is_phi3 && !matches!(token, "<unk>" | "<s>" | "<|endoftext|>");
    let parts = Parts {
        model,
        added: added_tokens(vocab, strips_right),
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        adds_bos: true,
    };
    finish(gguf, vocab, parts)
}

/// [`merges_from_scores`] of tokens that are about to be written, by GGUF's numbers of their kinds.
pub(crate) fn merges_of_scores(
    tokens: &[String],
    kinds: &[i64],
    scores: &[f32],
) -> Vec<[String; 2]> {
    let mut problems = Problems::default();
    let kinds = kinds.iter().map(|it| kind(*it, &mut problems)).collect();
    merges_from_scores(&Vocab { tokens, kinds }, scores)
}

/// The merge list that SentencePiece's scores imply, in the order of transformers' converter:
/// every way to build a piece from two others, best piece first.
fn merges_from_scores(vocab: &Vocab<'_>, scores: &[f32]) -> Vec<[String; 2]> {
    let is_text = |kind| matches!(kind, Kind::Normal | Kind::UserDefined);
    let ids: HashMap<&str, usize> =
        vocab.iter().filter(|it| is_text(it.2)).map(|(id, token, _)| (token, id)).collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (id, token, kind) in vocab.iter() {
        if !is_text(kind) || token.chars().count() > MAX_MERGED_CHARS {
            continue;
        }
        let mut ways: Vec<(usize, usize, &str, &str)> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect();
        ways.sort_unstable_by_key(|it| (it.0, it.1));
        merges.extend(ways.into_iter().map(|it| (scores[id], it.2, it.3)));
    }
    let len = |text: &str| text.chars().count();
    merges.sort_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then_with(|| len(b.1).cmp(&len(a.1)))
            .then_with(|| len(b.2).cmp(&len(a.2)))
    });
    merges.into_iter().map(|(_, left, right)| [left.to_owned(), right.to_owned()]).collect()
}

struct Parts {
    model: Value,
    added: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// What the arrangement does where the file does not say.
    adds_bos: bool,
}

fn finish(
    gguf: &Gguf,
    vocab: &Vocab<'_>,
    parts: Parts,
) -> std::result::Result<TokenizerFiles, Problems> {
    let flag = |key: &str, default| gguf.get(key).and_then(GgufValue::as_bool).unwrap_or(default);
    let bos = vocab.named(gguf, "tokenizer.ggml.bos_token_id");
    let eos = vocab.named(gguf, "tokenizer.ggml.eos_token_id");
    let add_bos = flag("tokenizer.ggml.add_bos_token", parts.adds_bos) && bos.is_some();
    let add_eos = flag("tokenizer.ggml.add_eos_token", false) && eos.is_some();
    let post_processor = around(bos.filter(|_| add_bos), eos.filter(|_| add_eos), vocab);
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": parts.added,
        "normalizer": parts.normalizer, "pre_tokenizer": parts.pre_tokenizer,
        "post_processor": post_processor, "decoder": parts.decoder, "model": parts.model,
    });
    let config = json!({
        "add_bos_token": add_bos, "add_eos_token": add_eos, "bos_token": bos, "eos_token": eos,
        "unk_token": vocab.named(gguf, "tokenizer.ggml.unknown_token_id"),
        "pad_token": vocab.named(gguf, "tokenizer.ggml.padding_token_id"),
    });
    match serde_json::to_vec(&file) {
        Ok(tokenizer) => Ok(TokenizerFiles { tokenizer, config }),
        Err(error) => Err(format!("the tokenizer can't be written: {error}").into()),
    }
}

/// A post-processor that puts `bos` in front of a text and `eos` behind it.
fn around(bos: Option<&str>, eos: Option<&str>, vocab: &Vocab<'_>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let special =
        |token: Option<&str>| token.map(|it| json!({"SpecialToken": {"id": it, "type_id": 0}}));
    let text = |name: &str| Some(json!({"Sequence": {"id": name, "type_id": 0}}));
    let list = |pieces: Vec<Option<Value>>| pieces.into_iter().flatten().collect::<Vec<_>>();
    let single = list(vec![special(bos), text("A"), special(eos)]);
    let pair =
        list(vec![special(bos), text("A"), special(eos), special(bos), text("B"), special(eos)]);
    let tokens: BTreeMap<&str, Value> = [bos, eos]
        .into_iter()
        .flatten()
        .filter_map(|token| {
            let id = vocab.tokens.iter().position(|it| it == token)?;
            Some((token, json!({"id": token, "ids": [id], "tokens": [token]})))
        })
        .collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

#[cfg(test)]
#[path = "gguf_tokenizer_tests.rs"]
mod tests;
