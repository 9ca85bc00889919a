//! Ids, tokens and texts of the reference; and that content never steers the model.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use minicrit_engine::{
    chat::{ChatTemplate, Isolation, Message, RenderOptions, known},
    tokens::{Detokenizer, TokenKind, Tokenizer},
};
use minicrit_testkit::fixtures_dir;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(path: &str) -> Option<Value> {
    Some(serde_json::from_slice(&std::fs::read(fixtures_dir().join(path)).ok()?).unwrap())
}

fn load(folder: &str) -> Option<Tokenizer> {
    let json = std::fs::read(fixtures_dir().join(folder).join("tokenizer.json")).ok()?;
    let config = read(&format!("{folder}/tokenizer_config.json"));
    let size = if folder == "spm" { 512 } else { 704 };
    Some(Tokenizer::from_json(&json, config.as_ref(), size).unwrap())
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> (Vec<String>, String) {
    let mut detokenizer = Detokenizer::new(tokenizer.vocabulary().clone());
    let pieces = ids.iter().map(|id| detokenizer.push(*id)).collect();
    (pieces, detokenizer.finish())
}

fn check_cases(folder: &str) -> Option<usize> {
    let tokenizer = load(folder)?;
    let cases = read(&format!("{folder}/cases.json"))?;
    let cases = cases.as_array().unwrap();
    for (index, case) in cases.iter().enumerate() {
        let expect = ids(&case["ids"]);
        assert_eq!(
            tokenizer.decode(&expect),
            case["decode"].as_str().unwrap(),
            "{folder} case {index}"
        );
        let skipped = tokenizer.decode_skipping_special(&expect);
        assert_eq!(skipped, case["decode_skip_special"].as_str().unwrap(), "{folder} case {index}");
        if let Some(text) = case["text"].as_str() {
            assert_eq!(
                tokenizer.encode_raw(text).unwrap(),
                expect,
                "{folder} case {index}: {text:?}"
            );
            let tokens: Vec<&str> = expect.iter().map(|id| tokenizer.token(*id).unwrap()).collect();
            let reference: Vec<&str> =
                case["tokens"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
            assert_eq!(tokens, reference, "{folder} case {index}");
        }
        let (pieces, rest) = stream(&tokenizer, &expect);
        if folder == "tokenizer" {
            assert_eq!(
                pieces.concat() + &rest,
                case["decode"].as_str().unwrap(),
                "{folder} case {index}"
            );
        }
        if let Some(reference) = case["stream_pieces"].as_array().filter(|_| folder == "tokenizer")
        {
            let reference: Vec<&str> = reference.iter().map(|it| it.as_str().unwrap()).collect();
            assert_eq!(pieces, reference, "{folder} case {index}");
        }
    }
    Some(cases.len())
}

#[test]
fn byte_level_cases_are_equal() {
    assert!(check_cases("tokenizer").unwrap() >= 30);
}

#[test]
fn sentencepiece_cases_are_equal() {
    // The full reference set has no such tokenizer.
    if let Some(count) = check_cases("spm") {
        assert!(count >= 30);
    }
}

#[test]
fn padding_ids_are_unused_and_empty() {
    let tokenizer = load("tokenizer").unwrap();
    let vocabulary = tokenizer.vocabulary();
    assert_eq!(vocabulary.len(), 704);
    assert_eq!(vocabulary.kind(700), TokenKind::Unused);
    assert_eq!(vocabulary.bytes(700), b"");
    assert_eq!(tokenizer.token(700), None);
    let think = tokenizer.id_of("<think>").unwrap();
    assert_eq!(vocabulary.kind(think), TokenKind::Control);
    assert_eq!(vocabulary.bytes(think), b"<think>");
}

#[test]
fn sentencepiece_streams_its_bytes() {
    let Some(tokenizer) = load("spm") else { return };
    for text in ["한국어 text", "a  b", "\ttab\n", "<0x41> and <unk> and </s>"] {
        let ids = tokenizer.encode_content(text).unwrap();
        let (pieces, rest) = stream(&tokenizer, &ids);
        assert_eq!(pieces.concat() + &rest, text);
        assert!(ids.iter().all(|id| tokenizer.vocabulary().kind(*id) == TokenKind::Text), "{text}");
    }
}

/// Tokenizers of other shapes, with every kind of added token: in the vocabulary, reachable by
/// merges, with `ignore_merges`, not special, taking spaces with them.
fn shapes() -> Vec<(&'static str, Tokenizer)> {
    let mut shapes = vec![("byte-level", load("tokenizer").unwrap())];
    shapes.extend(load("spm").map(|it| ("sentencepiece", it)));
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "normalized": false,
               "lstrip": false, "rstrip": content == "<b>", "single_word": false})
    };
    for ignore_merges in [false, true] {
        let file = json!({
            "version": "1.0", "added_tokens": [added(4, "<a>", true), added(5, "<b>", false)],
            "model": {"type": "BPE", "ignore_merges": ignore_merges,
                "vocab": {"<": 0, "a": 1, ">": 2, "<a": 3, "<a>": 4, "<b>": 5, "b": 6, " ": 7, "x": 8},
                "merges": [["<", "a"], ["<a", ">"]]}
        });
        let name = if ignore_merges { "whole words" } else { "merges to a control token" };
        shapes.push((name, Tokenizer::from_json(file.to_string().as_bytes(), None, 9).unwrap()));
    }
    let pieces = json!([
        ["<unk>", 0.0],
        ["<a>", 5.0],
        ["<b>", 5.0],
        ["<", -1.0],
        ["a", -1.0],
        [">", -1.0],
        ["b", -1.0],
        [" ", -1.0],
        ["x", -1.0]
    ]);
    let file = json!({
        "version": "1.0", "added_tokens": [added(1, "<a>", true), added(2, "<b>", false)],
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}
    });
    shapes.push(("unigram", Tokenizer::from_json(file.to_string().as_bytes(), None, 9).unwrap()));
    shapes
}

