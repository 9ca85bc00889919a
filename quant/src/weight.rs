//! A weight matrix, stored, interleaved or packed: what layers hold.

use std::ops::Range;

use crate::{InterleavedTensor, PackedTensor, QuantTensor, Result};

/// A weight matrix in its stored format, or packed by this crate.
#[derive(Debug, Clone)]
pub enum Weight {
    /// As the file has it; multiplied in float32.
    Stored(QuantTensor),
    /// In int8 or int4; multiplied in integers.
    Packed(PackedTensor),
    /// A file's own integers, in another order; multiplied in integers.
    Interleaved(InterleavedTensor),
}

impl Weight {
    /// A stored matrix in the form that is multiplied fastest without changing a value: integers are
    /// interleaved, floats stay where they are.
    ///
    /// # Errors
    /// [`crate::Error::TooLarge`] or [`crate::Error::Memory`].
    pub fn resident(stored: QuantTensor) -> Result<Self> {
        if !InterleavedTensor::supports(stored.format()) {
            return Ok(stored.into());
        }
        let interleaved = InterleavedTensor::new(&stored)?;
        stored.forget_pages();
        Ok(interleaved.into())
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        match self {
            Weight::Stored(it) => it.rows(),
            Weight::Packed(it) => it.rows(),
            Weight::Interleaved(it) => it.rows(),
        }
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        match self {
            Weight::Stored(it) => it.cols(),
            Weight::Packed(it) => it.cols(),
            Weight::Interleaved(it) => it.cols(),
        }
    }

    /// Bytes of the values.
    pub fn byte_len(&self) -> usize {
        match self {
            Weight::Stored(it) => it.byte_len(),
            Weight::Packed(it) => it.byte_len(),
            Weight::Interleaved(it) => it.byte_len(),
        }
    }

    /// `y = x · wᵀ`; see [`QuantTensor::matmul_into`], [`PackedTensor::matmul_into`] and
    /// [`InterleavedTensor::matmul_into`].
    ///
    /// # Panics
    /// Where the lengths do not fit: a caller's mistake, not a user's.
    pub fn matmul_into(&self, x: &[f32], y: &mut [f32]) {
        match self {
            Weight::Stored(it) => it.matmul_into(x, y),
            Weight::Packed(it) => it.matmul_into(x, y),
            Weight::Interleaved(it) => it.matmul_into(x, y),
        }
    }

    /// Row `row` as float32, into `out` of `cols` values.
    ///
    /// # Errors
    /// [`crate::Error::RowRange`] where there is no such row.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        match self {
            Weight::Stored(it) => it.dequantize_row(row, out),
            Weight::Packed(it) => it.dequantize_row(row, out),
            Weight::Interleaved(it) => it.dequantize_row(row, out),
        }
    }

    /// The rows of `range` as float32, row-major.
    ///
    /// # Errors
    /// [`crate::Error::RowRange`] where the range leaves the tensor.
    pub fn dequantize_rows(&self, range: Range<usize>) -> Result<Vec<f32>> {
        match self {
            Weight::Stored(it) => Ok(it.slice_rows(range)?.dequantize()),
            Weight::Packed(it) => it.dequantize_rows(range),
            Weight::Interleaved(it) => it.dequantize_rows(range),
        }
    }
}

impl From<QuantTensor> for Weight {
    fn from(tensor: QuantTensor) -> Self {
        Weight::Stored(tensor)
    }
}

impl From<PackedTensor> for Weight {
    fn from(tensor: PackedTensor) -> Self {
        Weight::Packed(tensor)
    }
}

impl From<InterleavedTensor> for Weight {
    fn from(tensor: InterleavedTensor) -> Self {
        Weight::Interleaved(tensor)
    }
}
