//! The values of clauses' slots: words of a domain, and numbers that keep their meaning.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::Deserialize;

use super::{Draws, Split, invented::Invented};

/// Words of one field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name.
    pub name: String,
    slots: BTreeMap<String, Choices>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choices {
    train: Vec<Vec<String>>,
    held: Vec<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Domains {
    #[serde(rename = "domain")]
    domains: Vec<Domain>,
}

/// The fields that the program knows words of.
pub fn domains() -> &'static [Domain] {
    static BUILTIN: OnceLock<Domains> = OnceLock::new();
    &BUILTIN
        .get_or_init(|| {
            toml::from_str(include_str!("../../data/domains.toml"))
                .expect("invariant: a test reads the built-in domains")
        })
        .domains
}

/// Each slot of domains.toml, and the names that its tuple's parts have in clauses.
const SLOTS: [(&str, &[&str]); 21] = [
    ("units", &["one", "many", "won", "lost", "win"]),
    ("method", &["method"]),
    ("metric", &["metric"]),
    ("confounder", &["confounder"]),
    ("winners", &["winners", "trait", "winner_kind"]),
    ("dilemma", &["option_a", "option_b"]),
    ("anchor", &["anchor_thing", "anchor_first", "anchor_now"]),
    ("sunk", &["spent", "go_on"]),
    ("expert", &["expert", "expert_claim"]),
    ("alarm", &["alarm", "case", "state"]),
    ("circular", &["circ_a", "circ_b"]),
    ("crowd", &["crowd_does", "crowd_claim"]),
    ("slope", &["step", "disaster"]),
    ("unproven", &["unproven", "proven"]),
    ("subset", &["subset", "subset_claim"]),
    ("belief", &["belief"]),
    ("cause", &["cause_a", "cause_b"]),
    ("rule", &["rule_if", "rule_then"]),
    ("extreme", &["extreme"]),
    ("person", &["person", "attack", "person_claim"]),
    ("pool", &["pool"]),
];

/// Probability that a slot of an item with invented words has one.
const INVENTED_SLOT: f64 = 0.75;

const SMALL: [&str; 9] = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// The values of every slot for one item.
#[derive(Debug, Clone)]
pub(super) struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Draws a value for every slot; in a share of training items they are invented.
    pub(super) fn draw(domain: &Domain, split: Split, invented: f64, draws: &mut Draws) -> Self {
        let mut values = BTreeMap::new();
        numbers(split, draws, &mut values);
        let invents = split == Split::Train && invented > 0.0 && draws.chance(invented);
        for (slot, names) in SLOTS {
            let choices = &domain.slots[slot];
            let tuple = match invents && draws.chance(INVENTED_SLOT) {
                true => Invented::builtin().tuple(slot, draws),
                false => draws.one(split.values(&choices.train, &choices.held)).clone(),
            };
            for (&name, text) in std::iter::zip(names, tuple) {
                values.insert(name, text);
            }
        }
        Self(values)
    }

    /// `form` with its slots filled. A value may itself hold slots of numbers.
    pub(super) fn fill(&self, form: &str) -> String {
        let mut text = form.to_owned();
        for _ in 0..2 {
            text = self.fill_once(&text);
        }
        text
    }

    fn fill_once(&self, form: &str) -> String {
        let mut text = String::with_capacity(form.len() * 2);
        let mut rest = form;
        while let Some(open) = rest.find('{') {
            let Some(close) = rest[open..].find('}').map(|it| open + it) else { break };
            text.push_str(&rest[..open]);
            let name = &rest[open + 1..close];
            match self.0.get(name) {
                Some(value) => text.push_str(value),
                None => text.push_str(&rest[open..=close]),
            }
            rest = &rest[close + 1..];
        }
        text.push_str(rest);
        text
    }
}

/// Numbers, each in a range where it means what its slot says. Of every ten neighbouring numbers
/// one is kept for held-out items and one for tuning.
fn numbers(split: Split, draws: &mut Draws, values: &mut BTreeMap<&'static str, String>) {
    let mut between = |low: usize, high: usize| {
        // 7 and 10 have no common factor: the rule takes every tenth, not always the same digit.
        let fits = |it: &usize| match (it * 7 + it / 10) % 10 {
            3 => split == Split::Held,
            8 => split == Split::Tune,
            _ => split == Split::Train,
        };
        let fitting: Vec<usize> = (low..=high).filter(fits).collect();
        *draws.one(&fitting)
    };
    let n = between(2, 10);
    let (low, high) = (between(20, 190), between(210, 400));
    let share = between(20, 55);
    let list = [
        ("big", between(150, 4000).to_string()),
        ("p", between(62, 96).to_string()),
        ("q", share.to_string()),
        ("p5", between(2, 11).to_string()),
        ("low", share.to_string()),
        ("high", between(56, 96).to_string()),
        ("effect", between(4, 30).to_string()),
        ("a", high.to_string()),
        ("b", low.to_string()),
        ("n2", between(3, 14).to_string()),
        ("pages", between(20, 130).to_string()),
        ("years", between(3, 40).to_string()),
        ("p55", between(45, 60).to_string()),
        ("p65", between(58, 80).to_string()),
    ];
    values.extend(list);
    values.insert("p95", (*draws.one(&[97, 98, 99, 100, 110])).to_string());
    let word = draws.chance(0.4);
    values.insert("n", if word { SMALL[n - 2].to_owned() } else { n.to_string() });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_has_every_slot_in_both_splits() {
        assert_eq!(domains().len(), 5);
        for domain in domains() {
            assert_eq!(domain.slots.len(), SLOTS.len(), "{}", domain.name);
            for (slot, names) in SLOTS {
                let choices = &domain.slots[slot];
                assert!(!choices.train.is_empty() && !choices.held.is_empty());
                for tuple in choices.train.iter().chain(&choices.held) {
                    assert_eq!(tuple.len(), names.len(), "{} {slot} {tuple:?}", domain.name);
                }
                let shared = choices.held.iter().any(|it| choices.train.contains(it));
                assert!(!shared, "{} {slot}", domain.name);
            }
        }
    }

    #[test]
    fn slots_of_values_are_filled_too() {
        let values = Values(BTreeMap::from([("spent", "{n} years".into()), ("n", "3".to_owned())]));
        assert_eq!(values.fill("we put {spent} into {it}"), "we put 3 years into {it}");
    }
}
