//! Products over interleaved tiles: which rows and outputs meet when.
//!
//! Tasks own ranges of tiles, never parts of a sum. Nothing here changes a bit of the result.

use super::{WIDTH, avx2, input::Input, layout::Layout, portable, vnni};
use crate::{PackedLevel, pool};

/// Multiplications below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 18;

/// The outputs of the whole product.
pub(super) struct Output<'a> {
    y: &'a pool::Shared<f32>,
    rows: usize,
}

impl<'a> Output<'a> {
    /// Of a product with `rows` outputs.
    pub(super) fn new(y: &'a pool::Shared<f32>, rows: usize) -> Self {
        Self { y, rows }
    }

    /// Writes the sums of one row of `x` and one tile.
    ///
    /// # Safety
    /// No other thread writes the outputs of this tile; `row` is a row of `y`.
    #[inline(always)]
    pub(super) unsafe fn write(&self, row: usize, tile: usize, sums: &[f32; WIDTH]) {
        let first = tile * WIDTH;
        let place = row * self.rows + first;
        if first + WIDTH <= self.rows {
            // SAFETY: the outputs of the tile lie inside the row; exclusive by the caller's
            // promise. The fixed length makes this one store.
            unsafe { self.y.write_all(place, sums) };
        } else {
            // SAFETY: as above, cut at the end of the row.
            unsafe { self.y.write_all(place, &sums[..self.rows - first]) };
        }
    }
}

/// Computes `y = x · wᵀ`; elements of `y` need not be initialised.
pub(super) fn matmul(
    level: PackedLevel,
    layout: &Layout,
    bytes: &[u8],
    x: &[f32],
    y: &pool::Shared<f32>,
) {
    assert!(x.len().is_multiple_of(layout.cols), "input length");
    let m = x.len() / layout.cols;
    assert_eq!(y.len(), m * layout.rows, "output length");
    assert_eq!(bytes.len(), layout.byte_len(), "interleaved bytes");
    let level = level.min(PackedLevel::detected());
    let planes = level >= PackedLevel::Avx512Vnni;
    let x = Input::round(level.float(), x, layout.cols, layout.facts.limit, planes);

    let worth_it = m * layout.rows * layout.cols >= PARALLEL_FROM;
    let tasks = if worth_it { layout.tiles.min(4 * pool::current_threads()) } else { 1 };
    let output = Output::new(y, layout.rows);
    pool::for_each(tasks, worth_it, |task| {
        let tiles = layout.tiles * task / tasks..layout.tiles * (task + 1) / tasks;
        match level {
            PackedLevel::Portable => portable::tiles(layout, bytes, tiles, &x, &output),
            PackedLevel::Avx2 => avx2::tiles(layout, bytes, tiles, &x, &output),
            PackedLevel::Avx512Vnni | PackedLevel::Amx => {
                vnni::tiles(layout, bytes, tiles, &x, &output);
            }
        }
    });
}
