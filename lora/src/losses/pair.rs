//! Losses of a preferred and a rejected answer, and their slopes, in float64.

use super::{log_sigmoid, sigmoid};

/// Log-probability of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// Sum over the answer's tokens.
    pub sum: f64,
    /// Number of tokens (sum of their weights).
    pub tokens: f64,
}

impl Sums {
    fn mean(&self) -> f64 {
        self.sum / self.tokens
    }
}

/// What a pair's loss depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The preferred answer under the model in training.
    pub chosen: Sums,
    /// The other one.
    pub rejected: Sums,
    /// Sums of both under the reference, where the loss has one.
    pub reference: [f64; 2],
}

/// A loss of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PairLoss {
    /// Rafailov et al. 2023, with conservative label smoothing: `-(1-ε) ln σ(βΔ) - ε ln σ(-βΔ)`.
    Sigmoid {
        /// Strength of the pull to the reference.
        beta: f64,
        /// Probability that a label is wrong.
        label_smoothing: f64,
    },
    /// Azar et al. 2023, on means over tokens: `(Δ - 1/(2β))²`.
    Ipo {
        /// As above.
        beta: f64,
    },
    /// `max(0, 1 - βΔ)`
    Hinge {
        /// As above.
        beta: f64,
    },
    /// Hong et al. 2024, without reference: mean negative log-likelihood of the preferred answer
    /// plus `-λ ln σ(log odds ratio)`.
    Orpo {
        /// Weight of the odds ratio.
        lambda: f64,
    },
    /// Meng et al. 2024, without reference, on means over tokens: `-ln σ(β(c - r) - γ)`.
    SimPo {
        /// Scale of the means.
        beta: f64,
        /// Margin.
        gamma: f64,
    },
}

/// A pair's loss and its slopes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairOutcome {
    /// The loss.
    pub loss: f64,
    /// Slope by the sum of the preferred answer's log-probabilities.
    pub d_chosen: f64,
    /// Slope by that of the other.
    pub d_rejected: f64,
    /// Implicit reward of the preferred answer.
    pub reward_chosen: f64,
    /// That of the other.
    pub reward_rejected: f64,
}

impl PairLoss {
    /// Whether log-probabilities under a reference are needed.
    pub fn needs_reference(&self) -> bool {
        !matches!(self, Self::Orpo { .. } | Self::SimPo { .. })
    }

    /// The loss of one pair.
    pub fn of(&self, pair: &Pair) -> PairOutcome {
        let Pair { chosen, rejected, reference: [ref_chosen, ref_rejected] } = *pair;
        let ratios = [chosen.sum - ref_chosen, rejected.sum - ref_rejected];
        let delta = ratios[0] - ratios[1];
        let (loss, d_chosen, d_rejected, rewards) = match *self {
            Self::Sigmoid { beta, label_smoothing: e } => {
                let z = beta * delta;
                let loss = -(1.0 - e) * log_sigmoid(z) - e * log_sigmoid(-z);
                let slope = beta * (e * sigmoid(z) - (1.0 - e) * sigmoid(-z));
                (loss, slope, -slope, ratios.map(|it| beta * it))
            }
            Self::Hinge { beta } => {
                let slope = if beta * delta < 1.0 { -beta } else { 0.0 };
                ((1.0 - beta * delta).max(0.0), slope, -slope, ratios.map(|it| beta * it))
            }
            Self::Ipo { beta } => {
                let means = [ratios[0] / chosen.tokens, ratios[1] / rejected.tokens];
                let gap = means[0] - means[1] - 0.5 / beta;
                let slope = 2.0 * gap;
                let slopes = (slope / chosen.tokens, -slope / rejected.tokens);
                (gap * gap, slopes.0, slopes.1, means.map(|it| beta * it))
            }
            Self::Orpo { lambda } => {
                let means = [chosen.mean(), rejected.mean()];
                let log_odds = |mean: f64| mean - (-mean.exp_m1()).max(f64::MIN_POSITIVE).ln();
                let z = log_odds(means[0]) - log_odds(means[1]);
                let loss = -means[0] - lambda * log_sigmoid(z);
                let slope = -lambda * sigmoid(-z);
                let by_mean = |mean: f64| slope / (-mean.exp_m1()).max(f64::MIN_POSITIVE);
                let d_chosen = (by_mean(means[0]) - 1.0) / chosen.tokens;
                let d_rejected = -by_mean(means[1]) / rejected.tokens;
                (loss, d_chosen, d_rejected, means.map(|it| lambda * it))
            }
            Self::SimPo { beta, gamma } => {
                let means = [chosen.mean(), rejected.mean()];
                let z = beta * (means[0] - means[1]) - gamma;
                let slope = -beta * sigmoid(-z);
                let slopes = (slope / chosen.tokens, -slope / rejected.tokens);
                (-log_sigmoid(z), slopes.0, slopes.1, means.map(|it| beta * it))
            }
        };
        let [reward_chosen, reward_rejected] = rewards;
        PairOutcome { loss, d_chosen, d_rejected, reward_chosen, reward_rejected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: [PairLoss; 6] = [
        PairLoss::Sigmoid { beta: 0.1, label_smoothing: 0.0 },
        PairLoss::Sigmoid { beta: 0.3, label_smoothing: 0.2 },
        PairLoss::Ipo { beta: 0.2 },
        PairLoss::Hinge { beta: 0.1 },
        PairLoss::Orpo { lambda: 0.7 },
        PairLoss::SimPo { beta: 2.0, gamma: 0.5 },
    ];

    fn pair(chosen: f64, rejected: f64) -> Pair {
        Pair {
            chosen: Sums { sum: chosen, tokens: 4.0 },
            rejected: Sums { sum: rejected, tokens: 7.0 },
            reference: [-6.0, -9.0],
        }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        const STEP: f64 = 1e-6;
        for loss in LOSSES {
            for (c, r) in [(-5.0, -9.5), (-9.0, -4.0), (-1.0, -30.0), (-0.4, -0.6)] {
                let got = loss.of(&pair(c, r));
                let at = |c, r| loss.of(&pair(c, r)).loss;
                let d_chosen = (at(c + STEP, r) - at(c - STEP, r)) / (2.0 * STEP);
                let d_rejected = (at(c, r + STEP) - at(c, r - STEP)) / (2.0 * STEP);
                assert!((got.d_chosen - d_chosen).abs() < 1e-7, "{loss:?} {c} {r}: {got:?}");
                assert!((got.d_rejected - d_rejected).abs() < 1e-7, "{loss:?} {c} {r}: {got:?}");
            }
        }
    }

    #[test]
    fn a_model_that_is_its_reference_has_the_loss_ln_2() {
        let outcome = LOSSES[0].of(&pair(-6.0, -9.0));
        assert!((outcome.loss - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!((outcome.reward_chosen, outcome.reward_rejected), (0.0, 0.0));
        assert_eq!((outcome.d_chosen, outcome.d_rejected), (-0.05, 0.05));
    }

    #[test]
    fn huge_margins_do_not_overflow() {
        for loss in LOSSES {
            for (c, r) in [(-1e-12, -1e6), (-1e6, -1e-12)] {
                let got = loss.of(&pair(c, r));
                assert!(got.loss.is_finite() && got.d_chosen.is_finite(), "{loss:?}: {got:?}");
            }
        }
    }
}
