//! "Did you mean": names that are a few keystrokes away.

use super::Entry;

/// As many as a reader takes in at a glance.
const MOST: usize = 3;

/// Names of entries like `name`, the nearest first. An entry counts by its nearest name or alias,
/// or because one begins with the other.
pub(super) fn nearest<'a>(name: &str, entries: &'a [Entry]) -> Vec<&'a str> {
    let name = name.to_lowercase();
    // Repository names are long: compare what follows the organization.
    let short = name.rsplit('/').next().unwrap_or(&name).to_owned();
    let allowed = (short.chars().count() / 4).max(1);
    let mut ranked: Vec<(usize, &str)> = Vec::new();
    for entry in entries {
        let repo = entry.repo.rsplit('/').next().unwrap_or_default();
        let distance = entry.names().chain([repo]).filter_map(|known| {
            let known = known.to_lowercase();
            let begins = short.chars().count() >= 3 && known.starts_with(&short);
            let distance = edit_distance(&short, &known);
            (distance <= allowed || begins).then_some(distance)
        });
        ranked.extend(distance.min().map(|it| (it, entry.name.as_str())));
    }
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.into_iter().take(MOST).map(|(_, name)| name).collect()
}

/// Fewest insertions, deletions and replacements of a character, and swaps of two neighbours, that
/// turn `a` into `b` (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let replaced = row[j] + usize::from(x != y);
            let mut best = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && previous_a == Some(y) && b[j - 1] == x {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        previous_a = Some(x);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn distances() {
        let check = |a: &str, b: &str, expect: usize| {
            assert_eq!(edit_distance(a, b), expect, "{a} {b}");
            assert_eq!(edit_distance(b, a), expect, "{b} {a}");
        };
        check("", "", 0);
        check("", "abc", 3);
        check("nano", "nano", 0);
        check("nano", "naon", 1);
        check("kitten", "sitting", 3);
        check("é", "e", 1);
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let suggested = |name: &str| nearest(name, Registry::embedded().entries());
        assert_eq!(suggested("nanno"), ["nano"]);
        assert_eq!(suggested("Qwen2.5:0.5").first(), Some(&"qwen2.5:0.5b"));
        assert_eq!(suggested("Qwen/Qwen2.5-0.5-Instruct").first(), Some(&"qwen2.5:0.5b"));
        assert!(suggested("llama").contains(&"llama3.2:1b"));
        assert_eq!(suggested("gpt-4o-mini-tts"), [] as [&str; 0]);
        assert_eq!(suggested(""), [] as [&str; 0]);
    }
}
