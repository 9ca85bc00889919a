//! How good a critic is: metrics with intervals, comparisons, and reports.

pub mod calibration;
pub mod compare;
pub mod confusion;
pub mod html;
pub mod intervals;
pub mod judge;
pub mod metrics;
pub mod report;
pub mod run;
pub mod suite;
mod svg;
pub mod sweep;

pub use calibration::{Calibration, Reliability};
pub use compare::{Comparison, compare};
pub use confusion::{ErrorKind, TypeConfusion};
pub use intervals::Interval;
pub use metrics::{Metric, Metrics, Outcome, latency_percentiles};
pub use report::{ModelReport, Report, Threshold};
pub use suite::Suite;
pub use svg::escape;
