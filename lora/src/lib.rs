//! Adapters, what they are taught with, and the trainer.
//!
//! [`lora`] is the arithmetic of an adapter at the engine's seam; [`peft`] its files; [`modules`]
//! says which projections of a model it may change. [`data`] is what it is taught with, [`losses`] what
//! is minimised, [`optimizer`] and [`schedule`] how, and [`trainer`] puts them together; [`run`]
//! is a training with its files. This crate prints nothing, reads no
//! environment, and knows no critics and no HTTP.

pub mod adapters;
pub mod data;
pub mod divergence;
mod error;
pub mod fingerprint;
pub mod fuse;
pub mod lora;
pub mod losses;
pub mod modules;
pub mod optimizer;
pub mod peft;
pub mod run;
pub mod schedule;
pub mod trainer;
pub mod weights;

pub use error::LoraError;

/// Result with this crate's [`LoraError`].
pub type Result<T> = std::result::Result<T, LoraError>;
