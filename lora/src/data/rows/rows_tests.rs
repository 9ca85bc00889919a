//! Rows of every format, good and bad.

#![allow(clippy::unwrap_used)]

use super::*;

/// The rows of a record, or the names of what is wrong with it.
fn parse(text: &str) -> (Vec<Row>, Vec<(&'static str, usize)>) {
    let mut findings = Findings::default();
    let node = Node::parse(text, &mut findings).unwrap();
    let format = Format::of(&node).unwrap();
    let rows = Row::parse(&node, format, &mut findings);
    (rows, findings.0.iter().map(|it| (it.rule.name(), it.offset)).collect())
}

/// A body in one line: `role*weight:content`.
fn show(body: &Body) -> String {
    match body {
        Body::Dialog { turns, tools } => {
            let show = |it: &Turn| {
                let calls = it.message.fields().get("tool_calls");
                let calls = calls.map_or_else(String::new, |it| format!("+{it}"));
                let content = it.message.content().unwrap_or("-");
                format!("{}*{}:{content}{calls}", it.message.role(), it.weight)
            };
            let mut all: Vec<String> = turns.iter().map(show).collect();
            all.extend(tools.iter().map(|it| format!("tools={it}")));
            all.join(" | ")
        }
        Body::Plain { prompt, completion, .. } => format!("{prompt} => {completion}"),
        Body::Text { text, trained_from, .. } => {
            format!("{} ^ {}", &text[..*trained_from], &text[*trained_from..])
        }
    }
}

fn check(text: &str, expect: &[&str]) {
    let (rows, problems) = parse(text);
    assert_eq!(problems, [], "{text}");
    let shown: Vec<String> = rows
        .iter()
        .flat_map(|row| {
            let label = match row {
                Row::Labelled { desirable, .. } => format!("{desirable}: "),
                _ => String::new(),
            };
            row.bodies().into_iter().map(move |it| label.clone() + &show(it)).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(shown, expect, "{text}");
}

fn refuse(text: &str, expect: &[&str]) {
    let (rows, problems) = parse(text);
    let names: Vec<_> = problems.iter().map(|it| it.0).collect();
    assert_eq!(names, expect, "{text}");
    assert!(rows.is_empty(), "{text}");
}

fn warn(text: &str, expect: &[&str]) {
    let (rows, problems) = parse(text);
    let names: Vec<_> = problems.iter().map(|it| it.0).collect();
    assert_eq!(names, expect, "{text}");
    assert!(!rows.is_empty(), "{text}");
}

const USER: &str = r#"{"role":"user","content":"q"}"#;
const ANSWER: &str = r#"{"role":"assistant","content":"a"}"#;

#[test]
fn messages_carry_weights_tools_and_parts() {
    check(
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]},
            {"role":"assistant","content":"a","weight":0},{"role":"user","content":"q"},{"role":"assistant","content":"b","weight":1}]}"#,
        &["system*0:s | user*0:xy | assistant*0:a | user*0:q | assistant*1:b"],
    );
    check(
        r#"{"messages":[{"role":"user","content":"q"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}]},
            {"role":"tool","tool_call_id":"1","content":"2"},
            {"role":"assistant","content":"done","tool_calls":null}],
            "tools":[{"type":"function","function":{"name":"f"}}]}"#,
        &[
            r#"user*0:q | assistant*1:-+[{"id":"1","type":"function","function":{"name":"f","arguments":{"x":1}}}] | tool*0:2 | assistant*1:done | tools=[{"type":"function","function":{"name":"f"}}]"#,
        ],
    );
}

