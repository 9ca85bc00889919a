//! The numerics rule for packed weights: every instruction set, number of rows and number of
//! threads gives the bits of the portable reference.

#![allow(clippy::unwrap_used)]

mod random;

use minicrit_quant::{
    Bytes, Error, Format, PackedHeader, PackedKind, PackedLevel, PackedTensor, QuantTensor, Weight,
    pool::Threads,
};
use proptest::prelude::*;
use random::random;

/// Any bytes that the format allows, not only those that the quantizer would write.
fn any_weight(kind: PackedKind, n: usize, k: usize, seed: u64) -> PackedTensor {
    // One large value in so many makes the groups of q8 shorter.
    let every = [usize::MAX, 200, 40][seed as usize % 3];
    let mut values = random(n * k, seed);
    values.iter_mut().step_by(every).for_each(|it| *it *= 9.0);
    let quantized =
        PackedTensor::quantize(kind, &QuantTensor::from_f32(n, k, &values).unwrap()).unwrap();
    let group = quantized.header().group;
    let mut bytes = quantized.bytes().to_vec();
    let scale_bytes = (k.div_ceil(group) * 32).next_multiple_of(64);
    let step_bytes = if kind == PackedKind::Q4 { k.div_ceil(64) * 64 } else { 0 };
    let tile_bytes = bytes.len() / n.div_ceil(16);
    for (i, (byte, noise)) in bytes.iter_mut().zip(random(n * k * 2 + 4096, seed ^ 7)).enumerate() {
        let (place, value) = (i % tile_bytes, noise.to_bits() as u8);
        if place >= scale_bytes + step_bytes {
            // Extremes are frequent: -128, 127, 0 and full nibbles.
            *byte = match value % 5 {
                0 => 0x80,
                1 => 0x7f,
                2 => 0xff,
                _ => value,
            };
        } else if place >= scale_bytes {
            let (s, z) = (i32::from(value & 15) + 1, i32::from(value >> 4));
            let fits = s * z <= 128 && s * (15 - z) <= 127;
            // The largest factor there is.
            *byte = if fits { value } else { 0x8f };
        }
    }
    PackedTensor::from_bytes(&quantized.header(), &bytes).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn run(w: &PackedTensor, level: PackedLevel, x: &[f32]) -> Vec<f32> {
    let mut y = vec![-1.0; x.len() / w.cols() * w.rows()];
    w.matmul_at(level, x, &mut y);
    y
}

fn rows_at_a_time(w: &PackedTensor, level: PackedLevel, x: &[f32], rows: usize) -> Vec<f32> {
    x.chunks(rows * w.cols()).flat_map(|part| run(w, level, part)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn rows_levels_and_threads_do_not_change_a_bit(
        m in 1usize..90,
        n in 1usize..100,
        k in 1usize..900,
        kind in prop::sample::select(PackedKind::ALL.to_vec()),
        extreme in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let w = any_weight(kind, n, k, seed);
        let mut x = random(m * k, seed ^ 1);
        if extreme {
            x.iter_mut().for_each(|v| *v = v.signum());
        }
        let whole = run(&w, PackedLevel::Portable, &x);
        prop_assert!(whole.iter().all(|v| v.is_finite()));
        for level in PackedLevel::available() {
            let name = level.name();
            prop_assert_eq!(bits(&run(&w, level, &x)), bits(&whole), "{} m={} n={} k={}", name, m, n, k);
            for rows in [1, 5, 16, 17] {
                let parts = rows_at_a_time(&w, level, &x, rows);
                prop_assert_eq!(bits(&parts), bits(&whole), "{} {} rows", name, rows);
            }
        }
        for threads in [1, 3] {
            let got = Threads::new(threads).unwrap().run(|| run(&w, PackedLevel::detected(), &x));
            prop_assert_eq!(bits(&got), bits(&whole), "{} threads", threads);
        }
    }
}

#[test]
fn large_shapes_give_the_same_bits() {
    for kind in PackedKind::ALL {
        for (m, n, k) in [(4096, 40, 200), (1100, 300, 1000), (530, 33, 4864), (64, 1003, 896)] {
            let w = any_weight(kind, n, k, 5);
            let x = random(m * k, 6);
            let whole = run(&w, PackedLevel::Portable, &x);
            for level in PackedLevel::available() {
                for threads in [1, 2, 5] {
                    let got = Threads::new(threads).unwrap().run(|| run(&w, level, &x));
                    assert!(bits(&got) == bits(&whole), "{kind} {} {m} {n} {k}", level.name());
                }
                for rows in [1, 4, 15, 33] {
                    let x = &x[..x.len().min(100 * k)];
                    let parts = rows_at_a_time(&w, level, x, rows);
                    assert!(bits(&parts) == bits(&whole[..parts.len()]), "{kind} {rows} rows");
                }
            }
        }
    }
}

/// The reference itself: against float64, from the dequantized weights and the input as it is.
#[test]
fn values_are_as_close_as_eight_bits_of_input_allow() {
    for kind in PackedKind::ALL {
        for (n, k) in [(1, 1), (17, 63), (16, 64), (40, 333), (5, 2048)] {
            let w = any_weight(kind, n, k, 11);
            let x = random(3 * k, 12);
            let weights = w.dequantize_rows(0..n).unwrap();
            for level in PackedLevel::available() {
                for (i, y) in run(&w, level, &x).into_iter().enumerate() {
                    let (row, out) = (i / n, i % n);
                    let pairs = || x[row * k..][..k].iter().zip(&weights[out * k..][..k]);
                    let want: f64 = pairs().map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                    // Half a step of 1/127 of an input of at most 1 for each column, and for q8
                    // half a step of 1/256 of that, or a whole one at a tie.
                    let step = if kind == PackedKind::Q8 { 1.0 / 256.0 } else { 0.5 } / 127.0;
                    let bound: f64 =
                        pairs().map(|(_, &w)| f64::from(w.abs()) * (step + 1e-6)).sum();
                    assert!((f64::from(y) - want).abs() <= bound, "{kind} {y} {want}");
                }
            }
        }
    }
}

#[test]
fn rows_are_decoded_as_they_are_multiplied() {
    for kind in PackedKind::ALL {
        let (n, k) = (37, 150);
        let w =
            PackedTensor::quantize(kind, &QuantTensor::from_f32(n, k, &random(n * k, 3)).unwrap())
                .unwrap();
        let mut row = vec![0.0; k];
        for column in 0..k {
            // A single 127 is rounded to itself exactly.
            let mut x = vec![0.0; k];
            x[column] = 127.0;
            let y = run(&w, PackedLevel::detected(), &x);
            for (out, y) in y.iter().enumerate() {
                w.dequantize_row(out, &mut row).unwrap();
                assert_eq!(*y, 127.0 * row[column], "{kind} {out} {column}");
            }
        }
        let rows = w.dequantize_rows(5..9).unwrap();
        w.dequantize_row(6, &mut row).unwrap();
        assert_eq!(rows[k..2 * k], row);
        assert!(matches!(w.dequantize_row(n, &mut row), Err(Error::RowRange { .. })));
        assert!(matches!(w.dequantize_rows(5..n + 1), Err(Error::RowRange { .. })));
    }
}

#[test]
fn input_that_is_not_finite_marks_its_row_alone() {
    for kind in PackedKind::ALL {
        let w = any_weight(kind, 20, 130, 1);
        let good = random(3 * 130, 2);
        for level in PackedLevel::available() {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = good.clone();
                x[130 + 77] = bad;
                let (want, got) = (run(&w, level, &good), run(&w, level, &x));
                assert!(got[20..40].iter().all(|v| v.is_nan()));
                assert_eq!((&got[..20], &got[40..]), (&want[..20], &want[40..]));
            }
        }
    }
}

#[test]
fn every_scale_of_weights_is_kept() {
    for kind in PackedKind::ALL {
        for size in [1e-25f32, 1e-10, 1.0, 1e10, 1e30] {
            let values: Vec<f32> = random(4 * 128, 9).iter().map(|v| v * size).collect();
            let w = PackedTensor::quantize(kind, &QuantTensor::from_f32(4, 128, &values).unwrap())
                .unwrap();
            let back = w.dequantize_rows(0..4).unwrap();
            for (a, b) in values.iter().zip(back) {
                assert!((a - b).abs() <= 0.15 * size, "{kind} {size}: {a} {b}");
            }
        }
        let zeros = QuantTensor::from_f32(2, 3, &[0.0; 6]).unwrap();
        let w = PackedTensor::quantize(kind, &zeros).unwrap();
        assert_eq!(w.dequantize_rows(0..2).unwrap(), [0.0; 6]);
        assert_eq!(run(&w, PackedLevel::detected(), &[1.0, 2.0, 3.0]), [0.0, 0.0]);
    }
}

#[test]
fn bad_input_has_a_name() {
    let quantize = |rows, cols, values: &[f32]| {
        PackedTensor::quantize(PackedKind::Q8, &QuantTensor::from_f32(rows, cols, values).unwrap())
    };
    assert!(matches!(quantize(0, 4, &[]), Err(Error::Empty { rows: 0, cols: 4 })));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![1.0; 40 * 3];
        values[35 * 3 + 1] = bad;
        values[38 * 3 + 1] = bad;
        assert!(matches!(quantize(40, 3, &values), Err(Error::NotFinite { row: 35 })));
    }
    let half = Bytes::from(vec![0x00, 0x7c]);
    let infinite = QuantTensor::new(Format::F16, 1, 1, half).unwrap();
    let got = PackedTensor::quantize(PackedKind::Q4, &infinite);
    assert!(matches!(got, Err(Error::NotFinite { row: 0 })));

    let w = quantize(3, 300, &random(900, 1)).unwrap();
    let (header, bytes) = (w.header(), w.bytes());
    let load = |rows, cols, factor, bytes: &[u8]| {
        PackedTensor::from_bytes(&PackedHeader { rows, cols, factor, ..header }, bytes).map(|_| ())
    };
    let factor = w.factor();
    for group in [0, 32, 65, 512] {
        let got = PackedTensor::from_bytes(&PackedHeader { group, ..header }, bytes);
        assert!(matches!(got, Err(Error::PackedGroup { .. })), "{group}");
    }
    assert!(load(3, 300, factor, bytes).is_ok());
    assert!(matches!(load(0, 300, factor, bytes), Err(Error::Empty { .. })));
    assert!(matches!(load(3, 0, factor, bytes), Err(Error::Empty { .. })));
    assert!(matches!(load(17, 300, factor, bytes), Err(Error::PackedLen { .. })));
    assert!(matches!(load(3, 300, factor, &bytes[1..]), Err(Error::PackedLen { .. })));
    assert!(matches!(load(usize::MAX, usize::MAX, factor, bytes), Err(Error::TooLarge { .. })));
    for bad in [0.0, -1.0, 3.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(load(3, 300, bad, bytes), Err(Error::PackedFactor { .. })), "{bad}");
    }
    let mut broken = bytes.to_vec();
    broken[32 + 2 * 2..32 + 2 * 3].copy_from_slice(&[0x00, 0x7c]);
    assert!(matches!(load(3, 300, factor, &broken), Err(Error::PackedScale { row: 2, group: 1 })));

    let q4 = QuantTensor::from_f32(20, 70, &random(1400, 1)).unwrap();
    let q4 = PackedTensor::quantize(PackedKind::Q4, &q4).unwrap();
    let mut broken = q4.bytes().to_vec();
    // Second tile, past its scales, second slice: output 3, the first 16 columns.
    let at = broken.len() / 2 + 64 + 64 + 3 * 4;
    broken[at] = 0xff;
    let got = PackedTensor::from_bytes(&q4.header(), &broken);
    assert!(matches!(got, Err(Error::PackedStep { row: 19, step: 0xff })));
}

/// Products of one input, rounded once for all of them, have the bits of each product alone, also
/// where one kind multiplies more bits of the input than the other.
#[test]
fn products_of_one_input_are_those_of_each_alone() {
    let (rows, cols) = (21, 300);
    let stored = QuantTensor::from_f32(rows, cols, &random(rows * cols, 1)).unwrap();
    let [q8, q4]: [Weight; 2] =
        PackedKind::ALL.map(|kind| PackedTensor::quantize(kind, &stored).unwrap().into());
    let stored = Weight::from(stored);
    for m in [1, 2, 9, 33] {
        let x = random(m * cols, 5);
        let all = [&q4, &q8, &stored, &q4];
        for (got, weight) in Weight::matmul_all(all, &x).into_iter().zip(all) {
            let mut want = vec![0.0; m * rows];
            weight.matmul_into(&x, &mut want);
            assert_eq!(bits(&got), bits(&want), "{m} rows");
        }
    }
}
