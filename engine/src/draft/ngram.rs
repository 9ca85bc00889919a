//! Drafts without a model: what followed the last time these tokens were said.

use super::{Draft, Drafter};
use crate::{Result, dist::SamplingParams};

/// Looks up the longest end of the context that occurred before, and proposes what came next.
///
/// Saxena, "Prompt lookup decoding" (2023). It costs nothing and wins where answers quote their
/// prompt: edits, summaries, code.
///
/// ```
/// use minicrit_engine::draft::{Drafter, NgramDrafter};
/// let ids = |drafts: Vec<_>| drafts.into_iter().map(|it: minicrit_engine::draft::Draft| it.id);
/// let drafts = NgramDrafter::new(4, 1).draft(&[7, 8, 9, 1, 7, 8], 2)?;
/// assert!(ids(drafts).eq([9, 1]));
/// # Ok::<(), minicrit_engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NgramDrafter {
    longest: usize,
    shortest: usize,
}

impl NgramDrafter {
    /// Matches of `longest` tokens are tried first, then shorter ones, down to `shortest` (at
    /// least 1).
    pub fn new(longest: usize, shortest: usize) -> Self {
        Self { longest, shortest: shortest.max(1) }
    }
}

impl Default for NgramDrafter {
    fn default() -> Self {
        Self::new(4, 1)
    }
}

impl Drafter for NgramDrafter {
    fn vocab_size(&self) -> Option<usize> {
        None
    }

    fn begin(&mut self, _prompt_len: usize, _params: &SamplingParams) {}

    fn draft(&mut self, context: &[u32], k: usize) -> Result<Vec<Draft>> {
        let found = (self.shortest..=self.longest).rev().find_map(|len| follower(context, len));
        let Some(mut source) = found else { return Ok(Vec::new()) };
        // A repetition that reaches the end goes on with itself: the proposals are its source.
        let mut extended = context.to_vec();
        for _ in 0..k {
            extended.push(extended[source]);
            source += 1;
        }
        Ok(extended.drain(context.len()..).map(|id| Draft { id, dist: None }).collect())
    }
}

/// The index after the latest earlier occurrence of the last `len` tokens.
fn follower(context: &[u32], len: usize) -> Option<usize> {
    let earlier = context.len().checked_sub(1)?;
    let suffix = &context[context.len().checked_sub(len)?..];
    context[..earlier].windows(len).rposition(|it| it == suffix).map(|start| start + len)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn draft(context: &[u32], k: usize) -> Vec<u32> {
        let drafts = NgramDrafter::default().draft(context, k).unwrap();
        drafts.into_iter().map(|it| it.id).collect()
    }

    #[test]
    fn the_longest_match_wins_over_a_later_one() {
        assert_eq!(draft(&[1, 2, 3, 50, 9, 3, 60, 1, 2, 3], 1), [50]);
    }

    #[test]
    fn of_equal_matches_the_latest_wins() {
        assert_eq!(draft(&[5, 10, 5, 20, 5], 2), [20, 5]);
    }

    #[test]
    fn a_repetition_goes_on() {
        assert_eq!(draft(&[1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
        assert_eq!(draft(&[4, 4], 3), [4, 4, 4]);
    }

    #[test]
    fn nothing_known_is_nothing_proposed() {
        assert!(draft(&[1, 2, 3], 4).is_empty());
        assert!(draft(&[1], 4).is_empty());
        assert!(draft(&[1, 1], 0).is_empty());
    }
}
