//! A weight matrix in its stored format.

use std::ops::Range;

use crate::{
    Bytes, Error, Format, Result,
    blocks::dequantize_blocks,
    kernels::{self, Level},
    pool,
};

/// An immutable `[rows, cols]` matrix in one [`Format`]; rows are outputs, columns are inputs.
/// Cloning and slicing by rows share the bytes.
#[derive(Debug, Clone)]
pub struct QuantTensor {
    format: Format,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    bytes: Bytes,
}

impl QuantTensor {
    /// Checks that `bytes` hold exactly `rows x cols` values in `format`.
    ///
    /// # Errors
    /// [`Error::RowBlocks`], [`Error::TooLarge`] or [`Error::ByteLen`].
    pub fn new(format: Format, rows: usize, cols: usize, bytes: Bytes) -> Result<Self> {
        let block = format.block_len();
        if cols == 0 || !cols.is_multiple_of(block) {
            return Err(Error::RowBlocks { format, block, cols });
        }
        let too_large = Error::TooLarge { rows, cols };
        let Some(row_bytes) = format.row_bytes(cols) else { return Err(too_large) };
        let Some(expected) = row_bytes.checked_mul(rows) else { return Err(too_large) };
        if bytes.len() != expected {
            return Err(Error::ByteLen { format, rows, cols, expected, got: bytes.len() });
        }
        Ok(Self { format, rows, cols, row_bytes, bytes })
    }

    /// A float32 matrix of `values`, row-major.
    ///
    /// # Errors
    /// [`Error::ByteLen`] where the lengths do not fit.
    pub fn from_f32(rows: usize, cols: usize, values: &[f32]) -> Result<Self> {
        Self::new(Format::F32, rows, cols, Bytes::from_f32(values))
    }

    /// How the values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of the values, which is all the memory that the matrix takes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The stored bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The stored bytes, shared.
    pub fn shared_bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Gives the memory of mapped bytes back to the system, which reads them again from the file
    /// where they are still asked for. Other bytes stay.
    pub(crate) fn forget_pages(&self) {
        self.bytes.forget_pages();
    }

    /// The rows of `range`, sharing the bytes.
    ///
    /// # Errors
    /// [`Error::RowRange`] where the range leaves the tensor.
    pub fn slice_rows(&self, range: Range<usize>) -> Result<Self> {
        let out = Error::RowRange { row: range.end, rows: self.rows };
        if range.start > range.end {
            return Err(out);
        }
        let at = range.start * self.row_bytes..range.end * self.row_bytes;
        let Some(bytes) = self.bytes.slice(at) else { return Err(out) };
        Ok(Self { rows: range.len(), bytes, ..self.clone() })
    }

    /// Row `row` as float32, into `out` of `cols` values.
    ///
    /// # Errors
    /// [`Error::RowRange`] where there is no such row.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        if row >= self.rows {
            return Err(Error::RowRange { row, rows: self.rows });
        }
        let bytes = &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes];
        dequantize_blocks(self.format, bytes, out);
        Ok(())
    }

    /// Every value as float32, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        dequantize_blocks(self.format, &self.bytes, &mut values);
        values
    }

    /// `y = x · wᵀ`: `x` is `[m, cols]`, `y` is `[m, rows]`, row-major. Threads are those of
    /// [`crate::pool`]; a row of `y` has the same bits whatever `m` is.
    ///
    /// # Panics
    /// Where the lengths do not fit: a caller's mistake, not a user's.
    pub fn matmul_into(&self, x: &[f32], y: &mut [f32]) {
        self.matmul_at(Level::detected(), x, y);
    }

    /// [`QuantTensor::matmul_into`] with the kernels of `level` (or of the best level that the
    /// processor has, where that is lower). All levels give the same bits.
    pub fn matmul_at(&self, level: Level, x: &[f32], y: &mut [f32]) {
        kernels::matmul(level, self.matrix(), x, y);
    }

    /// [`QuantTensor::matmul_into`] into elements that need not be initialised.
    pub(crate) fn matmul_to(&self, x: &[f32], y: &pool::Shared<f32>) {
        kernels::matmul_to(Level::detected(), self.matrix(), x, y);
    }

    fn matrix(&self) -> kernels::Matrix<'_> {
        kernels::Matrix { format: self.format, n: self.rows, k: self.cols, bytes: &self.bytes }
    }
}
