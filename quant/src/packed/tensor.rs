//! A weight matrix in a packed layout.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    MAX_GROUP, PackedKind, PackedLevel, QUAD, SLICE, WIDTH,
    layout::{Layout, Tile, step_is_valid},
    matmul::{self, Product},
    quantize,
    storage::Storage,
};
use crate::{Error, QuantTensor, Result, encode::column_importance, kernels::Level, pool};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 15;
/// Bytes that a thread copies at a time: one huge page, which the system clears on first touch.
const COPIED: usize = 2 << 20;

/// All that there is to know about packed bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PackedHeader {
    /// How the values are kept.
    pub kind: PackedKind,
    /// Number of outputs.
    pub rows: usize,
    /// Number of inputs.
    pub cols: usize,
    /// Columns that share a scale, one of [`PackedKind::groups`].
    pub group: usize,
    /// The power of two that multiplies every scale.
    pub factor: f32,
}

impl PackedHeader {
    /// Bytes of a matrix of `rows` and `cols` with the longest group, or `None` where there can be
    /// no such matrix. Shorter groups, which uneven weights get, take up to a tenth more.
    pub fn usual_byte_len(kind: PackedKind, rows: usize, cols: usize) -> Option<usize> {
        let header = PackedHeader { kind, rows, cols, group: MAX_GROUP, factor: 1.0 };
        checked_layout(&header).ok().map(|it| it.byte_len())
    }

    /// That such bytes can be: `len` of them.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooLarge`], [`Error::PackedGroup`], [`Error::PackedLen`] or
    /// [`Error::PackedFactor`].
    pub fn check_len(&self, len: usize) -> Result<()> {
        let &PackedHeader { kind, rows, cols, group, factor } = self;
        if !kind.groups().contains(&group) {
            return Err(Error::PackedGroup { kind, group });
        }
        let expected = checked_layout(self)?.byte_len();
        if len != expected {
            return Err(Error::PackedLen { kind, rows, cols, expected, got: len });
        }
        let power_of_two = factor.is_normal() && factor.to_bits() << 9 == 0 && factor > 0.0;
        if power_of_two { Ok(()) } else { Err(Error::PackedFactor { factor }) }
    }
}

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
        Self::quantize_weighted(kind, weight, None)
    }

    /// [`PackedTensor::quantize`] where errors in important columns count more: see
    /// [`QuantTensor::quantize`].
    ///
    /// # Errors
    /// Those of [`PackedTensor::quantize`], and [`Error::Importance`].
    pub fn quantize_weighted(
        kind: PackedKind,
        weight: &QuantTensor,
        importance: Option<&[f32]>,
    ) -> Result<Self> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let importance = column_importance(importance, cols)?;
        let mut header = PackedHeader { kind, rows, cols, group: MAX_GROUP, factor: 1.0 };
        checked_layout(&header)?;
        let spread = Spread::of(weight)?;
        header.group = spread.group(kind);
        header.factor = quantize::tensor_factor(spread.max);
        let (layout, mut storage) = allocate(&header)?;
        let factor = header.factor;
        let parallel = rows * cols >= PARALLEL_FROM;
        pool::for_each_chunk(storage.bytes_mut(), layout.tile_bytes, parallel, |tile, bytes| {
            let values = decode(weight, tile * WIDTH..rows.min((tile + 1) * WIDTH));
            quantize::write_tile(Level::detected(), &layout, &values, factor, &importance, bytes);
        });
        Ok(Self { layout, factor, bytes: Arc::new(storage) })
    }

    /// A matrix from what [`PackedTensor::header`] and [`PackedTensor::bytes`] of another one gave.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::TooLarge`], [`Error::PackedGroup`], [`Error::PackedLen`],
    /// [`Error::PackedFactor`], [`Error::PackedScale`], [`Error::PackedStep`] or
    /// [`Error::Memory`].
    pub fn from_bytes(header: &PackedHeader, bytes: &[u8]) -> Result<Self> {
        header.check_len(bytes.len())?;
        let (layout, mut storage) = allocate(header)?;
        let parallel = bytes.len() >= PARALLEL_FROM;
        pool::for_each_chunk(storage.bytes_mut(), COPIED, parallel, |chunk, out| {
            let start = chunk * COPIED;
            out.copy_from_slice(&bytes[start..start + out.len()]);
        });
        let tensor = Self { layout, factor: header.factor, bytes: Arc::new(storage) };
        tensor.check()?;
        Ok(tensor)
    }

    /// That all scales are finite and all steps in range.
    fn check(&self) -> Result<()> {
        for tile in 0..self.layout.tiles {
            let Tile { scales, steps, .. } = self.tile(tile);
            // An exponent of all ones: infinite, or not a number.
            let bad = |half: &[u8; 2]| half[1] & 0x7c == 0x7c;
            if let Some(at) = scales.as_chunks().0.iter().position(bad) {
                let (row, group) = (tile * WIDTH + at % WIDTH, at / WIDTH);
                return Err(Error::PackedScale { row, group });
            }
            if let Some(at) = steps.iter().position(|&step| !step_is_valid(step)) {
                let row = tile * WIDTH + at % SLICE / QUAD;
                return Err(Error::PackedStep { row, step: steps[at] });
            }
        }
        Ok(())
    }

    /// What a file must say about the bytes.
    pub fn header(&self) -> PackedHeader {
        let Layout { kind, rows, cols, group_slices, .. } = self.layout;
        PackedHeader { kind, rows, cols, group: group_slices * SLICE, factor: self.factor }
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
        for (slice, part) in out.chunks_mut(SLICE).enumerate() {
            let scale = tile.scale(slice / self.layout.group_slices, output);
            for (column, value) in part.iter_mut().enumerate() {
                // Exact: an integer of 8 bits, a scale of 11 and a power of two.
                *value = tile.integer(slice, output, column) as f32 * scale * self.factor;
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
        matmul::matmul(level, &[self.product(&pool::Shared::new(y))], x);
    }

    /// The product with an input, to be computed by [`multiply_all`] into `y`.
    pub(crate) fn product<'a>(&'a self, y: &'a pool::Shared<f32>) -> Product<'a> {
        Product { layout: &self.layout, factor: self.factor, bytes: &self.bytes, y }
    }

    fn tile(&self, tile: usize) -> Tile<'_> {
        let at = tile * self.layout.tile_bytes;
        self.layout.tile(&self.bytes[at..at + self.layout.tile_bytes])
    }
}

