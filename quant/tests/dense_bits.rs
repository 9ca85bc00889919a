//! Dense bfloat16 products: every level, shape and number of threads gives the bits of the formula
//! written down in `quant/src/dense/mod.rs`.

#![allow(clippy::unwrap_used)]

mod random;

use std::sync::Mutex;

use half::bf16;
use minicrit_quant::{
    Bytes, Format, PackedKind, PackedTensor, QuantTensor, Weight,
    dense::{DenseLevel, Matrix, Right, Tiles, product, product_into, sum_over_rows},
    kernels::Level,
    pool::Threads,
};
use random::random;

fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|it| bf16::from_f32(*it).to_f32()).collect()
}

/// The formula, for terms that come in parts, each padded to blocks of 32.
fn formula(parts: &[(Vec<f32>, Vec<f32>)]) -> f32 {
    let mut sum = 0.0f32;
    for (a, b) in parts {
        for (a, b) in a.chunks(32).zip(b.chunks(32)) {
            let mut chains = [0.0f32; 2];
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                chains[i % 2] = a.mul_add(*b, chains[i % 2]);
            }
            sum += chains[0] + chains[1];
        }
    }
    sum
}

fn bf16_weight(rows: usize, cols: usize, values: &[f32]) -> Weight {
    let bytes: Vec<u8> = values.iter().flat_map(|it| bf16::from_f32(*it).to_le_bytes()).collect();
    QuantTensor::new(Format::Bf16, rows, cols, Bytes::from(bytes)).unwrap().into()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|it| it.to_bits()).collect()
}

/// Rows, inputs, outputs.
const SHAPES: [(usize, usize, usize); 6] =
    [(1, 8, 5), (33, 40, 70), (64, 96, 64), (100, 1100, 33), (500, 64, 320), (70, 2100, 40)];

