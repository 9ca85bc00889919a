//! What is minimised, in terms of log-probabilities alone.
//!
//! Every loss here is a function of the log-probabilities of chosen tokens, so one primitive serves
//! all: [`row_log_probs`] and a coefficient for each row. This module knows no models.

mod pair;
mod row_log_probs;
mod unpaired;

pub use pair::{Pair, PairLoss, PairOutcome, Sums};
pub use row_log_probs::{reference, row_log_probs};
pub use unpaired::{Kto, KtoOutcome};

/// `1 / (1 + e^-x)`
pub(crate) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `ln(1 / (1 + e^-x))`, without overflow.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}
