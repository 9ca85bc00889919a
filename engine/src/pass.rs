//! Everything that changes between two calls of a decoder: which rows, which caches, which adapter.
//!
//! Sequences are packed into one `[T, D]` without a batch axis. [`Rows`] says which row belongs to
//! which sequence, so that one shape serves prefill, decoding, verification of drafts, several
//! users in one step, and packed training.

use std::ops::Range;

use crate::{adapter::Adapter, cache::KvCache};

/// Consecutive rows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Position of the first row in its sequence.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// Length of the sequence that these rows are computed for, at least `start + len`. It matters
    /// only to ropes that change with the length ([`crate::spec::RopeSpec::regime`]).
    pub total: usize,
}

/// Who owns which row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    spans: Vec<Span>,
}

impl Rows {
    /// Rows of the sequences `spans`, one after the other.
    ///
    /// # Panics
    /// Where a span is longer than its total: a caller's mistake.
    pub fn new(spans: Vec<Span>) -> Self {
        assert!(spans.iter().all(|it| it.start + it.len <= it.total), "span beyond its sequence");
        Self { spans }
    }

    /// `len` rows from position `start` of one sequence that ends with them.
    pub fn of_one(start: usize, len: usize) -> Self {
        Self::new(vec![Span { start, len, total: start + len }])
    }

    /// Whole sequences of the given lengths, as training packs them.
    pub fn whole(lens: &[usize]) -> Self {
        Self::new(lens.iter().map(|&len| Span { start: 0, len, total: len }).collect())
    }

    /// The sequences.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Number of rows in all.
    pub fn len(&self) -> usize {
        self.spans.iter().map(|it| it.len).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each span with the range of its rows in the packed `[T, D]`.
    pub fn ranges(&self) -> impl Iterator<Item = (Span, Range<usize>)> {
        let mut end = 0;
        self.spans.iter().map(move |&span| {
            let start = end;
            end += span.len;
            (span, start..end)
        })
    }
}

/// One call of a decoder.
pub struct Pass<'a> {
    /// Who owns which row.
    pub rows: &'a Rows,
    /// One cache for each span, or none at all where every span is a whole sequence (training).
    pub caches: &'a mut [&'a mut KvCache],
    /// A learned change to the projections.
    pub adapter: Option<&'a dyn Adapter>,
}
