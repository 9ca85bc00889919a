//! Values of slots out of plain words, without end: what they are about means nothing, so only the
//! form of an argument can tell whether it holds.

use std::sync::OnceLock;

use serde::Deserialize;

use super::Draws;

/// The words of words.toml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invented {
    nouns: Vec<String>,
    adjectives: Vec<String>,
    people: Vec<String>,
    verbs: Vec<[String; 3]>,
    outcomes: Vec<[String; 3]>,
    same: Vec<[String; 2]>,
    opposite: Vec<[String; 2]>,
    confounders: Vec<String>,
}

/// For each slot the ways to say a tuple. A word in braces is drawn anew each time it occurs, but
/// for one with a number, which is the same in the whole tuple; `{a}`, `{b}` and `{n}` are numbers
/// that are filled in later.
const SHAPES: [(&str, &[&[&str]]); 21] = [
    (
        "units",
        &[
            &["{noun1}", "{nouns1}", "{won1}", "{lost1}", "{win1}"],
            &["{adjective1} {noun1}", "{adjective1} {nouns1}", "{won1}", "{lost1}", "{win1}"],
            &["{noun2} {noun1}", "{noun2} {nouns1}", "{won1}", "{lost1}", "{win1}"],
        ],
    ),
    (
        "method",
        &[
            &["the {adjective} {noun}"],
            &["the {noun} {noun}"],
            &["the new {noun}"],
            &["my {adjective} {noun}"],
            &["the {noun} plan"],
            &["the {noun} rule"],
        ],
    ),
    (
        "metric",
        &[
            &["the {noun} rate"],
            &["the number of {nouns}"],
            &["the {adjective} {noun} count"],
            &["the quality of the {nouns}"],
            &["the cost of each {noun}"],
            &["the {noun} output"],
        ],
    ),
    ("confounder", &[&["{confounder}"]]),
    (
        "winners",
        &[
            &["the {nouns1} that are still here", "had a {adjective} {noun}", "{nouns1}"],
            &["the {peoples1} who made it", "{past} the {noun} every day", "{peoples1}"],
            &["the best {peoples1} I know", "never {past} a {noun}", "{peoples1}"],
            &["the {adjective} {nouns1} that won", "were {adjective}", "{nouns1}"],
        ],
    ),
    (
        "dilemma",
        &[
            &["we {verb} the {noun}", "we lose the {noun}"],
            &["you {verb} the {adjective} {noun}", "the {noun} is gone"],
            &["they {verb} every {noun}", "the {adjective} {noun} closes"],
        ],
    ),
    (
        "anchor",
        &[
            &["the {noun}", "was {a}", "is cheap at {b}"],
            &["the {adjective} {noun}", "cost ${a}", "is a bargain at ${b}"],
            &["the {noun} {noun}", "stood at {a}", "is low at {b}"],
            &["the {noun}", "started at {a}k", "should stay near {b}k"],
        ],
    ),
    (
        "sunk",
        &[
            &["{n} months on the {noun}", "{verb} it"],
            &["${a}k on the {adjective} {noun}", "finish it"],
            &["{n} years on this {noun}", "keep the {noun}"],
            &["{a} hours on the {noun}", "go on with it"],
        ],
    ),
    (
        "expert",
        &[
            &["a famous {people}", "the {noun} will {verb} the {noun}"],
            &["the {adjective} {people}", "the {noun} {is}"],
            &["my {people}", "{nouns} {verb} {nouns}"],
            &["the head of the {noun}", "the {adjective} {noun} {is}"],
        ],
    ),
    (
        "alarm",
        &[
            &["the {noun} detector", "{noun}", "{bad}"],
            &["the {adjective} test", "{people}", "{bad}"],
            &["the {noun} screen", "{adjective} {noun}", "{bad}"],
        ],
    ),
    ("circular", &[&["the {noun} {is1}", "{same1}"], &["the {adjective} {noun} {is1}", "{same1}"]]),
    (
        "crowd",
        &[
            &["{verbs} the {adjective} {noun}", "it {is}"],
            &["{verbs} {nouns}", "the {noun} {is}"],
            &["owns a {noun}", "it must be {good}"],
        ],
    ),
    (
        "slope",
        &[
            &["we {verb} one {noun}", "every {noun} will be lost"],
            &["they {verb} a single {adjective} {noun}", "the whole {noun} will collapse"],
            &["one {people} {verbs} the {noun}", "no {noun} will ever be {adjective} again"],
        ],
    ),
    (
        "unproven",
        &[
            &["the {noun} is {bad1}", "it is {good1}"],
            &["the {adjective} {noun} is {bad1}", "it is {good1}"],
        ],
    ),
    (
        "subset",
        &[
            &["the {nouns} that {past} the {noun}", "the {noun} {is}"],
            &["the three {adjective} {nouns}", "the {noun} is {good}"],
            &["the best {nouns}", "the {adjective} {noun} {is}"],
        ],
    ),
    (
        "belief",
        &[
            &["the {noun} {is}"],
            &["the {adjective} {noun} is {bad}"],
            &["the {people} {past} the {noun}"],
        ],
    ),
    (
        "cause",
        &[
            &["{peoples} with a {noun}", "{verb} more {nouns}"],
            &["{nouns} near a {noun}", "last longer"],
            &["{peoples} who {verb} {nouns}", "sleep better"],
            &["towns with a {adjective} {noun}", "have more {nouns}"],
        ],
    ),
    (
        "rule",
        &[
            &["the {noun} is {bad}", "the {noun} {verbs}"],
            &["the {people} {verbs} the {noun}", "the {noun} is {adjective}"],
            &["a {noun} {verbs}", "the {adjective} {noun} {verbs}"],
        ],
    ),
    (
        "extreme",
        &[
            &["the worst {noun}"],
            &["the {noun} with the lowest {noun}"],
            &["the five weakest {nouns}"],
            &["the {people} with the most errors"],
        ],
    ),
    (
        "person",
        &[
            &["the {people}", "he never {past} a {noun}", "the {noun} is {bad}"],
            &["the {adjective} {people}", "she {past} a {noun} last year", "the {noun} {is}"],
            &["the {people}", "he is {adjective}", "the {nouns} are {bad}"],
        ],
    ),
    (
        "pool",
        &[
            &["{peoples} who {past} the {noun}"],
            &["the {peoples} of our own {noun}"],
            &["visitors of the {adjective} {noun}"],
        ],
    ),
];

