//! Blocks that we write: read back by another decoder, no worse than ggml's own rounding, and the
//! same bytes on every instruction set.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use candle_core::quantized::k_quants::{
    BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0, GgmlType,
};
use half::bf16;
use minicrit_quant::{Bytes, Error, Format, PackedKind, QuantTensor, WeightFormat, kernels::Level};
use proptest::prelude::*;

const BLOCKS: [Format; 8] = [
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q4K,
    Format::Q5K,
    Format::Q6K,
];

/// Columns of every matrix here.
const COLS: usize = 512;

fn uniform(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    ((*state >> 40) as f32 + 0.5) / (1 << 24) as f32
}

fn gaussian(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut one = || {
        let (a, b) = (uniform(&mut state), uniform(&mut state));
        (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
    };
    (0..n).map(|_| one()).collect()
}

fn trained(name: &str) -> Vec<f32> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/nano/model.safetensors");
    let bytes = std::fs::read(model).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(&format!("model.{name}.weight")).unwrap().data().to_vec();
    data.as_chunks::<2>().0.iter().map(|it| bf16::from_le_bytes(*it).to_f32()).collect()
}

fn matrix(values: &[f32]) -> QuantTensor {
    QuantTensor::from_f32(values.len() / COLS, COLS, values).unwrap()
}

fn squared_error(want: &[f32], got: &[f32]) -> f64 {
    want.iter().zip(got).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

/// Blocks as candle writes them, whose rounding is a port of ggml's.
fn ggml_bytes<T: GgmlType + Clone>(x: &[f32]) -> Vec<u8> {
    let mut blocks = vec![T::zeros(); x.len() / T::BLCK_SIZE];
    T::from_float(x, &mut blocks);
    let len = size_of_val(&blocks[..]);
    // SAFETY: blocks are plain numbers without padding; their bytes are what a file holds.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), len) }.to_vec()
}

/// What candle reads from our bytes.
fn ggml_values<T: GgmlType + Clone>(bytes: &[u8]) -> Vec<f32> {
    let mut blocks = vec![T::zeros(); bytes.len() / size_of::<T>()];
    // SAFETY: as above, the other way round; any bytes are a block.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), blocks.as_mut_ptr().cast(), bytes.len());
    }
    let mut values = vec![0.0; blocks.len() * T::BLCK_SIZE];
    T::to_float(&blocks, &mut values);
    values
}

fn by_ggml(format: Format, x: &[f32]) -> Vec<u8> {
    match format {
        Format::Q8_0 => ggml_bytes::<BlockQ8_0>(x),
        Format::Q4_0 => ggml_bytes::<BlockQ4_0>(x),
        Format::Q4_1 => ggml_bytes::<BlockQ4_1>(x),
        Format::Q5_0 => ggml_bytes::<BlockQ5_0>(x),
        Format::Q5_1 => ggml_bytes::<BlockQ5_1>(x),
        Format::Q4K => ggml_bytes::<BlockQ4K>(x),
        Format::Q5K => ggml_bytes::<BlockQ5K>(x),
        Format::Q6K => ggml_bytes::<BlockQ6K>(x),
        _ => unreachable!(),
    }
}

fn read_by_ggml(format: Format, bytes: &[u8]) -> Vec<f32> {
    match format {
        Format::Q8_0 => ggml_values::<BlockQ8_0>(bytes),
        Format::Q4_0 => ggml_values::<BlockQ4_0>(bytes),
        Format::Q4_1 => ggml_values::<BlockQ4_1>(bytes),
        Format::Q5_0 => ggml_values::<BlockQ5_0>(bytes),
        Format::Q5_1 => ggml_values::<BlockQ5_1>(bytes),
        Format::Q4K => ggml_values::<BlockQ4K>(bytes),
        Format::Q5K => ggml_values::<BlockQ5K>(bytes),
        Format::Q6K => ggml_values::<BlockQ6K>(bytes),
        _ => unreachable!(),
    }
}

fn weights() -> Vec<(&'static str, Vec<f32>)> {
    let mut outliers = gaussian(1 << 15, 9);
    outliers.iter_mut().step_by(97).for_each(|it| *it *= 6.0);
    vec![
        ("gaussian", gaussian(1 << 15, 7)),
        ("outliers", outliers),
        ("shifted", gaussian(1 << 15, 5).iter().map(|it| 0.02 * (it + 1.5)).collect()),
        ("gate", trained("layers.2.mlp.gate_proj")),
        ("down", trained("layers.3.mlp.down_proj")),
    ]
}

#[test]
fn no_worse_than_ggml_and_read_back_alike() {
    for (name, x) in weights() {
        for format in BLOCKS {
            let ours = QuantTensor::quantize(format, &matrix(&x), None).unwrap();
            let got = ours.dequantize();
            let others = read_by_ggml(format, ours.bytes());
            let close = got.iter().zip(&others).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs());
            assert!(close, "{name} {format}: another decoder reads other values");
            let theirs =
                QuantTensor::new(format, x.len() / COLS, COLS, Bytes::from(by_ggml(format, &x)));
            let (ours, theirs) =
                (squared_error(&x, &got), squared_error(&x, &theirs.unwrap().dequantize()));
            println!("{name} {format}: {:.4} of ggml's squared error", ours / theirs);
            assert!(ours <= theirs, "{name} {format}: {ours} against {theirs}");
        }
    }
}

