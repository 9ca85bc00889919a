//! The generator of hard examples: no duplicate, equal parts, true labels, disjoint splits.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};

use minicrit_critic::{
    case::{Case, Verdict},
    data::{HardExample, HardExamples, Kind, Plan, Split},
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
        split: Split::Train,
        seed: 1,
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
    let file: toml::Value = toml::from_str(include_str!("../data/domains.toml")).unwrap();
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
    let mut wrong = Vec::new();
    for (split, seed) in [(Split::Train, 11), (Split::Held, 12)] {
        for it in items(10_000, split, seed) {
            let read = read_label(&it.composed.rationale);
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

/// What a reader who knows nothing of the clauses' roles finds: none where the argument withholds
/// judgement or rests on evidence that can carry it, else the flaws whose signs are in it.
fn read_label(text: &str) -> Option<Vec<&'static str>> {
    let text = &text.to_lowercase();
    let has = |text: &str, signs: &[&str]| signs.iter().any(|it| text.contains(it));
    if has(text, &WITHHELD) {
        return None;
    }
    // Evidence that is set aside does not count.
    let counted = ASIDE.iter().find_map(|it| text.split_once(it)).map_or(text.as_str(), |it| it.1);
    if has(counted, &RIGOUR) || many_cases(counted) {
        return None;
    }
    Some(SIGNS.iter().filter(|(_, signs)| has(text, signs)).map(|it| it.0).collect())
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

const WITHHELD: [&str; 8] = [
    "draw no conclusion",
    "wait for better data",
    "question stays open",
    "would not act on it",
    "find out more before we decide",
    "just don't know",
    "verdict has to wait",
    "leave it undecided",
];

const ASIDE: [&str; 5] = [
    "leave that out of account",
    "i do not use it",
    "give that no weight",
    "should not count, and here it does not",
    "only to put it aside",
];

/// Signs of evidence that can carry a conclusion.
const RIGOUR: [&str; 86] = [
    "at random",
    "by lot",
    "lots decided",
    "randomised trial",
    "in a log of all",
    "good and bad",
    "a count over",
    "across all",
    "the register of",
    "complete records",
    "matched records",
    "before we saw any result",
    "every one of the",
    "none of the",
    "the complete list of",
    "both those that made it",
    "counted the failures",
    "includes the ones that failed",
    "not at all in the similar places",
    "independent of the others",
    "do not influence each other",
    "no bearing on the next",
    "just one in a thousand is",
    "since hardly any",
    "true cases are so rare",
    "equally bad cases",
    "equally extreme cases",
    "just as extreme",
    "ignored that figure",
    "without looking at the old",
    "had not heard the old",
    "would prove us wrong",
    "argued against the idea",
    "paid to refute",
    "the coming year costs",
    "leaving aside what is spent",
    "the past money is gone",
    "forecasts like this were wrong",
    "similar starts",
    "we listed the options",
    "besides the plan",
    "four courses",
    "two outside teams",
    "by people who doubted",
    "sceptics measured",
    "times elsewhere that",
    "cases in which",
    "we checked ourselves that",
    "has been established that",
    "its condition was verified",
    "independent studies",
    "we checked the figures",
    "with no tie to",
    "our own test",
    "we compared it with the alternative",
    "blind comparison",
    "careful tests that would",
    "with a method that finds",
    "rarely misses",
    "repeated the measurement",
    "was checked against",
    "fresh measurements",
    "on the list was checked by hand",
    "it is not the case that",
    "of that series were withdrawn",
    "without a signature",
    "in the archive has a number",
    "so option one is cheaper",
    "second share is the larger",
    "so something is left",
    "so the first was faster",
    "lasts longer than one of",
    "from the whole register",
    "nearly all of them answered",
    "answer from nine in ten",
    "the list of",
    "sites chosen",
    "by lot, half",
    "split",
    "picked by lot",
    "assigned at random",
    "drawn at random",
    "kept it up",
    "kept their promise",
    "contradict it, whoever",
    "whoever it was that said",
];

/// Signs of each flaw.
const SIGNS: [(&str, &[&str]); 23] = [
    (
        "small sample",
        &[
            "the last ",
            " out of ",
            " on just ",
            "all of them",
            "in a row",
            "my first",
            "i have seen",
            "a run of",
        ],
    ),
    (
        "anecdotal evidence",
        &[
            "a friend of mine",
            "my cousin",
            "i remember one",
            "a colleague tells",
            "a stranger",
            "brother-in-law",
            "one moving letter",
        ],
    ),
    (
        "cherry-picking",
        &[
            "i looked only at",
            "leaves out the rest",
            "for the presentation",
            "if you take just",
            "since the others were",
            "after dropping",
            "which suited",
        ],
    ),
    (
        "survivorship bias",
        &[
            "way to succeed",
            "leads to success",
            "you should do it too",
            "reason for their success",
            "copying them",
            "recipe for success",
            "others will make it",
        ],
    ),
    (
        "selection bias",
        &[
            "of all people",
            "everyone is happy",
            "the public is",
            "everybody else",
            "liked everywhere",
            "whole population",
            "people in general",
        ],
    ),
    (
        "correlation as causation",
        &[
            "causes the other",
            "what does it",
            "start there",
            "brings about the second",
            "will change the other",
            "found the driver",
            "copy it to get",
        ],
    ),
    (
        "post hoc",
        &[
            "did it",
            "caused the improvement",
            "is due to",
            "we owe it to",
            "was the reason",
            "credit belongs",
            "turned things round",
        ],
    ),
    (
        "missing control",
        &[
            "all ",
            "everyone",
            "with ",
            "since everybody",
            "no one",
            "without",
            "across the board",
            "no ",
        ],
    ),
    (
        "gambler's fallacy",
        &[
            "due to go well",
            "must turn now",
            "overdue",
            "favour us",
            "yet again",
            "come back with the next",
            "fortune is owed",
        ],
    ),
    (
        "base-rate neglect",
        &[
            "almost certainly",
            "the chance that this",
            "can treat this",
            "hardly any doubt that this",
            "must be",
            "odds are",
        ],
    ),
    (
        "regression to the mean",
        &[
            "back to normal",
            "and improved",
            "singled out",
            "closer to average",
            "usual level",
            "was prescribed",
        ],
    ),
    (
        "anchoring",
        &[
            "compared with that",
            "against that figure",
            "measured by that",
            "next to such",
            "with that in mind",
            "it is ",
            "it must be worth",
            "it should ",
        ],
    ),
    (
        "confirmation bias",
        &[
            "i always believed",
            "what does not fit",
            "i collected",
            "explained away",
            "looked for proof",
            "went looking for hints",
            "put aside as noise",
        ],
    ),
    (
        "sunk cost",
        &[
            "we already put",
            "are gone already",
            "after ",
            "we have invested",
            "it took us",
            "write off",
            "what it cost us",
        ],
    ),
    (
        "overconfidence",
        &[
            "possibly go wrong",
            "guaranteed",
            "impossible that this",
            "absolutely certain",
            "no risk at all",
            "100% sure that",
            "out of the question",
            "stake everything",
        ],
    ),
    (
        "false dichotomy",
        &[
            "either ",
            "there are two ways",
            "if it is not true that",
            "the only choice left",
            "it comes down to",
            "one of two things",
        ],
    ),
    (
        "circular reasoning",
        &[
            "as everyone can see",
            "it is a fact",
            "we know that",
            "the reason is simple",
            "goes without saying",
            "one thing is clear",
            "it follows that",
            "we can be sure that",
            "that shows that",
            "hence ",
            "this proves",
            "because ",
            "so ",
            "therefore ",
            "since ",
            "my reason",
            "conclusion: ",
            "conclude: ",
            "given that",
            "still, ",
            "all the same, ",
            "even so, ",
            "nevertheless, ",
        ],
    ),
    (
        "slippery slope",
        &[
            "not even begin",
            "has to be stopped",
            "can't allow it",
            "any exception",
            "door must stay shut",
            "nipped in the bud",
        ],
    ),
    (
        "affirming the consequent",
        &[
            "and right now",
            "and indeed",
            "and today",
            "just as it is when",
            "; and look",
            "exactly what happens if",
        ],
    ),
    (
        "appeal to authority",
        &[
            "said that",
            "according to",
            "is convinced that",
            "i heard it from",
            "assured us",
            "the word of",
            "none other than",
        ],
    ),
    ("appeal to popularity", &["everyone ", "everybody ", "each and every person"]),
    (
        "appeal to ignorance",
        &[
            "nobody has proved",
            "there is no proof",
            "no one could show",
            "never been demonstrated",
            "we have no evidence",
            "not been established",
            "yet to see a proof",
        ],
    ),
    (
        "ad hominem",
        &[
            "the claim is wrong",
            "need not listen",
            "nothing in it",
            "can be ignored",
            "deserves no answer",
            "the point is dismissed",
        ],
    ),
];
