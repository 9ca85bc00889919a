//! Weights in the formats they are stored in, and the kernels that multiply by them.
//!
//! This crate knows bytes, blocks and matrices. It must not know models, tensor names, files of
//! models, tokens or adapters. Its one promise, on which the whole project stands: **the bits of an
//! output row depend on that row's input and on the weights alone**, never on how many rows share
//! the call, on threads or on the instruction set (see [`kernels`]).
//!
//! ```
//! use minicrit_quant::{Bytes, Format, QuantTensor};
//! let weight = QuantTensor::new(Format::F32, 1, 2, Bytes::from_f32(&[3.0, 4.0]))?;
//! let mut y = [0.0];
//! weight.matmul_into(&[10.0, 1.0], &mut y);
//! assert_eq!(y, [34.0]);
//! # Ok::<(), minicrit_quant::Error>(())
//! ```

mod allocator;
mod amx;
mod blocks;
mod bytes;
pub mod dense;
mod dense_op;
mod encode;
mod error;
mod format;
mod interleaved;
pub mod kernels;
mod op;
mod packed;
pub mod pool;
pub mod roofline;
mod rounded_op;
mod tensor;
mod weight;
mod weight_format;

pub use allocator::keep_freed_memory;
pub use blocks::dequantize_blocks;
pub use bytes::Bytes;
pub use dense_op::{dense_matmul, dense_reference};
pub use error::Error;
pub use format::Format;
pub use interleaved::InterleavedTensor;
pub use op::QuantMatmul;
pub use packed::{PackedHeader, PackedKind, PackedLevel, PackedTensor};
pub use rounded_op::rounded_matmul;
pub use tensor::QuantTensor;
pub use weight::Weight;
pub use weight_format::WeightFormat;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
