//! Hard examples: six kinds of rationales on which critics go wrong, with known labels.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Clauses, Domain, Draws, Patterns, Split,
    compose::{Composed, Source, compose},
    domains,
};
use crate::{Error, Result, case::Verdict, taxonomy::Taxonomy};

/// Tries for one item until it is given up that there are new ones.
const TRIES: u64 = 64;

/// What makes an example hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nearly right: care and modesty around a flaw.
    SubtleFlaw,
    /// Complex and right.
    SophisticatedValid,
    /// Good and bad side by side; which one carries the conclusion decides.
    MixedSignals,
    /// A bias of thinking, or the same case thought through.
    CognitiveBias,
    /// Wrong and very sure of it.
    OverconfidentWrong,
    /// Right and full of doubt.
    UncertainCorrect,
}

impl Kind {
    /// All six.
    pub const ALL: [Kind; 6] = [
        Kind::SubtleFlaw,
        Kind::SophisticatedValid,
        Kind::MixedSignals,
        Kind::CognitiveBias,
        Kind::OverconfidentWrong,
        Kind::UncertainCorrect,
    ];

    /// Its name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Kind::SubtleFlaw => "subtle-flaw",
            Kind::SophisticatedValid => "sophisticated-valid",
            Kind::MixedSignals => "mixed-signals",
            Kind::CognitiveBias => "cognitive-bias",
            Kind::OverconfidentWrong => "overconfident-wrong",
            Kind::UncertainCorrect => "uncertain-correct",
        }
    }

    /// The kind of this name, or the names that there are.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn parse(name: &str) -> Result<Self> {
        let wanted = name.trim().replace('_', "-");
        Self::ALL.into_iter().find(|it| it.name() == wanted).ok_or_else(|| Error::Unknown {
            what: "kind",
            name: name.to_owned(),
            known: Self::ALL.iter().map(|it| it.name().to_owned()).collect(),
        })
    }

    pub(super) fn is_in(self, names: &[String]) -> bool {
        names.iter().any(|it| it == self.name())
    }

    fn labels(self) -> &'static [Verdict] {
        match self {
            Kind::SubtleFlaw | Kind::OverconfidentWrong => &[Verdict::Flawed],
            Kind::SophisticatedValid | Kind::UncertainCorrect => &[Verdict::Valid],
            Kind::MixedSignals | Kind::CognitiveBias => &[Verdict::Flawed, Verdict::Valid],
        }
    }
}

/// How hard an example is, by what stands around the argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Difficulty {
    /// The argument alone.
    Easy,
    /// One thing that distracts.
    Medium,
    /// More.
    Hard,
}

/// One labelled example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardExample {
    /// Name, unique under one seed.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Its field.
    pub domain: String,
    /// Text, label and origin.
    pub composed: Composed,
}

impl HardExample {
    /// By what stands around the argument.
    pub fn difficulty(&self) -> Difficulty {
        match self.composed.extras {
            0 => Difficulty::Easy,
            1 => Difficulty::Medium,
            _ => Difficulty::Hard,
        }
    }

    /// Verdict and flaw alone: what a critic is scored by.
    pub fn verdict(&self) -> String {
        match &self.composed.flaw {
            None => "Verdict: valid".into(),
            Some(flaw) => format!("Verdict: flawed\nFlaw: {flaw}"),
        }
    }

    /// The critique that a good critic would write.
    pub fn critique(&self) -> String {
        let why = &self.composed.why;
        match &self.composed.flaw {
            None => format!("Verdict: valid\nWhy: {why}"),
            Some(flaw) => {
                let fix = Taxonomy::builtin().find(flaw).map_or("", |it| it.fix.as_str());
                format!("Verdict: flawed\nFlaw: {flaw}\nWhy: {why}\nFix: {fix}")
            }
        }
    }

    /// The line of a file: a case for evaluation, and `messages` for training.
    pub fn to_json(&self) -> Value {
        self.line(self.critique())
    }

    /// The same with an answer of verdict and flaw alone: a third of the tokens.
    pub fn to_short_json(&self) -> Value {
        self.line(self.verdict())
    }

