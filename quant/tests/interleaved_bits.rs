//! ggml's integer types as integer kernels read them: the file's own values, and the numerics rule,
//! that every instruction set, number of rows and number of threads gives the bits of the reference.

#![allow(clippy::unwrap_used)]

mod random;

use half::f16;
use minicrit_quant::{
    Bytes, Error, Format, InterleavedTensor, PackedLevel, QuantTensor, Weight, pool::Threads,
};
use proptest::prelude::*;
use random::random;

const FORMATS: [Format; 8] = [
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q5_0,
    Format::Q5_1,
    Format::Q4K,
    Format::Q5K,
    Format::Q6K,
];

/// Any bytes that a file may hold, extremes more often than others, and finite scales.
fn any_stored(format: Format, n: usize, k: usize, seed: u64) -> QuantTensor {
    let len = n * format.row_bytes(k).unwrap();
    let byte = |noise: f32| {
        let value = noise.to_bits() as u8;
        match (seed % 3, value % 4) {
            (0, 0) => 0x80,
            (0, 1) => 0xff,
            (1, _) => value & 0x80 | 0x7f,
            _ => value,
        }
    };
    let mut bytes: Vec<u8> = random(len, seed).into_iter().map(byte).collect();
    let halves: &[usize] = match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q6K => &[208],
        _ => &[0],
    };
    let blocks = bytes.chunks_exact_mut(format.block_bytes());
    for (block, noise) in blocks.zip(random(len, seed ^ 3).chunks_exact(2)) {
        for (at, noise) in halves.iter().zip(noise) {
            block[*at..at + 2].copy_from_slice(&f16::from_f32(noise * 0.01).to_le_bytes());
        }
    }
    QuantTensor::new(format, n, k, Bytes::from(bytes)).unwrap()
}

