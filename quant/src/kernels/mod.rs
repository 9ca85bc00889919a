//! Kernels for each instruction set, and the rule that makes them interchangeable.
//!
//! **One order of arithmetic.** A dot product runs over 16 lanes: lane `l` takes the products at
//! `k = l, l + 16, l + 32, ...` by fused multiply-add, in rising `k`; a tail is padded with zeros;
//! the lanes are then added as a fixed tree. AVX-512 keeps the lanes in one register, AVX2 in two,
//! the portable code in an array: all give the same bits, for any number of rows and threads.
//! Everything else (softmax, norms) is one source, compiled once for each instruction set.

// Lanes and rows of a tile are numbered: one index means the same in several arrays.
#![allow(clippy::needless_range_loop)]

pub mod attend;
mod avx2;
mod avx512;
mod lanes;
mod matmul;
pub(crate) mod portable;
mod register;
pub mod vector;

use std::sync::OnceLock;

pub(crate) use lanes::for_each_level;
pub(crate) use matmul::matmul_to;
pub use matmul::{Matrix, matmul};

/// Lanes of every reduction.
pub const LANES: usize = 16;

/// An instruction set that kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No assumption: the reference. On aarch64 the compiler uses NEON for it.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Level {
    /// The best level that this processor has, found once.
    pub fn detected() -> Level {
        static DETECTED: OnceLock<Level> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            Level::available()
                .last()
                .copied()
                .expect("invariant: the portable level is always there")
        })
    }

    /// Every level that this processor can run, slowest first.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 {
                levels.push(Level::Avx2);
            }
            if avx2 && avx512 {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// Lower-case name, as `doctor` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }
}
