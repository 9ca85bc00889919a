//! The generator of hard examples: no duplicate, equal parts, true labels, disjoint splits.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};

use minicrit_critic::{
    case::{Case, Verdict},
    data::{HardExample, HardExamples, Kind, Patterns, Plan, Split},
    taxonomy::Taxonomy,
};

fn items(count: usize, split: Split, seed: u64) -> Vec<HardExample> {
    HardExamples::new(Plan::all(count, split, seed)).unwrap().map(|it| it.unwrap()).collect()
}

#[test]
fn ten_thousand_items_have_no_duplicate_and_equal_parts() {
    let all = items(10_000, Split::Train, 7);
    let texts: HashSet<&str> = all.iter().map(|it| it.composed.rationale.as_str()).collect();
    assert_eq!(texts.len(), 10_000);
    let flawed = all.iter().filter(|it| it.composed.label == Verdict::Flawed).count();
    assert!((4990..=5010).contains(&flawed), "{flawed}");
    let (mut cells, mut flaws) = (BTreeMap::new(), BTreeMap::new());
    for it in &all {
        *cells.entry((it.kind, it.domain.as_str())).or_insert(0) += 1;
        *flaws.entry(it.composed.flaw.as_deref()).or_insert(0) += 1;
    }
    assert_eq!(cells.len(), 30);
    assert!(cells.values().all(|it| (300..=370).contains(it)), "{cells:?}");
    assert_eq!(flaws.len(), 1 + Taxonomy::builtin().flaws().len());
    assert!(flaws.values().all(|&it| it >= 80), "{flaws:?}");
    let unfilled = all.iter().find(|it| it.composed.rationale.contains(['{', '}']));
    assert!(unfilled.is_none(), "{unfilled:?}");
}

#[test]
fn an_item_depends_on_its_seed_and_number_alone() {
    let (few, many) = (items(50, Split::Train, 3), items(500, Split::Train, 3));
    assert_eq!(few[..], many[..50]);
    assert_ne!(few[0], items(1, Split::Train, 4)[0]);
}

#[test]
fn a_line_is_a_case_and_a_training_example() {
    let lines: Vec<String> =
        items(60, Split::Train, 1).iter().map(|it| it.to_json().to_string()).collect();
    let cases = Case::parse("x", &lines.join("\n"), Taxonomy::builtin()).unwrap();
    assert_eq!(cases.len(), 60);
    let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value["messages"][0]["content"], value["rationale"]);
    assert_eq!(value["messages"][1]["content"], value["critique"]);
}

#[test]
fn plans_of_few_kinds_and_domains_keep_to_them() {
    let plan = Plan {
        count: 40,
        kinds: vec![Kind::UncertainCorrect, Kind::OverconfidentWrong],
        domains: vec![Plan::domain("cyber").unwrap()],
        ..Plan::all(1, Split::Train, 1)
    };
    let all: Vec<HardExample> = HardExamples::new(plan).unwrap().map(|it| it.unwrap()).collect();
    assert!(all.iter().all(|it| it.domain == "cyber"));
    assert_eq!(all.iter().filter(|it| it.kind == Kind::UncertainCorrect).count(), 20);
    assert!(Kind::parse("subtle").is_err() && Plan::domain("law").is_err());
    let none = Plan { kinds: Vec::new(), ..Plan::all(1, Split::Train, 1) };
    assert!(HardExamples::new(none).is_err());
}

