//! An adapter to a folder.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::{AdapterConfig, targets::Targets};
use crate::Result;

/// adapter_config.json with the keys that old and new PEFT know, sorted, and the others only where
/// they are needed.
pub fn config_json(config: &AdapterConfig) -> String {
    let targets = |it: &Targets| match it {
        Targets::AllLinear => json!("all-linear"),
        Targets::Names(names) => json!(names),
        Targets::Pattern(pattern) => json!(pattern),
    };
    fn table<T: Copy + Into<f64>>(entries: &[(String, T)]) -> Value {
        let entry = |(key, value): &(String, T)| (key.clone(), number((*value).into()));
        Value::Object(entries.iter().map(entry).collect())
    }
    let ranks: Vec<_> = config.rank_pattern.iter().map(|(k, v)| (k.clone(), *v as u32)).collect();
    let mut keys = BTreeMap::from([
        ("alpha_pattern", table(&config.alpha_pattern)),
        ("auto_mapping", Value::Null),
        ("base_model_name_or_path", json!(config.base_name)),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", json!(true)),
        ("layers_pattern", Value::Null),
        ("layers_to_transform", json!(config.excluded.layers)),
        ("lora_alpha", number(config.alpha)),
        ("lora_dropout", json!(config.dropout)),
        (
            "modules_to_save",
            match config.modules_to_save.is_empty() {
                true => Value::Null,
                false => json!(config.modules_to_save),
            },
        ),
        ("peft_type", json!("LORA")),
        ("r", json!(config.rank)),
        ("rank_pattern", table(&ranks)),
        ("revision", Value::Null),
        ("target_modules", targets(&config.targets)),
        ("task_type", json!("CAUSAL_LM")),
    ]);
    if config.rslora {
        keys.insert("use_rslora", json!(true));
    }
    if config.dora {
        keys.insert("use_dora", json!(true));
    }
    if let Some(excluded) = &config.excluded.modules {
        keys.insert("exclude_modules", targets(excluded));
    }
    let map: Map<String, Value> = keys.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
    let mut text = serde_json::to_string_pretty(&map).unwrap_or_default();
    text.push('\n');
    text
}

/// Whole numbers without a decimal point, as Python writes integers.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

/// A safetensors file of float32 `tensors`: sorted by name, the same bytes for the same values.
///
/// # Errors
/// What reading a tensor gives.
pub fn safetensors_bytes(tensors: &[(String, Tensor)]) -> Result<Vec<u8>> {
    let sorted: BTreeMap<&str, &Tensor> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (name, tensor) in sorted {
        let start = data.len();
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            data.extend_from_slice(&value.to_le_bytes());
        }
        let offsets = [start, data.len()];
        let entry = json!({"dtype": "F32", "shape": tensor.dims(), "data_offsets": offsets});
        header.insert(name.to_string(), entry);
    }
    let mut header = Value::Object(header).to_string();
    // The data begins at a multiple of eight bytes.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = Vec::with_capacity(8 + header.len() + data.len());
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    file.append(&mut data);
    Ok(file)
}
