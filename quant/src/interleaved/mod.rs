//! ggml's integer types with their values as they are, in a layout that integer kernels read.
//!
//! [`InterleavedTensor`] holds the integers and scales of a file, bit for bit, sixteen outputs side by
//! side, and gives every row's block back as it was. Only the order of the bytes is another one, and
//! the six-bit scales of K-blocks have a byte each, so the whole takes at most 1.03 times the file.
//!
//! Columns come in groups of 256, groups in units of 32. In each of these types a weight is
//! `d · s · (q - z)`, less or more a minimum, with `q` of 4, 5, 6 or 8 bits, a constant `z`, a
//! half-precision `d`, and in K-blocks an integer `s`. So a *span* of columns with the same `d` is one
//! integer to the arithmetic: 32 columns, and in K-blocks as many as fit 32 bits.
//!
//! The input is rounded to integers with a scale for each row and group of 256 columns: of sixteen
//! bits, or fourteen where the weights are K-blocks, whose products have up to 13 bits themselves.
//! That is 257 and 64 times finer than ggml's own rounding to eight bits, and keeps outliers.
//!
//! **One order of arithmetic.** A span's dot product is an integer, hence exact in any order. The
//! rest is one formula, for each group
//! 1. spans in rising order: `t = fma(dot, d, t)`;
//! 2. minima: of `q4_1` and `q5_1` after each span `t = fma(sum of the input, m, t)`; of K-blocks at
//!    the end of the group `t = fma(-(sum of s_min · sums of the input), d_min, t)`;
//! 3. `y = fma(t, scale of the input, y)`.
//!
//! So all instruction sets give the same bits, for any number of rows and threads.
//!
//! ```
//! use minicrit_quant::{Format, InterleavedTensor, QuantTensor};
//! let weight = QuantTensor::from_f32(1, 32, &[1.0; 32])?;
//! let stored = QuantTensor::quantize(Format::Q8_0, &weight, None)?;
//! let interleaved = InterleavedTensor::new(&stored)?;
//! let mut y = [0.0];
//! interleaved.matmul_into(&[1.0; 32], &mut y);
//! assert!((y[0] - 32.0).abs() < 0.1);
//! # Ok::<(), minicrit_quant::Error>(())
//! ```

// Lanes and rows of a tile are numbered: one index means the same in several arrays.
#![allow(clippy::needless_range_loop)]

mod avx2;
mod input;
mod kind;
mod layout;
mod matmul;
mod portable;
mod repack;
mod tensor;
mod vnni;

pub use tensor::InterleavedTensor;

/// Outputs side by side.
const WIDTH: usize = 16;

/// Columns that share a scale of the input.
const GROUP: usize = 256;

/// Columns of a block of the plain types, and of a sub-block of `q4_k` and `q5_k`.
const UNIT: usize = 32;

/// Columns of a sub-block of `q6_k`, the fewest that share a scale.
const SUB: usize = 16;

/// Units of a whole group.
const UNITS: usize = GROUP / UNIT;

/// Bytes that 16 outputs take for four columns.
const LINE: usize = 64;
