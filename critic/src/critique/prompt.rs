//! What a model is asked, and how an answer begins.

use minicrit_engine::chat::Message;

use crate::{Error, Result, taxonomy::Taxonomy};

/// Words in front of the verdict.
pub(super) const VERDICT: &str = "Verdict:";
/// Words in front of the flaw's name.
pub(super) const FLAW: &str = "Verdict: flawed\nFlaw:";

/// A question and the beginning of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The conversation up to the answer.
    pub messages: Vec<Message>,
    /// What the answer begins with.
    pub answer: String,
}

/// How a rationale is put to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PromptStyle {
    /// The rationale alone: what critics are trained on.
    Rationale,
    /// A request in front of it.
    Analyze,
    /// A system message with the flaws and the form of the answer: for models that were not
    /// trained as critics.
    Expert,
    /// As [`PromptStyle::Expert`], and the model thinks in steps before the verdict.
    Cot,
}

impl PromptStyle {
    /// All styles.
    pub const ALL: [PromptStyle; 4] =
        [PromptStyle::Rationale, PromptStyle::Analyze, PromptStyle::Expert, PromptStyle::Cot];

    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            PromptStyle::Rationale => "rationale",
            PromptStyle::Analyze => "analyze",
            PromptStyle::Expert => "expert",
            PromptStyle::Cot => "cot",
        }
    }

    /// The style of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name.trim()).ok_or_else(|| Error::Unknown {
            what: "prompt style",
            name: name.to_owned(),
            known: Self::ALL.iter().map(|it| it.name().to_owned()).collect(),
        })
    }

    /// The conversation that puts `rationale` to a model.
    pub fn messages(self, rationale: &str, taxonomy: &Taxonomy) -> Vec<Message> {
        match self {
            PromptStyle::Rationale => vec![Message::new("user", rationale)],
            PromptStyle::Analyze => {
                let text = format!("Analyze this reasoning for flaws:\n{rationale}");
                vec![Message::new("user", text)]
            }
            PromptStyle::Expert => {
                vec![
                    Message::new("system", instructions(taxonomy)),
                    Message::new("user", rationale),
                ]
            }
            PromptStyle::Cot => {
                let text = format!(
                    "{rationale}\n\nThink step by step: which claim is made, what supports it, what is missing, and does the conclusion follow? Then give the verdict."
                );
                vec![Message::new("system", instructions(taxonomy)), Message::new("user", text)]
            }
        }
    }
}

fn instructions(taxonomy: &Taxonomy) -> String {
    let flaws: Vec<String> =
        taxonomy.flaws().iter().map(|it| format!("- {}: {}", it.name, it.definition)).collect();
    format!(
        "You judge whether the reasoning in a text holds. A modest or withheld conclusion from weak evidence is valid; do not flag sound reasoning. Answer in this form:\nVerdict: valid or flawed\nFlaw: its name, if flawed\nWhy: one sentence\nFix: one sentence, if flawed\n\nThe flaws:\n{}",
        flaws.join("\n")
    )
}
