//! What the names of tokenizers' arrangements in GGUF files mean, and which name an arrangement has.
//!
//! A name stands for a pattern that splits text, a normal form and a way to look words up. A name
//! that is not known is refused: a near miss gives other ids without a word.

use serde_json::{Value, json};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What a value of `tokenizer.ggml.pre` means.
pub(super) struct Arrangement {
    pub(super) pre_tokenizer: Value,
    pub(super) normalizer: Value,
    pub(super) ignore_merges: bool,
    pub(super) adds_bos: bool,
}

/// What `name` means, if it is known.
pub(super) fn arrangement(name: &str) -> Option<Arrangement> {
    let split = |pattern: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]})
    };
    let plain = |pre_tokenizer| Arrangement {
        pre_tokenizer,
        normalizer: Value::Null,
        ignore_merges: false,
        adds_bos: false,
    };
    let arrangement = match name {
        "gpt-2" | "gpt2" | "phi-2" => plain(split(GPT2)),
        "llama3" | "llama-v3" | "llama-bpe" => {
            Arrangement { ignore_merges: true, adds_bos: true, ..plain(split(LLAMA3)) }
        }
        "smaug-bpe" | "dbrx" => plain(split(LLAMA3)),
        "qwen2" => Arrangement { normalizer: json!({"type": "NFC"}), ..plain(split(QWEN2)) },
        "deepseek-r1-qwen" => plain(split(QWEN2)),
        "tekken" => Arrangement { ignore_merges: true, adds_bos: true, ..plain(split(TEKKEN)) },
        "smollm" => plain(json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})),
        _ => return None,
    };
    Some(arrangement)
}

/// Names that files are written with; the others are synonyms.
const WRITTEN: [&str; 7] =
    ["qwen2", "deepseek-r1-qwen", "llama-bpe", "smaug-bpe", "gpt-2", "tekken", "smollm"];

/// The name of the arrangement of a byte-level tokenizer.json, if it has one.
pub(crate) fn arrangement_of(tokenizer: &Value) -> Option<&'static str> {
    let model = &tokenizer["model"];
    let steps = steps(&tokenizer["pre_tokenizer"])?;
    let is_plain = |key: &str| {
        matches!(&model[key], Value::Null | Value::Bool(false)) || model[key].as_str() == Some("")
    };
    let plain = ["unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"];
    if !plain.into_iter().all(is_plain) {
        return None;
    }
    WRITTEN.into_iter().find(|name| {
        arrangement(name).is_some_and(|it| {
            self::steps(&it.pre_tokenizer).as_ref() == Some(&steps)
                && it.normalizer == tokenizer["normalizer"]
                && it.ignore_merges == (model["ignore_merges"].as_bool() == Some(true))
        })
    })
}

/// What a byte-level pre-tokenizer does, one step after the other, whatever its spelling.
#[derive(Debug, PartialEq)]
enum Step {
    Split(String),
    EachDigit,
    Bytes,
}

fn steps(pre_tokenizer: &Value) -> Option<Vec<Step>> {
    let list = match pre_tokenizer["pretokenizers"].as_array() {
        Some(list) if pre_tokenizer["type"] == "Sequence" => list.as_slice(),
        _ => std::slice::from_ref(pre_tokenizer),
    };
    let mut steps = Vec::new();
    for it in list {
        match it["type"].as_str()? {
            "Split" if it["behavior"] == "Isolated" && it["invert"] != true => {
                steps.push(Step::Split(it["pattern"]["Regex"].as_str()?.to_owned()));
            }
            "Digits" if it["individual_digits"] == true => steps.push(Step::EachDigit),
            "ByteLevel" if it["add_prefix_space"] != true => {
                if it["use_regex"] != false {
                    steps.push(Step::Split(GPT2.to_owned()));
                }
                steps.push(Step::Bytes);
            }
            _ => return None,
        }
    }
    (steps.last() == Some(&Step::Bytes)).then_some(steps)
}

/// Whether a tokenizer.json in SentencePiece's manner puts a space in front of a text; nothing where
/// it is of another manner.
pub(crate) fn adds_space_prefix(tokenizer: &Value) -> Option<bool> {
    let (normalizer, pre_tokenizer) = (&tokenizer["normalizer"], &tokenizer["pre_tokenizer"]);
    if pre_tokenizer["type"] == "Metaspace" && normalizer.is_null() {
        let plain = pre_tokenizer["replacement"] == "▁" && pre_tokenizer["split"] == false;
        return match pre_tokenizer["prepend_scheme"].as_str() {
            Some("never") if plain => Some(false),
            Some("first" | "always") if plain => Some(true),
            _ => None,
        };
    }
    if !pre_tokenizer.is_null() {
        return None;
    }
    let list = match normalizer["normalizers"].as_array() {
        Some(list) => list.as_slice(),
        None => std::slice::from_ref(normalizer),
    };
    let spaces = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let prefix = json!({"type": "Prepend", "prepend": "▁"});
    match list {
        [a] if *a == spaces => Some(false),
        [a, b] if *a == prefix && *b == spaces => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_name_is_found_again() {
        for name in WRITTEN {
            let it = arrangement(name).unwrap_or_else(|| panic!("{name}"));
            let tokenizer = json!({
                "normalizer": it.normalizer, "pre_tokenizer": it.pre_tokenizer,
                "model": {"ignore_merges": it.ignore_merges, "unk_token": null},
            });
            assert_eq!(arrangement_of(&tokenizer), Some(name));
        }
    }

    #[test]
    fn another_pattern_has_no_name() {
        let tokenizer = json!({
            "normalizer": null, "model": {},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
        });
        assert_eq!(arrangement_of(&tokenizer), None);
        let gpt2 = json!({"normalizer": null, "model": {},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}});
        assert_eq!(arrangement_of(&gpt2), Some("gpt-2"));
    }
}
