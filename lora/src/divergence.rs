//! How far two models are from each other on given texts.

use minicrit_engine::{score::argmax, sequence::Sequence};

use crate::Result;

/// One model's next-token distributions against another's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Divergence {
    /// Mean of KL(reference ‖ other), in nats.
    pub kl_mean: f64,
    /// Largest of them.
    pub kl_max: f64,
    /// Share of positions at which both expect the same token.
    pub same_top1: f64,
    /// Positions that were compared.
    pub positions: usize,
}

/// Compares `other` with `reference` on every position of `texts`; each call of them makes a
/// sequence without a past.
///
/// # Errors
/// Tokens that do not fit the models, or a non-finite output.
pub fn divergence(
    reference: impl Fn() -> Sequence,
    other: impl Fn() -> Sequence,
    texts: &[Vec<u32>],
) -> Result<Divergence> {
    let mut found = Divergence::default();
    let (mut sum, mut same) = (0.0, 0usize);
    for text in texts {
        let mut rows: Vec<Vec<f32>> = Vec::with_capacity(text.len());
        reference().extend_complete(text, &mut |_, logits| {
            rows.push(logits.to_vec());
            Ok(())
        })?;
        other().extend_complete(text, &mut |position, logits| {
            let kl = kl(&rows[position], logits);
            sum += kl;
            found.kl_max = found.kl_max.max(kl);
            same += usize::from(argmax(&rows[position]) == argmax(logits));
            found.positions += 1;
            Ok(())
        })?;
    }
    let count = found.positions.max(1) as f64;
    Ok(Divergence { kl_mean: sum / count, same_top1: same as f64 / count, ..found })
}

/// Divergence of two rows of logits, never below 0.
fn kl(reference: &[f32], other: &[f32]) -> f64 {
    // Nearly equal rows differ by less than float32 can say of a logarithm, so this is in float64.
    let total = |row: &[f32]| {
        let most = row.iter().fold(f64::NEG_INFINITY, |most, &it| most.max(f64::from(it)));
        most + row.iter().map(|&it| (f64::from(it) - most).exp()).sum::<f64>().ln()
    };
    let (total_p, total_q) = (total(reference), total(other));
    let terms = reference.iter().zip(other).map(|(&p, &q)| {
        let (log_p, log_q) = (f64::from(p) - total_p, f64::from(q) - total_q);
        log_p.exp() * (log_p - log_q)
    });
    terms.sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_of_rows() {
        assert_eq!(kl(&[1.0, 2.0, 3.0], &[2.0, 3.0, 4.0]), 0.0);
        // p = (1/2, 1/2), q = (1/4, 3/4): ln 2 - ln(3)/2 + ln(4/2)/2.
        let q = [0.25f32.ln(), 0.75f32.ln()];
        let expect = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((kl(&[0.0, 0.0], &q) - expect).abs() < 1e-6);
    }
}