impl Invented {
    /// The words that are part of the program.
    pub(super) fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Invented> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            toml::from_str(include_str!("../../data/words.toml"))
                .expect("invariant: a test reads the built-in words")
        })
    }

    /// A tuple for `slot`.
    pub(super) fn tuple(&self, slot: &str, draws: &mut Draws) -> Vec<String> {
        let shapes = SHAPES.iter().find(|it| it.0 == slot).map_or(&[][..], |it| it.1);
        let shape: &[&str] = shapes[draws.below(shapes.len())];
        // The same in the whole tuple: two nouns, an adjective, people, and rows of the tables.
        let fixed = Fixed {
            nouns: [draws.one(&self.nouns), draws.one(&self.nouns)],
            adjective: draws.one(&self.adjectives),
            people: draws.one(&self.people),
            outcome: draws.one(&self.outcomes),
            same: draws.one(&self.same),
            opposite: draws.one(&self.opposite),
        };
        shape.iter().map(|part| self.fill(part, &fixed, draws)).collect()
    }

    fn fill(&self, part: &str, fixed: &Fixed<'_>, draws: &mut Draws) -> String {
        let mut text = String::new();
        let mut rest = part;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            text.push_str(before);
            match self.word(name, fixed, draws) {
                Some(word) => text.push_str(&word),
                None => text.push_str(&format!("{{{name}}}")),
            }
            rest = after;
        }
        with_articles(&(text + rest))
    }

    fn word(&self, name: &str, fixed: &Fixed<'_>, draws: &mut Draws) -> Option<String> {
        let of = |verb: &[String; 3], form: usize| verb[form].clone();
        Some(match name {
            "noun" => draws.one(&self.nouns).clone(),
            "nouns" => plural(draws.one::<String>(&self.nouns)),
            "noun1" => fixed.nouns[0].clone(),
            "noun2" => fixed.nouns[1].clone(),
            "nouns1" => plural(fixed.nouns[0]),
            "adjective" => draws.one(&self.adjectives).clone(),
            "adjective1" => fixed.adjective.clone(),
            "people" => draws.one(&self.people).clone(),
            "peoples" => plural(draws.one::<String>(&self.people)),
            "peoples1" => plural(fixed.people),
            "verb" => of(draws.one(&self.verbs), 0),
            "past" => of(draws.one(&self.verbs), 1),
            "verbs" => of(draws.one(&self.verbs), 2),
            "won1" => of(fixed.outcome, 0),
            "lost1" => of(fixed.outcome, 1),
            "win1" => of(fixed.outcome, 2),
            "is" => draws.one(&self.same)[0].clone(),
            "is1" => fixed.same[0].clone(),
            "same1" => fixed.same[1].clone(),
            "bad" => draws.one(&self.opposite)[0].clone(),
            "good" => draws.one(&self.opposite)[1].clone(),
            "bad1" => fixed.opposite[0].clone(),
            "good1" => fixed.opposite[1].clone(),
            "confounder" => {
                let form = draws.one(&self.confounders).clone();
                return Some(self.fill(&form, fixed, draws));
            }
            _ => return None,
        })
    }
}

struct Fixed<'a> {
    nouns: [&'a String; 2],
    adjective: &'a String,
    people: &'a String,
    outcome: &'a [String; 3],
    same: &'a [String; 2],
    opposite: &'a [String; 2],
}

/// `a` becomes `an` before a vowel.
fn with_articles(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let next = |at: usize| words.get(at + 1).copied().unwrap_or_default();
    let article = |(at, word): (usize, &&str)| {
        match *word {
            "a" if next(at).starts_with(['a', 'e', 'i', 'o', 'u']) && next(at) != "usual" => "an",
            word => word,
        }
        .to_owned()
    };
    words.iter().enumerate().map(article).collect::<Vec<_>>().join(" ")
}

fn plural(noun: &str) -> String {
    let vowel = |it: char| "aeiou".contains(it);
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(vowel) => format!("{stem}ies"),
        _ if noun == "leaf" => "leaves".into(),
        _ if noun == "shelf" => "shelves".into(),
        _ if ["s", "x", "ch", "sh"].iter().any(|it| noun.ends_with(it)) => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_filled_but_for_numbers() {
        let words = Invented::builtin();
        for (slot, shapes) in SHAPES {
            for index in 0..200 {
                let tuple = words.tuple(slot, &mut Draws::new(1, index));
                assert!(shapes.iter().any(|it| it.len() == tuple.len()), "{slot}");
                let text = tuple.join(" ");
                let text =
                    ["{a}", "{b}", "{n}"].iter().fold(text, |it, number| it.replace(number, ""));
                assert!(!text.contains(['{', '}']), "{slot}: {text}");
            }
        }
    }

    #[test]
    fn plurals_are_those_of_the_language() {
        for (one, many) in
            [("ferry", "ferries"), ("railway", "railways"), ("bench", "benches"), ("map", "maps")]
        {
            assert_eq!(plural(one), many);
        }
    }
}
