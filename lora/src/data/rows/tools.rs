//! Tools and calls of tools, in the one shape that chat templates read.

use serde_json::{Map, Value as Json, json};

use crate::data::{
    json::Node,
    problem::{Findings, Rule, quoted},
};

/// `tools` (or the older `functions`) of a row: an array of schemas, or a string that holds one.
pub(super) fn tools(row: &Node<'_>, findings: &mut Findings) -> Option<Json> {
    let (key, node) = ["tools", "functions"].iter().find_map(|it| Some((*it, row.get(it)?)))?;
    let value = match node.as_str() {
        Some(text) if text.trim().is_empty() => return None,
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => node.to_json(),
    };
    let Json::Array(items) = value else {
        let what = format!("`{key}` is {}, not an array of schemas", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
        return None;
    };
    if items.is_empty() {
        return None;
    }
    let wrap = |item: Json| match item.get("function") {
        None if key == "functions" => json!({"type": "function", "function": item}),
        _ => item,
    };
    Some(Json::Array(items.into_iter().map(wrap).collect()))
}

/// The `tool_calls` of a turn (or its older `function_call`). OpenAI writes arguments as a string
/// that holds JSON, templates want the JSON itself.
pub(super) fn tool_calls(turn: &Node<'_>, findings: &mut Findings) -> Option<Json> {
    if let Some(call) = turn.get("function_call") {
        return Some(json!([call_of(call, call, findings)?]));
    }
    let node = turn.get("tool_calls")?;
    let Some(calls) = node.as_array() else {
        let what = format!("`tool_calls` is {}, not an array", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
        return None;
    };
    let calls: Vec<Json> = calls
        .iter()
        .filter_map(|call| call_of(call, call.get("function").unwrap_or(call), findings))
        .collect();
    (!calls.is_empty()).then_some(Json::Array(calls))
}

fn call_of(call: &Node<'_>, function: &Node<'_>, findings: &mut Findings) -> Option<Json> {
    let name = super::filled_text(function, "name", findings)?.0;
    let arguments = match function.get("arguments") {
        None => Json::Object(Map::new()),
        Some(node) => arguments(node, findings)?,
    };
    let mut out = Map::new();
    if let Some(id) = call.get("id").and_then(Node::as_str) {
        out.insert("id".into(), id.into());
    }
    out.insert("type".into(), "function".into());
    out.insert("function".into(), json!({"name": name, "arguments": arguments}));
    Some(Json::Object(out))
}

fn arguments(node: &Node<'_>, findings: &mut Findings) -> Option<Json> {
    let value = match node.as_str() {
        Some(text) if text.trim().is_empty() => Json::Object(Map::new()),
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => node.to_json(),
    };
    if value.is_object() {
        return Some(value);
    }
    let what = format!("`arguments` holds no JSON object: {}", quoted(node.raw));
    findings.error(Rule::WrongType, node.offset, what);
    None
}
