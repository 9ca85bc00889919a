//! Scores of texts by rules that can be read.

use serde::Serialize;

use crate::{Error, Result, taxonomy::Taxonomy};

/// The least score of a text that is kept, where nobody says otherwise.
pub const KEEP: f64 = 7.0;

/// Words that describe.
const DESCRIPTIVE: [&str; 24] = [
    "ancient", "bright", "bitter", "bold", "calm", "cold", "crimson", "dark", "deep", "distant",
    "fierce", "gentle", "golden", "hollow", "narrow", "pale", "quiet", "rough", "sharp", "silent",
    "silver", "slow", "soft", "warm",
];

/// Beginnings of answers that refuse.
const REFUSALS: [&str; 6] =
    ["i can't", "i cannot", "i'm sorry", "i am sorry", "as an ai", "i am unable"];

/// Words of critiques that say nothing.
const VAGUE: [&str; 6] = [
    "could be better",
    "needs more work",
    "some issues",
    "is not good",
    "be more careful",
    "various problems",
];

/// A set of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// Rewards and penalties.
    Default,
    /// A base of 7.0 and rewards alone. Every text has at least the 7.0 that is asked for, so it
    /// rejects nothing; it is here because others' pipelines name it.
    Seed003,
    /// For critiques: verdict, known flaw, reason, fix; penalties for vagueness.
    Critique,
}

/// Points and what they were for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextScore {
    /// The sum, from 0 to 10.
    pub score: f64,
    /// What was given and taken.
    pub reasons: Vec<(&'static str, f64)>,
}

impl Scorer {
    /// The scorer of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "default" => Ok(Scorer::Default),
            "seed003" => Ok(Scorer::Seed003),
            "critique" => Ok(Scorer::Critique),
            _ => Err(Error::Unknown {
                what: "scorer",
                name: name.to_owned(),
                known: ["default", "seed003", "critique"].map(String::from).to_vec(),
            }),
        }
    }

    /// Scores `text`.
    pub fn score(self, text: &str) -> TextScore {
        let mut reasons = match self {
            Scorer::Seed003 => rewards(text),
            Scorer::Default => [rewards(text), penalties(text)].concat(),
            Scorer::Critique => critique(text),
        };
        reasons.retain(|it| it.1 != 0.0);
        let sum: f64 = reasons.iter().map(|it| it.1).sum();
        // Points are multiples of a tenth; the sum is shown as such.
        TextScore { score: (sum.clamp(0.0, 10.0) * 10.0).round() / 10.0, reasons }
    }
}

fn rewards(text: &str) -> Vec<(&'static str, f64)> {
    let length = text.chars().count();
    let sentences = text.split(['.', '!', '?']).filter(|it| !it.trim().is_empty()).count();
    let descriptive = words(text).filter(|it| DESCRIPTIVE.contains(&it.as_str())).count();
    let has_dialogue = text.matches(['"', '“', '”']).count() >= 2;
    let points = |holds: bool, points: f64| if holds { points } else { 0.0 };
    vec![
        ("base", 7.0),
        ("200 to 800 characters", points((200..=800).contains(&length), 1.0)),
        ("at least three sentences", points(sentences >= 3, 0.5)),
        ("at least two descriptive words", points(descriptive >= 2, 0.5)),
        ("dialogue", points(has_dialogue, 0.3)),
    ]
}

fn penalties(text: &str) -> Vec<(&'static str, f64)> {
    let lower = text.trim().to_lowercase();
    let all: Vec<String> = words(text).collect();
    let runs: Vec<&[String]> = all.windows(3).collect();
    let distinct: std::collections::HashSet<_> = runs.iter().collect();
    let repeats = runs.len() >= 12 && distinct.len() * 10 < runs.len() * 7;
    let ends = lower.ends_with(['.', '!', '?', '"', '”', ')', '`', '}', ']']);
    let points = |holds: bool, points: f64| if holds { points } else { 0.0 };
    vec![
        ("empty", points(lower.is_empty(), -7.0)),
        ("fewer than 50 characters", points((1..50).contains(&lower.chars().count()), -1.0)),
        ("repeats itself", points(repeats, -2.0)),
        ("breaks off", points(!lower.is_empty() && !ends, -1.0)),
        ("refuses", points(REFUSALS.iter().any(|it| lower.starts_with(it)), -3.0)),
    ]
}

fn critique(text: &str) -> Vec<(&'static str, f64)> {
    let lower = text.trim().to_lowercase();
    let line = |name: &str| {
        let found = lower.lines().find_map(|it| it.strip_prefix(name));
        found.map(str::trim).filter(|it| !it.is_empty())
    };
    let verdict = line("verdict:");
    let flaw = line("flaw:");
    let known = flaw.is_some_and(|it| Taxonomy::builtin().find(it).is_some());
    let why = line("why:").unwrap_or_default();
    let is_flawed = verdict == Some("flawed");
    let fits = match verdict {
        Some("flawed") => known,
        Some("valid") => flaw.is_none(),
        _ => false,
    };
    let first_person = words(&lower).any(|it| matches!(it.as_str(), "i" | "my" | "me"));
    let points = |holds: bool, points: f64| if holds { points } else { 0.0 };
    vec![
        ("a verdict", points(matches!(verdict, Some("valid" | "flawed")), 3.0)),
        ("flaw and verdict fit", points(fits, 2.0)),
        ("a reason of five words or more", points(why.split_whitespace().count() >= 5, 2.5)),
        ("a fix, or none needed", points(!is_flawed || line("fix:").is_some(), 1.5)),
        ("at most 120 words", points(words(&lower).count() <= 120, 1.0)),
        ("vague", points(VAGUE.iter().any(|it| lower.contains(it)), -2.0)),
        ("first person", points(first_person, -1.0)),
        (
            "repeats itself",
            penalties(text).iter().filter(|it| it.0 == "repeats itself").map(|it| it.1).sum(),
        ),
    ]
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|it: char| !it.is_alphanumeric() && it != '\'')
        .filter(|it| !it.is_empty())
        .map(str::to_lowercase)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::{HardExamples, Plan, Split};

    #[test]
    fn the_literal_rule_gives_its_points_and_rejects_nothing() {
        let score = |text: &str| Scorer::Seed003.score(text).score;
        assert_eq!(score(""), 7.0);
        assert_eq!(score("No. No! No?"), 7.5);
        let rich = format!(
            "\"Hush,\" said the quiet, pale man. {} It ended. It was over.",
            "The road went on. ".repeat(10)
        );
        assert_eq!(score(&rich), 9.3);
    }

    #[test]
    fn the_default_rule_can_reject() {
        let score = |text: &str| Scorer::Default.score(text).score;
        assert_eq!(score(""), 0.0);
        assert!(score("I can't help with that.") < KEEP);
        assert!(score(&"the same words again ".repeat(20)) < KEEP);
        assert!(
            score(
                "A calm, bright morning. The boat left. Nobody spoke until the island came in sight."
            ) >= KEEP
        );
    }

    #[test]
    fn generated_critiques_are_good_and_broken_ones_are_not() {
        for example in HardExamples::new(Plan::all(60, Split::Train, 1)).unwrap() {
            let critique = example.unwrap().critique();
            assert_eq!(Scorer::Critique.score(&critique).score, 10.0, "{critique}");
        }
        for bad in [
            "",
            "It could be better.",
            "Verdict: flawed\nFlaw: bad luck\nWhy: no",
            "Verdict: valid\nFlaw: sunk cost\nWhy: I think so.",
        ] {
            assert!(Scorer::Critique.score(bad).score < KEEP, "{bad}");
        }
    }
}
