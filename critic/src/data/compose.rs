//! From clauses to a rationale whose label is known by construction.

use super::{
    Draws, Kind, Patterns, Split,
    clauses::{Argument, Clauses, Forms},
    values::{Domain, Values},
};
use crate::case::Verdict;

/// Probability that a part of an item that is not for training is a form that training has not seen.
const NEW_PART: f64 = 0.5;

/// A rationale and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The text.
    pub rationale: String,
    /// Its label.
    pub label: Verdict,
    /// Its flaw, where it has one.
    pub flaw: Option<String>,
    /// Why it is flawed or holds.
    pub why: String,
    /// The forms that it consists of: two items of one template differ in values alone.
    pub template: String,
    /// Parts besides evidence and conclusion.
    pub extras: usize,
}

/// What the argument is made of.
enum Shape {
    /// Evidence and a leap.
    Leap,
    /// Evidence, its weakness admitted, and the leap all the same.
    LeapInSpite,
    /// Evidence, its weakness admitted, and no conclusion.
    Withheld,
    /// Good evidence and a sound conclusion.
    Repaired,
    /// Weak evidence set aside, then good evidence and a sound conclusion.
    SetAside,
    /// A whole argument that is sound as it stands.
    Sound,
}

/// Where an item's forms and values come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) clauses: &'a Clauses,
    pub(super) domain: &'a Domain,
    pub(super) split: Split,
    pub(super) patterns: Patterns,
    /// Share of items with invented words.
    pub(super) invented: f64,
}

/// Composes one item of `kind` with `label`.
pub(super) fn compose(
    source: Source<'_>,
    (kind, label): (Kind, Verdict),
    draws: &mut Draws,
) -> Composed {
    let Source { clauses, domain, split, patterns, invented } = source;
    let shape = shape(kind, label, draws);
    let patterns = match patterns {
        Patterns::All if draws.chance(0.5) => Patterns::Common,
        Patterns::All => Patterns::Domain,
        one => one,
    };
    let arguments = clauses.of(&domain.name, patterns);
    let of_kind = |it: &&&Argument| {
        label == Verdict::Valid && kind != Kind::CognitiveBias || kind.is_in(&it.kinds)
    };
    let fitting: Vec<&Argument> = arguments.iter().filter(of_kind).copied().collect();
    let argument = *draws.one(&fitting);
    let values = Values::draw(domain, split, invented, draws);
    let mut writer =
        Writer { values, split, draws, template: Vec::new(), new_parts: 0, arguments: &arguments };
    writer.template.push(argument.id());
    let (core, why) = core(&shape, clauses, argument, &mut writer);
    let mut extras = usize::from(matches!(shape, Shape::SetAside | Shape::LeapInSpite));
    let mut sentences = vec![core];
    for _ in 0..cares(kind, writer.draws) {
        let care = writer.part("care", &clauses.common.care);
        if !sentences.contains(&care) {
            let at = writer.draws.below(sentences.len() + 1);
            writer.template.push(format!("@{at}"));
            sentences.insert(at, care);
            extras += 1;
        }
    }
    if let Some(tail) = confidence(kind, &shape, argument, clauses, &mut writer) {
        sentences.push(tail);
    }
    let opening = writer.part("opening", &clauses.common.openings);
    let text = sentences.iter().map(|it| capital(it)).collect::<Vec<_>>().join(" ");
    let rationale = match opening.ends_with(", ") && !text.starts_with("I ") {
        true => format!("{opening}{}", small(&text)),
        false => format!("{opening}{text}"),
    };
    Composed {
        rationale: capital(&rationale),
        label,
        flaw: (label == Verdict::Flawed).then(|| argument.flaw.clone()),
        why,
        template: writer.template.join("/"),
        extras,
    }
}

fn shape(kind: Kind, label: Verdict, draws: &mut Draws) -> Shape {
    match (kind, label) {
        (Kind::SubtleFlaw | Kind::OverconfidentWrong, _) => Shape::Leap,
        (Kind::MixedSignals, Verdict::Flawed) => Shape::LeapInSpite,
        (Kind::MixedSignals, Verdict::Valid) => Shape::SetAside,
        (Kind::CognitiveBias, Verdict::Flawed) => Shape::Leap,
        (Kind::SophisticatedValid, _) if draws.chance(0.2) => Shape::Sound,
        (Kind::SophisticatedValid, _) => Shape::Repaired,
        (Kind::CognitiveBias, Verdict::Valid) | (Kind::UncertainCorrect, _) => {
            if draws.chance(0.5) { Shape::Withheld } else { Shape::Repaired }
        }
    }
}

