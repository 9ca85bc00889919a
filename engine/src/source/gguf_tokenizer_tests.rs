//! GGUF vocabularies against the tokenizer.json that they came from.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::tokens::Tokenizer;

fn gguf(entries: &[(&str, GgufValue)]) -> Gguf {
    Gguf {
        origin: "test.gguf".into(),
        version: 3,
        metadata: entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        tensors: BTreeMap::new(),
    }
}

fn strings(items: &[&str]) -> GgufValue {
    GgufValue::Strings(items.iter().map(|it| (*it).to_owned()).collect())
}

fn text(value: &str) -> GgufValue {
    GgufValue::String(value.to_owned())
}

fn small() -> Vec<(&'static str, GgufValue)> {
    vec![
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("qwen2")),
        ("tokenizer.ggml.tokens", strings(&["a", "b", "ab", "<x>", "<pad>"])),
        ("tokenizer.ggml.token_type", GgufValue::Integers(vec![1, 1, 1, 3, 5])),
        ("tokenizer.ggml.merges", strings(&["a b"])),
    ]
}

fn with(key: &'static str, value: GgufValue) -> Gguf {
    let mut entries = small();
    entries.retain(|it| it.0 != key);
    entries.push((key, value));
    gguf(&entries)
}

fn load(gguf: &Gguf, size: usize) -> Tokenizer {
    let files = tokenizer_files(gguf).unwrap().unwrap();
    Tokenizer::from_json(&files.tokenizer, Some(&files.config), size).unwrap()
}

#[track_caller]
fn check_refused(gguf: &Gguf, expect: &str) {
    let error = tokenizer_files(gguf).err().unwrap().to_string();
    assert!(error.contains(expect), "want `{expect}` in {error}");
}

#[test]
fn a_small_one_encodes() {
    let tokenizer = load(&gguf(&small()), 6);
    assert_eq!(tokenizer.encode_raw("ab<x>a").unwrap(), [2, 3, 0]);
    assert_eq!(tokenizer.control_tokens(), ["<x>"]);
    assert_eq!(tokenizer.token(4), None);
}

#[test]
fn a_bos_goes_in_front_where_the_file_says_so() {
    let mut entries = small();
    entries.push(("tokenizer.ggml.bos_token_id", GgufValue::Unsigned(3)));
    entries.push(("tokenizer.ggml.add_bos_token", GgufValue::Bool(true)));
    assert_eq!(load(&gguf(&entries), 6).encode_raw("ab").unwrap(), [3, 2]);
    assert_eq!(load(&gguf(&entries), 6).encode_content("ab").unwrap(), [2]);
}

#[test]
fn control_tokens_in_the_middle_of_the_ids_keep_theirs() {
    let gguf = with("tokenizer.ggml.token_type", GgufValue::Integers(vec![1, 1, 1, 3, 1]));
    assert_eq!(load(&gguf, 5).encode_raw("<x>").unwrap(), [3]);
}

#[test]
fn broken_vocabularies_are_refused_by_name() {
    check_refused(&with("tokenizer.ggml.model", text("magic")), "gpt2 and llama are known");
    check_refused(&with("tokenizer.ggml.pre", text("unheard-of")), "\"unheard-of\"");
    check_refused(
        &with("tokenizer.ggml.tokens", strings(&["a", "a", "ab", "<x>", "<pad>"])),
        "has ids 0 and 1",
    );
    check_refused(&with("tokenizer.ggml.tokens", strings(&[])), "missing or empty");
    check_refused(
        &with("tokenizer.ggml.token_type", GgufValue::Integers(vec![1])),
        "5 tokens have 1 token types",
    );
    check_refused(
        &with("tokenizer.ggml.token_type", GgufValue::Integers(vec![1, 1, 1, 9, 1])),
        "token type 9",
    );
    check_refused(&with("tokenizer.ggml.merges", strings(&["ab"])), "not two pieces");
    check_refused(&with("tokenizer.ggml.merges", GgufValue::Bool(true)), "merges is missing");
    let mut spm = small();
    spm[0].1 = text("llama");
    check_refused(&gguf(&spm), "5 tokens have 0 scores");
}

#[test]
fn no_vocabulary_is_no_error() {
    assert!(tokenizer_files(&gguf(&[])).unwrap().is_none());
}

fn fixture(path: &str) -> Option<Gguf> {
    let path = minicrit_testkit::fixtures_dir().join(path);
    Path::new(&path).exists().then(|| Gguf::open(&path).unwrap())
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(minicrit_testkit::fixtures_dir().join(path)).unwrap())
        .unwrap()
}

/// A GGUF vocabulary gives the ids of the tokenizer.json that it was written from.
fn check_cases(gguf: &Gguf, folder: &str) {
    let size = gguf.get("tokenizer.ggml.tokens").and_then(GgufValue::as_strings).unwrap().len();
    let tokenizer = load(gguf, size);
    let cases = json(&format!("{folder}/cases.json"));
    let mut count = 0;
    for case in cases.as_array().unwrap() {
        let ids: Vec<u32> =
            case["ids"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.decode(&ids), case["decode"].as_str().unwrap());
        if let Some(text) = case["text"].as_str() {
            assert_eq!(tokenizer.encode_raw(text).unwrap(), ids, "{text:?}");
            count += 1;
        }
    }
    assert!(count >= 30);
}

#[test]
fn a_byte_level_file_equals_its_source() {
    if let Some(gguf) = fixture("gguf/qwen2.gguf") {
        check_cases(&gguf, "tokenizer");
    }
}

#[test]
fn a_sentencepiece_file_equals_its_source() {
    if let Some(gguf) = fixture("spm/vocab.gguf") {
        check_cases(&gguf, "spm");
    }
}
