//! Which of the known formats a row is written in.

use std::fmt;

use super::json::Node;

/// A way to write training data down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// OpenAI's chats: `messages`, perhaps `tools` and a `weight` on turns.
    Messages,
    /// ShareGPT's: `conversations` of `from` and `value`.
    ShareGpt,
    /// Alpaca's: `instruction`, `input`, `output`.
    Alpaca,
    /// `prompt` and `completion`, texts or messages.
    PromptCompletion,
    /// `text`.
    Text,
    /// TRL's pairs: `chosen` and `rejected`, with a `prompt` or with one in common.
    Preference,
    /// OpenAI's pairs: `input`, `preferred_output`, `non_preferred_output`.
    OpenAiPreference,
    /// promptfoo's export of votes: lists of `chosen` and `rejected` answers.
    Promptfoo,
    /// KTO's: `prompt`, `completion`, `label`.
    Labelled,
}

/// What a format is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// Answers to learn.
    Supervised,
    /// Pairs of answers, one preferred.
    Preference,
    /// Answers with a verdict.
    Labelled,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[
        Format::Messages,
        Format::ShareGpt,
        Format::Alpaca,
        Format::PromptCompletion,
        Format::Text,
        Format::Preference,
        Format::OpenAiPreference,
        Format::Promptfoo,
        Format::Labelled,
    ];

    /// Its name in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Format::Messages => "messages",
            Format::ShareGpt => "sharegpt",
            Format::Alpaca => "alpaca",
            Format::PromptCompletion => "prompt-completion",
            Format::Text => "text",
            Format::Preference => "preference",
            Format::OpenAiPreference => "openai-preference",
            Format::Promptfoo => "promptfoo",
            Format::Labelled => "labelled",
        }
    }

    /// What it is good for.
    pub fn task(self) -> Task {
        match self {
            Format::Messages
            | Format::ShareGpt
            | Format::Alpaca
            | Format::PromptCompletion
            | Format::Text => Task::Supervised,
            Format::Preference | Format::OpenAiPreference | Format::Promptfoo => Task::Preference,
            Format::Labelled => Task::Labelled,
        }
    }

    /// The format of one row, by its keys.
    pub(super) fn of(row: &Node<'_>) -> Option<Self> {
        let has = |key: &str| row.get(key).is_some();
        let pair = has("chosen") && has("rejected");
        if has("preferred_output") && has("non_preferred_output") {
            return Some(Format::OpenAiPreference);
        }
        if pair && (has("vars") || has("prompts")) {
            return Some(Format::Promptfoo);
        }
        if pair {
            return Some(Format::Preference);
        }
        if has("prompt") && has("completion") {
            return Some(if has("label") { Format::Labelled } else { Format::PromptCompletion });
        }
        let keys = [
            ("messages", Format::Messages),
            ("conversations", Format::ShareGpt),
            ("instruction", Format::Alpaca),
            ("text", Format::Text),
        ];
        keys.iter().find(|(key, _)| has(key)).map(|(_, format)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Task {
    /// Its name in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Task::Supervised => "supervised",
            Task::Preference => "preference",
            Task::Labelled => "labelled",
        }
    }
}

/// How many rows of each format there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormatCounts {
    counts: [u64; Format::ALL.len()],
}

impl FormatCounts {
    /// Counts one row.
    pub fn add(&mut self, format: Format) {
        if let Some(at) = Format::ALL.iter().position(|it| *it == format) {
            self.counts[at] += 1;
        }
    }

    /// The format of most rows; of equals, the first in [`Format::ALL`].
    pub fn most(&self) -> Option<Format> {
        let most = *self.counts.iter().max()?;
        let at = self.counts.iter().position(|it| *it == most)?;
        (most > 0).then_some(Format::ALL[at])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::problem::Findings;

    #[test]
    fn keys_tell_the_format() {
        let check = |text: &str, expect: Option<Format>| {
            let node = Node::parse(text, &mut Findings::default()).unwrap();
            assert_eq!(Format::of(&node), expect, "{text}");
        };
        check(r#"{"messages": [], "id": 1}"#, Some(Format::Messages));
        check(r#"{"conversations": []}"#, Some(Format::ShareGpt));
        check(r#"{"instruction": "a", "input": "", "output": "b"}"#, Some(Format::Alpaca));
        check(r#"{"prompt": "a", "completion": "b"}"#, Some(Format::PromptCompletion));
        check(
            r#"{"prompt": "a", "completion": "b", "label": null}"#,
            Some(Format::PromptCompletion),
        );
        check(r#"{"prompt": "a", "completion": "b", "label": false}"#, Some(Format::Labelled));
        check(r#"{"text": "a"}"#, Some(Format::Text));
        check(r#"{"chosen": "a", "rejected": "b"}"#, Some(Format::Preference));
        check(r#"{"chosen": [], "rejected": [], "vars": {}}"#, Some(Format::Promptfoo));
        check(
            r#"{"input": {}, "preferred_output": [], "non_preferred_output": []}"#,
            Some(Format::OpenAiPreference),
        );
        check(r#"{"question": "a"}"#, None);
        check("[1]", None);
    }

    #[test]
    fn the_majority_decides() {
        let mut counts = FormatCounts::default();
        assert_eq!(counts.most(), None);
        for format in [Format::Text, Format::Messages, Format::Messages] {
            counts.add(format);
        }
        assert_eq!(counts.most(), Some(Format::Messages));
    }
}