/// The sentences that carry the argument, and why it is flawed or holds.
fn core(
    shape: &Shape,
    clauses: &Clauses,
    argument: &Argument,
    writer: &mut Writer<'_>,
) -> (String, String) {
    let why = writer.draws.one(&argument.why).clone();
    match shape {
        Shape::Leap => {
            let evidence = writer.part("evidence", &argument.evidence);
            let leap = writer.last_part("leap", &argument.leap);
            (joined(&evidence, &leap, clauses, writer), why)
        }
        Shape::LeapInSpite => {
            let evidence = capital(&writer.part("evidence", &argument.evidence));
            let admit = capital(&writer.part("admit", &argument.admit));
            let leap = writer.last_part("leap", &argument.leap);
            let still = *writer.draws.one(&["Still", "All the same", "Even so", "Nevertheless"]);
            (format!("{evidence}. {admit}. {still}, {leap}."), why)
        }
        Shape::Withheld => {
            let evidence = capital(&writer.part("evidence", &argument.evidence));
            let admit = writer.part("admit", &argument.admit);
            let hold = writer.last_part("hold", &clauses.common.hold);
            let text = match writer.draws.below(3) {
                0 => format!("{evidence}. {}, so {hold}.", capital(&admit)),
                1 => format!("{evidence}, but {admit}. {}.", capital(&hold)),
                _ => format!("{evidence}. {}. {}.", capital(&admit), capital(&hold)),
            };
            (text, "It admits that the evidence is weak and draws no conclusion from it.".into())
        }
        Shape::Repaired => {
            let evidence = writer.part("repaired", &argument.repaired);
            let sound = writer.last_part("sound", &argument.sound);
            (joined(&evidence, &sound, clauses, writer), argument.why_sound.clone())
        }
        Shape::SetAside => {
            let weak = *writer.draws.one(writer.arguments);
            writer.template.push(weak.id());
            let weak = capital(&writer.part("evidence", &weak.evidence));
            let aside = writer.part("aside", &clauses.common.aside);
            let evidence = writer.part("repaired", &argument.repaired);
            let sound = writer.last_part("sound", &argument.sound);
            let rest = joined(&evidence, &sound, clauses, writer);
            (format!("{weak}. {aside} {rest}"), argument.why_sound.clone())
        }
        Shape::Sound => {
            let sound = writer.draws.one(&clauses.sounds);
            let forms = Forms { train: sound.train.clone(), held: sound.held.clone() };
            writer.template = vec![sound.name.clone()];
            (writer.last_part("whole", &forms) + ".", sound.why.clone())
        }
    }
}

fn joined(evidence: &str, conclusion: &str, clauses: &Clauses, writer: &mut Writer<'_>) -> String {
    let join = writer.part("join", &clauses.common.joins);
    capital(&join.replace("{E}", evidence).replace("{C}", conclusion)) + "."
}

/// How many sentences of care stand around the argument.
fn cares(kind: Kind, draws: &mut Draws) -> usize {
    match kind {
        Kind::SubtleFlaw => 1 + draws.below(2),
        Kind::SophisticatedValid => draws.below(3),
        _ => usize::from(draws.chance(0.3)),
    }
}

/// A sentence about certainty. It must not change whether the argument holds: a withheld judgement
/// and a claim of certainty get none, and deductions may be certain.
fn confidence(
    kind: Kind,
    shape: &Shape,
    argument: &Argument,
    clauses: &Clauses,
    writer: &mut Writer<'_>,
) -> Option<String> {
    let common = &clauses.common;
    let forms = match (kind, shape) {
        (_, Shape::Withheld) => return None,
        (_, Shape::Sound) => [None, Some(&common.high_confidence)][writer.draws.below(2)]?,
        (Kind::OverconfidentWrong, _) => &common.high_confidence,
        (Kind::UncertainCorrect, _) => &common.low_confidence,
        _ if argument.flaw == "overconfidence" || writer.draws.chance(0.5) => return None,
        _ => &common.middle_confidence,
    };
    Some(writer.part("confidence", forms))
}

/// Picks forms, fills them and remembers which they were.
struct Writer<'a> {
    values: Values,
    split: Split,
    draws: &'a mut Draws,
    template: Vec<String>,
    new_parts: usize,
    arguments: &'a [&'a Argument],
}

impl Writer<'_> {
    fn part(&mut self, name: &str, forms: &Forms) -> String {
        let new = self.split != Split::Train && self.draws.chance(NEW_PART);
        // Evidence that training never saw is what makes a new template.
        let is_main = matches!(name, "evidence" | "repaired");
        self.pick(name, forms, new, is_main)
    }

    /// The conclusion: of a held-out item it is new where the evidence is not.
    fn last_part(&mut self, name: &str, forms: &Forms) -> String {
        let chance = self.draws.chance(NEW_PART);
        let new = self.split != Split::Train && (chance || self.new_parts == 0);
        self.pick(name, forms, new, true)
    }

    fn pick(&mut self, name: &str, forms: &Forms, new: bool, is_main: bool) -> String {
        let split = if new { self.split } else { Split::Train };
        let (form_name, form) = forms.pick(split, self.draws);
        let is_new = new && (split == Split::Held || forms.has_tuning());
        self.new_parts += usize::from(is_new && is_main);
        self.template.push(format!("{name}{form_name}"));
        self.values.fill(&form)
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |it| it.to_uppercase().chain(chars).collect())
}

fn small(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |it| it.to_lowercase().chain(chars).collect())
}