#[test]
fn held_out_items_share_no_template_and_no_value_with_training() {
    let (train, held) = (items(20_000, Split::Train, 1), items(2_000, Split::Held, 1));
    let templates: HashSet<&str> = train.iter().map(|it| it.composed.template.as_str()).collect();
    for it in &held {
        assert!(!templates.contains(it.composed.template.as_str()), "{it:?}");
    }
    let text: String = train.iter().map(|it| format!(" {}\n", it.composed.rationale)).collect();
    let text: String = text.to_lowercase().replace(|it: char| !it.is_alphanumeric(), " ");
    let seen = |value: &String| {
        let words = value.to_lowercase().replace(|it: char| !it.is_alphanumeric(), " ");
        text.contains(&format!(" {} ", words.trim()))
    };
    let leaked: Vec<String> = held_values().into_iter().filter(seen).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

/// Held-out words of the domains, read here from the file itself. Parts with slots of numbers, and
/// words too short to be told from others, are left out.
fn held_values() -> Vec<String> {
    let file: toml::Value = toml::from_str(include_str!("../../data/domains.toml")).unwrap();
    let mut values = Vec::new();
    for domain in file["domain"].as_array().unwrap() {
        for (slot, choices) in domain["slots"].as_table().unwrap() {
            for tuple in choices["held"].as_array().unwrap() {
                // The first part names the thing; later parts may be common words.
                let first = tuple[0].as_str().unwrap();
                if !first.contains('{') && first.len() > 8 && slot != "metric" {
                    values.push(first.to_owned());
                }
            }
        }
    }
    assert!(values.len() > 100);
    values
}

#[test]
fn labels_are_those_that_an_independent_reader_derives() {
    let (mut wrong, signs) = (Vec::new(), Signs::read());
    for (split, seed) in [(Split::Train, 11), (Split::Held, 12), (Split::Tune, 13)] {
        for it in items(10_000, split, seed) {
            let read = signs.read_label(&it.composed.rationale);
            let right = match (&it.composed.flaw, read) {
                (None, None) => true,
                (Some(flaw), Some(found)) => found.contains(&flaw.as_str()),
                _ => false,
            };
            if !right {
                wrong.push((it.composed.flaw, it.composed.rationale));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, such as {:#?}", wrong.len(), &wrong[..wrong.len().min(8)]);
}

#[test]
fn labels_of_patterns_of_single_fields_are_those_that_an_independent_reader_derives() {
    let fields = ["trading", "defense", "cyber", "medical"].map(|it| Plan::domain(it).unwrap());
    for split in [Split::Train, Split::Tune, Split::Held] {
        let plan = Plan {
            domains: fields.to_vec(),
            patterns: Patterns::Domain,
            ..Plan::all(4_000, split, 21)
        };
        let (mut flaws, signs) = (BTreeMap::new(), Signs::read());
        for it in HardExamples::new(plan).unwrap().map(|it| it.unwrap()) {
            let text = it.composed.rationale.to_lowercase();
            let valid = signs.holds(&text, &[&signs.rigour, &signs.field_rigour]);
            assert_eq!(valid, it.composed.flaw.is_none(), "{it:?}");
            *flaws.entry((it.domain, it.composed.flaw)).or_insert(0) += 1;
        }
        assert!(flaws.len() >= 4 * 4, "three patterns and sound ones in each field: {flaws:?}");
    }
}

#[test]
fn items_for_tuning_share_no_template_and_no_number_with_training_and_held_out_ones() {
    let (train, tune) = (items(20_000, Split::Train, 1), items(2_000, Split::Tune, 1));
    let held = items(2_000, Split::Held, 1);
    let templates = |items: &[HardExample]| -> HashSet<String> {
        items.iter().map(|it| it.composed.template.clone()).collect()
    };
    let (of_train, of_held) = (templates(&train), templates(&held));
    let shared = tune.iter().filter(|it| of_train.contains(&it.composed.template)).count();
    // A sound argument of few forms is all that may be told in a known way.
    assert_eq!(shared, 0);
    assert!(tune.iter().all(|it| !of_held.contains(&it.composed.template)));
}

#[test]
fn invented_words_change_values_and_no_label() {
    let plain = items(3_000, Split::Train, 5);
    let plan = Plan { invented: 1.0, ..Plan::all(3_000, Split::Train, 5) };
    let all: Vec<HardExample> = HardExamples::new(plan).unwrap().map(|it| it.unwrap()).collect();
    let label = |it: &HardExample| (it.kind, it.composed.label);
    assert!(std::iter::zip(&plain, &all).all(|(a, b)| label(a) == label(b)));
    let texts: HashSet<&str> = plain.iter().map(|it| it.composed.rationale.as_str()).collect();
    let same = all.iter().filter(|it| texts.contains(it.composed.rationale.as_str())).count();
    assert!(same < 30, "{same} of 3000 have no invented word");
    let unfilled = all.iter().find(|it| it.composed.rationale.contains(['{', '}', '[', ']', '|']));
    assert!(unfilled.is_none(), "{unfilled:?}");
    let bad = Plan { invented: 1.5, ..Plan::all(1, Split::Train, 1) };
    assert!(HardExamples::new(bad).is_err());
}

/// What an independent reader knows a rationale by.
#[derive(serde::Deserialize)]
struct Signs {
    withheld: Vec<String>,
    aside: Vec<String>,
    rigour: Vec<String>,
    field_rigour: Vec<String>,
    flaws: BTreeMap<String, Vec<String>>,
}

impl Signs {
    fn read() -> Self {
        toml::from_str(include_str!("signs.toml")).unwrap()
    }

    /// Whether judgement is withheld, or evidence of these signs carries the conclusion. Evidence
    /// that is set aside does not count.
    fn holds(&self, text: &str, rigour: &[&Vec<String>]) -> bool {
        let counted =
            self.aside.iter().find_map(|it| text.split_once(it.as_str())).map_or(text, |it| it.1);
        has(text, &self.withheld) || rigour.iter().any(|it| has(counted, it))
    }

    /// What a reader who knows nothing of the clauses' roles finds: none where the argument
    /// withholds judgement or rests on evidence that can carry it, else the flaws whose signs are
    /// in it.
    fn read_label(&self, text: &str) -> Option<Vec<&str>> {
        let text = &text.to_lowercase();
        let counted = self
            .aside
            .iter()
            .find_map(|it| text.split_once(it.as_str()))
            .map_or(&**text, |it| it.1);
        if self.holds(text, &[&self.rigour]) || many_cases(counted) {
            return None;
        }
        Some(self.flaws.iter().filter(|it| has(text, it.1)).map(|it| it.0.as_str()).collect())
    }
}

fn has(text: &str, signs: &[String]) -> bool {
    signs.iter().any(|it| text.contains(it.as_str()))
}

/// A rate over a large number of cases, such as `of 320 trades, 64%`.
fn many_cases(text: &str) -> bool {
    let Some(at) = text.find("of ").filter(|_| text.contains("%")) else { return false };
    text[at..].match_indices("of ").any(|(i, _)| {
        let rest = &text[at + i + 3..];
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let sentence = rest.split('.').next().unwrap_or_default();
        digits.parse().is_ok_and(|it: u32| it >= 100)
            && sentence
                .split_once(", ")
                .is_some_and(|(_, it)| it.starts_with(|c: char| c.is_ascii_digit()))
            && !has_treatment(sentence)
    })
}

fn has_treatment(sentence: &str) -> bool {
    ["got ", "gave ", "received ", "survey"].iter().any(|it| sentence.contains(it))
}
