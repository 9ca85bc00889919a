//! From scores to kept candidates: temperature, top-k, top-p, min-p, typical, in the order of
//! transformers' processors.

use super::{SamplingParams, penalty::Override};

/// A token that can still be drawn. `score` is its logit, and after [`scale`] the logarithm of
/// `weight`, which is its probability relative to the most likely token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) score: f64,
    pub(super) weight: f64,
}

/// The candidates that `params` keeps, by ascending id; empty where every token is banned.
pub(super) fn kept(
    logits: &[f32],
    overrides: &[Override],
    params: &SamplingParams,
) -> Vec<Candidate> {
    let mut kept = if params.top_k == 0 || params.top_k >= logits.len() {
        all(logits, overrides)
    } else {
        top_k(logits, overrides, params.top_k)
    };
    scale(&mut kept, params.temperature);
    if params.top_p < 1.0 {
        top_p(&mut kept, params.top_p);
    }
    if params.min_p > 0.0 {
        // The most likely token has weight 1 and passes every filter so far.
        kept.retain(|it| it.weight >= params.min_p);
    }
    if params.typical_p < 1.0 {
        typical(&mut kept, params.typical_p);
    }
    kept
}

/// Calls `visit` with each id and score, by ascending id, leaving banned tokens out.
fn for_each_score(logits: &[f32], overrides: &[Override], mut visit: impl FnMut(u32, f64)) {
    let mut start = 0;
    let ends = overrides.iter().map(|it| (it.id as usize, Some(it.score)));
    for (end, replaced) in ends.chain([(logits.len(), None)]) {
        for (offset, &logit) in logits[start..end].iter().enumerate() {
            visit((start + offset) as u32, f64::from(logit));
        }
        if let Some(score) = replaced.filter(|&it| it > f64::NEG_INFINITY) {
            visit(end as u32, score);
        }
        start = end + 1;
    }
}

fn all(logits: &[f32], overrides: &[Override]) -> Vec<Candidate> {
    let mut kept = Vec::with_capacity(logits.len());
    for_each_score(logits, overrides, |id, score| kept.push(Candidate { id, score, weight: 0.0 }));
    kept
}

/// The `k` largest scores and all that equal the k-th, as transformers keeps them.
///
/// One pass: a buffer takes whatever reaches the threshold, and when it is full, selection of the
/// k-th raises the threshold. Past the first few hundred logits almost nothing enters.
fn top_k(logits: &[f32], overrides: &[Override], k: usize) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    let mut threshold = f64::NEG_INFINITY;
    let mut limit = (4 * k).max(64);
    for_each_score(logits, overrides, |id, score| {
        if score >= threshold {
            kept.push(Candidate { id, score, weight: 0.0 });
            if kept.len() == limit {
                threshold = cut_to_top_k(&mut kept, k);
                limit = limit.max(2 * kept.len());
            }
        }
    });
    cut_to_top_k(&mut kept, k);
    kept.sort_unstable_by_key(|it| it.id);
    kept
}

/// Drops all below the k-th largest score, and returns that score.
fn cut_to_top_k(kept: &mut Vec<Candidate>, k: usize) -> f64 {
    if kept.len() <= k {
        return f64::NEG_INFINITY;
    }
    let (_, kth, _) = kept.select_nth_unstable_by(k - 1, |a, b| b.score.total_cmp(&a.score));
    let threshold = kth.score;
    kept.retain(|it| it.score >= threshold);
    threshold
}

/// Turns scores into log-weights and weights relative to the best.
fn scale(kept: &mut [Candidate], temperature: f64) {
    let best = kept.iter().map(|it| it.score).fold(f64::NEG_INFINITY, f64::max);
    for candidate in kept {
        // The best is subtracted first, so that a tiny temperature overflows to weight 0, not NaN.
        candidate.score = (candidate.score - best) / temperature;
        candidate.weight = candidate.score.exp();
    }
}

/// Keeps the most likely tokens until those before reach `mass`; the most likely always stays.
/// Among equals the lowest ids stay (transformers leaves that to an unstable sort).
fn top_p(kept: &mut Vec<Candidate>, mass: f64) {
    let by_rank =
        |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id));
    let total: f64 = kept.iter().map(|it| it.weight).sum();
    let enough = mass * total;
    // Tokens so unlikely that even all of them together are outside need no rank. Half of what is
    // outside leaves room for rounding.
    let negligible = (total - enough) / 2.0 / kept.len() as f64;
    kept.retain(|it| it.weight >= negligible);
    let mut sorted = 0;
    let mut before = 0.0;
    let mut count = 0;
    // Most rows reach the mass within a thousand tokens, so only so many are ever sorted.
    while count < kept.len() && (count == 0 || before < enough) {
        if count == sorted {
            let end = kept.len().min((8 * sorted).max(1024));
            let rest = &mut kept[sorted..];
            if end - sorted < rest.len() {
                rest.select_nth_unstable_by(end - sorted, by_rank);
            }
            kept[sorted..end].sort_unstable_by(by_rank);
            sorted = end;
        }
        before += kept[count].weight;
        count += 1;
    }
    kept.truncate(count);
    kept.sort_unstable_by_key(|it| it.id);
}

