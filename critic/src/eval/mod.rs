//! How good a critic is: metrics with intervals, comparisons, and reports.

pub mod calibration;
pub mod compare;
pub mod confusion;
pub mod intervals;
pub mod metrics;

pub use calibration::{Calibration, Reliability};
pub use compare::{Comparison, compare};
pub use confusion::{ErrorKind, TypeConfusion};
pub use intervals::Interval;
pub use metrics::{Metric, Metrics, Outcome, latency_percentiles};
