//! One decoder for small language models, and everything between a folder of weights and text.
//!
//! The reading path, top to bottom: a [`source`] gives files; [`arch`] turns a config.json into a
//! [`spec::ModelSpec`]; [`model`] holds the immutable [`model::Decoder`], driven by a
//! [`pass::Pass`] over a [`cache::KvCache`]; [`sequence::Sequence`] is one running context;
//! [`session::Session`] turns prompts into events; [`score`] gives exact log-probabilities.
//!
//! This crate does no printing, reads no environment and knows no LoRA, training, persona or HTTP:
//! an adapter is whatever implements [`adapter::Adapter`].

pub mod adapter;
pub mod arch;
pub mod assemble;
pub mod budget;
pub mod cache;
pub mod chat;
pub mod dist;
pub mod draft;
mod error;
pub mod export;
pub mod importance;
pub mod language_model;
pub mod load;
pub mod model;
pub mod ops;
pub mod pass;
pub mod quality;
pub mod recipe;
pub mod registry;
pub mod rng;
pub mod score;
pub mod sequence;
pub mod session;
pub mod source;
pub mod spec;
pub mod speculate;
pub mod stop;
pub mod think;
pub mod tokens;

pub use error::{Error, NamedError};

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
