//! Who gives points to critiques: rules, a model, or a program of the user's.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use minicrit_critic::{
    case::Case,
    critique::{Backend, Prompt},
    data::pairs,
};
use minicrit_engine::chat::Message;
use serde_json::json;

use super::critic;
use crate::settings::CriticSettings;

/// Who gives points.
pub enum Points {
    /// The rules of [`pairs::by_rules`].
    Rules,
    /// A model.
    Judge(Box<dyn Backend>),
    /// A program of the user's.
    Program(PathBuf),
}

impl Points {
    /// A judge before a program before the rules.
    ///
    /// # Errors
    /// Those of loading the judge.
    pub fn open(judge: Option<&CriticSettings>, program: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match (judge, program) {
            (Some(judge), _) => Points::Judge(critic::backend(judge)?),
            (None, Some(program)) => Points::Program(program.to_path_buf()),
            (None, None) => Points::Rules,
        })
    }

    /// The points of one critique.
    ///
    /// # Errors
    /// Those of the judge or the program.
    pub fn give(&mut self, case: &Case, text: &str) -> minicrit_critic::Result<f64> {
        match self {
            Points::Rules => Ok(pairs::by_rules(case, text)),
            Points::Judge(judge) => {
                let truth = case.flaw_type.as_deref().unwrap_or("none, it is valid");
                let question = format!(
                    "Argument:\n{}\n\nIts flaw: {truth}\n\nA critique of it:\n{text}\n\nIs the critique good or poor? Answer with one word: good or poor.",
                    case.rationale
                );
                let messages = vec![Message::new("user", question)];
                let prompt = Prompt { messages, answer: "Answer:".into() };
                let scores = judge.label_scores(&prompt, &[" good", " poor"])?;
                Ok(scores[0] - scores[1])
            }
            Points::Program(program) => ask_program(program, case, text),
        }
    }
}

fn ask_program(program: &Path, case: &Case, text: &str) -> minicrit_critic::Result<f64> {
    let failed = |what: String| minicrit_critic::Error::ScoreCommand {
        program: program.display().to_string(),
        what,
    };
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may still know the answer.
        let _ = writeln!(stdin, "{}", json!({ "case": case, "text": text }));
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let number = said.parse().ok().filter(|it: &f64| it.is_finite());
    number.ok_or_else(|| failed(format!("it printed {said:?} and no number")))
}
