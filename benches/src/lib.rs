//! What the benchmarks share: the ceilings against which they report.
//!
//! A speed alone says little about a program: it is mostly the machine's. So each benchmark names a
//! ceiling of the same process and gives its figure as a share of it.

pub mod roofline;
