//! A weight matrix with a file's own values, interleaved.

use std::{ops::Range, sync::Arc};

use super::{
    WIDTH,
    kind::with_kind,
    layout::Layout,
    matmul,
    repack::{read_row, write_tile},
};
use crate::{
    Bytes, Error, Format, PackedLevel, QuantTensor, Result, blocks::dequantize_blocks,
    packed::Storage, pool,
};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 15;

/// An immutable `[rows, cols]` matrix of one of ggml's integer types, values and all, in a layout
/// that integer kernels read. Rows are outputs, columns are inputs. Cloning shares the bytes.
#[derive(Clone)]
pub struct InterleavedTensor {
    layout: Layout,
    bytes: Arc<Storage>,
}

impl InterleavedTensor {
    /// Whether matrices of `format` can be interleaved: those of integers with scales.
    pub fn supports(format: Format) -> bool {
        super::kind::facts(format).is_some()
    }

    /// The values of `stored`, in parallel over its rows.
    ///
    /// # Errors
    /// [`Error::NotIntegers`] for a format that is not [supported](Self::supports),
    /// [`Error::TooLarge`] or [`Error::Memory`].
    pub fn new(stored: &QuantTensor) -> Result<Self> {
        let (format, rows, cols) = (stored.format(), stored.rows(), stored.cols());
        if !Self::supports(format) {
            return Err(Error::NotIntegers { format });
        }
        let layout = Layout::new(format, rows, cols).ok_or(Error::TooLarge { rows, cols })?;
        let bytes = layout.byte_len();
        let mut storage =
            Storage::zeroed(bytes).map_err(|source| Error::Memory { bytes, source })?;
        let row_bytes = format.row_bytes(cols).ok_or(Error::TooLarge { rows, cols })?;
        let parallel = rows * cols >= PARALLEL_FROM;
        pool::for_each_chunk(storage.bytes_mut(), layout.tile_bytes, parallel, |tile, bytes| {
            let first = tile * WIDTH;
            let stored = &stored.bytes()[first * row_bytes..rows.min(first + WIDTH) * row_bytes];
            with_kind!(format, K => write_tile::<K>(&layout, stored, bytes));
        });
        Ok(Self { layout, bytes: Arc::new(storage) })
    }

    /// Sizes and bytes, for tests of kernels.
    #[cfg(test)]
    pub(super) fn parts(&self) -> (&Layout, &[u8]) {
        (&self.layout, &self.bytes)
    }

    /// How the file stores the values.
    pub fn format(&self) -> Format {
        self.layout.facts.format
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.layout.cols
    }

    /// Number of interleaved bytes, which are all the memory that the matrix takes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that the file holds for row `row`.
    ///
    /// # Errors
    /// [`Error::RowRange`] where there is no such row.
    pub fn stored_row(&self, row: usize) -> Result<Vec<u8>> {
        if row >= self.layout.rows {
            return Err(Error::RowRange { row, rows: self.layout.rows });
        }
        let mut stored = vec![0; self.stored_row_len()];
        self.read_row(row, &mut stored);
        Ok(stored)
    }

    /// The bytes that the file holds.
    pub fn stored_bytes(&self) -> Bytes {
        let len = self.stored_row_len();
        let mut stored = vec![0; self.layout.rows * len];
        let parallel = self.layout.rows * self.layout.cols >= PARALLEL_FROM;
        pool::for_each_chunk(&mut stored, len, parallel, |row, out| self.read_row(row, out));
        stored.into()
    }

    fn stored_row_len(&self) -> usize {
        let len = self.format().row_bytes(self.layout.cols);
        len.expect("invariant: checked by the stored tensor")
    }

    fn read_row(&self, row: usize, out: &mut [u8]) {
        let tile = &self.bytes[self.layout.tile_at(row / WIDTH)];
        read_row(&self.layout, tile, row % WIDTH, out);
    }

    /// Row `row` as float32, into `out` of `cols` values: those of [`QuantTensor::dequantize_row`].
    ///
    /// # Errors
    /// [`Error::RowRange`] where there is no such row.
    ///
    /// # Panics
    /// Where `out` has another length: a caller's mistake, not a user's.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        dequantize_blocks(self.format(), &self.stored_row(row)?, out);
        Ok(())
    }

    /// The rows of `range` as float32, row-major.
    ///
    /// # Errors
    /// [`Error::RowRange`] where the range leaves the tensor.
    pub fn dequantize_rows(&self, range: Range<usize>) -> Result<Vec<f32>> {
        if range.start > range.end || range.end > self.layout.rows {
            return Err(Error::RowRange { row: range.end, rows: self.layout.rows });
        }
        let cols = self.layout.cols;
        let mut values = vec![0.0; range.len() * cols];
        let parallel = values.len() >= PARALLEL_FROM;
        pool::for_each_chunk(&mut values, cols, parallel, |row, out| {
            self.dequantize_row(range.start + row, out)
                .expect("invariant: the range was checked above");
        });
        Ok(values)
    }

    /// `y = x · wᵀ`: `x` is `[m, cols]`, `y` is `[m, rows]`, row-major. The input is rounded to
    /// integers, each row and 256 columns for itself, so a row of `y` has the same bits whatever `m`
    /// is. A value of `x` that is not finite makes its whole row of `y` not a number.
    ///
    /// # Panics
    /// Where the lengths do not fit: a caller's mistake, not a user's.
    pub fn matmul_into(&self, x: &[f32], y: &mut [f32]) {
        self.matmul_at(PackedLevel::detected(), x, y);
    }

    /// [`InterleavedTensor::matmul_into`] with the kernels of `level` (or of the best level that can
    /// run here, where that is lower). All levels give the same bits.
    pub fn matmul_at(&self, level: PackedLevel, x: &[f32], y: &mut [f32]) {
        matmul::matmul(level, &self.layout, &self.bytes, x, &pool::Shared::new(y));
    }

    /// [`InterleavedTensor::matmul_into`] into elements that need not be initialised.
    pub(crate) fn matmul_to(&self, x: &[f32], y: &pool::Shared<f32>) {
        matmul::matmul(PackedLevel::detected(), &self.layout, &self.bytes, x, y);
    }
}

impl std::fmt::Debug for InterleavedTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InterleavedTensor({}, {} x {})", self.format(), self.rows(), self.cols())
    }
}