fn any_weight(format: Format, n: usize, k: usize, seed: u64) -> InterleavedTensor {
    InterleavedTensor::new(&any_stored(format, n, k, seed)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn run(w: &InterleavedTensor, level: PackedLevel, x: &[f32]) -> Vec<f32> {
    let mut y = vec![-1.0; x.len() / w.cols() * w.rows()];
    w.matmul_at(level, x, &mut y);
    y
}

fn rows_at_a_time(w: &InterleavedTensor, level: PackedLevel, x: &[f32], rows: usize) -> Vec<f32> {
    x.chunks(rows * w.cols()).flat_map(|part| run(w, level, part)).collect()
}

#[test]
fn a_files_blocks_come_back_as_they_were() {
    for format in FORMATS {
        for (n, blocks) in [(1, 1), (16, 3), (37, 9), (50, 17)] {
            let k = blocks * format.block_len();
            for seed in 0..3 {
                let stored = any_stored(format, n, k, seed);
                let w = InterleavedTensor::new(&stored).unwrap();
                assert_eq!((w.rows(), w.cols(), w.format()), (n, k, format));
                let rows = stored.bytes().chunks_exact(format.row_bytes(k).unwrap());
                for (row, bytes) in rows.enumerate() {
                    assert_eq!(w.stored_row(row).unwrap(), bytes, "{format} {n} {k} row {row}");
                }
                assert_eq!(&*w.stored_bytes(), stored.bytes());
                assert_eq!(bits(&w.dequantize_rows(0..n).unwrap()), bits(&stored.dequantize()));
            }
        }
    }
}

#[test]
fn memory_is_that_of_the_file() {
    for format in FORMATS {
        for (n, k) in [(896, 4864), (4864, 896), (512, 1536)] {
            let Some(bytes) = format.row_bytes(k).map(|it| n * it) else { continue };
            if k % format.block_len() == 0 {
                let stored = QuantTensor::new(format, n, k, Bytes::from(vec![0; bytes])).unwrap();
                let got = InterleavedTensor::new(&stored).unwrap().byte_len();
                assert!(got as f64 <= 1.05 * bytes as f64, "{format} {n} {k}: {got} of {bytes}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_levels_and_threads_do_not_change_a_bit(
        m in 1usize..70,
        n in 1usize..80,
        blocks in 1usize..28,
        format in prop::sample::select(FORMATS.to_vec()),
        extreme in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let k = format.block_len() * if format.block_len() == 256 { blocks.div_ceil(7) } else { blocks };
        let w = any_weight(format, n, k, seed);
        let mut x = random(m * k, seed ^ 1);
        if extreme {
            // The largest dot products that there can be: all inputs of one size.
            x.iter_mut().for_each(|v| *v = if seed.is_multiple_of(2) { 1.0 } else { v.signum() });
        }
        let whole = run(&w, PackedLevel::Portable, &x);
        prop_assert!(whole.iter().all(|v| v.is_finite()));
        for level in PackedLevel::available() {
            let name = level.name();
            prop_assert_eq!(bits(&run(&w, level, &x)), bits(&whole), "{} m={} n={} k={}", name, m, n, k);
            for rows in [1, 2, 3, 4, 5, 11, 17] {
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
    for format in FORMATS {
        let mut shapes = vec![(270, 33, 1280), (64, 307, 768)];
        if std::env::var("MINICRIT_PROOF").is_ok_and(|it| it == "full") || format == Format::Q5K {
            shapes.extend([(4096, 20, 256), (530, 33, 4864)]);
        }
        for (m, n, k) in shapes {
            let w = any_weight(format, n, k, 5);
            let x = random(m * k, 6);
            let whole = run(&w, PackedLevel::Portable, &x);
            for level in PackedLevel::available() {
                // The reference again would say little and take long.
                let threads = if level == PackedLevel::Portable { &[2][..] } else { &[1, 2, 5] };
                for &threads in threads {
                    let got = Threads::new(threads).unwrap().run(|| run(&w, level, &x));
                    assert!(bits(&got) == bits(&whole), "{format} {} {m} {n} {k}", level.name());
                }
                for rows in [1, 4, 15, 33] {
                    let x = &x[..x.len().min(40 * k)];
                    let parts = rows_at_a_time(&w, level, x, rows);
                    assert!(bits(&parts) == bits(&whole[..parts.len()]), "{format} {rows} rows");
                }
            }
        }
    }
}

/// The reference itself: against float64, from the file's values and the input as it is.
#[test]
fn values_are_as_close_as_the_rounded_input_allows() {
    for format in FORMATS {
        for (n, blocks) in [(1, 1), (17, 3), (40, 11)] {
            let k = blocks * format.block_len();
            for seed in 0..3 {
                let stored = any_stored(format, n, k, seed);
                let w = InterleavedTensor::new(&stored).unwrap();
                let x = random(5 * k, seed + 12);
                let weights = stored.dequantize();
                let limit = if format.block_len() == 256 { 8127.0 } else { 32639.0 };
                for level in PackedLevel::available() {
                    for (i, y) in run(&w, level, &x).into_iter().enumerate() {
                        let (row, out) = (i / n, i % n);
                        let pairs = || x[row * k..][..k].iter().zip(&weights[out * k..][..k]);
                        let want: f64 = pairs().map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                        // Half a step of an input of at most 1 for each column, and what the float
                        // sums and those of the dequantized weight itself round away.
                        let step = 0.5 / limit + 4e-6;
                        let bound: f64 = pairs().map(|(_, &w)| f64::from(w.abs()) * step).sum();
                        let off = (f64::from(y) - want).abs();
                        assert!(off <= bound + minimum_slack(&stored, out), "{format} {y} {want}");
                    }
                }
            }
        }
    }
}

/// Where large products and minima cancel out, the weight itself says little about the rounding.
fn minimum_slack(stored: &QuantTensor, row: usize) -> f64 {
    let has_minimum =
        matches!(stored.format(), Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K);
    let row_bytes = stored.bytes().len() / stored.rows();
    let bytes = &stored.bytes()[row * row_bytes..(row + 1) * row_bytes];
    let most = |at: usize, factor: f64| -> f64 {
        let blocks = bytes.chunks_exact(stored.format().block_bytes());
        blocks
            .map(|it| f64::from(f16::from_le_bytes([it[at], it[at + 1]]).to_f32()).abs() * factor)
            .sum()
    };
    match stored.format() {
        _ if !has_minimum => 0.0,
        // Rounding of float sums, 32 or 256 columns of products of at most the scale times 31 · 63.
        Format::Q4K | Format::Q5K => (most(0, 31.0 * 63.0) + most(2, 63.0)) * 256.0 * 5e-7,
        _ => (most(0, 31.0) + most(2, 1.0)) * 32.0 * 5e-7,
    }
}

/// One column at a time: a wrong place, sign, scale or zero of any value shows.
#[test]
fn every_value_is_multiplied_as_it_is_decoded() {
    for format in FORMATS {
        let (n, k) = (19, 2 * format.block_len() + if format.block_len() == 32 { 32 } else { 0 });
        let stored = any_stored(format, n, k, 2);
        let w = InterleavedTensor::new(&stored).unwrap();
        let weights = stored.dequantize();
        let mut x = vec![0.0; k * k];
        (0..k).for_each(|column| x[column * k + column] = 1.0);
        for level in PackedLevel::available() {
            for rows in [1, k] {
                for (i, y) in rows_at_a_time(&w, level, &x, rows).into_iter().enumerate() {
                    let (column, out) = (i / n, i % n);
                    let want = weights[out * k + column];
                    let slack = 1e-6 * want.abs() + 2e-7 * 20.0;
                    assert!((y - want).abs() <= slack, "{format} {out} {column}: {y} for {want}");
                }
            }
        }
    }
}

#[test]
fn input_that_is_not_finite_marks_its_row_alone() {
    for format in FORMATS {
        let k = 256;
        let w = any_weight(format, 20, k, 1);
        for rows in [3, 9] {
            let good = random(rows * k, 2);
            for level in PackedLevel::available() {
                for bad in [f32::NAN, f32::INFINITY] {
                    let mut x = good.clone();
                    x[k + 77] = bad;
                    let (want, got) = (run(&w, level, &good), run(&w, level, &x));
                    assert!(got[20..40].iter().all(|v| v.is_nan()));
                    assert_eq!((&got[..20], &got[40..]), (&want[..20], &want[40..]));
                }
            }
        }
    }
}

#[test]
fn what_can_not_be_interleaved_has_a_name() {
    let floats = QuantTensor::from_f32(2, 32, &[1.0; 64]).unwrap();
    assert!(matches!(
        InterleavedTensor::new(&floats),
        Err(Error::NotIntegers { format: Format::F32 })
    ));
    assert!(matches!(Weight::resident(floats).unwrap(), Weight::Stored(_)));
    let w = any_weight(Format::Q4K, 3, 256, 1);
    let mut row = vec![0.0; 256];
    assert!(matches!(w.dequantize_row(3, &mut row), Err(Error::RowRange { row: 3, rows: 3 })));
    assert!(matches!(w.dequantize_rows(1..4), Err(Error::RowRange { .. })));
    let none = QuantTensor::new(Format::Q8_0, 0, 32, Bytes::from(Vec::new())).unwrap();
    assert!(
        run(&InterleavedTensor::new(&none).unwrap(), PackedLevel::detected(), &[1.0; 32])
            .is_empty()
    );
}

#[test]
fn a_weight_in_a_mapped_file_is_read_again_after_its_pages_were_given_back() {
    let stored = any_stored(Format::Q4_0, 512, 1024, 4);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weight");
    std::fs::write(&path, stored.bytes()).unwrap();
    let mapped = Bytes::map_file(&path).unwrap();
    let mapped = QuantTensor::new(Format::Q4_0, 512, 1024, mapped).unwrap();
    let resident = Weight::resident(mapped.clone()).unwrap();
    assert_eq!(mapped.bytes(), stored.bytes());
    assert_eq!(bits(&resident.dequantize_rows(0..512).unwrap()), bits(&stored.dequantize()));
}
