//! Logits to probabilities ([`Dist`]), apart from probabilities to a token ([`Dist::sample`]).
//!
//! Speculation and scoring need the probabilities themselves, so nothing here draws a random
//! number: a draw is an argument. Greedy decoding is a distribution with one atom, so that no code
//! further on needs a special case. Probabilities are float64. This module knows no model, no
//! text and no loop.
//!
//! ```
//! use minicrit_engine::dist::{Dist, History, SamplingParams};
//! let params = SamplingParams { temperature: 1.0, top_k: 2, ..SamplingParams::greedy() };
//! let dist = Dist::new(&[0.0, 2.0, 2.0], &params, History::new(&[], 0))?;
//! assert_eq!(dist.probability(1), 0.5);
//! assert_eq!(dist.sample(0.75), 2);
//! # Ok::<(), minicrit_engine::session::SessionError>(())
//! ```

mod filter;
mod params;
mod penalty;
mod row;

pub use params::SamplingParams;
pub use penalty::History;
pub use row::{log_probability, log_sum_exp};

use crate::session::SessionError;
use penalty::Override;

/// A token and its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Atom {
    id: u32,
    probability: f64,
}

/// A distribution over token ids: at least one atom, by ascending id, adding up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Dist {
    atoms: Vec<Atom>,
}

impl Dist {
    /// The distribution of the token after `history`, from one row of `logits`.
    ///
    /// The order is that of transformers: penalties, temperature, top-k, top-p, min-p, typical.
    /// `params` are taken as valid ([`SamplingParams::validate`]).
    ///
    /// # Errors
    /// [`SessionError::Numerics`] where a logit is not finite, [`SessionError::AllBanned`] where
    /// no token may follow.
    pub fn new(
        logits: &[f32],
        params: &SamplingParams,
        history: History<'_>,
    ) -> Result<Self, SessionError> {
        let overrides = penalty::overrides(logits, params, history);
        if params.temperature == 0.0 {
            return greedy(logits, &overrides, history.len());
        }
        row::argmax(logits)
            .map_err(|at| SessionError::numerics(logits, at, Some(history.len())))?;
        let kept = filter::kept(logits, &overrides, params);
        let weights = kept.into_iter().map(|it| Atom { id: it.id, probability: it.weight });
        Self::normalised(weights.collect())
            .ok_or(SessionError::AllBanned { position: history.len() })
    }

    /// The distribution that always gives `id`.
    pub fn certain(id: u32) -> Self {
        Self { atoms: vec![Atom { id, probability: 1.0 }] }
    }

    /// Number of tokens that the filters kept.
    pub fn num_kept(&self) -> usize {
        self.atoms.len()
    }

    /// Probability of `id`.
    pub fn probability(&self, id: u32) -> f64 {
        let place = self.atoms.binary_search_by_key(&id, |it| it.id);
        place.map_or(0.0, |place| self.atoms[place].probability)
    }

    /// The token at `uniform` (in `[0, 1)`) of the cumulative distribution, by ascending id.
    pub fn sample(&self, uniform: f64) -> u32 {
        let mut rest = uniform;
        for atom in &self.atoms {
            rest -= atom.probability;
            if rest < 0.0 {
                return atom.id;
            }
        }
        // Rounding can leave the sum a hair below `uniform`; the last token with weight takes it.
        let possible = self.atoms.iter().rev().find(|it| it.probability > 0.0);
        possible.expect("invariant: a distribution has an atom with weight").id
    }

    /// What to draw from after a rejection: the positive part of this minus `draft`, normalised
    /// (Leviathan et al. 2023). Where nothing is left, which only rounding can bring about, this.
    pub fn residual(&self, draft: &Dist) -> Dist {
        let left = self.atoms.iter().map(|it| Atom {
            id: it.id,
            probability: (it.probability - draft.probability(it.id)).max(0.0),
        });
        let left: Vec<_> = left.filter(|it| it.probability > 0.0).collect();
        Self::normalised(left).unwrap_or_else(|| self.clone())
    }

    fn normalised(mut atoms: Vec<Atom>) -> Option<Self> {
        let total: f64 = atoms.iter().map(|it| it.probability).sum();
        if total <= 0.0 {
            return None;
        }
        for atom in &mut atoms {
            atom.probability /= total;
        }
        Some(Self { atoms })
    }
}

