//! Another model's opinion on explanations of right verdicts.

use minicrit_engine::chat::Message;

use super::{ModelReport, Suite};
use crate::{
    Error, Result,
    case::Case,
    critique::{Backend, Critic, Prompt},
    data::Draws,
};

/// Cases whose verdict and flaw are right, at most `count`, drawn by `seed`, in the suite's order.
pub fn sample<'a>(
    suite: &'a Suite,
    report: &ModelReport,
    count: usize,
    seed: u64,
) -> Vec<&'a Case> {
    let right: Vec<&Case> = std::iter::zip(&suite.cases, &report.results)
        .filter(|(case, it)| it.verdict == Some(case.label) && it.flaw_type == case.flaw_type)
        .map(|it| it.0)
        .collect();
    let mut picked: Vec<usize> =
        Draws::new(seed, 0).order(right.len()).into_iter().take(count).collect();
    picked.sort_unstable();
    picked.into_iter().map(|it| right[it]).collect()
}

/// Whether `judge` finds the explanation that `author` writes for `case` poor.
///
/// # Errors
/// Those of the models; a judge that answers neither way.
pub fn is_poor(author: &mut Critic, judge: &mut dyn Backend, case: &Case) -> Result<bool> {
    let critique = author.explained(&case.rationale)?;
    let truth = match &case.flaw_type {
        Some(flaw) => format!("It is flawed: {flaw}."),
        None => "It is valid.".into(),
    };
    let text = format!(
        "Argument:\n{}\n\n{truth}\n\nExplanation by a critic:\n{}\n\nIs the explanation good (specific, true of this argument, and it says why) or poor? Answer with one word: good or poor.",
        case.rationale,
        critique.explanation.unwrap_or_default()
    );
    let prompt = Prompt { messages: vec![Message::new("user", text)], answer: "Answer:".into() };
    let scores = judge.label_scores(&prompt, &[" good", " poor"])?;
    match scores[..] {
        [good, poor] if good.is_finite() && poor.is_finite() => Ok(poor > good),
        _ => Err(Error::NoVerdict { answer: format!("log-probabilities {scores:?}") }),
    }
}
