//! Pairs of answers: as TRL, OpenAI and promptfoo write them.

use super::{
    Body, Row, Turn, dialog, filled_text, optional_text, sharegpt, supervised::plain_turn, tools,
};
use crate::data::{
    json::{Node, Value},
    problem::{Findings, Rule, quoted},
};

/// `{"prompt": ..., "chosen": ..., "rejected": ...}`; without `prompt` it is what both begin with.
/// The prompt may also be written as Alpaca does, `instruction` and `input`.
pub(super) fn trl(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let chosen = row.get("chosen")?;
    match chosen.value {
        Value::Array(_) => messages(row, findings),
        Value::Object(_) => conversations(row, findings),
        _ => texts(row, findings),
    }
}

fn texts(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let prompt = match (row.get("prompt"), row.get("instruction")) {
        (Some(_), _) => Some(filled_text(row, "prompt", findings)?.0.to_owned()),
        (None, Some(_)) => {
            let instruction = filled_text(row, "instruction", findings)?.0;
            match optional_text(row, "input", findings).filter(|it| !it.0.trim().is_empty()) {
                Some((input, _)) => Some(format!("{instruction}\n\n{input}")),
                None => Some(instruction.to_owned()),
            }
        }
        (None, None) => None,
    };
    let chosen = filled_text(row, "chosen", findings);
    let rejected = filled_text(row, "rejected", findings);
    let ((chosen, chosen_at), (rejected, rejected_at)) = (chosen?, rejected?);
    if chosen == rejected {
        same(rejected_at, findings);
    }
    let body = |answer: &str, offset| match &prompt {
        Some(prompt) => Body::Plain { prompt: prompt.clone(), completion: answer.into(), offset },
        None => {
            let trained_from = common_start(chosen, rejected);
            Body::Text { text: answer.into(), trained_from, offset }
        }
    };
    Some(Row::Preference { chosen: body(chosen, chosen_at), rejected: body(rejected, rejected_at) })
}

fn same(offset: usize, findings: &mut Findings) {
    let what = "`rejected` says the same as `chosen`";
    findings.error(Rule::ChosenIsRejected, offset, what);
}

/// Bytes that two texts share at the start, without a space at the end: it belongs to the answer.
fn common_start(a: &str, b: &str) -> usize {
    let shared = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    let len: usize = shared.map(|(it, _)| it.len_utf8()).sum();
    match a[..len].ends_with(' ') {
        true => len - 1,
        false => len,
    }
}

fn messages(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let prompt = match row.get("prompt") {
        None => Some(Vec::new()),
        Some(node) => match node.as_str() {
            Some(text) => Some(vec![plain_turn("user", text, node.offset)]),
            None => dialog::turns(node, "prompt", findings),
        },
    };
    let chosen = dialog::turns_of(row, "chosen", findings);
    let rejected = dialog::turns_of(row, "rejected", findings);
    let (mut prompt, mut chosen, mut rejected) = (prompt?, chosen?, rejected?);
    if prompt.is_empty() {
        let shared = chosen.iter().zip(&rejected).take_while(|(a, b)| a.message == b.message);
        let shared = shared.count();
        prompt = chosen.drain(..shared).collect();
        rejected.drain(..shared);
    }
    pair(row, prompt, chosen, rejected, findings)
}

/// LLaMA-Factory's: `conversations`, and one turn each for `chosen` and `rejected`.
fn conversations(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let prompt = sharegpt::turns_of(row, findings);
    let chosen = sharegpt::turn(row.get("chosen")?, findings);
    let rejected = sharegpt::turn(row.get("rejected")?, findings);
    pair(row, prompt?, vec![chosen?], vec![rejected?], findings)
}

/// `{"input": {"messages": [...]}, "preferred_output": [...], "non_preferred_output": [...]}`.
pub(super) fn openai(row: &Node<'_>, findings: &mut Findings) -> Option<Row> {
    let Some(input) = row.get("input") else {
        findings.error(Rule::MissingKey, row.offset, "there is no `input`");
        return None;
    };
    let prompt = dialog::turns_of(input, "messages", findings);
    let chosen = dialog::turns_of(row, "preferred_output", findings);
    let rejected = dialog::turns_of(row, "non_preferred_output", findings);
    pair(input, prompt?, chosen?, rejected?, findings)
}