/// The largest score, the lowest id on ties: one pass over the row, nothing sorted or copied.
fn greedy(logits: &[f32], overrides: &[Override], position: usize) -> Result<Dist, SessionError> {
    let mut best: Option<(u32, f64)> = None;
    let mut consider = |id: usize, score: f64| {
        if score > best.map_or(f64::NEG_INFINITY, |(_, best)| best) {
            best = Some((id as u32, score));
        }
    };
    let numerics = |at| SessionError::numerics(logits, at, Some(position));
    let mut start = 0;
    for replaced in overrides {
        let end = replaced.id as usize;
        let found = row::argmax(&logits[start..end]).map_err(|at| numerics(start + at))?;
        if let Some((at, score)) = found {
            consider(start + at, f64::from(score));
        }
        if !logits[end].is_finite() {
            return Err(numerics(end));
        }
        consider(end, replaced.score);
        start = end + 1;
    }
    if let Some((at, score)) = row::argmax(&logits[start..]).map_err(|at| numerics(start + at))? {
        consider(start + at, f64::from(score));
    }
    best.map(|(id, _)| Dist::certain(id)).ok_or(SessionError::AllBanned { position })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sampled() -> SamplingParams {
        SamplingParams { temperature: 1.0, ..SamplingParams::greedy() }
    }

    #[test]
    fn greedy_is_one_atom_and_ties_go_down() {
        let dist =
            Dist::new(&[1.0, 3.0, 3.0], &SamplingParams::greedy(), History::new(&[], 0)).unwrap();
        assert_eq!(dist, Dist::certain(1));
    }

    #[test]
    fn greedy_heeds_penalties() {
        let params = SamplingParams { repetition_penalty: 1.5, ..SamplingParams::greedy() };
        let pick = |logits: &[f32], tokens: &[u32]| {
            Dist::new(logits, &params, History::new(tokens, 0)).unwrap().sample(0.0)
        };
        assert_eq!(pick(&[1.0, 3.0, 2.5], &[1]), 2);
        assert_eq!(pick(&[1.0, 3.0, 2.0], &[1]), 1, "a tie of 2 and 2 goes to the lower id");
        assert_eq!(pick(&[2.0, 3.0, 2.0], &[1]), 0);
        assert_eq!(pick(&[-1.0, -3.0, -1.2], &[0]), 2);
    }

    #[test]
    fn nothing_but_finite_logits_is_taken() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for params in [SamplingParams::greedy(), sampled()] {
                for at in 0..3 {
                    let mut logits = [0.0; 3];
                    logits[at] = bad;
                    let penalised = SamplingParams { repetition_penalty: 1.1, ..params.clone() };
                    for params in [&params, &penalised] {
                        let found = Dist::new(&logits, params, History::new(&[1, 1], 0));
                        let Err(SessionError::Numerics { id, position, .. }) = found else {
                            panic!("{bad} at {at} gave {found:?}")
                        };
                        assert_eq!((id as usize, position), (at, Some(2)));
                    }
                }
            }
        }
    }

    #[test]
    fn all_banned_is_an_error() {
        for params in [SamplingParams::greedy(), sampled()] {
            let params = SamplingParams { no_repeat_ngram: 1, ..params };
            let found = Dist::new(&[0.0, 1.0], &params, History::new(&[0, 1], 0));
            assert!(matches!(found, Err(SessionError::AllBanned { position: 2 })));
        }
    }

    #[test]
    fn sample_walks_the_cumulative_distribution() {
        let dist = Dist::normalised(vec![
            Atom { id: 2, probability: 1.0 },
            Atom { id: 5, probability: 0.0 },
            Atom { id: 7, probability: 3.0 },
        ])
        .unwrap();
        assert_eq!(dist.sample(0.0), 2);
        assert_eq!(dist.sample(0.2499), 2);
        assert_eq!(dist.sample(0.25), 7);
        assert_eq!(dist.sample(1.0 - f64::EPSILON / 2.0), 7);
        assert_eq!(dist.probability(7), 0.75);
        assert_eq!(dist.probability(3), 0.0);
    }

    #[test]
    fn residual_is_the_positive_part() {
        let dist = |weights: &[f64]| {
            let atoms = weights.iter().enumerate();
            let atoms = atoms.map(|(id, &probability)| Atom { id: id as u32, probability });
            Dist::normalised(atoms.collect()).unwrap()
        };
        let target = dist(&[0.5, 0.25, 0.25]);
        let left = target.residual(&dist(&[0.25, 0.75, 0.0]));
        assert_eq!(left.probability(0), 0.5);
        assert_eq!(left.probability(1), 0.0);
        assert_eq!(left.probability(2), 0.5);
        assert_eq!(target.residual(&target), target);
        assert_eq!(target.residual(&Dist::certain(0)).probability(1), 0.5);
    }
}