#[test]
fn other_ways_to_write_a_conversation() {
    check(
        r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"system":"s"}"#,
        &["system*0:s | user*0:q | assistant*1:a"],
    );
    check(
        r#"{"conversations":[{"from":"human","value":"q"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{}}"},{"from":"observation","value":"r"},{"from":"gpt","value":"a"}]}"#,
        &[
            r#"user*0:q | assistant*1:+[{"type":"function","function":{"name":"f","arguments":{}}}] | tool*0:r | assistant*1:a"#,
        ],
    );
    check(
        r#"{"instruction":"i","input":"x","output":"o","history":[["h","g"]]}"#,
        &["user*0:h | assistant*0:g | user*0:i\n\nx | assistant*1:o"],
    );
    check(r#"{"instruction":"i","input":"","output":"o"}"#, &["user*0:i | assistant*1:o"]);
    check(r#"{"prompt":"p","completion":"c"}"#, &["p => c"]);
    check(
        &format!(r#"{{"prompt":[{USER},{ANSWER},{USER}],"completion":[{ANSWER}]}}"#),
        &["user*0:q | assistant*0:a | user*0:q | assistant*1:a"],
    );
    check(r#"{"text":"t"}"#, &[" ^ t"]);
}

#[test]
fn pairs_share_their_prompt() {
    let expect = ["user*0:q | assistant*1:a", "user*0:q | assistant*1:b"];
    let other = r#"{"role":"assistant","content":"b"}"#;
    check(&format!(r#"{{"prompt":[{USER}],"chosen":[{ANSWER}],"rejected":[{other}]}}"#), &expect);
    check(&format!(r#"{{"prompt":"q","chosen":[{ANSWER}],"rejected":[{other}]}}"#), &expect);
    check(&format!(r#"{{"chosen":[{USER},{ANSWER}],"rejected":[{USER},{other}]}}"#), &expect);
    check(
        &format!(
            r#"{{"input":{{"messages":[{USER}]}},"preferred_output":[{ANSWER}],"non_preferred_output":[{other}]}}"#
        ),
        &expect,
    );
    check(
        r#"{"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"a"},"rejected":{"from":"gpt","value":"b"}}"#,
        &expect,
    );
    check(r#"{"prompt":"p","chosen":"a","rejected":"b"}"#, &["p => a", "p => b"]);
    check(
        r#"{"instruction":"i","input":"x","chosen":"a","rejected":"b"}"#,
        &["i\n\nx => a", "i\n\nx => b"],
    );
    check(
        r#"{"chosen":"The sky is blue","rejected":"The sky is green"}"#,
        &["The sky is ^  blue", "The sky is ^  green"],
    );
}

#[test]
fn verdicts() {
    check(r#"{"prompt":"p","completion":"c","label":true}"#, &["true: p => c"]);
    check(
        &format!(r#"{{"prompt":[{USER}],"completion":[{ANSWER}],"label":0}}"#),
        &["false: user*0:q | assistant*1:a"],
    );
    refuse(r#"{"prompt":"p","completion":"c","label":"yes"}"#, &["wrong-type"]);
}

#[test]
fn votes_of_promptfoo_make_all_pairs() {
    check(
        r#"{"chosen":["a","b"],"rejected":["c"],"vars":{"x":"1"},"providers":["p"],"prompts":["say {{x}}","say {{x}}"]}"#,
        &["say 1 => a", "say 1 => c", "say 1 => b", "say 1 => c"],
    );
    check(
        r#"{"chosen":["a"],"rejected":["c"],"vars":{"x":"q"},"prompts":["[{\"role\":\"user\",\"content\":\"{{ x }}\"}]"]}"#,
        &["user*0:q | assistant*1:a", "user*0:q | assistant*1:c"],
    );
    refuse(r#"{"chosen":["a"],"rejected":[],"vars":{},"prompts":["p"]}"#, &["no-pair"]);
    refuse(r#"{"chosen":["a"],"rejected":["b"],"vars":{},"prompts":["p","q"]}"#, &["wrong-type"]);
    refuse(r#"{"chosen":["a"],"rejected":["b"],"vars":{},"prompts":["{{x}}"]}"#, &["missing-key"]);
    refuse(
        r#"{"chosen":["a"],"rejected":["b"],"vars":{},"prompts":["{% if %}"]}"#,
        &["wrong-type"],
    );
}

#[test]
fn every_problem_of_a_row_is_named() {
    refuse(
        r#"{"messages":[{"role":"bot","content":"x"},{"role":"user","content":3}, 4]}"#,
        &["unknown-role", "wrong-type", "wrong-type"],
    );
    refuse(r#"{"messages":{}}"#, &["wrong-type"]);
    refuse(&format!(r#"{{"messages":[{USER}]}}"#), &["no-assistant"]);
    refuse(r#"{"messages":[]}"#, &["no-assistant"]);
    refuse(
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":" \n"}]}"#,
        &["empty-turn"],
    );
    refuse(r#"{"messages":[{"role":"assistant","content":"a","weight":0}]}"#, &["nothing-trained"]);
    refuse(
        r#"{"messages":[{"role":"user","content":"q","weight":1},{"role":"assistant","content":"a","weight":2}]}"#,
        &["bad-weight", "bad-weight"],
    );
    refuse(
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{"}}]}]}"#,
        &["wrong-type", "empty-turn"],
    );
    refuse(r#"{"prompt":"p","completion":" p"}"#, &["prompt-is-completion"]);
    refuse(r#"{"prompt":"","completion":" "}"#, &["empty-turn", "empty-turn"]);
    refuse(r#"{"prompt":"p","chosen":"a","rejected":"a"}"#, &["chosen-is-rejected"]);
    refuse(
        &format!(r#"{{"prompt":[{USER}],"chosen":[{ANSWER}],"rejected":[{ANSWER}]}}"#),
        &["chosen-is-rejected"],
    );
    refuse(
        &format!(r#"{{"prompt":[{USER}],"chosen":[{ANSWER}],"rejected":[{USER}]}}"#),
        &["no-assistant"],
    );
    refuse(r#"{"conversations":[{"from":"alien","value":"q"}]}"#, &["unknown-role"]);
    refuse(r#"{"instruction":3}"#, &["wrong-type", "missing-key"]);
    refuse(r#"{"text":"  "}"#, &["empty-turn"]);
}

#[test]
fn what_is_only_odd_does_not_stop_a_row() {
    warn(&format!(r#"{{"messages":[{USER},{USER},{ANSWER}]}}"#), &["same-role-twice"]);
    warn(&format!(r#"{{"messages":[{USER},{ANSWER},{USER}]}}"#), &["last-not-assistant"]);
    warn(&format!(r#"{{"messages":[{{"role":"user","content":""}},{ANSWER}]}}"#), &["empty-turn"]);
}

#[test]
fn places_are_those_of_the_value() {
    let text = r#"{"messages":[{"role":"bot","content":"x"}]}"#;
    assert_eq!(parse(text).1, [("unknown-role", text.find("\"bot\"").unwrap())]);
    let text = format!(r#"{{"prompt":[{USER}],"chosen":[{ANSWER}],"rejected":[{ANSWER}]}}"#);
    assert_eq!(parse(&text).1, [("chosen-is-rejected", text.rfind("{\"role\"").unwrap())]);
}

#[test]
fn texts_tell_rows_apart_and_prompts_too() {
    let texts = |text: &str| parse(text).0[0].texts();
    let first = texts(r#"{"prompt":"p","completion":"c"}"#);
    let second = texts(r#"{"prompt":"p","completion":"d"}"#);
    assert_ne!(first.0, second.0);
    assert_eq!(first.1, second.1);
    let third = texts(r#"{ "completion": "c", "prompt": "p" }"#);
    assert_eq!(first, third);
}
