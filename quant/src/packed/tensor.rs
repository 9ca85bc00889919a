//! A weight matrix in a packed layout.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    GROUP, PackedKind, PackedLevel, WIDTH,
    layout::{Layout, Tile},
    matmul, quantize,
    storage::Storage,
};
use crate::{Error, QuantTensor, Result, kernels::Level, pool};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 15;

/// An immutable `[rows, cols]` matrix in int8 or int4; rows are outputs, columns are inputs.
/// Cloning shares the bytes.
#[derive(Clone)]
pub struct PackedTensor {
    layout: Layout,
    factor: f32,
    bytes: Arc<Storage>,
}

impl PackedTensor {
    /// Rounds `weight` to `kind`, in parallel over its rows. The bytes depend on the weights alone.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::NotFinite`], [`Error::TooLarge`] or [`Error::Memory`].
    pub fn quantize(kind: PackedKind, weight: &QuantTensor) -> Result<Self> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let (layout, mut storage) = allocate(kind, rows, cols)?;
        let factor = quantize::tensor_factor(largest(weight)?);
        let parallel = rows * cols >= PARALLEL_FROM;
        pool::for_each_chunk(storage.bytes_mut(), layout.tile_bytes, parallel, |tile, bytes| {
            let values = decode(weight, tile * WIDTH..rows.min((tile + 1) * WIDTH));
            quantize::write_tile(Level::detected(), &layout, &values, factor, bytes);
        });
        Ok(Self { layout, factor, bytes: Arc::new(storage) })
    }

    /// A matrix from the bytes of another one: what [`PackedTensor::bytes`] and
    /// [`PackedTensor::factor`] gave.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooLarge`], [`Error::PackedLen`], [`Error::PackedFactor`],
    /// [`Error::PackedScale`] or [`Error::Memory`].
    pub fn from_bytes(
        kind: PackedKind,
        rows: usize,
        cols: usize,
        factor: f32,
        bytes: &[u8],
    ) -> Result<Self> {
        let expected = checked_layout(kind, rows, cols)?.byte_len();
        if bytes.len() != expected {
            return Err(Error::PackedLen { kind, rows, cols, expected, got: bytes.len() });
        }
        let power_of_two = factor.is_normal() && factor.to_bits() << 9 == 0 && factor > 0.0;
        if !power_of_two {
            return Err(Error::PackedFactor { factor });
        }
        let (layout, mut storage) = allocate(kind, rows, cols)?;
        storage.bytes_mut().copy_from_slice(bytes);
        let tensor = Self { layout, factor, bytes: Arc::new(storage) };
        for row in 0..layout.tiles * WIDTH {
            for group in 0..layout.groups {
                if !tensor.tile(row / WIDTH).scale(group, row % WIDTH).is_finite() {
                    return Err(Error::PackedScale { row, group });
                }
            }
        }
        Ok(tensor)
    }

    /// How the values are kept.
    pub fn kind(&self) -> PackedKind {
        self.layout.kind
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.layout.cols
    }

    /// The power of two that multiplies every scale.
    pub fn factor(&self) -> f32 {
        self.factor
    }

    /// The packed bytes, which are all the memory that the matrix takes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of packed bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Row `row` as float32, into `out` of `cols` values.
    ///
    /// # Errors
    /// [`Error::RowRange`] where there is no such row.
    ///
    /// # Panics
    /// Where `out` has another length: a caller's mistake, not a user's.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) -> Result<()> {
        if row >= self.layout.rows {
            return Err(Error::RowRange { row, rows: self.layout.rows });
        }
        assert_eq!(out.len(), self.layout.cols, "row length");
        let tile = self.tile(row / WIDTH);
        let output = row % WIDTH;
        for (group, part) in out.chunks_mut(GROUP).enumerate() {
            let scale = tile.scale(group, output);
            for (column, value) in part.iter_mut().enumerate() {
                // Exact: an integer of 8 bits, a scale of 11 and a power of two.
                *value = tile.integer(group, output, column) as f32 * scale * self.factor;
            }
        }
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
    /// int8, each row and group of columns for itself, so a row of `y` has the same bits whatever
    /// `m` is. A value of `x` that is not finite makes its whole row of `y` not a number.
    ///
    /// # Panics
    /// Where the lengths do not fit: a caller's mistake, not a user's.
    pub fn matmul_into(&self, x: &[f32], y: &mut [f32]) {
        self.matmul_at(PackedLevel::detected(), x, y);
    }

    /// [`PackedTensor::matmul_into`] with the kernels of `level` (or of the best level that can run
    /// here, where that is lower). All levels give the same bits.
    pub fn matmul_at(&self, level: PackedLevel, x: &[f32], y: &mut [f32]) {
        matmul::matmul(level, &self.layout, self.factor, &self.bytes, x, y);
    }

    fn tile(&self, tile: usize) -> Tile<'_> {
        let at = tile * self.layout.tile_bytes;
        self.layout.tile(&self.bytes[at..at + self.layout.tile_bytes])
    }
}

impl std::fmt::Debug for PackedTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedTensor({}, {} x {})", self.kind(), self.rows(), self.cols())
    }
}

fn checked_layout(kind: PackedKind, rows: usize, cols: usize) -> Result<Layout> {
    if rows == 0 || cols == 0 {
        return Err(Error::Empty { rows, cols });
    }
    Layout::new(kind, rows, cols).ok_or(Error::TooLarge { rows, cols })
}

fn allocate(kind: PackedKind, rows: usize, cols: usize) -> Result<(Layout, Storage)> {
    let layout = checked_layout(kind, rows, cols)?;
    let bytes = layout.byte_len();
    let storage = Storage::zeroed(bytes).map_err(|source| Error::Memory { bytes, source })?;
    Ok((layout, storage))
}

fn decode(weight: &QuantTensor, rows: Range<usize>) -> Vec<f32> {
    let cols = weight.cols();
    let mut values = vec![0.0; rows.len() * cols];
    for (row, out) in rows.zip(values.chunks_exact_mut(cols)) {
        weight.dequantize_row(row, out).expect("invariant: tiles cover the rows of the weight");
    }
    values
}

/// The largest absolute value.
fn largest(weight: &QuantTensor) -> Result<f32> {
    let bad_row = AtomicU32::new(u32::MAX);
    let max = AtomicU32::new(0);
    let rows = weight.rows();
    let parallel = rows * weight.cols() >= PARALLEL_FROM;
    pool::for_each(rows.div_ceil(WIDTH), parallel, |tile| {
        let first = tile * WIDTH;
        let values = decode(weight, first..rows.min(first + WIDTH));
        for (row, values) in values.chunks_exact(weight.cols()).enumerate() {
            // Bits of numbers that are not negative have the order of the numbers, and those of
            // infinity and of what is not a number lie above.
            let bits = values.iter().fold(0, |max, it| it.abs().to_bits().max(max));
            max.fetch_max(bits, Ordering::Relaxed);
            if bits >= f32::INFINITY.to_bits() {
                bad_row.fetch_min((first + row) as u32, Ordering::Relaxed);
            }
        }
    });
    let max = f32::from_bits(max.into_inner());
    if max.is_finite() {
        Ok(max)
    } else {
        Err(Error::NotFinite { row: bad_row.into_inner() as usize })
    }
}
