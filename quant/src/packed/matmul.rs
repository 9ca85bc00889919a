//! Matrix products over packed tiles: which rows and outputs meet when.
//!
//! Tasks own ranges of tiles, never parts of a sum. Nothing here changes a bit of the result.

use std::ops::Range;

use super::{
    PackedKind, PackedLevel, WIDTH,
    activations::{Activations, BLOCK},
    amx, avx2,
    layout::Layout,
    portable, vnni,
};
use crate::pool;

/// Tiles that many rows of input pass over while the tiles are in the second-level cache.
const PANEL: usize = 8;

/// Bytes of those tiles.
const PANEL_BYTES: usize = 1 << 18;

/// Multiplications below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 18;

/// From so many rows on, AMX tiles are faster than VNNI.
const fn amx_from(kind: PackedKind) -> usize {
    match kind {
        PackedKind::Q8 => 9,
        PackedKind::Q4 => 9,
    }
}

/// A thread's own outputs of the whole product.
pub(super) struct Output<'a> {
    y: &'a pool::Shared<f32>,
    rows: usize,
    factor: f32,
}

impl Output<'_> {
    /// Fetches the outputs of a row, which may be past the end, before they are written.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn prefetch(&self, row: usize, tiles: Range<usize>) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        for tile in tiles {
            let place = self.y.place(row * self.rows + tile * WIDTH);
            // SAFETY: prefetching reads nothing that a program could see.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(place.cast()) };
        }
    }

    /// Writes the sums of one row of `x` and of the tiles from `first` on. Whole rows of several
    /// tiles, because a single tile's 64 bytes at a time would touch another page with each write.
    ///
    /// # Safety
    /// No other thread writes the outputs of these tiles; `row` is a row of `y`.
    #[inline(always)]
    pub(super) unsafe fn write<'s>(
        &self,
        row: usize,
        first: usize,
        sums: impl Iterator<Item = &'s [f32; WIDTH]>,
    ) {
        for (tile, sums) in (first..).zip(sums) {
            let first = tile * WIDTH;
            let scaled = sums.map(|it| it * self.factor);
            let place = row * self.rows + first;
            if first + WIDTH <= self.rows {
                // SAFETY: the outputs of the tile lie inside the row; exclusive by the caller's
                // promise. The fixed length makes this one store.
                unsafe { self.y.write_all(place, &scaled) };
            } else {
                // SAFETY: as above, cut at the end of the row.
                unsafe { self.y.write_all(place, &scaled[..self.rows - first]) };
            }
        }
    }
}

/// Computes `y = x · wᵀ`.
pub(super) fn matmul(
    level: PackedLevel,
    layout: &Layout,
    factor: f32,
    bytes: &[u8],
    x: &[f32],
    y: &mut [f32],
) {
    assert!(x.len().is_multiple_of(layout.cols), "input length");
    let m = x.len() / layout.cols;
    assert_eq!(y.len(), m * layout.rows, "output length");
    assert_eq!(bytes.len(), layout.byte_len(), "packed bytes");
    let level = level.min(PackedLevel::detected());
    let use_amx = level == PackedLevel::Amx && m >= amx_from(layout.kind);
    let x = Activations::quantize(level, x, layout.cols, layout.kind.planes());
    // One in the first plane is 256 in both together.
    let factor = if x.planes == 2 { factor / 256.0 } else { factor };

    let worth_it = m * layout.rows * layout.cols >= PARALLEL_FROM;
    let tasks = if worth_it { layout.tiles.min(4 * pool::current_threads()) } else { 1 };
    let y = pool::Shared::new(y);
    let output = Output { y: &y, rows: layout.rows, factor };
    pool::for_each(tasks, worth_it, |task| {
        let tiles = layout.tiles * task / tasks..layout.tiles * (task + 1) / tasks;
        if use_amx {
            amx::tiles(layout, bytes, tiles, &x, &output);
        } else {
            vectors(level, layout, bytes, tiles, &x, &output);
        }
    });
}

/// The tiles of one task, by the kernels that take a few rows at a time.
fn vectors(
    level: PackedLevel,
    layout: &Layout,
    bytes: &[u8],
    tiles: Range<usize>,
    x: &Activations,
    output: &Output<'_>,
) {
    let kernel = match level {
        PackedLevel::Portable => portable::rows,
        PackedLevel::Avx2 => avx2::rows,
        PackedLevel::Avx512Vnni | PackedLevel::Amx => vnni::rows,
    };
    let panel = (PANEL_BYTES / layout.tile_bytes).clamp(1, PANEL);
    let mut start = tiles.start;
    while start < tiles.end {
        let tiles = start..tiles.end.min(start + panel);
        for index in 0..x.blocks() {
            let block = x.block(index);
            let mut sums = [[[0.0; WIDTH]; BLOCK]; PANEL];
            for (tile, sums) in tiles.clone().zip(&mut sums) {
                let at = tile * layout.tile_bytes;
                let tile = layout.tile(&bytes[at..at + layout.tile_bytes]);
                kernel(&tile, &block, 0..block.height, sums);
            }
            for row in 0..block.height {
                let row_sums = sums[..tiles.len()].iter().map(|it| &it[row]);
                // SAFETY: tasks own disjoint ranges of tiles.
                unsafe { output.write(index * BLOCK + row, start, row_sums) };
            }
        }
        start = tiles.end;
    }
}
