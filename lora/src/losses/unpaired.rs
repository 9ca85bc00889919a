//! The loss of single answers that were found good or bad (KTO, Ethayarajh et al. 2024).

use super::sigmoid;

/// The loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// Strength of the pull to the reference.
    pub beta: f64,
    /// Weight of good answers.
    pub desirable: f64,
    /// Weight of bad answers.
    pub undesirable: f64,
}

/// An answer's loss and its slope.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KtoOutcome {
    /// The loss.
    pub loss: f64,
    /// Slope by the sum of the answer's log-probabilities.
    pub slope: f64,
    /// Implicit reward.
    pub reward: f64,
}

impl Kto {
    /// The loss of an answer whose log-probability is `ratio` above the reference's. `divergence`
    /// is the estimate for unrelated answers, a constant to the backward pass:
    /// `w · (1 - σ(±β(ratio - divergence)))`.
    pub fn of(&self, ratio: f64, divergence: f64, good: bool) -> KtoOutcome {
        let (sign, weight) = if good { (1.0, self.desirable) } else { (-1.0, self.undesirable) };
        let s = sigmoid(sign * self.beta * (ratio - divergence));
        KtoOutcome {
            loss: weight * (1.0 - s),
            slope: -weight * sign * self.beta * s * (1.0 - s),
            reward: self.beta * ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_finite_differences() {
        const STEP: f64 = 1e-6;
        let loss = Kto { beta: 0.1, desirable: 1.0, undesirable: 1.3 };
        for (ratio, divergence, good) in [(3.0, 0.5, true), (3.0, 0.5, false), (-20.0, 0.0, true)] {
            let at = |ratio| loss.of(ratio, divergence, good).loss;
            let slope = (at(ratio + STEP) - at(ratio - STEP)) / (2.0 * STEP);
            assert!((loss.of(ratio, divergence, good).slope - slope).abs() < 1e-8);
        }
        assert_eq!(loss.of(0.0, 0.0, true).loss, 0.5);
    }
}
