//! Which control tokens in a rendered text were written by the template itself.
//!
//! The idea: render twice. The second time every control token that stands in the template's
//! source (or in `bos_token`, `eos_token`) has a marker behind each of its characters, a character
//! that occurs nowhere in the template or the messages. What carries markers in the second output
//! can only come from the template. The second output without its markers must equal the first,
//! so the marks are a map of the first. Messages are never touched, so a template that trims or
//! splits them or looks for `</think>` in them sees what transformers would show it.
//!
//! Where a marked literal is part of the template's own logic (`'</think>' in content`) the
//! outputs can differ. Then single places of the source are tried, and those that change the
//! output stay unmarked: a control token that only they write counts as plain text. That is the
//! safe side: in doubt text is text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::message::ROLES;

/// Above this many places in a source, single ones are not tried.
const MAX_TRIED_PLACES: usize = 160;

/// Strings that the template writes and not the messages: its source and its token variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// The template's source, then values of variables.
    pub texts: Vec<String>,
}

/// A place in [`Written`] that holds (a part of) a control token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    text: usize,
    range: Range<usize>,
}

/// Finds the spans of `plain` (the output for `written` as it is) that are control tokens written
/// by the template. `render` gives the output for a marked [`Written`]; `inputs` is everything a
/// marker must not occur in.
pub(super) fn control_spans<E>(
    written: &Written,
    inputs: &[&str],
    control_tokens: &[String],
    plain: &str,
    mut render: impl FnMut(&Written) -> Result<String, E>,
) -> Vec<Range<usize>> {
    let tokens: Vec<&str> =
        control_tokens.iter().map(String::as_str).filter(|it| !it.trim().is_empty()).collect();
    let Ok(matcher) = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&tokens)
    else {
        return Vec::new();
    };
    let places = places(written, &tokens, &matcher);
    let Some(marker) = free_marker(inputs) else {
        return Vec::new();
    };
    if places.is_empty() {
        return Vec::new();
    }
    let mut attempt = |chosen: &[&Place]| -> Option<Vec<bool>> {
        let output = render(&mark(written, chosen, marker)).ok()?;
        marks(&output, marker, plain)
    };
    let all: Vec<&Place> = places.iter().collect();
    let marked = attempt(&all).or_else(|| search(&all, &mut attempt));
    marked.map_or_else(Vec::new, |marked| spans(plain, &marked, &matcher))
}

/// Marks as many places as leave the output as it is.
fn search(
    all: &[&Place],
    attempt: &mut impl FnMut(&[&Place]) -> Option<Vec<bool>>,
) -> Option<Vec<bool>> {
    if all.len() > MAX_TRIED_PLACES {
        return None;
    }
    let harmless: Vec<&Place> =
        all.iter().copied().filter(|&it| attempt(&[it]).is_some()).collect();
    if let Some(marked) = attempt(&harmless) {
        return Some(marked);
    }
    let mut chosen = Vec::new();
    let mut best = None;
    for place in harmless {
        chosen.push(place);
        match attempt(&chosen) {
            Some(marked) => best = Some(marked),
            None => drop(chosen.pop()),
        }
    }
    best
}

fn places(written: &Written, tokens: &[&str], matcher: &AhoCorasick) -> Vec<Place> {
    let fragments = fragments(tokens);
    let mut places = Vec::new();
    for (text, source) in written.texts.iter().enumerate() {
        let whole: Vec<Range<usize>> = matcher.find_iter(source).map(|it| it.range()).collect();
        for fragment in &fragments {
            for (start, _) in source.match_indices(fragment.text) {
                let range = start..start + fragment.text.len();
                let overlaps = whole.iter().any(|it| it.start < range.end && range.start < it.end);
                if !overlaps && fragment.stands_at_edge(source, &range) {
                    places.push(Place { text, range });
                }
            }
        }
        places.extend(whole.into_iter().map(|range| Place { text, range }));
    }
    places.sort_by_key(|it| (it.text, it.range.start));
    places
}

