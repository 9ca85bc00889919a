//! Every reference rendering, byte for byte, and its ids where the reference gives them.
#![allow(clippy::unwrap_used)]

use minicrit_engine::{
    chat::{ChatError, ChatTemplate, Isolation, Message, RenderOptions},
    tokens::Tokenizer,
};
use minicrit_testkit::fixtures_dir;
use serde_json::Value;

fn read(path: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures_dir().join(path)).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    let json = std::fs::read(fixtures_dir().join("tokenizer/tokenizer.json")).unwrap();
    Tokenizer::from_json(&json, Some(&read("tokenizer/tokenizer_config.json")), 640).unwrap()
}

fn template(templates: &Value, name: &str, tokenizer: &Tokenizer) -> ChatTemplate {
    let entry = &templates[name];
    let source = entry["template"].as_str().unwrap();
    ChatTemplate::new(source, entry["bos_token"].as_str(), entry["eos_token"].as_str())
        .unwrap()
        .with_control_tokens(tokenizer.control_tokens())
        .with_isolation(Isolation::InProcess)
}

fn options(case: &Value) -> RenderOptions {
    let mut options = RenderOptions::on(jiff::civil::date(2026, 11, 20));
    options.tools = Some(case["tools"].clone()).filter(|it| !it.is_null());
    options.kwargs = case["kwargs"].as_object().unwrap().clone();
    options.add_generation_prompt = case["add_generation_prompt"].as_bool().unwrap();
    options
}

/// Whether a message holds a control token's string: then ids differ from the reference on
/// purpose, because the reference lets content steer the model.
fn has_control_text(case: &Value, tokenizer: &Tokenizer) -> bool {
    let messages = case["messages"].to_string();
    tokenizer.control_tokens().iter().any(|token| messages.contains(token.as_str()))
}

#[test]
fn renders_are_byte_equal() {
    let (templates, cases) = (read("chat/templates.json"), read("chat/cases.json"));
    let tokenizer = tokenizer();
    let mut failures = Vec::new();
    let mut counts = (0, 0);
    for (index, case) in cases["cases"].as_array().unwrap().iter().enumerate() {
        let name = case["template"].as_str().unwrap();
        let messages = Message::list(&case["messages"]).unwrap();
        let result = template(&templates, name, &tokenizer).render(&messages, &options(case));
        let got = match &result {
            Ok(rendered) => rendered.text().to_owned(),
            Err(ChatError::Refused(message)) => format!("TemplateError: {message}"),
            Err(other) => format!("{other:?}"),
        };
        let expect =
            case.get("rendered").or_else(|| case.get("error")).and_then(Value::as_str).unwrap();
        counts.0 += 1;
        if got != expect {
            failures.push(format!(
                "case {index} ({name}, {}):\n got {got:?}\nwant {expect:?}",
                case["conversation"]
            ));
            continue;
        }
        let (Some(ids), Ok(rendered)) = (case["ids_with_parity_tokenizer"].as_array(), result)
        else {
            continue;
        };
        let got = tokenizer.encode_rendered(&rendered).unwrap();
        let expect: Vec<u32> = ids.iter().map(|id| id.as_u64().unwrap() as u32).collect();
        assert_eq!(tokenizer.decode(&got), rendered.text(), "case {index}");
        if !has_control_text(case, &tokenizer) {
            counts.1 += 1;
            if got != expect {
                failures.push(format!(
                    "case {index} ({name}, {}): ids\n got {got:?}\nwant {expect:?}",
                    case["conversation"]
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        counts.0,
        failures.join("\n")
    );
    assert!(counts.0 >= 60 && counts.1 >= 20, "too few cases: {counts:?}");
}

#[test]
fn all_templates_of_the_reference_are_known() {
    let templates = read("chat/templates.json");
    let tokenizer = tokenizer();
    for name in templates.as_object().unwrap().keys() {
        let template = template(&templates, name, &tokenizer).with_isolation(Isolation::KnownOnly);
        let result = template.render(
            &[Message::new("user", "a")],
            &RenderOptions::on(jiff::civil::date(2026, 11, 20)),
        );
        assert_ne!(result, Err(ChatError::Untrusted), "{name}");
    }
}