    fn line(&self, critique: String) -> Value {
        json!({
            "id": self.id,
            "rationale": self.composed.rationale,
            "label": self.composed.label,
            "flaw_type": self.composed.flaw,
            "critique": critique,
            "type": self.kind,
            "domain": self.domain,
            "difficulty": self.difficulty(),
            "template": self.composed.template,
            "messages": [
                {"role": "user", "content": self.composed.rationale},
                {"role": "assistant", "content": critique},
            ],
        })
    }
}

/// What to generate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many items.
    pub count: usize,
    /// Kinds, in equal parts.
    pub kinds: Vec<Kind>,
    /// Domains, in equal parts.
    pub domains: Vec<&'static Domain>,
    /// Which forms and values.
    pub split: Split,
    /// Patterns of every field, or of the item's own.
    pub patterns: Patterns,
    /// Share of items, from 0 to 1, whose words are invented from common nouns and verbs, so that a
    /// model learns to judge by form. Training items alone have such.
    pub invented: f64,
    /// Seed of everything.
    pub seed: u64,
}

impl Plan {
    /// A plan of all kinds and domains.
    pub fn all(count: usize, split: Split, seed: u64) -> Self {
        Self {
            count,
            kinds: Kind::ALL.to_vec(),
            domains: domains().iter().collect(),
            split,
            patterns: Patterns::Common,
            invented: 0.0,
            seed,
        }
    }

    /// The domain of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn domain(name: &str) -> Result<&'static Domain> {
        let wanted = name.trim();
        domains().iter().find(|it| it.name == wanted).ok_or_else(|| Error::Unknown {
            what: "domain",
            name: name.to_owned(),
            known: domains().iter().map(|it| it.name.clone()).collect(),
        })
    }
}

/// The items of a plan, one after the other, none twice. With all kinds, any six times two
/// consecutive items are half valid and half flawed.
#[derive(Debug)]
pub struct HardExamples {
    plan: Plan,
    cells: Vec<(Kind, Verdict)>,
    next: usize,
    seen: HashSet<String>,
}

impl HardExamples {
    /// Starts a plan.
    ///
    /// # Errors
    /// [`Error::Setting`] for a plan of no kind or no domain.
    pub fn new(mut plan: Plan) -> Result<Self> {
        plan.kinds.sort_unstable();
        plan.kinds.dedup();
        if !(0.0..=1.0).contains(&plan.invented) {
            let value = plan.invented.to_string();
            return Err(Error::Setting {
                field: "invented",
                value,
                expected: "a share from 0 to 1",
            });
        }
        for (field, is_empty) in
            [("kinds", plan.kinds.is_empty()), ("domains", plan.domains.is_empty())]
        {
            if is_empty {
                let value = "an empty list".into();
                return Err(Error::Setting { field, value, expected: "at least one name" });
            }
        }
        // A kind of one label counts twice, so that kinds stay in equal parts.
        let cells = [0, 1]
            .into_iter()
            .flat_map(|turn| {
                plan.kinds.iter().map(move |&kind| {
                    let labels = kind.labels();
                    (kind, labels[turn % labels.len()])
                })
            })
            .collect();
        Ok(Self { plan, cells, next: 0, seen: HashSet::new() })
    }

    fn make(&mut self, index: usize) -> Option<HardExample> {
        let (kind, label) = self.cells[index % self.cells.len()];
        // The domain turns slower than the kind, so that each kind meets each domain.
        let domain = self.plan.domains[(index / self.cells.len()) % self.plan.domains.len()];
        for attempt in 0..TRIES {
            let mut draws = Draws::new(self.plan.seed, index as u64 * TRIES + attempt);
            let cell = (kind, label);
            let Plan { split, patterns, invented, .. } = self.plan;
            let source = Source { clauses: Clauses::builtin(), domain, split, patterns, invented };
            let composed = compose(source, cell, &mut draws);
            if self.seen.insert(composed.rationale.clone()) {
                let split = match split {
                    Split::Train => "hard",
                    Split::Tune => "tune",
                    Split::Held => "held",
                };
                return Some(HardExample {
                    id: format!("{split}-{}-{index}", self.plan.seed),
                    kind,
                    domain: domain.name.clone(),
                    composed,
                });
            }
        }
        None
    }
}

impl Iterator for HardExamples {
    type Item = Result<HardExample>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.plan.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let made = self.make(index);
        if made.is_none() {
            self.next = self.plan.count;
        }
        Some(made.ok_or(Error::Exhausted { made: index, wanted: self.plan.count }))
    }
}
