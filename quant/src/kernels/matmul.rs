//! Rows times a stored matrix: `y[m, n] = x[m, k] · w[n, k]ᵀ`, float32 accumulation.
//!
//! Weights are read where they lie. For a few rows of `x` the float formats are widened in
//! registers; otherwise eight weight rows at a time are decoded into a scratch buffer that stays in
//! the cache while all rows of `x` pass over it. Neither choice changes a bit of the result.

use std::cell::RefCell;

use super::{Level, avx2, avx512, portable};
use crate::{Format, blocks::dequantize_blocks, pool};

/// Weight rows that one tile covers.
pub(super) const PANEL: usize = 8;

/// Rows of `x` that stay in the second-level cache while all panels of a task pass over them.
const X_BLOCK: usize = 48;

/// From so many rows of `x` on, decoding a panel once pays for any format.
const DECODE_FROM: usize = 8;

/// Multiplications below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 17;

/// A stored matrix of `n` rows (outputs) and `k` columns (inputs), checked by
/// [`crate::QuantTensor`].
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// How `bytes` store the values.
    pub format: Format,
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// All rows, one after the other.
    pub bytes: &'a [u8],
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes `y = x · wᵀ` with `x` of `m x k` and `y` of `m x n`, both row-major.
///
/// # Panics
/// Where a length does not fit the shape: a caller's mistake, not a user's.
pub fn matmul(level: Level, w: Matrix<'_>, x: &[f32], y: &mut [f32]) {
    let row_bytes = w.format.row_bytes(w.k).expect("invariant: checked by QuantTensor");
    assert_eq!(w.bytes.len(), w.n * row_bytes, "weight bytes");
    assert!(w.k > 0 && x.len().is_multiple_of(w.k), "input length");
    let m = x.len() / w.k;
    assert_eq!(y.len(), m * w.n, "output length");

    let level = level.min(Level::detected());
    let panels = w.n.div_ceil(PANEL);
    let worth_it = m * w.n * w.k >= PARALLEL_FROM;
    let tasks = if worth_it { panels.min(4 * pool::current_threads()) } else { 1 };
    let out = pool::Shared::new(y);
    pool::for_each(tasks, worth_it, |task| {
        let range = panels * task / tasks..panels * (task + 1) / tasks;
        for x_start in (0..m).step_by(X_BLOCK) {
            let x_rows = x_start..m.min(x_start + X_BLOCK);
            for panel in range.clone() {
                panel_rows(level, &w, row_bytes, panel * PANEL, x, x_rows.clone(), &out);
            }
        }
    });
}

/// All rows of `x_rows` times the panel of weight rows that starts at `n0`.
fn panel_rows(
    level: Level,
    w: &Matrix<'_>,
    row_bytes: usize,
    n0: usize,
    x: &[f32],
    x_rows: std::ops::Range<usize>,
    out: &pool::Shared<f32>,
) {
    let count = PANEL.min(w.n - n0);
    let bytes = &w.bytes[n0 * row_bytes..(n0 + count) * row_bytes];
    let direct = matches!(w.format, Format::F32)
        || (x_rows.len() < DECODE_FROM && matches!(w.format, Format::F16 | Format::Bf16));
    if direct {
        let panel = Panel { format: w.format, count, k: w.k, bytes };
        tiles(level, &panel, x, x_rows, w.n, n0, out);
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(count * w.k), 0.0);
        let values = &mut scratch[..count * w.k];
        dequantize_blocks(w.format, bytes, values);
        // SAFETY: a float is four bytes without padding, and any byte may be read as such.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len() * 4) };
        let panel = Panel { format: Format::F32, count, k: w.k, bytes };
        tiles(level, &panel, x, x_rows, w.n, n0, out);
    });
}

/// Up to eight rows of weights in a float format.
pub(super) struct Panel<'a> {
    /// F32, F16 or Bf16.
    pub(super) format: Format,
    /// Rows, 1 to 8.
    pub(super) count: usize,
    pub(super) k: usize,
    /// `count` rows of `k` values.
    pub(super) bytes: &'a [u8],
}

impl Panel<'_> {
    /// Pointers to the rows; those past `count` repeat the last one, and their results are dropped.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn row_pointers(&self) -> [*const u8; PANEL] {
        let row_bytes = self.bytes.len() / self.count;
        std::array::from_fn(|i| self.bytes[i.min(self.count - 1) * row_bytes..].as_ptr())
    }
}

/// Most rows of `x` in one tile.
pub(super) const MAX_TILE_ROWS: usize = 3;

fn tiles(
    level: Level,
    panel: &Panel<'_>,
    x: &[f32],
    x_rows: std::ops::Range<usize>,
    n: usize,
    n0: usize,
    out: &pool::Shared<f32>,
) {
    let mut row = x_rows.start;
    while row < x_rows.end {
        let rows = MAX_TILE_ROWS.min(x_rows.end - row);
        let x_tile = &x[row * panel.k..(row + rows) * panel.k];
        let mut sums = [[0.0f32; PANEL]; MAX_TILE_ROWS];
        match level {
            Level::Avx512 => avx512::tile(panel, x_tile, rows, &mut sums),
            Level::Avx2 => avx2::tile(panel, x_tile, rows, &mut sums),
            Level::Portable => portable::tile(panel, x_tile, rows, &mut sums),
        }
        for (i, row_sums) in sums.iter().enumerate().take(rows) {
            for (j, &sum) in row_sums.iter().enumerate().take(panel.count) {
                // SAFETY: tasks own disjoint ranges of outputs; the index is inside `m x n`.
                unsafe { out.write((row + i) * n + n0 + j, sum) };
            }
        }
        row += rows;
    }
}
