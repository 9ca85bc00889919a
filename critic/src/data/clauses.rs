//! The clauses of arguments.toml: for each flaw the parts of the flawed and of the sound argument.

use std::sync::OnceLock;

use serde::Deserialize;

use super::Draws;

/// Which clauses and values may be used. Held-out items share no value with training ones, and
/// each has a main clause that training never sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// For measuring.
    Held,
}

/// Forms of one part of an argument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forms {
    pub(super) train: Vec<String>,
    pub(super) held: Vec<String>,
}

impl Forms {
    /// One form and its number; held ones are counted after those of training.
    pub(super) fn pick(&self, held: bool, draws: &mut Draws) -> (usize, &str) {
        let list = if held { &self.held } else { &self.train };
        let at = draws.below(list.len());
        (if held { self.train.len() + at } else { at }, &list[at])
    }
}

/// What is said for and against one flaw.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Argument {
    /// The flaw, in the taxonomy's spelling.
    pub flaw: String,
    /// Kinds of flawed items that it can make, by name.
    pub kinds: Vec<String>,
    pub(super) evidence: Forms,
    pub(super) leap: Forms,
    pub(super) repaired: Forms,
    pub(super) sound: Forms,
    pub(super) admit: Forms,
    pub(super) why: Vec<String>,
    pub(super) why_sound: String,
}

/// Whole arguments that hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sound {
    /// What kind of argument.
    pub name: String,
    pub(super) train: Vec<String>,
    pub(super) held: Vec<String>,
    pub(super) why: String,
}

/// Parts that every argument can have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Common {
    pub(super) hold: Forms,
    pub(super) care: Forms,
    pub(super) aside: Forms,
    pub(super) openings: Forms,
    pub(super) joins: Forms,
    pub(super) high_confidence: Forms,
    pub(super) middle_confidence: Forms,
    pub(super) low_confidence: Forms,
}

/// All clauses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clauses {
    #[serde(rename = "argument")]
    pub(super) arguments: Vec<Argument>,
    #[serde(rename = "sound")]
    pub(super) sounds: Vec<Sound>,
    pub(super) common: Common,
}

impl Clauses {
    /// The clauses that are part of the program.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Clauses> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            toml::from_str(include_str!("../../data/arguments.toml"))
                .expect("invariant: a test reads the built-in clauses")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::taxonomy::Taxonomy;

    #[test]
    fn every_flaw_has_its_argument() {
        let clauses = Clauses::builtin();
        let named: BTreeSet<&str> = clauses.arguments.iter().map(|it| it.flaw.as_str()).collect();
        let known: BTreeSet<&str> =
            Taxonomy::builtin().flaws().iter().map(|it| it.name.as_str()).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn no_held_form_is_a_training_form_and_none_is_empty() {
        let clauses = Clauses::builtin();
        let forms = clauses
            .arguments
            .iter()
            .flat_map(|it| [&it.evidence, &it.leap, &it.repaired, &it.sound, &it.admit])
            .chain([&clauses.common.hold, &clauses.common.care, &clauses.common.joins]);
        for form in forms {
            assert!(!form.train.is_empty() && !form.held.is_empty(), "{form:?}");
            assert!(form.held.iter().all(|it| !form.train.contains(it)), "{form:?}");
            assert!(form.train.iter().chain(&form.held).all(|it| !it.is_empty()), "{form:?}");
        }
    }
}
