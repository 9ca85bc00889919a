//! All weights of a model as tensors to be trained: those of files, or random ones.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use minicrit_engine::{arch, model::ModelError, rng::Rng, source::ModelFiles, spec::ModelSpec};
use minicrit_quant::QuantTensor;

use crate::Result;

/// Standard deviation of random matrices.
const DEVIATION: f64 = 0.02;

/// Marks draws for random weights among the counters of a seed.
const RANDOM_WEIGHTS: u32 = 0x5765_6967;

/// The weights of `files` in float32, under their names and whole shapes.
///
/// # Errors
/// Tensors that are missing, misshapen, or not floats.
pub fn of_files(files: &ModelFiles, spec: &ModelSpec) -> Result<BTreeMap<String, Tensor>> {
    let names = arch::names(spec);
    let mut tensors = BTreeMap::new();
    for (name, shape) in names.expected() {
        let stored = files.tensors.get(name).filter(|it| it.shape == shape).ok_or_else(|| {
            let problems = vec![format!("`{name}` of shape {shape:?} is missing")];
            ModelError::Weights { problems }
        })?;
        let (rows, cols) = match *shape {
            [rows, cols] => (rows, cols),
            _ => (1, shape.iter().product()),
        };
        let values =
            QuantTensor::new(stored.format, rows, cols, stored.bytes.clone())?.dequantize();
        tensors.insert(name.to_string(), Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    Ok(tensors)
}

/// Random weights for `spec`: matrices normal with deviation 0.02, gains 1, biases 0. A value
/// depends on the seed, the tensor's name and its place alone.
///
/// # Errors
/// What making a tensor gives.
pub fn random(spec: &ModelSpec, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let names = arch::names(spec);
    let mut tensors = BTreeMap::new();
    for (name, shape) in names.expected() {
        let count = shape.iter().product();
        let values = if name.ends_with(".bias") {
            vec![0.0; count]
        } else if shape.len() == 1 {
            vec![1.0; count]
        } else {
            normal(seed, name, count)
        };
        tensors.insert(name.to_string(), Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    Ok(tensors)
}

/// Normal values by the transform of Box and Muller (1958).
fn normal(seed: u64, name: &str, count: usize) -> Vec<f32> {
    let hash = blake3::hash(name.as_bytes());
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| hash.as_bytes()[at + i]));
    let rng = Rng::new(seed);
    let unit = |word: u32| (f64::from(word) + 0.5) / 4_294_967_296.0;
    let values = (0..count.div_ceil(4) as u32).flat_map(|block| {
        let [a, b, c, d] = rng.words([block, RANDOM_WEIGHTS, word(0), word(4)]).map(unit);
        let pair = |u: f64, v: f64| {
            let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
            [radius * angle.cos(), radius * angle.sin()]
        };
        [pair(a, b), pair(c, d)].concat()
    });
    values.take(count).map(|it| (it * DEVIATION) as f32).collect()
}

/// A hash of every tensor's name, format, shape and bytes.
pub fn hash(files: &ModelFiles) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, it) in &files.tensors {
        hasher.update(name.as_bytes());
        hasher.update(format!("{} {:?}", it.format, it.shape).as_bytes());
        hasher.update(&it.bytes);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_are_normal() {
        let values = normal(3, "a", 20_001);
        let mean = values.iter().map(|&it| f64::from(it)).sum::<f64>() / 20_001.0;
        let square = values.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>() / 20_001.0;
        // Three standard errors.
        assert!(mean.abs() < 3.0 * DEVIATION / 20_001f64.sqrt(), "{mean}");
        assert!((square.sqrt() / DEVIATION - 1.0).abs() < 0.015, "{square}");
        assert_eq!(values, normal(3, "a", 20_001));
        assert_ne!(values, normal(3, "b", 20_001));
    }
}
