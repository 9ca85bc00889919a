//! The numerics rule: a row's bits depend on that row and on the weights alone.

#![allow(clippy::unwrap_used)]

mod random;

use half::{bf16, f16};
use minicrit_quant::{Bytes, Format, QuantTensor, kernels::Level, pool::Threads};
use proptest::prelude::*;
use random::random;

fn weight(format: Format, n: usize, k: usize, seed: u64) -> QuantTensor {
    let values = random(n * k, seed);
    let bytes: Vec<u8> = match format {
        Format::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        Format::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        Format::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        // Block formats: any bytes are valid; scales are kept finite by clearing exponent bits.
        _ => {
            let len = format.row_bytes(k).unwrap() * n;
            random(len, seed).iter().map(|v| (v.to_bits() >> 3) as u8 & 0xbb).collect()
        }
    };
    QuantTensor::new(format, n, k, Bytes::from(bytes)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn run(w: &QuantTensor, level: Level, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / w.cols() * w.rows()];
    w.matmul_at(level, x, &mut y);
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rows_levels_and_threads_do_not_change_a_bit(
        m in 1usize..70,
        n in 1usize..40,
        k_blocks in 1usize..24,
        k_rest in 0usize..32,
        format in prop::sample::select(Format::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let block = format.block_len();
        let k = if block == 1 { k_blocks * 32 - k_rest.min(31) } else { k_blocks.min(1280 / block) * block };
        let w = weight(format, n, k, seed);
        let x = random(m * k, seed ^ 1);
        let whole = run(&w, Level::Portable, &x);
        prop_assert!(whole.iter().all(|v| v.is_finite()));
        for level in Level::available() {
            prop_assert_eq!(bits(&run(&w, level, &x)), bits(&whole), "{} m={} n={} k={}", level.name(), m, n, k);
            let one_by_one: Vec<f32> = x.chunks(k).flat_map(|row| run(&w, level, row)).collect();
            prop_assert_eq!(bits(&one_by_one), bits(&whole), "{} row by row", level.name());
        }
        for threads in [1, 2, 3] {
            let pool = Threads::new(threads).unwrap();
            let got = pool.run(|| run(&w, Level::detected(), &x));
            prop_assert_eq!(bits(&got), bits(&whole), "{} threads", threads);
        }
    }
}

#[test]
fn large_shapes_with_threads_give_the_same_bits() {
    let w = weight(Format::Bf16, 1003, 896, 5);
    let x = random(130 * 896, 6);
    let whole = run(&w, Level::detected(), &x);
    for threads in [1, 2, 5] {
        let got = Threads::new(threads).unwrap().run(|| run(&w, Level::detected(), &x));
        assert_eq!(bits(&got), bits(&whole), "{threads} threads");
    }
    for rows in [1, 2, 3, 7, 64] {
        let parts: Vec<f32> =
            x.chunks(rows * 896).flat_map(|part| run(&w, Level::detected(), part)).collect();
        assert_eq!(bits(&parts), bits(&whole), "{rows} rows at a time");
    }
}

#[test]
fn values_are_close_to_float64() {
    for format in Format::ALL {
        let w = weight(format, 9, 512, 11);
        let x = random(2 * 512, 12);
        let got = run(&w, Level::detected(), &x);
        let values = w.dequantize();
        for (i, y) in got.iter().enumerate() {
            let (row, out) = (i / 9, i % 9);
            let terms =
                (0..512).map(|j| f64::from(x[row * 512 + j]) * f64::from(values[out * 512 + j]));
            let (want, size) =
                terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + f64::abs(t)));
            let bound = 1e-6 * size + 1e-30;
            assert!((f64::from(*y) - want).abs() <= bound, "{format}: {y} vs {want}");
        }
    }
}
