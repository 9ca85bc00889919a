//! Int8 and int4 weights in one resident layout, and the kernels that multiply by them.
//!
//! Both kinds keep groups of [`GROUP`] columns, because 64 values fill a row of an AMX tile. A
//! weight is
//! - `q8`: `scale · q`, with `q` in -127..=127 and a half-precision scale for each group;
//! - `q4`: `scale · s · (q - z)`, with `q` in 0..=15, a half-precision scale for each group, and a
//!   factor `s` in 1..=8 and a zero `z` in 0..=15 for each 16 columns of it. `s · (q - z)` fits
//!   eight bits, so both kinds are int8 to the arithmetic,
//!
//! times a power of two for the whole tensor. The input is rounded to int8 for each row and group.
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
pub use tensor::PackedTensor;

/// Columns that share a scale, of the weight and of the input.
pub const GROUP: usize = 64;

/// Outputs in one tile.
const WIDTH: usize = 16;

/// Columns that share a factor and a zero in q4.
const SUB: usize = 16;

/// Consecutive columns in one 32-bit lane.
const QUAD: usize = 4;
