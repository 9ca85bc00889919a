//! Preference pairs: several critiques of one rationale, the best against the worst.

use serde_json::{Value, json};

use super::Scorer;
use crate::{
    Error, Result,
    case::Case,
    critique::{Backend, Prompt, PromptStyle, Sampling},
    taxonomy::Taxonomy,
};

/// The most tokens of a critique.
const TOKENS: usize = 200;

/// A critique and its points.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The critique as the model wrote it.
    pub text: String,
    /// Its points.
    pub score: f64,
}

/// How candidates are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawing {
    /// How many for each rationale, at least 2.
    pub count: usize,
    /// At which temperature.
    pub temperature: f64,
    /// Seed.
    pub seed: u64,
}

/// Gives points to a candidate of a case. The truth of the case may be used.
pub type Points<'a> = dyn FnMut(&Case, &str) -> Result<f64> + 'a;

/// `drawing.count` critiques of `case` by `backend`, scored.
///
/// # Errors
/// Fewer than two candidates asked for; those of the backend and of `points`.
pub fn candidates(
    backend: &mut dyn Backend,
    style: PromptStyle,
    case: &Case,
    drawing: Drawing,
    points: &mut Points<'_>,
) -> Result<Vec<Candidate>> {
    if drawing.count < 2 {
        let value = drawing.count.to_string();
        return Err(Error::Setting { field: "candidates", value, expected: "2 or more" });
    }
    let messages = style.messages(&case.rationale, Taxonomy::builtin());
    let prompt = Prompt { messages, answer: String::new() };
    (0..drawing.count as u64)
        .map(|number| {
            let seed = drawing.seed.wrapping_mul(1_000_003).wrapping_add(number);
            let sampling =
                Sampling { temperature: drawing.temperature, seed, ..Sampling::greedy(TOKENS) };
            let text = backend.generate(&prompt, &sampling)?.trim().to_owned();
            let score = points(case, &text)?;
            Ok(Candidate { text, score })
        })
        .collect()
}

/// The pair of the best and the worst candidate, as a row that DPO trains on; none where they are
/// the same or their points differ by less than `margin`.
pub fn pair(case: &Case, candidates: &[Candidate], margin: f64) -> Option<Value> {
    let best = candidates.iter().rev().max_by(|a, b| a.score.total_cmp(&b.score))?;
    let worst = candidates.iter().min_by(|a, b| a.score.total_cmp(&b.score))?;
    if best.score - worst.score < margin.max(f64::MIN_POSITIVE) || best.text == worst.text {
        return None;
    }
    let turn = |role: &str, text: &str| json!([{ "role": role, "content": text }]);
    Some(json!({
        "id": case.id,
        "prompt": turn("user", &case.rationale),
        "chosen": turn("assistant", &best.text),
        "rejected": turn("assistant", &worst.text),
        "chosen_score": best.score,
        "rejected_score": worst.score,
    }))
}

/// Whether a critique has the verdict that its case has.
pub fn right_verdict(case: &Case, text: &str) -> bool {
    let line = text.lines().find_map(|it| it.strip_prefix("Verdict:"));
    line.is_some_and(|it| it.trim().to_lowercase() == case.label.as_str())
}

/// Points by rules: form and content of a critique, and above all whether verdict and flaw are
/// those of the case.
pub fn by_rules(case: &Case, text: &str) -> f64 {
    let line = |name: &str| {
        text.lines().find_map(|it| it.strip_prefix(name)).map(|it| it.trim().to_lowercase())
    };
    let right_verdict = right_verdict(case, text);
    let named =
        line("Flaw:").and_then(|it| Taxonomy::builtin().find(&it)).map(|it| it.name.as_str());
    let right_flaw = named == case.flaw_type.as_deref();
    let form = Scorer::Critique.score(text).score;
    let truth = f64::from(u8::from(right_verdict)) * 10.0
        + f64::from(u8::from(right_verdict && right_flaw)) * 5.0;
    form + truth
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn case() -> Case {
        let line = "{\"id\": \"a\", \"rationale\": \"It won twice.\", \"label\": \"flawed\", \"flaw_type\": \"small sample\"}";
        Case::parse("x", line, Taxonomy::builtin()).unwrap().remove(0)
    }

    #[test]
    fn the_right_critique_wins_over_the_well_written_wrong_one() {
        let right = "Verdict: flawed\nFlaw: small sample\nWhy: two cases";
        let wrong = "Verdict: valid\nWhy: It draws a modest conclusion from many cases.";
        let misnamed = "Verdict: flawed\nFlaw: anchoring\nWhy: The first number decides what counts as high.\nFix: Estimate from current data.";
        let points = [right, misnamed, wrong, "It is fine."].map(|it| by_rules(&case(), it));
        assert!(points.is_sorted_by(|a, b| a > b), "{points:?}");
    }

    #[test]
    fn a_pair_needs_a_difference() {
        let candidate = |text: &str, score| Candidate { text: text.into(), score };
        let all = [candidate("a", 1.0), candidate("b", 3.0), candidate("c", 3.0)];
        let row = pair(&case(), &all, 1.0).unwrap();
        assert_eq!(row["chosen"][0]["content"], "b");
        assert_eq!(row["rejected"][0]["content"], "a");
        assert_eq!(row["prompt"][0]["role"], "user");
        assert_eq!(pair(&case(), &all, 2.5), None);
        assert_eq!(pair(&case(), &all[1..], 0.0), None);
        assert_eq!(pair(&case(), &[candidate("a", 1.0), candidate("a", 1.0)], 0.0), None);
    }
}