/// What is around a role in tokens such as `<|user|>`: templates write `'<|' + role + '|>'`.
struct Fragment<'a> {
    text: &'a str,
    before_role: bool,
}

impl Fragment<'_> {
    fn stands_at_edge(&self, source: &str, range: &Range<usize>) -> bool {
        if self.before_role {
            let rest = &source[range.end..];
            ["'", "\"", "{{"].iter().any(|it| rest.starts_with(it))
        } else {
            let before = &source[..range.start];
            ["'", "\"", "}}"].iter().any(|it| before.ends_with(it))
        }
    }
}

fn fragments<'a>(tokens: &[&'a str]) -> Vec<Fragment<'a>> {
    let mut fragments: Vec<Fragment<'a>> = Vec::new();
    let mut push = |text: &'a str, before_role| {
        if !text.is_empty()
            && !fragments.iter().any(|it| it.text == text && it.before_role == before_role)
        {
            fragments.push(Fragment { text, before_role });
        }
    };
    for token in tokens {
        for role in ROLES {
            if let Some((before, after)) = token.split_once(role)
                && !before.is_empty()
                && !after.is_empty()
            {
                push(before, true);
                push(after, false);
            }
        }
    }
    fragments
}

/// A character that no input holds. Noncharacters and private ones first: they are no text.
fn free_marker(inputs: &[&str]) -> Option<char> {
    let candidates =
        ('\u{FDD0}'..='\u{FDEF}').chain('\u{E000}'..='\u{F8FF}').chain('\u{F0000}'..='\u{FFFFD}');
    let mut seen = std::collections::HashSet::new();
    for input in inputs {
        seen.extend(input.chars().filter(|it| *it >= '\u{E000}'));
    }
    candidates.into_iter().find(|it| !seen.contains(it))
}

fn mark(written: &Written, places: &[&Place], marker: char) -> Written {
    let mut texts = written.texts.clone();
    // From the back, so that ranges in front stay true.
    for place in places.iter().rev() {
        let text = &mut texts[place.text];
        let marked: String = text[place.range.clone()].chars().flat_map(|c| [c, marker]).collect();
        text.replace_range(place.range.clone(), &marked);
    }
    Written { texts }
}

/// For each byte of `plain`, whether it carried a marker; nothing if `output` without its markers
/// is not `plain`.
fn marks(output: &str, marker: char, plain: &str) -> Option<Vec<bool>> {
    let mut marked = Vec::with_capacity(plain.len());
    let mut text = String::with_capacity(plain.len());
    let mut last_len = 0;
    for c in output.chars() {
        if c == marker {
            let start = marked.len() - last_len;
            marked[start..].fill(true);
        } else {
            text.push(c);
            last_len = c.len_utf8();
            marked.resize(text.len(), false);
        }
    }
    (text == plain).then_some(marked)
}

fn spans(plain: &str, marked: &[bool], matcher: &AhoCorasick) -> Vec<Range<usize>> {
    let bridged = bridge_roles(plain, marked);
    let mut spans = Vec::new();
    let mut position = 0;
    while position < plain.len() {
        let run = bridged[position..].iter().take_while(|it| **it).count();
        let end = position + run;
        if run == 0 {
            position += 1;
            continue;
        }
        for found in matcher.find_iter(&plain[position..end]) {
            let range = position + found.start()..position + found.end();
            // A token's edges must be the template's; only a role may stand between them.
            if marked[range.start] && marked[range.end - 1] {
                spans.push(range);
            }
        }
        position = end;
    }
    spans
}

/// Marks a role's name between two marked characters, for `'<|' + role + '|>'`.
fn bridge_roles(plain: &str, marked: &[bool]) -> Vec<bool> {
    let mut bridged = marked.to_vec();
    for start in 1..plain.len() {
        if marked[start] || !marked[start - 1] {
            continue;
        }
        let gap = marked[start..].iter().take_while(|it| !**it).count();
        let end = start + gap;
        if end < plain.len() && plain.get(start..end).is_some_and(|it| ROLES.contains(&it)) {
            bridged[start..end].fill(true);
        }
    }
    bridged
}