#[test]
fn importance_moves_the_error_away_from_what_matters() {
    let x = gaussian(1 << 15, 3);
    let mut state = 11;
    let importance: Vec<f32> = (0..COLS).map(|_| uniform(&mut state).powi(4)).collect();
    let weighted = |values: &[f32]| -> f64 {
        let squares = x.iter().zip(values).map(|(a, b)| f64::from(a - b).powi(2));
        squares.zip(importance.iter().cycle()).map(|(e, &w)| e * f64::from(w)).sum()
    };
    for format in BLOCKS {
        let quantize = |importance: Option<&[f32]>| {
            QuantTensor::quantize(format, &matrix(&x), importance).unwrap().dequantize()
        };
        let (with, without) = (weighted(&quantize(Some(&importance))), weighted(&quantize(None)));
        let most = if format == Format::Q8_0 { 0.99 } else { 0.9 };
        assert!(with < most * without, "{format}: {with} against {without}");
        // Equal importance is none.
        assert_eq!(quantize(Some(&vec![3.0; COLS])), quantize(Some(&vec![0.25; COLS])));
    }
    for kind in PackedKind::ALL {
        let quantize = |importance: Option<&[f32]>| {
            let packed = WeightFormat::Packed(kind).quantize(&matrix(&x), importance).unwrap();
            packed.dequantize_rows(0..packed.rows()).unwrap()
        };
        let (with, without) = (weighted(&quantize(Some(&importance))), weighted(&quantize(None)));
        let most = if kind == PackedKind::Q8 { 1.0 } else { 0.95 };
        assert!(with < most * without, "{kind}: {with} against {without}");
    }
}

#[test]
fn every_level_writes_the_same_bytes() {
    let x = &weights()[1].1[..4 * COLS];
    for format in Format::ALL {
        let want = QuantTensor::quantize_at(Level::Portable, format, &matrix(x), None).unwrap();
        for level in Level::available() {
            let got = QuantTensor::quantize_at(level, format, &matrix(x), None).unwrap();
            assert!(got.bytes() == want.bytes(), "{format} at {}", level.name());
        }
    }
}

#[test]
fn zeros_constants_and_small_numbers_come_back() {
    for value in [0.0, 1.0, -1.0, 0.37, -4.2e4, 1e-3, 1e-20, -1e-38, 65504.0] {
        let x = vec![value; COLS];
        for format in BLOCKS {
            let got = QuantTensor::quantize(format, &matrix(&x), None).unwrap().dequantize();
            // Half precision steps by 6e-8 next to zero; K types multiply that by up to 63 · 31.
            let most = 2e-3 * f32::abs(value) + 3e-8 * 63.0 * 31.0;
            let all = got.iter().all(|it| (it - value).abs() <= most);
            assert!(all, "{format} of {value}: {}", got[0]);
        }
    }
}

#[test]
fn values_that_no_format_holds_are_refused() {
    for format in Format::ALL {
        for (bad, named) in [(f32::NAN, true), (f32::NEG_INFINITY, true), (3.4e38, false)] {
            let mut x = vec![1.0; 2 * COLS];
            x[COLS + 7] = bad;
            let error = QuantTensor::quantize(format, &matrix(&x), None);
            match error {
                Err(Error::NotFinite { row: 1 }) => assert!(named),
                Err(Error::TooWide { row: 1, .. }) => assert!(!named),
                Ok(_) => assert!(!named && matches!(format, Format::F32 | Format::Bf16)),
                other => panic!("{format} of {bad}: {other:?}"),
            }
        }
    }
    let one = QuantTensor::from_f32(1, 32, &[1.0; 32]).unwrap();
    let refused = QuantTensor::quantize(Format::Q4K, &one, None);
    assert!(matches!(refused, Err(Error::RowBlocks { cols: 32, block: 256, .. })));
    for bad in [vec![1.0; 31], vec![-1.0; 32], vec![f32::NAN; 32]] {
        let refused = QuantTensor::quantize(Format::Q4_0, &one, Some(&bad));
        assert!(matches!(refused, Err(Error::Importance { cols: 32, .. })));
    }
    let none = QuantTensor::from_f32(0, 32, &[]).unwrap();
    assert!(matches!(QuantTensor::quantize(Format::F16, &none, None), Err(Error::Empty { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_finite_block_stays_finite(bits in prop::collection::vec(any::<u32>(), 512)) {
        let clip = |bits: u32| {
            let value = f32::from_bits(bits);
            if value.is_finite() { value.clamp(-65504.0, 65504.0) } else { 0.0 }
        };
        let x: Vec<f32> = bits.into_iter().map(clip).collect();
        for format in BLOCKS {
            let got = QuantTensor::quantize(format, &matrix(&x), None).unwrap().dequantize();
            prop_assert!(got.iter().all(|it| it.is_finite()), "{format}");
        }
    }
}
