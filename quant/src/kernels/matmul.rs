//! Rows times a stored matrix: `y[m, n] = x[m, k] · w[n, k]ᵀ`, float32 accumulation.
//!
//! Weights are read where they lie. For a few rows of `x` the float formats are widened in
//! registers; otherwise eight weight rows at a time are decoded into a scratch buffer that stays in
//! the cache while all rows of `x` pass over it. Neither choice changes a bit of the result.

use std::{cell::RefCell, ops::Range};

use super::{LANES, Level, avx2, avx512, portable};
use crate::{Format, blocks::dequantize_blocks, pool};

/// Weight rows that one tile covers.
pub(super) const PANEL: usize = 8;

/// Rows of `x` that stay in the second-level cache while all panels of a task pass over them.
const X_BLOCK: usize = 48;

/// Columns that a panel and a tile of `x` keep in the first-level cache. A multiple of every block.
const K_BLOCK: usize = 512;

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

/// The running sums of one tile: 16 lanes for each row of `x` and each row of the panel.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(super) struct TileLanes(pub(super) [[[f32; LANES]; PANEL]; MAX_TILE_ROWS]);

impl TileLanes {
    const ZERO: Self = Self([[[0.0; LANES]; PANEL]; MAX_TILE_ROWS]);
}

/// What a thread needs beside its inputs and outputs.
struct Scratch {
    /// Up to eight rows of decoded weights.
    weights: Vec<f32>,
    /// The running sums of all tiles of a block of `x`.
    sums: Vec<TileLanes>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { weights: Vec::new(), sums: Vec::new() }) };
}

/// Computes `y = x · wᵀ` with `x` of `m x k` and `y` of `m x n`, both row-major.
///
/// # Panics
/// Where a length does not fit the shape: a caller's mistake, not a user's.
pub fn matmul(level: Level, w: Matrix<'_>, x: &[f32], y: &mut [f32]) {
    matmul_to(level, w, x, &pool::Shared::new(y));
}

/// [`matmul`] into elements that need not be initialised: all of them are written, none is read.
pub(crate) fn matmul_to(level: Level, w: Matrix<'_>, x: &[f32], out: &pool::Shared<f32>) {
    let row_bytes = w.format.row_bytes(w.k).expect("invariant: checked by QuantTensor");
    assert_eq!(w.bytes.len(), w.n * row_bytes, "weight bytes");
    assert!(w.k > 0 && x.len().is_multiple_of(w.k), "input length");
    let m = x.len() / w.k;
    assert_eq!(out.len(), m * w.n, "output length");

    let level = level.min(Level::detected());
    let panels = w.n.div_ceil(PANEL);
    let worth_it = m * w.n * w.k >= PARALLEL_FROM;
    let tasks = if worth_it { panels.min(4 * pool::current_threads()) } else { 1 };
    pool::for_each(tasks, worth_it, |task| {
        let range = panels * task / tasks..panels * (task + 1) / tasks;
        let few = m < DECODE_FROM;
        for x_start in (0..m).step_by(X_BLOCK) {
            let x_rows = x_start..m.min(x_start + X_BLOCK);
            for rows in panels_of(range.clone(), w.n, few) {
                panel_rows(level, &w, row_bytes, rows, x, x_rows.clone(), out);
            }
        }
    });
}

/// Weight rows that are computed together.
#[derive(Clone, Copy)]
struct PanelRows {
    /// The first row.
    first: usize,
    /// From one row to the next.
    step: usize,
    /// Number of rows, 1 to 8.
    count: usize,
}

/// The rows of a range of panels, eight at a time. Where `spread`, the eight lie far apart, so that
/// a thread reads eight streams, each in order: on small pages that is a third faster than one.
fn panels_of(panels: Range<usize>, n: usize, spread: bool) -> impl Iterator<Item = PanelRows> {
    let rows = panels.start * PANEL..n.min(panels.end * PANEL);
    let (step, stride) = if spread { (panels.len(), 1) } else { (1, PANEL) };
    (0..panels.len()).map(move |i| {
        let first = rows.start + i * stride;
        let count = (rows.end - first).div_ceil(step).min(PANEL);
        PanelRows { first, step, count }
    })
}

