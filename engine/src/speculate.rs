//! Which drafts to keep: exact rejection sampling, as a pure function.
//!
//! Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding"
//! (2023): a draft drawn from q is kept with probability min(1, p/q); the first that is not kept is
//! replaced by a draw from the positive part of p - q. The tokens then have the target's
//! distribution p, whatever the drafter. Greedy decoding is the case of one-atom distributions,
//! and plain decoding the case of no drafts: there is no other code for either.

use crate::{
    dist::Dist,
    draft::Draft,
    rng::{Purpose, Rng},
};

/// What became of the drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How many drafts, from the first, are kept.
    pub accepted: usize,
    /// The token after them, from the target.
    pub next: u32,
}

/// Judges `drafts` by the target's distributions: `target[i]` for the token that `drafts[i]`
/// proposes, and one more for the token after the last. `position` is the first draft's place in
/// the sequence; it keys the random numbers.
///
/// Exactness needs that each draft was drawn from the `dist` it carries.
///
/// # Panics
/// Where `target` does not have one distribution more than there are drafts.
pub fn verify(drafts: &[Draft], target: &[Dist], rng: &Rng, position: usize) -> Verdict {
    assert_eq!(target.len(), drafts.len() + 1, "one distribution for each draft and one more");
    for (accepted, (draft, wanted)) in drafts.iter().zip(target).enumerate() {
        let at = (position + accepted) as u64;
        let proposed = draft.dist.as_ref().map_or(1.0, |it| it.probability(draft.id));
        if rng.uniform(at, Purpose::Accept) * proposed < wanted.probability(draft.id) {
            continue;
        }
        let residual = match &draft.dist {
            Some(dist) => wanted.residual(dist),
            None => wanted.residual(&Dist::certain(draft.id)),
        };
        return Verdict { accepted, next: residual.sample(rng.uniform(at, Purpose::Residual)) };
    }
    let accepted = drafts.len();
    let uniform = rng.uniform((position + accepted) as u64, Purpose::Sample);
    Verdict { accepted, next: target[accepted].sample(uniform) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::dist::{History, SamplingParams};

    fn dist(logits: &[f32]) -> Dist {
        let params = SamplingParams { temperature: 1.0, ..SamplingParams::greedy() };
        Dist::new(logits, &params, History::new(&[], 0)).unwrap()
    }

    fn certain(ids: &[u32]) -> Vec<Dist> {
        ids.iter().map(|&id| Dist::certain(id)).collect()
    }

    #[test]
    fn no_drafts_is_plain_sampling() {
        let target = [dist(&[0.0, 1.0, 2.0])];
        for seed in 0..50 {
            let rng = Rng::new(seed);
            let plain = target[0].sample(rng.uniform(9, Purpose::Sample));
            assert_eq!(verify(&[], &target, &rng, 9), Verdict { accepted: 0, next: plain });
        }
    }

    #[test]
    fn greedy_targets_keep_what_agrees_and_correct_what_does_not() {
        let noisy = Some(dist(&[0.0; 8]));
        for seed in 0..50 {
            for dist in [None, noisy.clone()] {
                let drafts: Vec<_> =
                    [3, 5, 1].map(|id| Draft { id, dist: dist.clone() }).into_iter().collect();
                let judge = |ids: &[u32]| verify(&drafts, &certain(ids), &Rng::new(seed), 0);
                assert_eq!(judge(&[3, 5, 1, 7]), Verdict { accepted: 3, next: 7 });
                assert_eq!(judge(&[3, 4, 1, 7]), Verdict { accepted: 1, next: 4 });
                assert_eq!(judge(&[0, 5, 1, 7]), Verdict { accepted: 0, next: 0 });
            }
        }
    }

    #[test]
    fn an_identical_drafter_is_never_rejected() {
        let target = dist(&[0.3, 0.1, -2.0, 1.0]);
        for seed in 0..200 {
            let rng = Rng::new(seed);
            let id = target.sample(rng.uniform(4, Purpose::Draft));
            let drafts = [Draft { id, dist: Some(target.clone()) }];
            let verdict = verify(&drafts, &[target.clone(), target.clone()], &rng, 4);
            assert_eq!(verdict.accepted, 1);
        }
    }

    #[test]
    fn a_token_that_the_target_rules_out_is_never_kept() {
        let target = [Dist::certain(2), Dist::certain(0)];
        for seed in 0..200 {
            let drafts = [Draft { id: 1, dist: None }];
            assert_eq!(verify(&drafts, &target, &Rng::new(seed), 0).next, 2);
        }
    }
}