#[test]
fn rows_and_columns_have_the_bits_of_the_formula() {
    for (t, inputs, outputs) in SHAPES {
        let (x, w) = (rounded(&random(t * inputs, 1)), rounded(&random(outputs * inputs, 2)));
        let g = rounded(&random(t * outputs, 3));
        let weight = bf16_weight(outputs, inputs, &w);
        let weight = Matrix::Weight(&weight);
        let column = |i: usize| (0..outputs).map(|o| w[o * inputs + i]).collect::<Vec<_>>();
        // A part of all elements, but of every block.
        let checked = |n: usize| (0..n).filter(move |i| n < 40 || i % 13 == 0 || i + 1 == n);
        for level in DenseLevel::available() {
            for threads in [1, 3] {
                let threads = Threads::new(threads).unwrap();
                let run = |values: &[f32], cols: usize, right: &Right<'_>, out_cols: usize| {
                    let left = Tiles::from_rows(level.float(), values, cols);
                    let mut y = vec![f32::NAN; t * out_cols];
                    let terms = 0..left.col_blocks();
                    threads.run(|| {
                        product_into(level, &left, terms, right, false, &mut y, out_cols);
                    });
                    y
                };
                let y = run(&x, inputs, &Right::rows(weight), outputs);
                let dx = run(&g, outputs, &Right::Columns(vec![weight]), inputs);
                for r in checked(t) {
                    for o in checked(outputs) {
                        let (a, b) = (&x[r * inputs..][..inputs], &w[o * inputs..][..inputs]);
                        let want = formula(&[(a.to_vec(), b.to_vec())]);
                        let got = y[r * outputs + o];
                        assert_eq!(got.to_bits(), want.to_bits(), "{level:?} {t} {r} {o}");
                    }
                    for i in checked(inputs) {
                        let want = formula(&[(g[r * outputs..][..outputs].to_vec(), column(i))]);
                        let got = dx[r * inputs + i];
                        assert_eq!(got.to_bits(), want.to_bits(), "{level:?} {t} {r} {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn matrices_stand_beside_and_below_each_other() {
    let (t, inputs, r) = (40, 48, 20);
    let outputs = [64, 33];
    let x = rounded(&random(t * inputs, 1));
    let h = rounded(&random(t * r, 2));
    let weights: Vec<Vec<f32>> =
        outputs.iter().map(|&o| rounded(&random(o * inputs, 3 + o as u64))).collect();
    let low: Vec<Vec<f32>> =
        outputs.iter().map(|&o| rounded(&random(o * r, 5 + o as u64))).collect();
    let stored: Vec<Weight> =
        outputs.iter().zip(&weights).map(|(&o, w)| bf16_weight(o, inputs, w)).collect();
    let low_bits: Vec<Vec<u16>> =
        low.iter().map(|it| it.iter().map(|v| bf16::from_f32(*v).to_bits()).collect()).collect();
    let part = |i: usize| {
        let beside = Matrix::Rounded { cols: r, values: &low_bits[i] };
        (Matrix::Weight(&stored[i]), Some(beside))
    };
    let right = Right::Rows { parts: vec![part(0), part(1)], alternate: false };
    for level in DenseLevel::available() {
        let mut left = Tiles::zeros(t, 3);
        left.set_columns(level.float(), 0, &x, inputs);
        left.copy_columns(2, &Tiles::from_rows(level.float(), &h, r));
        assert_eq!((right.panels(), right.steps()), (4, 3));
        let y = Mutex::new(vec![f32::NAN; t * 128]);
        product(level, &left, 0..3, &right, 1, |it| {
            let mut y = y.lock().unwrap();
            for (i, sum) in it.sums[0].0.iter().enumerate() {
                let row = it.row_block * 32 + i / 32;
                if row < t {
                    y[row * 128 + it.panel * 32 + i % 32] = *sum;
                }
            }
        });
        let y = y.into_inner().unwrap();
        for row in 0..t {
            for (part, first) in [(0, 0), (1, 64)] {
                for o in 0..outputs[part] {
                    let main = (
                        x[row * inputs..][..inputs].to_vec(),
                        weights[part][o * inputs..][..inputs].to_vec(),
                    );
                    let beside = (h[row * r..][..r].to_vec(), low[part][o * r..][..r].to_vec());
                    let want = formula(&[main, beside]);
                    assert_eq!(y[row * 128 + first + o].to_bits(), want.to_bits(), "{level:?}");
                }
            }
        }
    }
}

#[test]
fn sums_over_rows_have_the_bits_of_the_formula() {
    for (t, a_cols, b_cols) in [(1, 3, 5), (70, 16, 33), (600, 40, 64)] {
        let (a, b) = (rounded(&random(t * a_cols, 1)), rounded(&random(t * b_cols, 2)));
        for level in DenseLevel::available() {
            let left = Tiles::from_rows(level.float(), &a, a_cols);
            let right = Tiles::from_rows(level.float(), &b, b_cols);
            for range in [0..a_cols, a_cols / 2..a_cols] {
                let mut out = vec![f32::NAN; range.len() * b_cols];
                sum_over_rows(level, &left, range.clone(), &right, 0..b_cols, &mut out);
                for (i, ca) in range.enumerate() {
                    for cb in 0..b_cols {
                        let column = |x: &[f32], cols: usize, c: usize| {
                            (0..t).map(|r| x[r * cols + c]).collect::<Vec<_>>()
                        };
                        let want = formula(&[(column(&a, a_cols, ca), column(&b, b_cols, cb))]);
                        assert_eq!(out[i * b_cols + cb].to_bits(), want.to_bits(), "{level:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn packed_weights_are_rounded_to_bfloat16_as_they_are_decoded() {
    let (t, inputs, outputs) = (40, 192, 70);
    let x = rounded(&random(t * inputs, 1));
    let stored = QuantTensor::from_f32(outputs, inputs, &random(outputs * inputs, 2)).unwrap();
    for kind in PackedKind::ALL {
        let packed = PackedTensor::quantize(kind, &stored).unwrap();
        let decoded = packed.dequantize_rows(0..outputs).unwrap();
        let (packed, plain) = (Weight::from(packed), bf16_weight(outputs, inputs, &decoded));
        let run = |weight: &Weight| {
            let left = Tiles::from_rows(Level::detected(), &x, inputs);
            let mut y = vec![0.0; t * outputs];
            let right = Right::rows(Matrix::Weight(weight));
            product_into(DenseLevel::detected(), &left, 0..6, &right, false, &mut y, outputs);
            y
        };
        assert_eq!(bits(&run(&packed)), bits(&run(&plain)), "{kind}");
    }
}
