//! Critics: models that find flaws in reasoning, the data that makes them and the measures that
//! judge them.
//!
//! The reading path: [`taxonomy`] (what can be wrong), [`data`] (labelled rationales out of
//! clauses), [`case`] (a rationale with its label, as files hold it), [`critique`] (a verdict out
//! of exact label probabilities), [`eval`] (how good a critic is, with intervals).
//!
//! This crate prints nothing and reads no environment. Models stand behind
//! [`critique::Backend`]; it does not know how they were loaded or trained.

pub mod case;
pub mod critique;
pub mod data;
mod error;
pub mod eval;
pub mod gate;
mod jsonl;
pub mod log;
pub mod taxonomy;
pub mod versions;

pub use error::Error;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
