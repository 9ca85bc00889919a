//! Which texts are nearly the same: runs of three words, found by MinHash and checked exactly.
//!
//! MinHash (Broder 1997) with banding finds candidates in linear time; every candidate pair is
//! then compared exactly, so that no pair below the bar is ever joined. Of pairs at the bar of 0.8
//! the bands miss fewer than one in a million, of pairs at 0.5 about one in eight.

use std::collections::{HashMap, HashSet};

/// Bands of a signature, and hashes in each.
const BANDS: usize = 32;
const ROWS: usize = 4;

/// Words in a run.
const RUN: usize = 3;

/// Groups of texts that are joined by a chain of pairs of at least `bar` similarity (Jaccard index
/// of their word runs). `same` joins texts further: equal keys belong together. The result is the
/// group of each text, numbered by their first member.
pub fn groups(texts: &[String], same: &[Option<String>], bar: f64) -> Vec<usize> {
    let shingles: Vec<HashSet<u64>> = texts.iter().map(|it| runs(it)).collect();
    let mut union = Union::new(texts.len());
    let mut first_of_key: HashMap<&str, usize> = HashMap::new();
    for (at, key) in same.iter().enumerate() {
        if let Some(key) = key {
            union.join(*first_of_key.entry(key).or_insert(at), at);
        }
    }
    let mut buckets: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
    for (at, set) in shingles.iter().enumerate() {
        let signature = signature(set);
        for (band, rows) in signature.chunks_exact(ROWS).enumerate() {
            let key = rows.iter().fold(band as u64, |key, it| mix(key ^ it));
            let bucket = buckets.entry((band, key)).or_default();
            // One member of each group in the bucket is enough.
            let mut tried = HashSet::new();
            let mut joined = false;
            for &other in bucket.iter() {
                let root = union.root(other);
                if root == union.root(at) {
                    joined = true;
                } else if tried.insert(other) && jaccard(set, &shingles[other]) >= bar {
                    union.join(other, at);
                    joined = true;
                }
            }
            if !joined || bucket.len() < 64 {
                bucket.push(at);
            }
        }
    }
    (0..texts.len()).map(|it| union.root(it)).collect()
}

/// Share of common word runs.
pub fn similarity(a: &str, b: &str) -> f64 {
    jaccard(&runs(a), &runs(b))
}

fn jaccard(a: &HashSet<u64>, b: &HashSet<u64>) -> f64 {
    let common = a.intersection(b).count();
    let all = a.len() + b.len() - common;
    if all == 0 { 1.0 } else { common as f64 / all as f64 }
}

/// Hashes of all runs of three words; of shorter texts the whole. Case and punctuation are ignored.
fn runs(text: &str) -> HashSet<u64> {
    let words: Vec<u64> = text
        .split(|it: char| !it.is_alphanumeric())
        .filter(|it| !it.is_empty())
        .map(|it| {
            it.to_lowercase().bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| mix(h ^ u64::from(b)))
        })
        .collect();
    let hash = |run: &[u64]| run.iter().fold(run.len() as u64, |h, it| mix(h.rotate_left(7) ^ it));
    if words.len() < RUN {
        return HashSet::from([hash(&words)]);
    }
    words.windows(RUN).map(hash).collect()
}

fn signature(set: &HashSet<u64>) -> Vec<u64> {
    (0..(BANDS * ROWS) as u64)
        .map(|seed| {
            let key = mix(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D);
            set.iter().map(|it| mix(it ^ key)).min().unwrap_or(u64::MAX)
        })
        .collect()
}

/// The finalizer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Disjoint sets whose root is their smallest member.
struct Union(Vec<usize>);

impl Union {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{HardExamples, Plan, Split};

    #[test]
    fn surface_does_not_make_a_text_new_and_words_do() {
        let texts: Vec<String> = [
            "The last three trades won, so the next one will win too.",
            "the last THREE trades won -- so the next one will win too",
            "The last three patrols returned, so the next one will return too.",
            "",
            "hm",
        ]
        .map(String::from)
        .to_vec();
        assert_eq!(groups(&texts, &[const { None }; 5], 0.8), [0, 0, 2, 3, 4]);
        let keys = [None, None, Some("k".into()), None, Some("k".into())];
        assert_eq!(groups(&texts, &keys, 0.8), [0, 0, 2, 3, 2]);
        assert_eq!(similarity("a b c d", "a b c d"), 1.0);
        assert_eq!(similarity("a b c d", "e f g h"), 0.0);
    }

    #[test]
    fn groups_are_those_of_all_pairs() {
        let plan = Plan::all(400, Split::Train, 1);
        let examples = HardExamples::new(plan).into_iter().flatten().flatten();
        let mut texts: Vec<String> = examples.map(|it| it.composed.rationale).collect();
        for at in 0..100 {
            texts.push(format!("{} Indeed.", texts[at * 3]));
        }
        let bar = 0.7;
        let mut union = Union::new(texts.len());
        for a in 0..texts.len() {
            for b in 0..a {
                if similarity(&texts[a], &texts[b]) >= bar {
                    union.join(a, b);
                }
            }
        }
        let all: Vec<usize> = (0..texts.len()).map(|it| union.root(it)).collect();
        let found = groups(&texts, &vec![None; texts.len()], bar);
        assert!(all.iter().enumerate().filter(|(at, it)| at != *it).count() >= 80);
        assert_eq!(found, all);
    }
}
