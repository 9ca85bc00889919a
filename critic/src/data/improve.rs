//! Critiques that a model improves by given principles, kept where they became better.

use minicrit_engine::chat::Message;
use serde_json::Value;

use super::pairs::{Candidate, Points, pair};
use crate::{
    Error, Result,
    case::Case,
    critique::{Backend, Prompt, PromptStyle, Sampling},
    taxonomy::Taxonomy,
};

/// The most tokens of a critique, or of what is said about it.
const TOKENS: usize = 200;

/// Principles of a good critique, one a line, where a user gives none.
pub const CONSTITUTION: &str = "\
Say which flaw it is and name it.
Say why it is a problem in this argument.
Suggest a fix.
Do not call sound reasoning flawed.
Do not be vague, and do not speak of yourself.";

/// What came of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Improved {
    /// The first critique.
    pub first: Candidate,
    /// The one after improvement.
    pub second: Candidate,
    /// The pair, where the second has more points.
    pub pair: Option<Value>,
}

/// Writes a critique, asks for what it lacks by `constitution`, writes it again, and keeps the two
/// as a pair if the second has more points by `margin`.
///
/// # Errors
/// An empty constitution; those of the backend and of `points`.
pub fn improve(
    backend: &mut dyn Backend,
    style: PromptStyle,
    case: &Case,
    constitution: &str,
    margin: f64,
    points: &mut Points<'_>,
) -> Result<Improved> {
    if constitution.trim().is_empty() {
        let expected = "at least one principle";
        return Err(Error::Setting { field: "constitution", value: "empty".into(), expected });
    }
    let messages = style.messages(&case.rationale, Taxonomy::builtin());
    let mut ask = |messages: Vec<Message>| -> Result<String> {
        let prompt = Prompt { messages, answer: String::new() };
        Ok(backend.generate(&prompt, &Sampling::greedy(TOKENS))?.trim().to_owned())
    };
    let first = ask(messages.clone())?;
    let mut turns = messages;
    turns.push(Message::new("assistant", first.as_str()));
    let question =
        format!("Which of these principles does your critique not keep?\n{constitution}");
    turns.push(Message::new("user", question));
    let lacks = ask(turns.clone())?;
    turns.push(Message::new("assistant", lacks));
    turns.push(Message::new(
        "user",
        "Write the critique again so that it keeps all of them, in the same form.",
    ));
    let second = ask(turns)?;
    let first = Candidate { score: points(case, &first)?, text: first };
    let second = Candidate { score: points(case, &second)?, text: second };
    let better = second.score > first.score;
    let pair = if better { pair(case, &[first.clone(), second.clone()], margin) } else { None };
    Ok(Improved { first, second, pair })
}
