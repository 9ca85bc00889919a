//! How much of the weights q8 and q4 keep, beside ggml's types of about the same size as candle
//! writes them.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::quantized::k_quants::{BlockQ4_0, BlockQ4K, BlockQ8_0, GgmlType};
use half::bf16;
use minicrit_quant::{PackedKind, PackedTensor, QuantTensor};

fn uniform(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    ((*state >> 40) as f32 + 0.5) / (1 << 24) as f32
}

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            let (a, b) = (uniform(&mut state), uniform(&mut state));
            (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
        })
        .collect()
}

/// Root-mean-square error as a share of the root mean square.
fn relative_error(want: &[f32], got: &[f32]) -> f64 {
    let error: f64 = want.iter().zip(got).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let size: f64 = want.iter().map(|a| f64::from(*a).powi(2)).sum();
    (error / size).sqrt()
}

fn ggml<T: GgmlType + Clone>(x: &[f32]) -> f64 {
    let mut blocks = vec![T::zeros(); x.len() / T::BLCK_SIZE];
    T::from_float(x, &mut blocks);
    let mut y = vec![0.0; x.len()];
    T::to_float(&blocks, &mut y);
    relative_error(x, &y)
}

fn packed(kind: PackedKind, x: &[f32]) -> f64 {
    let weight = QuantTensor::from_f32(x.len() / 256, 256, x).unwrap();
    let packed = PackedTensor::quantize(kind, &weight).unwrap();
    relative_error(x, &packed.dequantize_rows(0..packed.rows()).unwrap())
}

fn weights() -> Vec<(String, Vec<f32>)> {
    let mut outliers = gaussian(1 << 17, 9);
    outliers.iter_mut().step_by(97).for_each(|it| *it *= 6.0);
    let mut sets =
        vec![("gaussian".to_owned(), gaussian(1 << 17, 7)), ("outliers".to_owned(), outliers)];
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/model.safetensors");
    let bytes = std::fs::read(model).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for name in [
        "embed_tokens",
        "layers.2.self_attn.q_proj",
        "layers.2.mlp.gate_proj",
        "layers.3.mlp.down_proj",
    ] {
        let name = format!("model.{name}.weight");
        let data = tensors.tensor(&name).unwrap().data().to_vec();
        let (pairs, _) = data.as_chunks::<2>();
        sets.push((name, pairs.iter().map(|it| bf16::from_le_bytes(*it).to_f32()).collect()));
    }
    sets
}

#[test]
fn q4_keeps_more_than_q4_k_and_q8_about_as_much_as_q8_0() {
    for (name, x) in weights() {
        let [q8, q4] = PackedKind::ALL.map(|kind| packed(kind, &x));
        let [q8_0, q4_0, q4_k] =
            [ggml::<BlockQ8_0>(&x), ggml::<BlockQ4_0>(&x), ggml::<BlockQ4K>(&x)];
        let row = format!(
            "{name}: q8 {q8:.5} (q8_0 {q8_0:.5}), q4 {q4:.5} (q4_k {q4_k:.5}, q4_0 {q4_0:.5})"
        );
        assert!(q4 < q4_k && q4 < 0.85 * q4_0, "{row}");
        // A scale for 64 values instead of 32 costs most where single values stand out.
        assert!(q8 < 1.3 * q8_0 && q8 < 0.011, "{row}");
    }
}
