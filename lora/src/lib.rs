//! Adapters for a frozen decoder, and the trainer that makes them.

pub mod data;
