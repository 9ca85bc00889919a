//! One row of logits as numbers: is it finite, where is its largest, what is its log-sum-exp.
//!
//! These passes touch every logit of a 150,000-token vocabulary for each token, so they are
//! written for the vectoriser: fixed lanes, no early exit inside a block.

use crate::session::SessionError;

const LANES: usize = 16;
const BLOCK: usize = 32 * LANES;

/// Position and value of the largest logit, the lowest position on ties; `None` for an empty row.
///
/// # Errors
/// The first position that holds no finite number. A comparison with NaN is false, so an argmax
/// without this check would answer token 0 for a row of NaN.
pub(super) fn argmax(logits: &[f32]) -> Result<Option<(usize, f32)>, usize> {
    let mut best: Option<(usize, f32)> = None;
    for (block_idx, block) in logits.chunks(BLOCK).enumerate() {
        let start = block_idx * BLOCK;
        let Some(block_max) = finite_max(block) else {
            let at = block.iter().position(|it| !it.is_finite());
            return Err(start + at.expect("invariant: the block holds a non-finite value"));
        };
        if best.is_none_or(|(_, value)| block_max > value) {
            let at = block.iter().position(|&it| it == block_max);
            best = Some((start + at.expect("invariant: the maximum is in its block"), block_max));
        }
    }
    Ok(best)
}

/// The largest value, or `None` where any value is not finite.
fn finite_max(block: &[f32]) -> Option<f32> {
    let mut max = [f32::NEG_INFINITY; LANES];
    // Zero times a finite number is zero; times NaN or an infinity it is NaN, which then stays.
    let mut poison = [0.0f32; LANES];
    let (wholes, rest) = block.as_chunks::<LANES>();
    for whole in wholes {
        for lane in 0..LANES {
            max[lane] = if whole[lane] > max[lane] { whole[lane] } else { max[lane] };
            poison[lane] += whole[lane] * 0.0;
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        max[lane] = if value > max[lane] { value } else { max[lane] };
        poison[lane] += value * 0.0;
    }
    let finite = poison.iter().all(|it| !it.is_nan());
    finite.then(|| max.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

/// The natural logarithm of the sum of exponentials of a row, added in float64 in order of id.
///
/// # Errors
/// [`SessionError::Numerics`] where a logit is not finite.
pub fn log_sum_exp(logits: &[f32]) -> Result<f64, SessionError> {
    let max = match argmax(logits) {
        Ok(Some((_, max))) => f64::from(max),
        Ok(None) => return Ok(f64::NEG_INFINITY),
        Err(at) => return Err(SessionError::numerics(logits, at, None)),
    };
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    Ok(max + sum.ln())
}

/// Log-probability of `id` under the softmax of the raw `logits`.
///
/// # Errors
/// [`SessionError::Numerics`] where a logit is not finite.
///
/// # Panics
/// Where `id` is no index of `logits`.
pub fn log_probability(logits: &[f32], id: u32) -> Result<f64, SessionError> {
    Ok(f64::from(logits[id as usize]) - log_sum_exp(logits)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_largest_is_found_wherever_it_is() {
        for len in [1, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5] {
            for at in [0, len / 2, len - 1] {
                let mut row = vec![-3.0; len];
                row[at] = -1.0;
                assert_eq!(argmax(&row), Ok(Some((at, -1.0))), "{len} {at}");
            }
        }
        assert_eq!(argmax(&[]), Ok(None));
    }

    #[test]
    fn ties_go_to_the_lowest_id() {
        let mut row = vec![0.0; 2 * BLOCK];
        for at in [19, 40, BLOCK + 1] {
            row[at] = 2.0;
        }
        assert_eq!(argmax(&row), Ok(Some((19, 2.0))));
        assert_eq!(argmax(&[-0.0, 0.0]).unwrap().unwrap().0, 0);
    }

    #[test]
    fn anything_not_finite_is_found() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, BLOCK, BLOCK + 17] {
                let mut row = vec![1.0; BLOCK + 18];
                row[at] = bad;
                assert_eq!(argmax(&row), Err(at), "{bad} at {at}");
                assert!(log_sum_exp(&row).is_err());
            }
        }
        assert_eq!(argmax(&[f32::NAN; 40]), Err(0));
    }

    #[test]
    fn log_probabilities_survive_large_logits() {
        let row = [1000.0, 1000.0, -1000.0];
        assert!((log_probability(&row, 0).unwrap() + std::f64::consts::LN_2).abs() < 1e-12);
        assert!((log_probability(&row, 2).unwrap() + 2000.0 + std::f64::consts::LN_2).abs() < 1e-9);
    }
}
