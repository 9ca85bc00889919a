//! Data for critics: labelled rationales out of clauses, and tools for files of them.
//!
//! Labels are known by construction: a rationale is composed of clauses whose roles (evidence,
//! leap, repair, admission) decide whether it holds. Everything is a pure function of a seed.

mod clauses;
mod compose;
mod draws;
mod hard_examples;
pub mod improve;
mod invented;
pub mod pairs;
pub mod rephrase;
mod rows;
pub mod similarity;
mod stats;
mod text_score;
mod values;
mod variants;

pub use clauses::{Argument, Clauses, Patterns, Sound, Split};
pub use compose::Composed;
pub use draws::Draws;
pub use hard_examples::{Difficulty, HardExample, HardExamples, Kind, Plan};
pub use rows::{Parts, Rows, text_of};
pub use stats::Stats;
pub use text_score::{KEEP, Scorer, TextScore};
pub use values::{Domain, domains};
pub use variants::variants;
