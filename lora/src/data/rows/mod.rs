//! Rows, whatever format they were written in: conversations, or texts without roles.
//!
//! A parser here checks what its format promises and notes every problem of a row, not the first.

mod dialog;
mod preference;
mod sharegpt;
mod supervised;
mod tools;

use minicrit_engine::chat::Message;
use serde_json::Value as Json;

use super::{
    format::Format,
    json::Node,
    problem::{Findings, Rule},
};

/// One turn, as the chat template shall see it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    /// Role, content, tool calls.
    pub message: Message,
    /// How much its tokens count; 0 for whatever is not the assistant's.
    pub weight: f32,
    /// Where it stands in the record.
    pub offset: usize,
}

impl Turn {
    /// Whether the assistant speaks.
    pub fn is_assistant(&self) -> bool {
        self.message.role() == "assistant"
    }

    /// Whether it carries loss.
    pub fn is_trained(&self) -> bool {
        self.weight > 0.0
    }

    fn has_tool_calls(&self) -> bool {
        self.message.fields().contains_key("tool_calls")
    }
}

/// What a model reads and writes in one example.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    /// A conversation, rendered by the model's chat template.
    Dialog {
        /// All turns; those with weight are trained.
        turns: Vec<Turn>,
        /// Tools as JSON schemas.
        tools: Option<Json>,
    },
    /// A question and an answer without roles: one turn each where the model has a chat template,
    /// otherwise one text behind the other.
    Plain {
        /// The question.
        prompt: String,
        /// The answer; trained.
        completion: String,
        /// Where the answer stands in the record.
        offset: usize,
    },
    /// A text as it is, never rendered.
    Text {
        /// The text.
        text: String,
        /// The byte of it from which on it is trained.
        trained_from: usize,
        /// Where it stands in the record.
        offset: usize,
    },
}

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Row {
    /// Something to learn.
    Supervised(Body),
    /// Two answers to one prompt.
    Preference { chosen: Body, rejected: Body },
    /// An answer and whether it is good.
    Labelled { answer: Body, desirable: bool },
}

impl Row {
    /// The rows that a record holds: one, except for promptfoo's lists of answers. Nothing where
    /// the findings hold an error.
    pub fn parse(node: &Node<'_>, format: Format, findings: &mut Findings) -> Vec<Self> {
        let rows = match format {
            Format::Messages => supervised::messages(node, findings).into_iter().collect(),
            Format::ShareGpt => sharegpt::row(node, findings).into_iter().collect(),
            Format::Alpaca => supervised::alpaca(node, findings).into_iter().collect(),
            Format::PromptCompletion => {
                supervised::prompt_completion(node, findings).into_iter().collect()
            }
            Format::Text => supervised::text(node, findings).into_iter().collect(),
            Format::Labelled => supervised::labelled(node, findings).into_iter().collect(),
            Format::Preference => preference::trl(node, findings).into_iter().collect(),
            Format::OpenAiPreference => preference::openai(node, findings).into_iter().collect(),
            Format::Promptfoo => preference::promptfoo(node, findings),
        };
        if findings.has_errors() { Vec::new() } else { rows }
    }

    /// Its sequences.
    pub fn bodies(&self) -> Vec<&Body> {
        match self {
            Row::Supervised(body) | Row::Labelled { answer: body, .. } => vec![body],
            Row::Preference { chosen, rejected } => vec![chosen, rejected],
        }
    }

    /// All it says, for finding rows that say the same; and the part in front of the last answer.
    pub fn texts(&self) -> (String, String) {
        let mut all = String::new();
        for body in self.bodies() {
            all.push_str(&body.written(usize::MAX));
            all.push('\u{1}');
        }
        if let Row::Labelled { desirable, .. } = self {
            all.push(if *desirable { '+' } else { '-' });
        }
        let body = self.bodies()[0];
        (all, body.written(body.last_answer()))
    }
}

impl Body {
    /// Turns in front of the last one that is the assistant's.
    fn last_answer(&self) -> usize {
        match self {
            Body::Dialog { turns, .. } => turns.iter().rposition(Turn::is_assistant).unwrap_or(0),
            Body::Plain { .. } | Body::Text { .. } => 0,
        }
    }

    /// Everything up to a turn, in one text.
    fn written(&self, turns_end: usize) -> String {
        let mut text = String::new();
        match self {
            Body::Dialog { turns, tools } => {
                for turn in turns.iter().take(turns_end) {
                    for (key, value) in turn.message.fields() {
                        text.push_str(&format!("{key}\u{2}{value}\u{3}"));
                    }
                }
                if let Some(tools) = tools {
                    text.push_str(&tools.to_string());
                }
            }
            Body::Plain { prompt, completion, .. } => {
                text.push_str(prompt);
                if turns_end > 0 {
                    text.push('\u{2}');
                    text.push_str(completion);
                }
            }
            Body::Text { text: all, trained_from, .. } => {
                let end = if turns_end > 0 { all.len() } else { *trained_from };
                text.push_str(&all[..end]);
            }
        }
        text
    }

    /// Every text that people wrote into it, with its place.
    pub fn contents(&self) -> Vec<(&str, usize)> {
        match self {
            Body::Dialog { turns, .. } => {
                turns.iter().filter_map(|it| Some((it.message.content()?, it.offset))).collect()
            }
            Body::Plain { prompt, completion, offset } => {
                vec![(prompt.as_str(), *offset), (completion.as_str(), *offset)]
            }
            Body::Text { text, offset, .. } => vec![(text.as_str(), *offset)],
        }
    }
}

/// The text of a key.
fn text_of<'n, 'a>(
    node: &'n Node<'a>,
    key: &str,
    findings: &mut Findings,
) -> Option<(&'n str, usize)> {
    let Some(found) = node.get(key) else {
        findings.error(Rule::MissingKey, node.offset, format!("there is no `{key}`"));
        return None;
    };
    match found.as_str() {
        Some(text) => Some((text, found.offset)),
        None => {
            let what = format!("`{key}` is {}, not a string", found.kind());
            findings.error(Rule::WrongType, found.offset, what);
            None
        }
    }
}

/// The text of a key that may be absent.
fn optional_text<'n>(
    node: &'n Node<'_>,
    key: &str,
    findings: &mut Findings,
) -> Option<(&'n str, usize)> {
    node.get(key)?;
    text_of(node, key, findings)
}

/// As [`text_of`], and an error where it is empty.
fn filled_text<'n>(
    node: &'n Node<'_>,
    key: &str,
    findings: &mut Findings,
) -> Option<(&'n str, usize)> {
    let (text, offset) = text_of(node, key, findings)?;
    if text.trim().is_empty() {
        findings.error(Rule::EmptyTurn, offset, format!("`{key}` is empty"));
        return None;
    }
    Some((text, offset))
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
