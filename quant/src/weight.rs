//! A weight matrix, stored, interleaved or packed: what layers hold.

use std::ops::Range;

use crate::{
    InterleavedTensor, PackedTensor, QuantTensor, Result, packed::multiply_all, pool::Shared,
};

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

    /// `x · wᵀ`, as [`Weight::matmul_into`] computes it, in a new buffer.
    ///
    /// # Panics
    /// Where the lengths do not fit: a caller's mistake, not a user's.
    pub fn matmul(&self, x: &[f32]) -> Vec<f32> {
        let [y] = Self::matmul_all([self], x);
        y
    }

    /// Products of several matrices with one input `[m, cols]`, each `[m, rows]`. Packed matrices
    /// share the rounded input and their threads; every bit is that of [`Weight::matmul_into`].
    ///
    /// # Panics
    /// Where the lengths do not fit: a caller's mistake, not a user's.
    pub fn matmul_all<const N: usize>(weights: [&Weight; N], x: &[f32]) -> [Vec<f32>; N] {
        let mut outputs = [const { Vec::new() }; N];
        let mut rooms = outputs.iter_mut().zip(weights).map(|(output, weight)| {
            let cols = weight.cols();
            assert!(cols > 0 && x.len().is_multiple_of(cols), "input length");
            Shared::room(output, x.len() / cols * weight.rows())
        });
        let rooms: [Shared<f32>; N] =
            std::array::from_fn(|_| rooms.next().expect("invariant: one room for each weight"));
        let mut packed = Vec::with_capacity(N);
        for (weight, room) in weights.into_iter().zip(&rooms) {
            match weight {
                Weight::Stored(it) => it.matmul_to(x, room),
                Weight::Packed(it) => packed.push(it.product(room)),
                Weight::Interleaved(it) => it.matmul_to(x, room),
            }
        }
        if !packed.is_empty() {
            multiply_all(&packed, x);
        }
        let lens = rooms.map(|it| it.len());
        for (output, len) in outputs.iter_mut().zip(lens) {
            // SAFETY: there is room for so many, and the products have written each of them.
            unsafe { output.set_len(len) };
        }
        outputs
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
