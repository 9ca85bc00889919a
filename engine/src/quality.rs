//! What rounding costs: a model's distributions against those of the weights it was made from.
//!
//! The measures are those of llama.cpp's `perplexity` tool: the divergence KL(reference ‖ model) of
//! the next token's distribution at every position, how often both expect the same token, and
//! perplexity on the text itself.

use std::sync::Arc;

use crate::{
    Result,
    model::{Decoder, Layer},
    score::argmax,
    sequence::Sequence,
};

/// Next-token distributions of the reference on given texts.
#[derive(Debug)]
pub struct Reference {
    texts: Vec<Vec<u32>>,
    /// Log-probabilities of every position that has a next token, `[positions, V]`.
    log_probs: Vec<f32>,
    vocab_size: usize,
    perplexity: f64,
}

/// A model against the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Mean divergence, in nats.
    pub kl_mean: f64,
    /// Divergence that 99.9 % of the positions stay below.
    pub kl_p999: f64,
    /// Share of positions at which both expect the same token.
    pub same_top1: f64,
    /// Perplexity on the texts.
    pub perplexity: f64,
}

impl Reference {
    /// Most positions whose distributions over `vocab_size` tokens fit `bytes`.
    pub fn most_positions(vocab_size: usize, bytes: usize) -> usize {
        (bytes / (vocab_size.max(1) * size_of::<f32>())).max(1)
    }

    /// Runs the reference over `texts`; those of fewer than two tokens say nothing and are left out.
    ///
    /// # Errors
    /// Tokens that do not fit the model, or a non-finite output.
    pub fn measure(decoder: &Arc<Decoder>, texts: &[Vec<u32>]) -> Result<Self> {
        let texts: Vec<Vec<u32>> = texts.iter().filter(|it| it.len() > 1).cloned().collect();
        let mut log_probs = Vec::new();
        let mut sum = 0.0;
        each_position(decoder, &texts, |_, next, logits| {
            let log_total = log_total(logits);
            log_probs.extend(logits.iter().map(|&it| (f64::from(it) - log_total) as f32));
            sum += f64::from(logits[next as usize]) - log_total;
        })?;
        let vocab_size = decoder.spec.vocab_size;
        let perplexity = (-sum / (log_probs.len() / vocab_size).max(1) as f64).exp();
        Ok(Self { texts, log_probs, vocab_size, perplexity })
    }

    /// Positions that are compared.
    pub fn positions(&self) -> usize {
        self.log_probs.len() / self.vocab_size
    }

    /// The reference's own perplexity.
    pub fn perplexity(&self) -> f64 {
        self.perplexity
    }

    /// Compares `decoder` with the reference.
    ///
    /// # Errors
    /// As [`Reference::measure`].
    pub fn compare(&self, decoder: &Arc<Decoder>) -> Result<Comparison> {
        let mut divergences = Vec::with_capacity(self.positions());
        let (mut same, mut sum) = (0usize, 0.0);
        each_position(decoder, &self.texts, |index, next, logits| {
            let at = index * self.vocab_size;
            let reference = &self.log_probs[at..at + self.vocab_size];
            let log_total = log_total(logits);
            divergences.push(divergence(reference, logits, log_total));
            same += usize::from(argmax(reference) == argmax(logits));
            sum += f64::from(logits[next as usize]) - log_total;
        })?;
        let count = divergences.len().max(1) as f64;
        divergences.sort_by(f64::total_cmp);
        let rank = (0.999 * count).ceil() as usize;
        Ok(Comparison {
            kl_mean: divergences.iter().sum::<f64>() / count,
            kl_p999: divergences.get(rank.saturating_sub(1)).copied().unwrap_or(0.0),
            same_top1: same as f64 / count,
            perplexity: (-sum / count).exp(),
        })
    }
}

/// `base` with the one layer replaced.
pub fn with_layer(base: &Decoder, index: usize, layer: Layer) -> Decoder {
    let mut layers = base.layers.clone();
    layers[index] = layer;
    base.with_parts(base.embed.clone(), layers, base.head.clone())
}

/// Calls `visit` with the number of a position, the token after it and its logits.
fn each_position(
    decoder: &Arc<Decoder>,
    texts: &[Vec<u32>],
    mut visit: impl FnMut(usize, u32, &[f32]),
) -> Result<()> {
    let mut index = 0;
    for text in texts {
        let mut sequence = Sequence::new(Arc::clone(decoder), None);
        sequence.extend_complete(text, &mut |position, logits| {
            if let Some(&next) = text.get(position + 1) {
                visit(index, next, logits);
                index += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Logarithm of the sum of exponentials.
fn log_total(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&it| f64::from(it - max).exp()).sum();
    f64::from(max) + sum.ln()
}

fn divergence(reference: &[f32], logits: &[f32], log_total: f64) -> f64 {
    let one = |(&p, &q): (&f32, &f32)| {
        let p = f64::from(p);
        p.exp() * (p - (f64::from(q) - log_total))
    };
    // Rounding of the stored logarithms can leave a trace below zero.
    reference.iter().zip(logits).map(one).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_definition() {
        let log = |values: [f64; 3]| values.map(|it| it.ln() as f32);
        let (p, q) =
            (log([0.5, 0.25, 0.25]), [3.0 + 0.2f32.ln(), 3.0 + 0.2f32.ln(), 3.0 + 0.6f32.ln()]);
        let want =
            0.5 * (0.5f64 / 0.2).ln() + 0.25 * (0.25f64 / 0.2).ln() + 0.25 * (0.25f64 / 0.6).ln();
        assert!((divergence(&p, &q, log_total(&q)) - want).abs() < 1e-6);
        assert!(divergence(&p, &p, log_total(&p)) < 1e-7);
    }
}
