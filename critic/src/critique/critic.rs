//! From a rationale to a critique.

use std::time::Instant;

use serde::Serialize;

use super::{
    Backend, Prompt, PromptStyle, Sampling,
    prompt::{FLAW, VERDICT},
};
use crate::{Error, Result, case::Verdict, eval::Calibration, taxonomy::Taxonomy};

/// The most tokens of an explanation.
const EXPLANATION_TOKENS: usize = 160;

/// The most tokens of thinking in steps.
const THINKING_TOKENS: usize = 256;

/// A judgement of one rationale.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Critique {
    /// Whether it holds.
    pub verdict: Verdict,
    /// The most probable flaw, where it is flawed.
    pub flaw_type: Option<String>,
    /// Calibrated probability of the verdict.
    pub confidence: f64,
    /// Calibrated probability that it is flawed.
    pub flawed_probability: f64,
    /// Why, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// What to do about it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The model's log-odds of flawed against valid, before calibration.
    #[serde(skip)]
    pub log_odds: f64,
    /// Time of verdict and flaw, in milliseconds.
    #[serde(skip)]
    pub latency_ms: f64,
}

/// Why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Why the rationale holds or does not.
    pub why: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// A model that is asked for critiques.
pub struct Critic {
    backend: Box<dyn Backend>,
    style: PromptStyle,
    calibration: Calibration,
    taxonomy: &'static Taxonomy,
}

impl Critic {
    /// A critic on `backend` with the built-in taxonomy.
    pub fn new(backend: Box<dyn Backend>, style: PromptStyle, calibration: Calibration) -> Self {
        Self { backend, style, calibration, taxonomy: Taxonomy::builtin() }
    }

    /// How it asks.
    pub fn style(&self) -> PromptStyle {
        self.style
    }

    /// Asks in another way from now on.
    pub fn set_style(&mut self, style: PromptStyle) {
        self.style = style;
    }

    /// How log-odds become probabilities.
    pub fn calibration(&self) -> Calibration {
        self.calibration
    }

    /// The model behind it.
    pub fn backend(&mut self) -> &mut dyn Backend {
        self.backend.as_mut()
    }

    /// Judges `rationale`; the flaw is asked for only where the verdict is flawed.
    ///
    /// # Errors
    /// [`Error::EmptyRationale`]; those of the backend.
    pub fn critique(&mut self, rationale: &str) -> Result<Critique> {
        if rationale.trim().is_empty() {
            return Err(Error::EmptyRationale);
        }
        let start = Instant::now();
        let mut prompt = self.prompt(rationale)?;
        let thoughts = prompt.answer.clone();
        prompt.answer += VERDICT;
        let scores = self.backend.label_scores(&prompt, &[" valid", " flawed"])?;
        let log_odds = scores[1] - scores[0];
        let flawed_probability = self.calibration.probability(log_odds);
        if !flawed_probability.is_finite() {
            return Err(Error::NoVerdict { answer: format!("log-probabilities {scores:?}") });
        }
        let verdict = if flawed_probability > 0.5 { Verdict::Flawed } else { Verdict::Valid };
        let flaw_type = match verdict {
            Verdict::Valid => None,
            Verdict::Flawed => {
                prompt.answer = thoughts + FLAW;
                Some(self.flaw(&prompt)?)
            }
        };
        Ok(Critique {
            verdict,
            flaw_type,
            confidence: flawed_probability.max(1.0 - flawed_probability),
            flawed_probability,
            explanation: None,
            fix: None,
            log_odds,
            latency_ms: start.elapsed().as_secs_f64() * 1e3,
        })
    }

    /// The same, with an explanation and a fix in the model's words. What the model leaves out is
    /// said in those of the taxonomy.
    ///
    /// # Errors
    /// As [`Critic::critique`].
    pub fn explained(&mut self, rationale: &str) -> Result<Critique> {
        let mut critique = self.critique(rationale)?;
        let Explanation { why, fix } = self.explain(rationale, &critique, 0.0, 0)?;
        critique.explanation = Some(why);
        critique.fix = fix;
        Ok(critique)
    }

    /// An explanation of a given judgement, drawn at `temperature`.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn explain(
        &mut self,
        rationale: &str,
        critique: &Critique,
        temperature: f64,
        seed: u64,
    ) -> Result<Explanation> {
        let flaw = critique.flaw_type.as_deref();
        let begun = match flaw {
            Some(flaw) => format!("{FLAW} {flaw}\nWhy:"),
            None => "Verdict: valid\nWhy:".to_owned(),
        };
        let messages = self.style.messages(rationale, self.taxonomy);
        let prompt = Prompt { messages, answer: begun };
        let sampling = Sampling { temperature, seed, ..Sampling::greedy(EXPLANATION_TOKENS) };
        let text = self.backend.generate(&prompt, &sampling)?;
        let (why, rest) = text.split_once("\nFix:").unwrap_or((&text, ""));
        let first_line =
            |text: &str| text.trim().lines().next().unwrap_or_default().trim().to_owned();
        let known = flaw.and_then(|it| self.taxonomy.find(it));
        let or = |said: String, otherwise: Option<&String>| match said.is_empty() {
            true => otherwise.cloned().unwrap_or_default(),
            false => said,
        };
        Ok(Explanation {
            why: or(first_line(why), known.map(|it| &it.definition)),
            fix: known.map(|it| or(first_line(rest), Some(&it.fix))),
        })
    }

    /// The question; thinking in steps is part of the answer's beginning.
    fn prompt(&mut self, rationale: &str) -> Result<Prompt> {
        let messages = self.style.messages(rationale, self.taxonomy);
        let mut prompt = Prompt { messages, answer: String::new() };
        if self.style == PromptStyle::Cot {
            let sampling =
                Sampling { stop: vec![VERDICT.into()], ..Sampling::greedy(THINKING_TOKENS) };
            let thoughts = self.backend.generate(&prompt, &sampling)?;
            prompt.answer = format!("{}\n\n", thoughts.trim());
        }
        Ok(prompt)
    }

    /// The most probable flaw.
    fn flaw(&mut self, prompt: &Prompt) -> Result<String> {
        let labels: Vec<String> =
            self.taxonomy.flaws().iter().map(|it| format!(" {}", it.name)).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let scores = self.backend.label_scores(prompt, &labels)?;
        let best = std::iter::zip(self.taxonomy.flaws(), scores)
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|it| it.0.name.clone());
        best.ok_or_else(|| Error::NoVerdict { answer: "no flaws in the taxonomy".into() })
    }
}
