//! What each fuzz target calls, shared with the plain tests that run the corpus.
//!
//! Every body answers whether the reader accepted the bytes.
#![allow(dead_code, reason = "each fuzz target uses one body of this file")]

use minicrit_engine::{arch, registry::Registry, source};
use minicrit_quant::Bytes;

/// The header of a safetensors file.
pub fn safetensors_header(data: &[u8]) -> bool {
    source::safetensors::parse("fuzz", Bytes::from(data.to_vec())).is_ok()
}

/// A GGUF file: values, tensors and where they lie.
pub fn gguf(data: &[u8]) -> bool {
    source::gguf::Gguf::parse("fuzz", Bytes::from(data.to_vec())).is_ok()
}

/// A config.json.
pub fn config(data: &[u8]) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_slice(data);
    value.is_ok_and(|it| arch::spec_from_config(&it).is_ok())
}

/// A models.toml.
pub fn registry(data: &[u8]) -> bool {
    std::str::from_utf8(data).is_ok_and(|it| Registry::parse(it).is_ok())
}
