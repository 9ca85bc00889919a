//! The reference cases of greedy speculation: how many passes, how many drafts kept in each.

use std::path::Path;

use minicrit_engine::{
    draft::ModelDrafter,
    language_model::LanguageModel,
    session::{Event, GenerateOptions, Session},
    tokens::Vocabulary,
};
use serde::Deserialize;

/// One case of `qwen2-draft/fixture.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct DraftCase {
    /// Which of the target's prompts: `ids_5` or `ids_40`.
    pub prompt: String,
    /// Drafts in a round.
    pub k: usize,
    /// Calls of the target.
    pub target_forward_passes: usize,
    /// Drafts kept in each call.
    pub accepted_per_round: Vec<u32>,
    /// The answer.
    pub output: Vec<u32>,
}

#[derive(Deserialize)]
struct Fixture {
    target: String,
    cases: Vec<DraftCase>,
}

/// The cases below `fixtures`, each with its prompt.
///
/// # Panics
/// Where the files are not there or not of this form.
pub fn draft_cases(fixtures: &Path) -> Vec<(DraftCase, Vec<u32>)> {
    let read = |path: &str| {
        let path = fixtures.join(path);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let fixture: Fixture =
        serde_json::from_slice(&read("qwen2-draft/fixture.json")).expect("a fixture of drafts");
    let target: serde_json::Value =
        serde_json::from_slice(&read(&format!("{}/fixture.json", fixture.target)))
            .expect("a fixture of the target");
    let prompt = |name: &str| {
        serde_json::from_value(target[name].clone()).expect("a prompt is a list of token ids")
    };
    fixture.cases.into_iter().map(|it| (it.clone(), prompt(&it.prompt))).collect()
}

/// Runs `case` on a pair of models, and panics where answer, passes or kept drafts differ.
pub fn check_draft_case(
    case: &DraftCase,
    prompt: &[u32],
    target: Box<dyn LanguageModel>,
    draft: Box<dyn LanguageModel>,
) {
    let vocabulary = Vocabulary::new(Vec::new(), false).into();
    let drafter = Box::new(ModelDrafter::new(draft));
    let mut session = Session::new(target, vocabulary, Some(drafter)).expect("a session");
    let options = GenerateOptions {
        max_tokens: Some(case.output.len()),
        draft_len: case.k,
        ..GenerateOptions::default()
    };
    let events = session.generate(prompt, &options).expect("an answer");
    let mut output = Vec::new();
    let mut speculation = None;
    for event in events {
        match event.expect("an event") {
            Event::Token { id, .. } => output.push(id),
            Event::Text { .. } => {}
            Event::Done(finished) => speculation = Some(finished.speculation),
        }
    }
    let speculation = speculation.expect("an answer ends with Done");
    let name = format!("{} with {} drafts", case.prompt, case.k);
    assert_eq!(output, case.output, "answer of {name}");
    assert_eq!(speculation.accepted_per_round, case.accepted_per_round, "kept drafts of {name}");
    assert_eq!(speculation.target_passes, case.target_forward_passes, "passes of {name}");
}