/// Locally typical sampling (Meister et al. 2022): tokens by how near their information is to the
/// entropy, until `mass` is reached; equals of the last one stay.
fn typical(kept: &mut Vec<Candidate>, mass: f64) {
    let total: f64 = kept.iter().map(|it| it.weight).sum();
    let log_total = total.ln();
    let entropy: f64 = kept
        .iter()
        .map(|it| it.weight / total * (log_total - it.score))
        .filter(|it| !it.is_nan())
        .sum();
    let distance = |it: &Candidate| (log_total - it.score - entropy).abs();
    let mut ranked = kept.clone();
    ranked
        .sort_unstable_by(|a, b| distance(a).total_cmp(&distance(b)).then_with(|| a.id.cmp(&b.id)));
    let mut reached = 0.0;
    let last = ranked.iter().position(|it| {
        reached += it.weight / total;
        reached >= mass
    });
    if let Some(last) = last.map(|at| distance(&ranked[at])) {
        kept.retain(|it| distance(it) <= last);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Numbers without pattern, with ties: multiples of a quarter.
    fn row(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) % 400) as f32 / 4.0 - 50.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn ids(kept: &[Candidate]) -> Vec<u32> {
        kept.iter().map(|it| it.id).collect()
    }

    #[test]
    fn top_k_agrees_with_a_full_sort() {
        for seed in 0..20 {
            for k in [1, 2, 7, 63, 64, 400, 999] {
                let logits = row(1000, seed);
                let mut sorted = logits.clone();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let expect: Vec<u32> =
                    (0..1000).filter(|&id| logits[id as usize] >= sorted[k - 1]).collect();
                assert_eq!(ids(&top_k(&logits, &[], k)), expect, "seed {seed} k {k}");
            }
        }
        let rising: Vec<f32> = (0..5000).map(|it| it as f32).collect();
        assert_eq!(ids(&top_k(&rising, &[], 3)), [4997, 4998, 4999]);
        assert_eq!(top_k(&[1.0; 5000], &[], 3).len(), 5000);
    }

    #[test]
    fn top_p_agrees_with_a_full_sort() {
        for seed in 0..20 {
            for (mass, temperature) in
                [(0.0, 1.0), (0.3, 5.0), (0.9, 8.0), (0.9, 50.0), (0.99, 500.0)]
            {
                let logits = row(3000, seed);
                let mut kept = all(&logits, &[]);
                scale(&mut kept, temperature);
                let mut sorted = kept.clone();
                sorted.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
                let total: f64 = sorted.iter().map(|it| it.weight).sum();
                let mut before = 0.0;
                let mut expect = Vec::new();
                for candidate in &sorted {
                    if !expect.is_empty() && before >= mass * total {
                        break;
                    }
                    before += candidate.weight;
                    expect.push(candidate.id);
                }
                expect.sort_unstable();
                top_p(&mut kept, mass);
                assert_eq!(ids(&kept), expect, "seed {seed} mass {mass}");
            }
        }
    }

    #[test]
    fn overrides_replace_and_ban() {
        let overrides = [
            Override { id: 0, score: 9.0 },
            Override { id: 2, score: f64::NEG_INFINITY },
            Override { id: 3, score: -1.0 },
        ];
        let mut seen = Vec::new();
        for_each_score(&[1.0, 2.0, 3.0, 4.0], &overrides, |id, score| seen.push((id, score)));
        assert_eq!(seen, [(0, 9.0), (1, 2.0), (3, -1.0)]);
    }

    #[test]
    fn extreme_temperatures_stay_finite() {
        for temperature in [f64::MIN_POSITIVE, 1e-300, 1e300, f64::MAX] {
            let mut kept = all(&[-3e38, 0.0, 3e38], &[]);
            scale(&mut kept, temperature);
            assert!(kept.iter().all(|it| it.weight.is_finite() && it.weight <= 1.0));
            assert_eq!(kept[2].weight, 1.0);
        }
    }
}