fn pair(
    with_tools: &Node<'_>,
    prompt: Vec<Turn>,
    chosen: Vec<Turn>,
    rejected: Vec<Turn>,
    findings: &mut Findings,
) -> Option<Row> {
    let tools = tools::tools(with_tools, findings);
    let texts = |turns: &[Turn]| turns.iter().map(|it| it.message.clone()).collect::<Vec<_>>();
    if texts(&chosen) == texts(&rejected) {
        same(rejected.first().map_or(with_tools.offset, |it| it.offset), findings);
        return None;
    }
    let mut bodies = Vec::new();
    let prompt_len = prompt.len();
    for answer in [chosen, rejected] {
        let at = answer.first().map_or(with_tools.offset, |it| it.offset);
        let body = dialog::answered(prompt.clone(), answer, tools.clone());
        if let Body::Dialog { turns, .. } = &body {
            // The prompt is the same both times: its problems are told once.
            let from = if bodies.is_empty() { 0 } else { prompt_len };
            if turns[prompt_len..].iter().any(Turn::is_assistant) {
                dialog::check(&turns[from..], at, findings);
            } else {
                findings.error(Rule::NoAssistant, at, "an answer has no turn of the assistant");
            }
        }
        bodies.push(body);
    }
    let rejected = bodies.pop()?;
    Some(Row::Preference { chosen: bodies.pop()?, rejected })
}

/// promptfoo's export: the answers that people liked and disliked, what was put into the prompt,
/// and the prompt itself. Every liked answer makes a pair with every disliked one.
pub(super) fn promptfoo(row: &Node<'_>, findings: &mut Findings) -> Vec<Row> {
    let prompt = promptfoo_prompt(row, findings);
    let chosen = answers(row, "chosen", findings);
    let rejected = answers(row, "rejected", findings);
    let (Some(prompt), Some(chosen), Some(rejected)) = (prompt, chosen, rejected) else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (chosen, chosen_at) in &chosen {
        for (rejected, rejected_at) in &rejected {
            if chosen == rejected {
                same(*rejected_at, findings);
                continue;
            }
            let body = |answer: &String, offset| match &prompt {
                FilledPrompt::Text(prompt) => {
                    Body::Plain { prompt: prompt.clone(), completion: answer.clone(), offset }
                }
                FilledPrompt::Turns(turns) => {
                    let answer = Turn { weight: 1.0, ..plain_turn("assistant", answer, offset) };
                    dialog::answered(turns.clone(), vec![answer], None)
                }
            };
            rows.push(Row::Preference {
                chosen: body(chosen, *chosen_at),
                rejected: body(rejected, *rejected_at),
            });
        }
    }
    rows
}

enum FilledPrompt {
    Text(String),
    Turns(Vec<Turn>),
}

fn promptfoo_prompt(row: &Node<'_>, findings: &mut Findings) -> Option<FilledPrompt> {
    let Some(prompts) = row.get("prompts").and_then(Node::as_array) else {
        findings.error(Rule::MissingKey, row.offset, "there is no list `prompts`");
        return None;
    };
    let raw = |node: &Node<'_>| {
        let text = node.as_str().or_else(|| node.get("raw")?.as_str());
        text.map(str::to_owned)
    };
    let mut texts: Vec<Option<String>> = prompts.iter().map(raw).collect();
    texts.dedup();
    let at = row.get("prompts").map_or(row.offset, |it| it.offset);
    let [Some(template)] = &texts[..] else {
        let what = "`prompts` has several prompts: nobody can tell which one was answered";
        findings.error(Rule::WrongType, at, what);
        return None;
    };
    let filled = fill(template, row.get("vars"), at, findings)?;
    // A prompt may be a chat, written as JSON.
    if filled.trim_start().starts_with('[')
        && let Ok(node) = Node::parse(&filled, &mut Findings::default())
    {
        let mut inner = Findings::default();
        if let Some(mut turns) = dialog::turns(&node, "prompts", &mut inner) {
            turns.iter_mut().for_each(|it| it.offset = at);
            return Some(FilledPrompt::Turns(turns));
        }
    }
    Some(FilledPrompt::Text(filled))
}

/// Puts variables into `{{ name }}`. What is more than a name is somebody's program, not run here.
fn fill(
    template: &str,
    vars: Option<&Node<'_>>,
    at: usize,
    findings: &mut Findings,
) -> Option<String> {
    if template.contains("{%") {
        findings.error(Rule::WrongType, at, "`prompts` holds a program: `{%`");
        return None;
    }
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, after) = behind.split_once("}}").unwrap_or((behind, ""));
        let name = name.trim().trim_matches('-').trim();
        match vars.and_then(|it| it.get(name)) {
            Some(value) => out.push_str(value.as_str().unwrap_or(value.raw)),
            None => {
                let what = format!("`vars` has no value for {}", quoted(name));
                findings.error(Rule::MissingKey, at, what);
                return None;
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn answers(row: &Node<'_>, key: &str, findings: &mut Findings) -> Option<Vec<(String, usize)>> {
    let node = row.get(key)?;
    let Some(items) = node.as_array() else {
        let what = format!("`{key}` is {}, not an array of answers", node.kind());
        findings.error(Rule::WrongType, node.offset, what);
        return None;
    };
    if items.is_empty() {
        let what = format!("`{key}` is empty: there is no pair");
        findings.error(Rule::NoPair, node.offset, what);
        return None;
    }
    let text = |it: &Node<'_>| {
        let text = it.as_str().or_else(|| it.get("text")?.as_str()).unwrap_or(it.raw);
        (text.to_owned(), it.offset)
    };
    Some(items.iter().map(text).collect())
}
