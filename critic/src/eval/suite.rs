//! Sets of cases to measure on: built in, or a user's file.

use std::path::Path;

use crate::{
    Result,
    case::{Case, both_labels},
    data::{HardExample, HardExamples, Plan, Split},
    taxonomy::Taxonomy,
};

/// Items of the built-in held-out suite: fifty of each of twelve cells.
const HOLDOUT: usize = 600;

/// Seed of the built-in held-out suite; changing it changes the suite.
const HOLDOUT_SEED: u64 = 20_261;

/// Names of the built-in suites.
pub const BUILTIN: [&str; 2] = ["adversarial", "holdout"];

/// Cases and what they are called.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// A built-in name or a path.
    pub name: String,
    /// The cases, both labels among them.
    pub cases: Vec<Case>,
}

impl Suite {
    /// The suite of a built-in name, or the file at a path.
    ///
    /// # Errors
    /// Those of [`Case::read`]; a suite of one label.
    pub fn open(name: &str) -> Result<Self> {
        let taxonomy = Taxonomy::builtin();
        let cases = match name {
            "adversarial" => {
                let text = include_str!("../../data/adversarial.jsonl");
                Case::parse("adversarial", text, taxonomy)?
            }
            "holdout" => HardExamples::new(Plan::all(HOLDOUT, Split::Held, HOLDOUT_SEED))?
                .map(|it| it.map(case_of))
                .collect::<Result<_>>()?,
            path => Case::read(Path::new(path), taxonomy)?,
        };
        both_labels(name, &cases)?;
        Ok(Self { name: name.to_owned(), cases })
    }

    /// The cases of one domain.
    #[must_use]
    pub fn of_domain(mut self, domain: &str) -> Self {
        self.cases.retain(|it| it.domain.as_deref() == Some(domain));
        self.name = format!("{} ({domain})", self.name);
        self
    }

    /// A hash of every case, so that results of another suite are not taken for this one's.
    pub fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for case in &self.cases {
            for part in [&case.id, &case.rationale, case.label.as_str()] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
            hasher.update(case.flaw_type.as_deref().unwrap_or_default().as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

fn case_of(example: HardExample) -> Case {
    Case {
        id: example.id.clone(),
        rationale: example.composed.rationale,
        label: example.composed.label,
        flaw_type: example.composed.flaw,
        operator: None,
        domain: Some(example.domain),
        kind: Some(example.kind.name().to_owned()),
        note: None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::case::Verdict;

    #[test]
    fn the_adversarial_suite_has_a_hundred_cases_of_both_labels_and_every_flaw() {
        let suite = Suite::open("adversarial").unwrap();
        let mut kinds = BTreeMap::new();
        for case in &suite.cases {
            *kinds.entry((case.kind.as_deref().unwrap(), case.label)).or_insert(0) += 1;
            assert!(case.note.is_some(), "{}", case.id);
        }
        assert_eq!(suite.cases.len(), 100);
        assert_eq!(kinds[&("false-positive-trap", Verdict::Valid)], 35);
        assert_eq!(kinds[&("subtle-flaw", Verdict::Flawed)], 35);
        assert!(kinds[&("edge-case", Verdict::Valid)] >= 14);
        assert!(kinds[&("edge-case", Verdict::Flawed)] >= 14);
        let flaws: HashSet<_> = suite.cases.iter().filter_map(|it| it.flaw_type.clone()).collect();
        assert_eq!(flaws.len(), Taxonomy::builtin().flaws().len());
        let texts: HashSet<_> = suite.cases.iter().map(|it| &it.rationale).collect();
        assert_eq!(texts.len(), 100);
    }

    #[test]
    fn the_held_out_suite_is_always_the_same() {
        let suite = Suite::open("holdout").unwrap();
        assert_eq!(suite.cases.len(), 600);
        assert_eq!(suite.cases.iter().filter(|it| it.label == Verdict::Valid).count(), 300);
        assert_eq!(suite.content_hash(), Suite::open("holdout").unwrap().content_hash());
        assert_ne!(suite.content_hash(), suite.clone().of_domain("cyber").content_hash());
        assert!(Suite::open("no-such-file.jsonl").is_err());
    }
}
