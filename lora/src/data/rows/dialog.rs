//! Lists of messages, as OpenAI and TRL write them, and what is wrong with the order of turns.

use minicrit_engine::chat::Message;
use serde_json::{Map, Value as Json};

use super::{Body, Turn, tools};
use crate::data::{
    json::{Node, Value},
    problem::{Findings, Rule, quoted},
};

/// Roles that data may hold.
const ROLES: &[&str] = &["system", "developer", "user", "assistant", "tool", "function"];

/// The turns of a list. Turns of the assistant get the weight 1, or the one that they name.
pub(super) fn turns(node: &Node<'_>, key: &str, findings: &mut Findings) -> Option<Vec<Turn>> {
    let Some(items) = node.as_array() else {
        let what = format!("`{key}` is {}, not an array of messages", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
        return None;
    };
    let turns: Vec<Turn> = items.iter().filter_map(|it| turn(it, findings)).collect();
    (turns.len() == items.len()).then_some(turns)
}

/// The list under a key that has to be there.
pub(super) fn turns_of(row: &Node<'_>, key: &str, findings: &mut Findings) -> Option<Vec<Turn>> {
    let Some(node) = row.get(key) else {
        findings.error(Rule::MissingKey, row.offset, format!("there is no `{key}`"));
        return None;
    };
    turns(node, key, findings)
}

fn turn(node: &Node<'_>, findings: &mut Findings) -> Option<Turn> {
    let Some(fields) = node.as_object() else {
        let what = format!("a message is {}, not an object", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
        return None;
    };
    let role = role(node, findings);
    let calls = tools::tool_calls(node, findings);
    let content = content(node, findings)?;
    let role = role?;
    let weight = weight(node, role, findings)?;
    let mut message = Map::new();
    message.insert("role".into(), role.into());
    message.insert("content".into(), content.map_or(Json::Null, Json::String));
    for (name, field) in fields {
        let known = ["role", "content", "weight", "tool_calls", "function_call"];
        // Tables fill columns that a row does not have with null.
        if !known.contains(&name.as_ref()) && field.value != Value::Null {
            message.insert(name.to_string(), field.to_json());
        }
    }
    if let Some(calls) = calls {
        message.insert("tool_calls".into(), calls);
    }
    let message = Message::list(&Json::Array(vec![Json::Object(message)])).ok()?.pop()?;
    Some(Turn { message, weight, offset: node.offset })
}

fn role<'n>(node: &'n Node<'_>, findings: &mut Findings) -> Option<&'n str> {
    let (role, offset) = super::text_of(node, "role", findings)?;
    if ROLES.contains(&role) {
        return Some(role);
    }
    findings.error(
        Rule::UnknownRole,
        offset,
        format!("no chat template knows this role: {}", quoted(role)),
    );
    None
}

/// Text, or nothing for a null or absent content; a list of text parts is joined.
fn content(node: &Node<'_>, findings: &mut Findings) -> Option<Option<String>> {
    let Some(content) = node.get("content") else { return Some(None) };
    if let Some(text) = content.as_str() {
        return Some(Some(text.to_owned()));
    }
    let Some(parts) = content.as_array() else {
        let what = format!("`content` is {}, not a string", content.kind());
        findings.error(Rule::WrongType, content.offset, what);
        return None;
    };
    let mut texts = Vec::new();
    for part in parts {
        match part.get("text").and_then(Node::as_str).or(part.as_str()) {
            Some(text) => texts.push(text),
            None => {
                let what = "a part of `content` is no text: only text can be trained";
                findings.error(Rule::WrongType, part.offset, what);
            }
        }
    }
    (texts.len() == parts.len()).then(|| Some(texts.concat()))
}

fn weight(node: &Node<'_>, role: &str, findings: &mut Findings) -> Option<f32> {
    let assistant = role == "assistant";
    let Some(found) = node.get("weight") else {
        return Some(if assistant { 1.0 } else { 0.0 });
    };
    let weight = found.raw.parse::<f32>().ok().filter(|it| *it == 0.0 || *it == 1.0);
    match weight {
        Some(weight) if assistant || weight == 0.0 => Some(weight),
        _ => {
            let what = format!("a turn of {role} has the weight {}", quoted(found.raw));
            findings.error(Rule::BadWeight, found.offset, what);
            None
        }
    }
}

/// What is wrong with a conversation as a whole. `at` is where it begins.
pub(super) fn check(turns: &[Turn], at: usize, findings: &mut Findings) {
    for turn in turns {
        check_content(turn, findings);
    }
    for pair in turns.windows(2) {
        let role = pair[1].message.role();
        if role == pair[0].message.role() && !matches!(role, "tool" | "function") {
            let what = format!("two turns of {role} follow each other");
            findings.warning(Rule::SameRoleTwice, pair[1].offset, what);
        }
    }
    match turns.iter().rposition(Turn::is_assistant) {
        None => findings.error(Rule::NoAssistant, at, "there is no turn of the assistant"),
        Some(_) if !turns.iter().any(Turn::is_trained) => {
            findings.error(
                Rule::NothingTrained,
                at,
                "every turn of the assistant has the weight 0",
            );
        }
        Some(last) if last + 1 < turns.len() => {
            let role = turns[last + 1].message.role();
            let what = format!("a turn of {role} follows the assistant's last one");
            findings.warning(Rule::LastNotAssistant, turns[last + 1].offset, what);
        }
        Some(_) => {}
    }
}

fn check_content(turn: &Turn, findings: &mut Findings) {
    let empty = turn.message.content().is_none_or(|it| it.trim().is_empty());
    if !empty || turn.has_tool_calls() {
        return;
    }
    let what = format!("this turn of {} is empty", turn.message.role());
    if turn.is_trained() {
        findings.error(Rule::EmptyTurn, turn.offset, what);
    } else {
        findings.warning(Rule::EmptyTurn, turn.offset, what);
    }
}

/// A conversation whose first turns are a prompt that nobody trains.
pub(super) fn answered(mut prompt: Vec<Turn>, answer: Vec<Turn>, tools: Option<Json>) -> Body {
    for turn in &mut prompt {
        turn.weight = 0.0;
    }
    prompt.extend(answer);
    Body::Dialog { turns: prompt, tools }
}
