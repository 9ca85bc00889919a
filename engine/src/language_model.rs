//! The seam between the decode loop and a model: one running context that can grow and shrink.

use crate::Result;

/// Logits of consecutive rows, `[rows, vocab]`, float32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
    /// Wraps `values`, whose length must be a multiple of `vocab_size`.
    ///
    /// # Panics
    /// Where it is not: a caller's mistake, not a user's.
    pub fn new(values: Vec<f32>, vocab_size: usize) -> Self {
        assert!(vocab_size > 0 && values.len().is_multiple_of(vocab_size), "logits shape");
        Self { values, vocab_size }
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.values.len() / self.vocab_size
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.vocab_size..(row + 1) * self.vocab_size]
    }

    /// Every value, row after row.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

/// One sequence in front of a model. Implemented by [`crate::sequence::Sequence`] for real models
/// and by the test kit's scripted model.
///
/// The rule that implementations keep: the logits of a row depend on the tokens before and at that
/// row alone, bit for bit, however they were fed (one by one, in chunks, after a `truncate`).
pub trait LanguageModel: Send {
    /// Number of logits in a row.
    fn vocab_size(&self) -> usize;

    /// The most tokens that the sequence can hold.
    fn context_len(&self) -> usize;

    /// Tokens that the sequence holds now.
    fn tokens(&self) -> &[u32];

    /// Appends `tokens` and returns the logits of the last `rows` of them (`rows <= tokens.len()`).
    ///
    /// # Errors
    /// A context overflow, an id outside the vocabulary, or a non-finite logit; the sequence is
    /// then as it was before the call.
    fn extend(&mut self, tokens: &[u32], rows: usize) -> Result<Logits>;

    /// Forgets all but the first `len` tokens.
    fn truncate(&mut self, len: usize);
}

/// How many tokens two sequences share from their start.
pub fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
