//! Normalizers, pre-tokenizers, post-processors and decoders.

use serde_json::Value;

use super::{json::shorten, pattern};

/// Components inside components; real files have two levels.
const MAX_DEPTH: usize = 6;
/// Parts of one sequence.
const MAX_PARTS: usize = 64;
/// Text that a component puts in place of another.
const MAX_INSERTED: usize = 64;
/// Ids that a post-processor may add.
const MAX_TEMPLATE: usize = 64;

type Problems<'a> = &'a mut Vec<String>;

/// Calls `check` for every component that is no sequence, with its type's name.
fn walk(
    section: &str,
    value: &Value,
    parts: &str,
    problems: Problems<'_>,
    check: &mut dyn FnMut(&str, &Value, Problems<'_>),
) {
    descend(section, value, parts, 0, problems, check);
}

fn descend(
    section: &str,
    value: &Value,
    parts: &str,
    depth: usize,
    problems: Problems<'_>,
    check: &mut dyn FnMut(&str, &Value, Problems<'_>),
) {
    let Some(kind) = value.get("type").and_then(Value::as_str) else {
        problems.push(format!("{section}: a component has no type"));
        return;
    };
    if kind != "Sequence" {
        check(kind, value, problems);
        return;
    }
    match value.get(parts).and_then(Value::as_array) {
        Some(items) if items.len() <= MAX_PARTS && depth < MAX_DEPTH => {
            for item in items {
                descend(section, item, parts, depth + 1, problems, check);
            }
        }
        Some(_) => problems.push(format!("{section}: a sequence is too long or too deep")),
        None => problems.push(format!("{section}: a sequence has no `{parts}`")),
    }
}

pub(super) fn normalizer(value: &Value, _: usize, problems: Problems<'_>) {
    walk("normalizer", value, "normalizers", problems, &mut |kind, value, problems| match kind {
        "BertNormalizer" | "Strip" | "StripAccents" | "NFC" | "NFD" | "NFKC" | "NFKD"
        | "Lowercase" | "Nmt" | "ByteLevel" => {}
        "Prepend" => inserted("normalizer: Prepend", value.get("prepend"), problems),
        "Replace" => replace("normalizer", value, problems),
        "Precompiled" => {
            problems.push(
                "normalizer: a Precompiled character map can't be checked and is not supported"
                    .into(),
            );
        }
        other => problems.push(format!("normalizer type `{}` is not known", shorten(other))),
    });
}

pub(super) fn pre_tokenizer(value: &Value, _: usize, problems: Problems<'_>) {
    walk(
        "pre_tokenizer",
        value,
        "pretokenizers",
        problems,
        &mut |kind, value, problems| match kind {
            "BertPreTokenizer" | "ByteLevel" | "Whitespace" | "WhitespaceSplit" | "Punctuation"
            | "Digits" | "UnicodeScripts" => {}
            "Metaspace" => one_char("pre_tokenizer: Metaspace", value.get("replacement"), problems),
            "Split" => check_pattern("pre_tokenizer: Split", value.get("pattern"), problems),
            "FixedLength" => match value.get("length").and_then(Value::as_u64) {
                Some(1..=1_000_000) => {}
                _ => {
                    problems.push("pre_tokenizer: FixedLength needs a length of at least 1".into())
                }
            },
            other => problems.push(format!("pre_tokenizer type `{}` is not known", shorten(other))),
        },
    );
}

pub(super) fn decoder(value: &Value, _: usize, problems: Problems<'_>) {
    walk("decoder", value, "decoders", problems, &mut |kind, value, problems| match kind {
        "ByteLevel" | "ByteFallback" | "Fuse" => {}
        "BPEDecoder" => inserted("decoder: BPEDecoder", value.get("suffix"), problems),
        "WordPiece" => inserted("decoder: WordPiece", value.get("prefix"), problems),
        "Metaspace" => one_char("decoder: Metaspace", value.get("replacement"), problems),
        "Replace" => replace("decoder", value, problems),
        "Strip" => {
            one_char("decoder: Strip", value.get("content"), problems);
            // The crate subtracts from the length of a text that may be empty.
            if value.get("stop").and_then(Value::as_u64) != Some(0) {
                problems.push("decoder: Strip at the end is not supported".into());
            }
            if value.get("start").and_then(Value::as_u64).is_none_or(|it| it > 64) {
                problems.push("decoder: Strip needs a start of at most 64".into());
            }
        }
        other => problems.push(format!("decoder type `{}` is not known", shorten(other))),
    });
}

pub(super) fn post_processor(value: &Value, vocab_size: usize, problems: Problems<'_>) {
    walk(
        "post_processor",
        value,
        "processors",
        problems,
        &mut |kind, value, problems| match kind {
            "ByteLevel" => {}
            "TemplateProcessing" => template(value, vocab_size, problems),
            "BertProcessing" | "RobertaProcessing" => {
                for name in ["sep", "cls"] {
                    let id = value.get(name).and_then(|it| it.get(1)).and_then(Value::as_u64);
                    if id.is_none_or(|id| id >= vocab_size as u64) {
                        problems
                            .push(format!("post_processor: `{name}` has no id that the model has"));
                    }
                }
            }
            other => {
                problems.push(format!("post_processor type `{}` is not known", shorten(other)))
            }
        },
    );
}

/// The crate indexes the special tokens by name and the texts by letter, both unchecked.
fn template(value: &Value, vocab_size: usize, problems: Problems<'_>) {
    let empty = serde_json::Map::new();
    let specials = value.get("special_tokens").and_then(Value::as_object).unwrap_or(&empty);
    for (name, special) in specials {
        let list = |field: &str| {
            special.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
        };
        let (ids, tokens) = (list("ids"), list("tokens"));
        if ids.len() != tokens.len() || ids.is_empty() || ids.len() > MAX_TEMPLATE {
            problems
                .push(format!("post_processor: `{}` needs as many ids as tokens", shorten(name)));
        }
        for id in ids {
            if id.as_u64().is_none_or(|it| it >= vocab_size as u64) {
                let name = shorten(name);
                problems.push(format!(
                    "post_processor: `{name}` has id {id}, but the model has {vocab_size} ids"
                ));
            }
        }
    }
    for (field, texts) in [("single", &["A"][..]), ("pair", &["A", "B"][..])] {
        let Some(pieces) = value.get(field).and_then(Value::as_array) else {
            problems.push(format!("post_processor: `{field}` is no list"));
            continue;
        };
        if pieces.len() > MAX_TEMPLATE {
            problems.push(format!("post_processor: `{field}` has {} pieces", pieces.len()));
        }
        let mut seen = Vec::new();
        for piece in pieces {
            let name =
                |kind: &str| piece.get(kind).and_then(|it| it.get("id")).and_then(Value::as_str);
            match (name("SpecialToken"), name("Sequence")) {
                (Some(special), None) if specials.contains_key(special) => {}
                (Some(special), None) => {
                    problems.push(format!(
                        "post_processor: `{field}` names `{}`, which it does not have",
                        shorten(special)
                    ));
                }
                (None, Some(text)) => seen.push(text),
                _ => problems.push(format!("post_processor: `{field}` holds an unknown piece")),
            }
        }
        seen.sort_unstable();
        if seen != texts {
            problems.push(format!(
                "post_processor: `{field}` must hold {} once each",
                texts.join(" and ")
            ));
        }
    }
}

fn replace(section: &str, value: &Value, problems: Problems<'_>) {
    check_pattern(&format!("{section}: Replace"), value.get("pattern"), problems);
    inserted(&format!("{section}: Replace"), value.get("content"), problems);
}

fn check_pattern(what: &str, value: Option<&Value>, problems: Problems<'_>) {
    let text = |kind: &str| value.and_then(|it| it.get(kind)).and_then(Value::as_str);
    match (text("String"), text("Regex")) {
        (Some(literal), None) if !literal.is_empty() && literal.len() <= MAX_INSERTED => {}
        (None, Some(regex)) => {
            if let Err(reason) = pattern::check(regex) {
                problems.push(format!("{what}: the pattern `{}` {reason}", shorten(regex)));
            }
        }
        _ => problems.push(format!("{what} has no usable pattern")),
    }
}

fn inserted(what: &str, value: Option<&Value>, problems: Problems<'_>) {
    match value.and_then(Value::as_str) {
        Some(text) if text.len() <= MAX_INSERTED => {}
        _ => problems.push(format!("{what} needs a text of at most {MAX_INSERTED} bytes")),
    }
}

fn one_char(what: &str, value: Option<&Value>, problems: Problems<'_>) {
    if value.and_then(Value::as_str).is_none_or(|it| it.chars().count() != 1) {
        problems.push(format!("{what} needs a single character"));
    }
}
