//! Reference cases made by transformers.

use std::path::{Path, PathBuf};

use minicrit_engine::{load::load_decoder, model::Decoder, sequence::Sequence, source::ModelFiles};
use minicrit_quant::{Bytes, Format, InterleavedTensor, QuantTensor};
use serde_json::Value;

use crate::fixtures_dir;

/// Difference between logits that an honest float32 implementation stays below; the reference
/// itself is within 3e-5 of float64 (fixtures/README.md).
pub const LOGITS_TOLERANCE: f32 = 2e-4;

/// What rounding the inputs of quantized matrices to 16 bits (14 for K-blocks) may add to the
/// difference, as a share of the largest logit: half a step of 1/8,127 of the largest input, through
/// the layers of a small model. 1.4e-4 was seen with 16 bits; 14 are four times coarser, and ggml's
/// own eight another 64 times.
pub const ROUNDED_INPUT_TOLERANCE: f32 = 1e-3;

/// Greedy ids are compared where the two best logits are further apart than this.
pub const GREEDY_MARGIN: f64 = 0.01;

/// One model folder of the fixtures, with what transformers computed for it.
pub struct Fixture {
    /// The folder.
    pub dir: PathBuf,
    /// fixture.json.
    pub facts: Value,
}

impl Fixture {
    /// Opens the folder `name`.
    pub fn open(name: &str) -> Self {
        let dir = fixtures_dir().join(name);
        let facts = read_json(&dir.join("fixture.json"));
        Self { dir, facts }
    }

    /// The ids under `key`.
    pub fn ids(&self, key: &str) -> Vec<u32> {
        let list = self.facts[key].as_array().unwrap_or_else(|| panic!("{key} in fixture.json"));
        list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
    }

    /// A float32 matrix stored by numpy.
    pub fn matrix(&self, file: &str) -> Vec<f32> {
        read_npy(&self.dir.join(file))
    }

    /// The model as its folder has it.
    pub fn decoder(&self) -> Decoder {
        let files = ModelFiles::open(&self.dir).expect("fixture opens");
        load_decoder(&files).expect("fixture loads")
    }

    /// The model with another config file of the folder.
    pub fn decoder_with_config(&self, config: &str) -> Decoder {
        let mut files = ModelFiles::open(&self.dir).expect("fixture opens");
        files.config = read_json(&self.dir.join(config));
        load_decoder(&files).expect("fixture loads")
    }
}

/// `files` with integers widened to float32: the same values, and products of unrounded inputs.
pub fn widened(files: &ModelFiles) -> ModelFiles {
    let mut files = files.clone();
    for tensor in files.tensors.values_mut() {
        if InterleavedTensor::supports(tensor.format) {
            let cols = *tensor.shape.last().expect("dimensions");
            let rows = tensor.shape.iter().product::<usize>() / cols;
            let stored = QuantTensor::new(tensor.format, rows, cols, tensor.bytes.clone());
            let values = stored.expect("a checked tensor").dequantize();
            (tensor.format, tensor.bytes) = (Format::F32, Bytes::from_f32(&values));
        }
    }
    files
}

/// The largest difference of two rows of numbers, or of none.
pub fn largest_difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// How far logits with rounded inputs may be from `want`, beside another tolerance.
pub fn rounded_input_slack(want: &[f32]) -> f32 {
    ROUNDED_INPUT_TOLERANCE * want.iter().fold(0.0, |largest: f32, it| largest.max(it.abs()))
}

/// Logits of every row of `ids`, computed as one complete sequence.
pub fn all_logits(sequence: &mut Sequence, ids: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    sequence
        .extend_complete(ids, &mut |_, row| {
            logits.extend_from_slice(row);
            Ok(())
        })
        .expect("logits");
    logits
}

/// Reads a JSON file.
pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads a little-endian float32 array stored by numpy in version 1 of its format.
pub fn read_npy(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(bytes.starts_with(b"\x93NUMPY\x01"), "{} is not an array", path.display());
    let header = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let text = String::from_utf8_lossy(&bytes[10..10 + header]);
    assert!(text.contains("'<f4'") && text.contains("False"), "{text}");
    bytes[10 + header..]
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