/// Computes products that share their input, which is rounded once.
///
/// # Panics
/// Where lengths do not fit, or there is no product: a caller's mistake.
pub(crate) fn multiply_all(products: &[Product<'_>], x: &[f32]) {
    matmul::matmul(PackedLevel::detected(), products, x);
}

impl std::fmt::Debug for PackedTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedTensor({}, {} x {})", self.kind(), self.rows(), self.cols())
    }
}

fn checked_layout(header: &PackedHeader) -> Result<Layout> {
    let &PackedHeader { kind, rows, cols, group, .. } = header;
    if rows == 0 || cols == 0 {
        return Err(Error::Empty { rows, cols });
    }
    Layout::new(kind, rows, cols, group).ok_or(Error::TooLarge { rows, cols })
}

fn allocate(header: &PackedHeader) -> Result<(Layout, Storage)> {
    let layout = checked_layout(header)?;
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

/// How large weights are, and how unevenly.
struct Spread {
    /// The largest absolute value.
    max: f32,
    /// Sum over all groups of 32, 64, 128 and 256 columns of the squared largest value times the
    /// number of columns, to which the squared error of int8 is proportional.
    squares: [f64; 4],
}

impl Spread {
    fn of(weight: &QuantTensor) -> Result<Self> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let bad_row = AtomicU32::new(u32::MAX);
        let tiles = rows.div_ceil(WIDTH);
        let mut found = vec![(0.0f32, [0.0f64; 4]); tiles];
        pool::for_each_chunk(&mut found, 1, rows * cols >= PARALLEL_FROM, |tile, found| {
            let first = tile * WIDTH;
            let values = decode(weight, first..rows.min(first + WIDTH));
            for (row, values) in values.chunks_exact(cols).enumerate() {
                let (max, squares) = quantize::spread(Level::detected(), values);
                if !max.is_finite() {
                    bad_row.fetch_min((first + row) as u32, Ordering::Relaxed);
                }
                found[0].0 = found[0].0.max(max);
                (0..4).for_each(|i| found[0].1[i] += squares[i]);
            }
        });
        let bad_row = bad_row.into_inner();
        if bad_row != u32::MAX {
            return Err(Error::NotFinite { row: bad_row as usize });
        }
        // In order of the rows, so that threads can't change the sums.
        let mut all = Self { max: 0.0, squares: [0.0; 4] };
        for (max, squares) in found {
            all.max = all.max.max(max);
            (0..4).for_each(|i| all.squares[i] += squares[i]);
        }
        Ok(all)
    }

    /// The longest group that keeps q8 as near as its input allows; see the module.
    fn group(&self, kind: PackedKind) -> usize {
        /// The root of two, squared.
        const WORSE: f64 = 2.0;
        if kind == PackedKind::Q4 {
            return MAX_GROUP;
        }
        let fits = |i: &usize| self.squares[*i] <= WORSE * self.squares[0];
        [3, 2].into_iter().find(fits).map_or(SLICE, |i| 32 << i)
    }
}
