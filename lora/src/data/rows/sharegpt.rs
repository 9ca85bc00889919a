//! ShareGPT's conversations: `from` and `value`.

use serde_json::json;

use super::{Body, Row, Turn, dialog, optional_text, supervised::plain_turn, text_of, tools};
use crate::data::{
    json::Node,
    problem::{Findings, Rule, quoted},
};

/// `{"conversations": [{"from": "human", "value": ...}, ...]}`, perhaps with `system` and `tools`.
pub(super) fn row(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let tools = tools::tools(row, findings);
    let turns = turns_of(row, findings)?;
    let at = row.get("conversations").map_or(row.offset, |it| it.offset);
    dialog::check(&turns, at, findings);
    Some(Row::Supervised(Body::Dialog { turns, tools }))
}

/// The turns of `conversations`, with `system` in front.
pub(super) fn turns_of(row: &Node<'_>, findings: &mut Findings) -> Option<Vec<Turn>> {
    let Some(list) = row.get("conversations") else {
        findings.error(Rule::MissingKey, row.offset, "there is no `conversations`");
        return None;
    };
    let Some(items) = list.as_array() else {
        let what = format!("`conversations` is {}, not an array", list.kind());
        findings.error(Rule::WrongType, list.offset, what);
        return None;
    };
    // The key is also used for lists in OpenAI's spelling.
    let mut turns = if items.iter().any(|it| it.get("role").is_some()) {
        dialog::turns(list, "conversations", findings)?
    } else {
        let turns: Vec<Turn> = items.iter().filter_map(|it| turn(it, findings)).collect();
        if turns.len() < items.len() {
            return None;
        }
        turns
    };
    if let Some((system, offset)) = optional_text(row, "system", findings)
        && !system.trim().is_empty()
    {
        turns.insert(0, plain_turn("system", system, offset));
    }
    Some(turns)
}

/// One turn.
pub(super) fn turn(node: &Node<'_>, findings: &mut Findings) -> Option<Turn> {
    if node.as_object().is_none() {
        let what = format!("a turn is {}, not an object", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
        return None;
    }
    let from = text_of(node, "from", findings);
    let value = text_of(node, "value", findings);
    let ((from, at), (value, value_at)) = (from?, value?);
    let role = match from {
        "system" => "system",
        "human" | "user" => "user",
        "gpt" | "assistant" | "chatgpt" | "model" => "assistant",
        "tool" | "observation" | "function_response" => "tool",
        "function_call" => return call(value, value_at, node.offset, findings),
        other => {
            let what = format!("ShareGPT has no such speaker: {}", quoted(other));
            findings.error(Rule::UnknownRole, at, what);
            return None;
        }
    };
    let weight = if role == "assistant" { 1.0 } else { 0.0 };
    Some(Turn { weight, ..plain_turn(role, value, node.offset) })
}

/// A call of a tool: the assistant's turn, whose text is the call in JSON.
fn call(text: &str, at: usize, offset: usize, findings: &mut Findings) -> Option<Turn> {
    let call: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let (Some(name), Some(arguments)) =
        (call.get("name"), call.get("arguments").filter(|it| it.is_object()))
    else {
        let what = "a `function_call` holds no JSON object with `name` and `arguments`";
        findings.error(Rule::WrongType, at, what);
        return None;
    };
    let calls = json!([{"type": "function", "function": {"name": name, "arguments": arguments}}]);
    let turn = plain_turn("assistant", "", offset);
    Some(Turn { message: turn.message.with("tool_calls", calls), weight: 1.0, offset })
}