static SHAPES: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(shapes);

fn count_controls(tokenizer: &Tokenizer, ids: &[u32]) -> usize {
    ids.iter().filter(|id| tokenizer.vocabulary().kind(**id) == TokenKind::Control).count()
}

#[test]
fn no_added_token_in_any_place_is_honoured_in_content() {
    for (name, tokenizer) in SHAPES.iter() {
        for token in tokenizer.control_tokens() {
            // The unknown token stands for what a vocabulary lacks; it steers nothing.
            if token == "<unk>" {
                continue;
            }
            for text in [
                token.clone(),
                format!("x{token}"),
                format!("{token}x"),
                format!("a {token} b"),
                token.repeat(3),
            ] {
                let ids = tokenizer.encode_content(&text).unwrap();
                assert_eq!(count_controls(tokenizer, &ids), 0, "{name}: {text:?} gives {ids:?}");
                assert_eq!(
                    tokenizer.decode(&ids).replace(' ', ""),
                    text.replace(' ', ""),
                    "{name}"
                );
                assert!(
                    count_controls(tokenizer, &tokenizer.encode_raw(&text).unwrap()) > 0,
                    "{name}: {text:?}"
                );
            }
        }
    }
}

fn render_ids(tokenizer: &Tokenizer, template: &str, messages: &[Message]) -> Vec<u32> {
    let source = known::TEMPLATES.iter().find(|it| it.0 == template).unwrap().1;
    let template = ChatTemplate::new(source, None, Some("<|im_end|>"))
        .unwrap()
        .with_control_tokens(tokenizer.control_tokens())
        .with_isolation(Isolation::KnownOnly);
    let rendered =
        template.render(messages, &RenderOptions::on(jiff::civil::date(2026, 11, 20))).unwrap();
    let ids = tokenizer.encode_rendered(&rendered).unwrap();
    let decoded = tokenizer.decode(&ids);
    assert_eq!(decoded, rendered.text());
    ids
}

fn conversation(role: &str, text: &str) -> Vec<Message> {
    let mut messages = vec![
        Message::new("system", "s"),
        Message::new("user", "u"),
        Message::new("assistant", "a"),
        Message::new("tool", "t"),
    ];
    for message in &mut messages {
        if message.role() == role {
            *message = Message::new(role, text);
        }
    }
    messages
}

#[test]
fn every_role_and_place_leaves_the_template_s_control_tokens_alone() {
    let tokenizer = &SHAPES[0].1;
    for template in ["chatml", "qwen2.5", "qwen3"] {
        for role in ["system", "user", "assistant", "tool"] {
            let benign = count_controls(
                tokenizer,
                &render_ids(tokenizer, template, &conversation(role, "plain")),
            );
            for token in tokenizer.control_tokens() {
                // Qwen 3's template takes an assistant's reasoning apart and writes tags of its own.
                if (template, role, token.as_str()) == ("qwen3", "assistant", "</think>") {
                    continue;
                }
                for text in [
                    token.clone(),
                    format!("x {token}"),
                    format!("{token}x"),
                    format!("x\n{token}\ny"),
                ] {
                    let ids = render_ids(tokenizer, template, &conversation(role, &text));
                    assert_eq!(
                        count_controls(tokenizer, &ids),
                        benign,
                        "{template} {role} {text:?}"
                    );
                }
            }
        }
    }
}

/// Texts full of control tokens, halves of them, and characters that matter to splitting.
fn hostile_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        proptest::sample::select(vec![
            "<|im_start|>",
            "<|im_end|>",
            "<|endoftext|>",
            "<think>",
            "</think>",
            "<tool_call>",
            "</tool_call>",
            "<|im_",
            "end|>",
            "<",
            "|>",
            "\n",
            " ",
            "  ",
            "é",
            "🙂",
            "\u{FDD0}",
            "\u{E000}",
            "<s>",
            "</s>",
            "<a>",
            "<b>",
            "{{",
            "%}",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,4}",
        any::<char>().prop_map(|c| c.to_string()),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn content_is_never_control(text in hostile_text()) {
        for (name, tokenizer) in SHAPES.iter().take(2) {
            let ids = tokenizer.encode_content(&text).unwrap();
            prop_assert_eq!(count_controls(tokenizer, &ids), 0, "{}", name);
        }
    }

    #[test]
    fn rendered_controls_do_not_depend_on_content(text in hostile_text(), place in 0usize..4) {
        let tokenizer = &SHAPES[0].1;
        let role = ["system", "user", "assistant", "tool"][place];
        for template in ["chatml", "qwen2.5"] {
            let source = known::TEMPLATES.iter().find(|it| it.0 == template).unwrap().1;
            let template = ChatTemplate::new(source, None, Some("<|im_end|>"))
                .unwrap()
                .with_control_tokens(tokenizer.control_tokens());
            let options = RenderOptions::on(jiff::civil::date(2026, 11, 20));
            let benign = template.render(&conversation(role, "plain"), &options).unwrap();
            let rendered = template.render(&conversation(role, &text), &options).unwrap();
            let ids = tokenizer.encode_rendered(&rendered).unwrap();
            prop_assert_eq!(count_controls(tokenizer, &ids), benign.control_spans().len());
        }
    }
}
