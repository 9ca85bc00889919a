//! What a file was found to hold.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    DataFile, Example, Format, Layout, Problem, Rule, Split, SupervisedExample, encode::Encoded,
};

/// Counts of one file: `read` is `used` and `rejected` together.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// What it is for.
    pub split: Split,
    /// The format of most of its rows.
    pub format: Option<Format>,
    /// How rows are separated.
    pub layout: Layout,
    /// Rows of each format that occurs.
    pub formats: BTreeMap<Format, u64>,
    /// Rows in the file.
    pub read: u64,
    /// Rows that can be used.
    pub used: u64,
    /// Rows that can't.
    pub rejected: u64,
    /// How often each rule was broken.
    pub problems: BTreeMap<Rule, u64>,
    /// Tokens; only with a model.
    pub tokens: TokenCounts,
    /// Whether duplicates were only looked for among the first rows, because there are too many.
    pub bounded: bool,
    /// Hash of the file's bytes.
    pub hash: blake3::Hash,
}

/// Tokens of the rows that are used, after what was cut.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenCounts {
    /// Sequences; a pair has two.
    pub sequences: u64,
    /// Tokens in all.
    pub tokens: u64,
    /// Tokens that carry loss.
    pub trained: u64,
    /// Length of the longest sequence.
    pub longest: u64,
    /// Sequences by length: entry `n` counts those of fewer than 2^n tokens that are in no entry
    /// before.
    pub by_length: Vec<u64>,
}

impl FileReport {
    pub(super) fn new(file: &DataFile, format: Option<Format>, layout: Layout) -> Self {
        Self {
            path: file.path.clone(),
            split: file.split,
            format,
            layout,
            formats: BTreeMap::new(),
            read: 0,
            used: 0,
            rejected: 0,
            problems: BTreeMap::new(),
            tokens: TokenCounts::default(),
            bounded: false,
            hash: blake3::hash(b""),
        }
    }

    pub(super) fn add(
        &mut self,
        format: Option<Format>,
        rejected: bool,
        problems: &[Problem],
        examples: &[Encoded],
    ) {
        self.read += 1;
        if let Some(format) = format {
            *self.formats.entry(format).or_default() += 1;
        }
        for problem in problems {
            *self.problems.entry(problem.rule).or_default() += 1;
        }
        if rejected {
            self.rejected += 1;
            return;
        }
        self.used += 1;
        for example in examples {
            match example {
                Encoded::Supervised(it) => self.tokens.add(&it.sequences()),
                Encoded::Preference(it) => self.tokens.add(&it.sequences()),
                Encoded::Labelled(it) => self.tokens.add(&it.sequences()),
            }
        }
    }

    /// Problems of all rules together.
    pub fn num_problems(&self) -> u64 {
        self.problems.values().sum()
    }
}

impl TokenCounts {
    fn add(&mut self, sequences: &[&SupervisedExample]) {
        for sequence in sequences {
            let len = sequence.ids.len() as u64;
            self.sequences += 1;
            self.tokens += len;
            self.trained += sequence.weights.iter().filter(|it| **it > 0.0).count() as u64;
            self.longest = self.longest.max(len);
            let bucket = (u64::BITS - len.leading_zeros()) as usize;
            if self.by_length.len() <= bucket {
                self.by_length.resize(bucket + 1, 0);
            }
            self.by_length[bucket] += 1;
        }
    }
}
