//! The clauses of arguments.toml: for each flaw the parts of the flawed and of the sound argument.

use std::sync::OnceLock;

use serde::Deserialize;

use super::Draws;

/// Which clauses and values may be used. Items of the other splits share no value with training
/// ones, and each has a main clause that training never sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training.
    Train,
    /// For calibration and the choice of settings, so that what is measured on [`Split::Held`] was
    /// never looked at before: the last fifth of what training could have had.
    Tune,
    /// For measuring.
    Held,
}

/// Lists shorter than this are not divided between training and tuning.
const DIVIDED_FROM: usize = 3;

impl Split {
    /// Of a list that is not held out, what training uses and what is kept for tuning.
    pub(super) fn divide<T>(train: &[T]) -> (&[T], &[T]) {
        match train.len() {
            0..DIVIDED_FROM => (train, &[]),
            len => train.split_at(len - len.div_ceil(5)),
        }
    }

    /// What of a slot's values this split uses.
    pub(super) fn values<'a, T>(self, train: &'a [T], held: &'a [T]) -> &'a [T] {
        let (training, tuning) = Self::divide(train);
        match self {
            Split::Train => training,
            Split::Tune if tuning.is_empty() => training,
            Split::Tune => tuning,
            Split::Held => held,
        }
    }
}

/// Which patterns of argument are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Patterns {
    /// Those of every field.
    Common,
    /// Those of the item's own field, which a critic of common patterns does not know.
    Domain,
    /// Both, in equal parts.
    All,
}

/// Forms of one part of an argument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forms {
    pub(super) train: Vec<String>,
    pub(super) held: Vec<String>,
}

impl Forms {
    /// One form and its name. `split` says of which list; where training has too few to keep one
    /// for tuning, tuning uses those of training.
    pub(super) fn pick(&self, split: Split, draws: &mut Draws) -> (String, String) {
        let (training, tuning) = Split::divide(&self.train);
        let (list, first) = match split {
            Split::Train => (training, 0),
            Split::Tune if tuning.is_empty() => (training, 0),
            Split::Tune => (tuning, training.len()),
            Split::Held => (self.held.as_slice(), self.train.len()),
        };
        let at = draws.below(list.len());
        let mut name = (first + at).to_string();
        let form = choose(&list[at], &mut name, draws);
        (name, form)
    }

    /// Whether tuning has forms of its own.
    pub(super) fn has_tuning(&self) -> bool {
        !Split::divide(&self.train).1.is_empty()
    }
}

/// `form` with one of each `[a|b|c]` taken; which it was is added to `name`.
fn choose(form: &str, name: &mut String, draws: &mut Draws) -> String {
    let mut text = String::with_capacity(form.len());
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((inside, after)) = after.split_once(']') else { break };
        let choices: Vec<&str> = inside.split('|').collect();
        let at = draws.below(choices.len());
        // Letters follow numbers: `3ba` is form 3 with its second and its first choice.
        name.push(char::from(b'a' + (at % 26) as u8));
        text.push_str(before);
        text.push_str(choices[at]);
        rest = after;
    }
    // An empty choice leaves two blanks, or one at the end.
    let text = (text + rest).replace("  ", " ").replace(" :", ":");
    if form.ends_with(']') { text.trim_end().to_owned() } else { text }
}

/// What is said for and against one flaw.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Argument {
    /// The flaw, in the taxonomy's spelling.
    pub flaw: String,
    /// The only field that it belongs to; none where it belongs to all.
    #[serde(default)]
    pub domain: Option<String>,
    /// A name, where the flaw alone does not tell it from others.
    #[serde(default)]
    pub name: Option<String>,
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

impl Argument {
    /// What tells it from other arguments.
    pub(super) fn id(&self) -> String {
        match (&self.domain, &self.name) {
            (Some(domain), Some(name)) => format!("{domain}:{name}"),
            _ => self.flaw.clone(),
        }
    }
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

/// Arguments of single fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainArguments {
    #[serde(rename = "argument")]
    arguments: Vec<Argument>,
}

impl Clauses {
    /// The clauses that are part of the program.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Clauses> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let mut clauses: Self = toml::from_str(include_str!("../../data/arguments.toml"))
                .expect("invariant: a test reads the built-in clauses");
            let of_domains: DomainArguments =
                toml::from_str(include_str!("../../data/domain_arguments.toml"))
                    .expect("invariant: a test reads the built-in clauses");
            clauses.arguments.extend(of_domains.arguments);
            clauses
        })
    }

    /// The arguments of these patterns in `domain`. A field without any of its own has the common
    /// ones.
    pub(super) fn of(&self, domain: &str, patterns: Patterns) -> Vec<&Argument> {
        let all = || self.arguments.iter();
        let common = || all().filter(|it| it.domain.is_none()).collect::<Vec<_>>();
        let own: Vec<_> = all().filter(|it| it.domain.as_deref() == Some(domain)).collect();
        match patterns {
            Patterns::Domain | Patterns::All if !own.is_empty() => own,
            _ => common(),
        }
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
