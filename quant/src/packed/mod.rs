//! Int8 and int4 weights in one resident layout, and the kernels that multiply by them.
//!
//! Columns come in slices of 64, because so many values fill a row of an AMX tile, and slices in
//! groups of 256 columns: a group's dot product is one integer, and only once in a group do integers
//! become floats. A weight is
//! - `q8`: `scale · q`, with `q` in -128..=127 and a half-precision scale for each group;
//! - `q4`: `scale · s · (q - z)`, with `q` in 0..=15, a half-precision scale for each group, and a
//!   factor `s` in 1..=16 and a zero `z` in 0..=15 for each 16 columns of it. `s · (q - z)` fits
//!   eight bits (steps for which it would not are refused), so both kinds are int8 to the
//!   arithmetic,
//!
//! times a power of two for the whole tensor. Where a matrix has outliers, q8 has groups of 128 or 64
//! columns: the longest for which the weights' error is at most that of ggml's `Q8_0` (32 columns)
//! times the root of two, because rounding its input costs `Q8_0` as much again.
//!
//! The input is rounded for each row and 256 columns. `q4` multiplies by its nearest eight bits, whose
//! error is far below that of the weights. `q8` multiplies by 15 bits, in two planes of eight,
//! because inputs have outliers that weights have not, and eight bits for 256 columns of them would
//! cost more accuracy than the weights do.
//!
//! **One order of arithmetic.** The dot product of a group is an integer, hence exact in any order.
//! Groups are added in rising order, by one formula: `acc = fma(dot · x_scale, w_scale, acc)`. So
//! AMX, AVX-512, AVX2 and the portable code give the same bits, for any number of rows.
//!
//! ```
//! use minicrit_quant::{PackedKind, PackedTensor, QuantTensor};
//! let weight = QuantTensor::from_f32(1, 2, &[127.0, 1.0])?;
//! let packed = PackedTensor::quantize(PackedKind::Q8, &weight)?;
//! let mut y = [0.0];
//! packed.matmul_into(&[127.0, 0.0], &mut y);
//! assert!((y[0] - 127.0 * 127.0).abs() < 100.0);
//! # Ok::<(), minicrit_quant::Error>(())
//! ```

// Lanes and rows of a tile are numbered: one index means the same in several arrays.
#![allow(clippy::needless_range_loop)]

mod activations;
mod amx;
mod avx2;
mod layout;
mod level;
mod matmul;
mod portable;
mod quantize;
mod storage;
mod tensor;
mod vnni;

pub use layout::PackedKind;
pub use level::PackedLevel;
pub(crate) use storage::Storage;
pub(crate) use tensor::multiply_all;
pub use tensor::{PackedHeader, PackedTensor};

/// Columns that one row of an AMX tile holds.
const SLICE: usize = 64;

/// Columns that share a scale of the input, and at most one of the weight.
const MAX_GROUP: usize = 256;

/// Slices that share a scale of the input.
const MAX_SLICES: usize = MAX_GROUP / SLICE;

/// Outputs in one tile.
const WIDTH: usize = 16;

/// Columns that share a factor and a zero in q4.
const SUB: usize = 16;

/// Consecutive columns in one 32-bit lane.
const QUAD: usize = 4;
