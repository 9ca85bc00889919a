//! Rows to learn from: OpenAI's messages, prompt and completion, Alpaca, plain text, KTO's verdicts.

use minicrit_engine::chat::Message;

use super::{Body, Row, Turn, dialog, filled_text, optional_text, tools};
use crate::data::{
    json::{Node, Value},
    problem::{Findings, Rule},
};

/// `{"messages": [...]}`.
pub(super) fn messages(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let tools = tools::tools(row, findings);
    let turns = dialog::turns_of(row, "messages", findings)?;
    let at = row.get("messages").map_or(row.offset, |it| it.offset);
    dialog::check(&turns, at, findings);
    Some(Row::Supervised(Body::Dialog { turns, tools }))
}

/// `{"prompt": ..., "completion": ...}`, both texts or both messages.
pub(super) fn prompt_completion(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    answer(row, findings).map(Row::Supervised)
}

/// `{"prompt": ..., "completion": ..., "label": true}`.
pub(super) fn labelled(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let answer = answer(row, findings);
    let label = row.get("label")?;
    let desirable = match (&label.value, label.raw) {
        (Value::Bool(label), _) => *label,
        (Value::Number, "1") => true,
        (Value::Number, "0") => false,
        _ => {
            let what = format!("`label` is {}, not true or false", label.kind());
            findings.error(Rule::WrongType, label.offset, what);
            return None;
        }
    };
    Some(Row::Labelled { answer: answer?, desirable })
}

fn answer(row: &Node<'_>, findings: &mut Findings) -> Option<Body> {
    let prompt = row.get("prompt")?;
    if prompt.as_array().is_none() {
        let prompt = filled_text(row, "prompt", findings);
        let completion = filled_text(row, "completion", findings);
        let ((prompt, _), (completion, offset)) = (prompt?, completion?);
        if prompt.trim() == completion.trim() {
            let what = "`completion` says the same as `prompt`";
            findings.error(Rule::PromptIsCompletion, offset, what);
        }
        return Some(Body::Plain {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
            offset,
        });
    }
    let tools = tools::tools(row, findings);
    let prompt = dialog::turns(prompt, "prompt", findings);
    let completion = dialog::turns_of(row, "completion", findings);
    let (prompt, completion) = (prompt?, completion?);
    let at = row.get("completion").map_or(row.offset, |it| it.offset);
    if let ([.., question], [answer]) = (&prompt[..], &completion[..])
        && question.message.content() == answer.message.content()
        && answer.message.content().is_some()
    {
        let what = "`completion` says the same as `prompt`";
        findings.error(Rule::PromptIsCompletion, answer.offset, what);
    }
    if !completion.iter().any(Turn::is_assistant) {
        findings.error(Rule::NoAssistant, at, "`completion` has no turn of the assistant");
        return None;
    }
    let body = dialog::answered(prompt, completion, tools);
    if let Body::Dialog { turns, .. } = &body {
        dialog::check(turns, at, findings);
    }
    Some(body)
}

/// `{"text": ...}`.
pub(super) fn text(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let (text, offset) = filled_text(row, "text", findings)?;
    Some(Row::Supervised(Body::Text { text: text.to_owned(), trained_from: 0, offset }))
}

/// `{"instruction": ..., "input": ..., "output": ...}`, perhaps with `system` and `history`.
pub(super) fn alpaca(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let instruction = filled_text(row, "instruction", findings);
    let output = filled_text(row, "output", findings);
    let input = optional_text(row, "input", findings).filter(|it| !it.0.trim().is_empty());
    let system = optional_text(row, "system", findings).filter(|it| !it.0.trim().is_empty());
    let mut turns = Vec::new();
    if let Some((system, offset)) = system {
        turns.push(plain_turn("system", system, offset));
    }
    history(row, &mut turns, findings);
    let ((instruction, at), (output, answer_at)) = (instruction?, output?);
    let question = match input {
        Some((input, _)) => format!("{instruction}\n\n{input}"),
        None => instruction.to_owned(),
    };
    if question.trim() == output.trim() {
        let what = "`output` says the same as `instruction`";
        findings.error(Rule::PromptIsCompletion, answer_at, what);
    }
    turns.push(plain_turn("user", &question, at));
    turns.push(Turn { weight: 1.0, ..plain_turn("assistant", output, answer_at) });
    Some(Row::Supervised(Body::Dialog { turns, tools: tools::tools(row, findings) }))
}

/// Earlier questions and answers, as pairs; they are context and not trained.
fn history(row: &Node<'_>, turns: &mut Vec<Turn>, findings: &mut Findings) {
    let Some(node) = row.get("history") else { return };
    let pairs = node.as_array().unwrap_or_default();
    for pair in pairs {
        match pair.as_array() {
            Some([question, answer]) if question.as_str().and(answer.as_str()).is_some() => {
                for (role, node) in [("user", question), ("assistant", answer)] {
                    turns.push(plain_turn(role, node.as_str().unwrap_or_default(), node.offset));
                }
            }
            _ => {
                let what = "an item of `history` is no pair of strings";
                findings.error(Rule::WrongType, pair.offset, what);
            }
        }
    }
    if node.as_array().is_none() {
        let what = format!("`history` is {}, not an array", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
    }
}

/// A turn of text that is not trained.
pub(super) fn plain_turn(role: &str, text: &str, offset: usize) -> Turn {
    Turn { message: Message::new(role, text), weight: 0.0, offset }
}
