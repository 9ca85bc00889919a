//! Adapters as folders that PEFT reads and writes: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! Reading is strict: what is not understood is refused by name, every tensor is used once, and
//! all problems are listed together. Writing emits the keys that old and new PEFT know.

mod config;
mod read;
mod targets;
mod write;

pub use self::{
    config::AdapterConfig,
    read::{open, read_config, stored_tensors},
    targets::{Excluded, Targets},
    write::{config_json, safetensors_bytes},
};

/// The settings of an adapter.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The tensors of an adapter.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";