/// All rows of `x_rows` times one panel of weight rows.
fn panel_rows(
    level: Level,
    w: &Matrix<'_>,
    row_bytes: usize,
    rows: PanelRows,
    x: &[f32],
    x_rows: Range<usize>,
    out: &pool::Shared<f32>,
) {
    let PanelRows { first, step, count } = rows;
    let bytes = &w.bytes[first * row_bytes..((count - 1) * step + first + 1) * row_bytes];
    let stride = step * row_bytes;
    let few = x_rows.len() < DECODE_FROM;
    let in_place = match w.format {
        Format::F32 => true,
        Format::F16 | Format::Bf16 => few,
        _ => false,
    };
    // For a few rows nothing is used twice, so the sums stay in registers over the whole of `k`.
    let k_block = if few { w.k } else { K_BLOCK };
    SCRATCH.with_borrow_mut(|Scratch { weights, sums }| {
        let tiles = x_rows.len().div_ceil(MAX_TILE_ROWS);
        sums.clear();
        sums.resize(tiles, TileLanes::ZERO);
        for k0 in (0..w.k).step_by(k_block) {
            let k = k_block.min(w.k - k0);
            let panel = if in_place {
                Panel { format: w.format, count, k, stride, bytes: &bytes[at(w.format, k0)..] }
            } else {
                weights.resize(weights.len().max(count * k), 0.0);
                for (row, values) in weights.chunks_exact_mut(k).take(count).enumerate() {
                    let row = &bytes[row * stride..][at(w.format, k0)..at(w.format, k0 + k)];
                    dequantize_blocks(w.format, row, values);
                }
                Panel { format: Format::F32, count, k, stride: 4 * k, bytes: as_bytes(weights) }
            };
            for (tile, lanes) in sums.iter_mut().enumerate() {
                let row = x_rows.start + tile * MAX_TILE_ROWS;
                let rows = MAX_TILE_ROWS.min(x_rows.end - row);
                let x = XTile { values: &x[row * w.k + k0..], stride: w.k, rows };
                match level {
                    Level::Avx512 => avx512::accumulate(&panel, &x, lanes),
                    Level::Avx2 => avx2::accumulate(&panel, &x, lanes),
                    Level::Portable => portable::accumulate(&panel, &x, lanes),
                }
            }
        }
        for (tile, lanes) in sums.iter().enumerate() {
            let row = x_rows.start + tile * MAX_TILE_ROWS;
            let rows = MAX_TILE_ROWS.min(x_rows.end - row);
            let mut totals = [[0.0; PANEL]; MAX_TILE_ROWS];
            match level {
                Level::Avx512 => avx512::reduce(lanes, rows, &mut totals),
                _ => portable::reduce(lanes, rows, &mut totals),
            }
            for (i, totals) in totals.iter().enumerate().take(rows) {
                for (j, &total) in totals.iter().enumerate().take(count) {
                    // SAFETY: tasks own disjoint ranges of outputs; the index is inside `m x n`.
                    unsafe { out.write((row + i) * w.n + first + j * step, total) };
                }
            }
        }
    });
}

/// Where column `k` of a row begins, for a `k` at the start of a block.
fn at(format: Format, k: usize) -> usize {
    k / format.block_len() * format.block_bytes()
}

fn as_bytes(values: &[f32]) -> &[u8] {
    // SAFETY: a float is four bytes without padding, and any byte may be read as such.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Up to eight rows of weights in a float format: `k` values of each.
pub(super) struct Panel<'a> {
    /// F32, F16 or Bf16.
    pub(super) format: Format,
    /// Rows, 1 to 8.
    pub(super) count: usize,
    /// Columns.
    pub(super) k: usize,
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// From the first value of the first row on.
    pub(super) bytes: &'a [u8],
}

impl<'a> Panel<'a> {
    /// The values of row `j`; those past `count` repeat the last one, and their sums are dropped.
    pub(super) fn row(&self, j: usize) -> &'a [u8] {
        let start = j.min(self.count - 1) * self.stride;
        &self.bytes[start..start + self.k * self.format.block_bytes()]
    }
}

/// Up to three rows of `x`: as many columns as the panel has, from the first value on.
pub(super) struct XTile<'a> {
    pub(super) values: &'a [f32],
    /// Distance between rows.
    pub(super) stride: usize,
    /// Rows, 1 to 3.
    pub(super) rows: usize,
}

impl<'a> XTile<'a> {
    /// `k` values of row `i`.
    pub(super) fn row(&self, i: usize, k: usize) -> &'a [f32] {
        &self.values[i * self.stride..i * self.stride + k]
    }
}

/// Most rows of `x` in one tile.
pub(super) const MAX_TILE_ROWS: usize = 3;

/// The sums of one tile.
pub(super) type Totals = [[f32; PANEL]; MAX_TILE_ROWS];
