//! Crafted tokenizers and what is said of them.

#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::tokens::Tokenizer;

const VOCAB_SIZE: usize = 16;

/// A small tokenizer that is right in every part.
fn good() -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{"id": 6, "content": "<s>", "special": true, "normalized": false,
                          "lstrip": false, "rstrip": false, "single_word": false}],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [6], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "u",
            "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"u": 0, "a": 1, "b": 2, "ab": 3, "▁": 4, "▁ab": 5},
            "merges": [["a", "b"], ["▁", "ab"]]}
    })
}

fn with(pointer: &str, value: Value) -> String {
    let mut file = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    file.pointer_mut(parent).unwrap()[key] = value;
    file.to_string()
}

#[track_caller]
fn check_refused(file: &str, expect: &str) {
    let error = Tokenizer::from_json(file.as_bytes(), None, VOCAB_SIZE).unwrap_err();
    assert!(matches!(error, TokensError::Invalid { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(expect), "want `{expect}` in: {text}");
}

#[test]
fn a_good_tokenizer_passes() {
    let tokenizer = Tokenizer::from_json(good().to_string().as_bytes(), None, VOCAB_SIZE).unwrap();
    assert_eq!(tokenizer.encode_raw("ab<s>").unwrap(), [6, 5, 6]);
    assert_eq!(tokenizer.encode_content("ab").unwrap(), [5]);
    assert_eq!(tokenizer.decode(&[5, 3]), "abab");
}

/// Odd, but allowed.
#[test]
fn odd_twins_pass() {
    for file in [
        with("/model/merges", json!(["a b", "▁ ab"])),
        with("/model/dropout", json!(0.0)),
        with(
            "/truncation",
            json!({"max_length": 1, "stride": 5, "strategy": "LongestFirst", "direction": "Right"}),
        ),
        with(
            "/padding",
            json!({"strategy": {"Fixed": 100000000}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "u"}),
        ),
        with("/normalizer", Value::Null),
        with("/decoder", Value::Null),
        with("/model/continuing_subword_prefix", json!("")),
        with("/something", json!({"new": 1})),
    ] {
        let tokenizer = Tokenizer::from_json(file.as_bytes(), None, VOCAB_SIZE).unwrap();
        assert!(tokenizer.encode_raw("ab").unwrap().len() < 9, "{file}");
    }
}

/// Each crafted file and a part of what the error must say.
#[test]
fn crafted_files_are_refused_by_name() {
    let long = "x".repeat(5000);
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "not a JSON object"),
        ("[]".into(), "not a JSON object"),
        ("{".into(), "not a JSON object"),
        ("\u{FEFF}{}".into(), "not a JSON object"),
        (format!("{}{}", "{\"a\":".repeat(500), "}".repeat(500)), "not a JSON object"),
        ("{}".into(), "no `model`"),
        (
            good().to_string().replacen("\"version\"", "\"version\":\"1.0\",\"version\"", 1),
            "`version` occurs twice",
        ),
        (
            good().to_string().replacen("\"model\":", "\"model\":{},\"model\":", 1),
            "`model` occurs twice",
        ),
        (good().to_string().replacen("\"a\":1", "\"a\":1,\"a\":7", 1), "`a` occurs twice"),
        (
            good().to_string().replacen("\"merges\":", "\"merges\":[],\"merges\":", 1),
            "`merges` occurs twice in model",
        ),
        (with("/version", json!("2.0")), "is not \"1.0\""),
        (with("/model/type", json!("Magic")), "model type `Magic`"),
        (with("/model/vocab", json!({})), "vocab is empty"),
        (with("/model/vocab", json!([])), "model.vocab"),
        (with("/model/vocab/a", json!(-1)), "model.vocab"),
        (with("/model/vocab/a", json!(4294967296u64)), "model.vocab"),
        (with("/model/vocab/a", json!(16)), "`a` has id 16, but the model has 16 ids"),
        (with("/model/vocab/a", json!(2)), "share id 2"),
        (with("/model/merges", json!([["a", "c"]])), "`c` is not in the vocabulary"),
        (with("/model/merges", json!([["b", "a"]])), "`ba` is not in the vocabulary"),
        (with("/model/merges", json!([[long.clone(), long.clone()]])), "is not in the vocabulary"),
        (with("/model/merges", json!(["a"])), "not two pieces"),
        (with("/model/merges", json!(["a b c"])), "not two pieces"),
        (with("/model/merges", json!(3)), "no list of pairs"),
        (with("/model/continuing_subword_prefix", json!("##")), "can't be cut"),
        (
            with("/model/continuing_subword_prefix", json!(long.clone())),
            "continuing_subword_prefix has 5000 bytes",
        ),
        (
            with("/model/end_of_word_suffix", json!(long.clone())),
            "end_of_word_suffix has 5000 bytes",
        ),
        (with("/model/dropout", json!(0.5)), "dropout is 0.5"),
        (with("/model/unk_token", json!("none")), "unk_token `none`"),
        (with("/added_tokens/0/id", json!(99)), "id 99, but the model has 16 ids"),
        (with("/added_tokens/0/id", json!(3)), "takes id 3 from `ab`"),
        (with("/added_tokens/0/id", json!(9)), "its place is"),
        (with("/added_tokens/0/content", json!("")), "is empty"),
        (with("/added_tokens/0/content", json!(long.clone())), "5000 bytes"),
        (
            with(
                "/added_tokens",
                json!([{"id": 6, "content": "<s>"}, {"id": 6, "content": "<t>"}]),
            ),
            "share id 6",
        ),
        (
            with(
                "/added_tokens",
                json!([{"id": 6, "content": "<s>"}, {"id": 7, "content": "<s>"}]),
            ),
            "occurs twice",
        ),
        (with("/added_tokens", json!({})), "added_tokens"),
        (
            with("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
            "Precompiled",
        ),
        (
            with("/normalizer", json!({"type": "Prepend", "prepend": long.clone()})),
            "at most 64 bytes",
        ),
        (
            with(
                "/normalizer",
                json!({"type": "Replace", "pattern": {"String": ""}, "content": "x"}),
            ),
            "no usable pattern",
        ),
        (
            with(
                "/normalizer",
                json!({"type": "Replace", "pattern": {"String": "a"}, "content": long.clone()}),
            ),
            "at most 64 bytes",
        ),
        (with("/normalizer", json!({"type": "Exec"})), "normalizer type `Exec`"),
        (with("/normalizer", json!({"no": "type"})), "no type"),
        (with("/pre_tokenizer", json!({"type": "FixedLength", "length": 0})), "at least 1"),
        (with("/pre_tokenizer/pattern", json!({"Regex": "(a+)+(?!b)"})), "could take for ever"),
        (with("/pre_tokenizer/pattern", json!({"Regex": "(a"})), "open bracket"),
        (with("/pre_tokenizer/pattern", json!({"Regex": "(a)\\1"})), "refers back"),
        (with("/pre_tokenizer/pattern", json!({"Regex": long.clone()})), "too long"),
        (
            with("/pre_tokenizer", json!({"type": "Metaspace", "replacement": "ab"})),
            "single character",
        ),
        (with("/pre_tokenizer", nested(20)), "too deep"),
        (with("/post_processor/special_tokens", json!({})), "names `<s>`, which it does not have"),
        (with("/post_processor/special_tokens/<s>/ids", json!([6, 6])), "as many ids as tokens"),
        (with("/post_processor/special_tokens/<s>/ids", json!([60])), "has id 60"),
        (
            with("/post_processor/single", json!([{"Sequence": {"id": "B", "type_id": 0}}])),
            "`single` must hold A",
        ),
        (with("/post_processor/single", json!([])), "`single` must hold A"),
        (
            with(
                "/post_processor",
                json!({"type": "BertProcessing", "sep": ["x", 99], "cls": ["y", 1]}),
            ),
            "`sep` has no id",
        ),
        (
            with("/decoder", json!({"type": "Strip", "content": " ", "start": 0, "stop": 1})),
            "Strip at the end",
        ),
        (with("/decoder", json!({"type": "CTC"})), "decoder type `CTC`"),
        (with("/decoder", json!("ByteLevel")), "no type"),
        (with("/model", json!({"type": "Unigram", "vocab": [["a", 0.0]]})), "no unk_id"),
        (
            with("/model", json!({"type": "Unigram", "unk_id": 5, "vocab": [["a", 0.0]]})),
            "unk_id 5",
        ),
        (
            with("/model", json!({"type": "Unigram", "unk_id": 0, "vocab": [["", 0.0]]})),
            "is empty or occurs twice",
        ),
        (
            with("/model", json!({"type": "WordLevel", "unk_token": "x", "vocab": {"a": 0}})),
            "unk_token `x`",
        ),
    ];
    assert!(cases.len() >= 40);
    let mut failures = Vec::new();
    for (file, expect) in &cases {
        match Tokenizer::from_json(file.as_bytes(), None, VOCAB_SIZE) {
            Err(error) if error.to_string().contains(expect) => {}
            other => failures.push(format!("want `{expect}`, got {:?}", other.map(drop))),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!({"type": "ByteLevel"}),
        |inner, _| json!({"type": "Sequence", "pretokenizers": [inner]}),
    )
}

/// The crate cuts the prefix's bytes off the right side unchecked: here in the middle of `é`.
#[test]
fn a_prefix_that_cuts_a_character_never_reaches_the_crate() {
    let mut file = good();
    file["model"]["vocab"] = json!({"u": 0, "a": 1, "é": 2, "aé": 3});
    file["model"]["merges"] = json!([["a", "é"]]);
    file["model"]["continuing_subword_prefix"] = json!("#");
    check_refused(&file.to_string(), "can't be cut after the subword prefix");
}

#[test]
fn a_model_of_absurd_size_is_refused_before_its_table_is_built() {
    let error = Tokenizer::from_json(good().to_string().as_bytes(), None, usize::MAX).unwrap_err();
    assert!(error.to_string().contains("ids"), "{error}");
}

#[test]
fn all_problems_are_told_at_once() {
    let mut file = good();
    file["version"] = json!("9");
    file["model"]["dropout"] = json!(1.0);
    file["decoder"] = json!({"type": "CTC"});
    let error = Tokenizer::from_json(file.to_string().as_bytes(), None, VOCAB_SIZE).unwrap_err();
    let TokensError::Invalid { problems } = error else { panic!("{error:?}") };
    assert_eq!(problems.len(), 3, "{problems:?}");
}
