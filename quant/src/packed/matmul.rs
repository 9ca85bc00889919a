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

/// One of several products that share their input.
pub(crate) struct Product<'a> {
    pub(super) layout: &'a Layout,
    pub(super) factor: f32,
    pub(super) bytes: &'a [u8],
    /// `[m, rows]`, every element of which is written.
    pub(super) y: &'a pool::Shared<f32>,
}

/// Computes `y = x · wᵀ` for each product. The input is rounded once for all of them.
///
/// # Panics
/// Where lengths do not fit, or there is no product.
pub(super) fn matmul(level: PackedLevel, products: &[Product<'_>], x: &[f32]) {
    let cols = products[0].layout.cols;
    assert!(x.len().is_multiple_of(cols), "input length");
    let m = x.len() / cols;
    for it in products {
        assert_eq!(it.layout.cols, cols, "inputs of products that share them");
        assert_eq!(it.y.len(), m * it.layout.rows, "output length");
        assert_eq!(it.bytes.len(), it.layout.byte_len(), "packed bytes");
    }
    let level = level.min(PackedLevel::detected());
    // The first plane is the same whether there is a second or not.
    let planes = products.iter().map(|it| it.layout.kind.planes()).max().unwrap_or(1);
    let x = Activations::quantize(level, x, cols, planes);

    let tiles: usize = products.iter().map(|it| it.layout.tiles).sum();
    let worth_it = m * tiles * WIDTH * cols >= PARALLEL_FROM;
    let tasks = if worth_it { tiles.min(4 * pool::current_threads()) } else { 1 };
    pool::for_each(tasks, worth_it, |task| {
        let mine = tiles * task / tasks..tiles * (task + 1) / tasks;
        let mut before = 0;
        for it in products {
            let own = before..before + it.layout.tiles;
            before = own.end;
            let (start, end) = (mine.start.max(own.start), mine.end.min(own.end));
            if start < end {
                it.tiles(level, start - own.start..end - own.start, &x);
            }
        }
    });
}

impl Product<'_> {
    /// The outputs of some tiles, by the kernels that suit the number of rows.
    fn tiles(&self, level: PackedLevel, tiles: Range<usize>, x: &Activations) {
        let Self { layout, bytes, .. } = *self;
        // One in the first plane is 256 in both together.
        let planes = layout.kind.planes();
        let factor = if planes == 2 { self.factor / 256.0 } else { self.factor };
        let output = Output { y: self.y, rows: layout.rows, factor };
        if level == PackedLevel::Amx && x.rows >= amx_from(layout.kind) {
            amx::tiles(layout, bytes, tiles, x, &output);
        } else {
            vectors(level, layout, bytes, tiles, x, &output);
        }
    }
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
