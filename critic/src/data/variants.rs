//! Variants of a user's own cases: other surfaces around the same argument, under the same label.

use std::collections::HashSet;

use super::{
    Draws, Split,
    clauses::{Clauses, Forms},
};
use crate::{Error, Result, case::Case};

/// Tries for one variant until it is given up that there are new ones.
const TRIES: u64 = 64;

/// `count` variants of `cases`, in turn, none twice and none equal to a case. An opening and
/// sentences of care are added; the argument's own words stay, so the label stays true.
///
/// # Errors
/// [`Error::Exhausted`].
pub fn variants(cases: &[Case], count: usize, seed: u64) -> Result<Vec<Case>> {
    let common = &Clauses::builtin().common;
    let mut seen: HashSet<String> = cases.iter().map(|it| it.rationale.clone()).collect();
    let mut made = Vec::with_capacity(count);
    for index in 0..count {
        let case = &cases[index % cases.len()];
        let new = (0..TRIES).find_map(|attempt| {
            let mut draws = Draws::new(seed, index as u64 * TRIES + attempt);
            let text = dressed(&case.rationale, &common.openings, &common.care, &mut draws);
            seen.insert(text.clone()).then_some(text)
        });
        let rationale = new.ok_or(Error::Exhausted { made: index, wanted: count })?;
        made.push(Case { id: format!("{}-v{index}", case.id), rationale, ..case.clone() });
    }
    Ok(made)
}

fn dressed(text: &str, openings: &Forms, care: &Forms, draws: &mut Draws) -> String {
    let mut text = text.trim().to_owned();
    let opening = openings.pick(Split::Train, draws).1;
    // An opening with a comma would need the sentence in lower case.
    if opening.ends_with(": ") {
        text = format!("{opening}{text}");
    }
    for _ in 0..draws.below(3) {
        let sentence = care.pick(Split::Train, draws).1;
        if !text.contains(&sentence) {
            let ends = text.ends_with(['.', '!', '?']);
            text = match draws.chance(0.5) {
                true => format!("{sentence} {text}"),
                false => format!("{text}{} {sentence}", if ends { "" } else { "." }),
            };
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::taxonomy::Taxonomy;

    #[test]
    fn variants_hold_their_case_and_are_new() {
        let text = "{\"id\": \"a\", \"rationale\": \"It won twice, so it works\", \"label\": \"flawed\", \"flaw_type\": \"small sample\"}";
        let cases = Case::parse("x", text, Taxonomy::builtin()).unwrap();
        let made = variants(&cases, 60, 1).unwrap();
        let texts: HashSet<&str> = made.iter().map(|it| it.rationale.as_str()).collect();
        assert_eq!(texts.len(), 60);
        assert!(made.iter().all(|it| it.rationale.contains("It won twice, so it works")));
        assert!(made.iter().all(|it| it.flaw_type.as_deref() == Some("small sample")));
        assert!(matches!(variants(&cases, 100_000, 1), Err(Error::Exhausted { .. })));
    }
}
