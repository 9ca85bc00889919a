//! Causal attention of whole sequences and its backward pass, by blocks of 32 x 32 scores.
//!
//! All scores of 32 rows exist at once, so the softmax needs one pass, and the backward pass takes
//! them again from queries, keys and each row's log of the sum of exponentials (Dao et al. 2022).
//! Blocks above the diagonal and before a sliding window are never computed.

use std::{cell::RefCell, ops::Range};

use super::{
    BLOCK, Block, DenseLevel, Line, Tiles,
    block::multiply,
    panel::{band_of, rows_to_columns, transpose, zip_rows},
    tiles::round,
};
use crate::{
    kernels::{LANES, for_each_level, portable::sum_lanes, vector::exp_lanes},
    pool,
};

/// Blocks of rows whose weights and slopes wait for one product over rows.
const ROWS: usize = 8;

/// Heads and what they see.
#[derive(Debug, Clone, Copy)]
pub struct AttendShape {
    /// Query heads.
    pub query: usize,
    /// Key and value heads, a divisor of the query heads.
    pub kv: usize,
    /// Width of a head.
    pub dim: usize,
    /// Positions that a row sees, itself included; all where `None`.
    pub window: Option<usize>,
    /// Factor on scores.
    pub scale: f32,
}

impl AttendShape {
    fn first_block(&self, row_block: usize) -> usize {
        self.window.map_or(0, |it| (row_block * BLOCK + 1).saturating_sub(it) / BLOCK)
    }

    fn visible(&self, position: usize) -> (usize, usize) {
        (self.window.map_or(0, |it| (position + 1).saturating_sub(it)), position + 1)
    }

    fn dim_blocks(&self) -> usize {
        self.dim.div_ceil(BLOCK)
    }
}

/// Queries, keys and values: row-major `[T, heads * dim]`.
#[derive(Debug, Clone, Copy)]
pub struct Qkv<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
}

/// Attention within each of `sequences` (ranges of rows): `out` of `[T, query * dim]`, and for each
/// row and head the log of the sum of exponentials, `[T, query]`.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn attend_forward(
    level: DenseLevel,
    shape: AttendShape,
    sequences: &[Range<usize>],
    qkv: Qkv<'_>,
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    let level = level.min(DenseLevel::detected());
    let width = shape.query * shape.dim;
    let rows = out.len() / width;
    assert!(qkv.q.len() == out.len() && log_sums.len() == rows * shape.query, "shapes");
    assert!(sequences.iter().all(|it| it.end <= rows), "rows");
    let (out, log_sums) = (pool::Shared::new(out), pool::Shared::new(log_sums));
    pool::for_each(sequences.len() * shape.query, true, |task| {
        let (rows, head) = (sequences[task / shape.query].clone(), task % shape.query);
        let kv_head = head * shape.kv / shape.query;
        let q = gather(level, qkv.q, rows.clone(), shape.query, head, shape.dim);
        let k = gather(level, qkv.k, rows.clone(), shape.kv, kv_head, shape.dim);
        let v = gather(level, qkv.v, rows.clone(), shape.kv, kv_head, shape.dim);
        let keys = as_columns(level, &k);
        let values = as_zipped(level, &v);
        let blocks = q.row_blocks();
        let (mut scores, mut weights) =
            (vec![Block::ZERO; blocks], vec![Line::ZERO; blocks * BLOCK]);
        let mut mixed = Block::ZERO;
        with_tiles(level, || {
            for i in 0..blocks {
                let seen = shape.first_block(i)..i + 1;
                let scores = &mut scores[..seen.len()];
                let weights = &mut weights[..seen.len() * BLOCK];
                products(level, q.row_of_blocks(i), &keys, seen.clone(), scores);
                let view = View { shape, first_key: seen.start * BLOCK, first_row: i * BLOCK };
                let mut sums = [(0.0, 0.0); BLOCK];
                softmax(level.float(), view, scores, weights, &mut sums);
                for d in 0..shape.dim_blocks() {
                    let values = &values[(d * blocks + seen.start) * BLOCK..][..weights.len()];
                    // SAFETY: tile registers are set up where the level asks for them.
                    unsafe { multiply(level, weights, values, false, &mut mixed) };
                    let len = BLOCK.min(shape.dim - d * BLOCK);
                    for (r, (sum, _)) in sums.iter().enumerate() {
                        let row = rows.start + i * BLOCK + r;
                        if row < rows.end {
                            let at = row * width + head * shape.dim + d * BLOCK;
                            // SAFETY: rows and columns of this task alone.
                            let out = unsafe { out.slice(at, len) };
                            let mixed = &mixed.0[r * BLOCK..];
                            out.iter_mut().zip(mixed).for_each(|(y, m)| *y = m / sum);
                        }
                    }
                }
                for (r, (sum, max)) in sums.iter().enumerate() {
                    let row = rows.start + i * BLOCK + r;
                    if row < rows.end {
                        // SAFETY: rows and heads of this task alone.
                        unsafe { log_sums.write(row * shape.query + head, max + sum.ln()) };
                    }
                }
            }
        });
    });
}

/// Slopes by queries, keys and values, given the slope `g` by the output.
#[derive(Debug)]
pub struct QkvSlopes<'a> {
    /// By queries.
    pub q: &'a mut [f32],
    /// By keys.
    pub k: &'a mut [f32],
    /// By values.
    pub v: &'a mut [f32],
}

/// The backward pass of [`attend_forward`]; all of `slopes` is overwritten where `sequences` reach.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn attend_backward(
    level: DenseLevel,
    shape: AttendShape,
    sequences: &[Range<usize>],
    qkv: Qkv<'_>,
    log_sums: &[f32],
    g: &[f32],
    slopes: QkvSlopes<'_>,
) {
    let level = level.min(DenseLevel::detected());
    assert!(slopes.q.len() == qkv.q.len() && g.len() == qkv.q.len(), "shapes");
    assert!(slopes.k.len() == qkv.k.len() && slopes.v.len() == qkv.v.len(), "shapes");
    let rows = g.len() / (shape.query * shape.dim);
    assert!(sequences.iter().all(|it| it.end <= rows), "rows");
    let out = Slopes {
        q: pool::Shared::new(slopes.q),
        k: pool::Shared::new(slopes.k),
        v: pool::Shared::new(slopes.v),
    };
    pool::for_each(sequences.len() * shape.kv, true, |task| {
        let (rows, kv_head) = (sequences[task / shape.kv].clone(), task % shape.kv);
        group_backward(level, shape, rows, kv_head, qkv, log_sums, g, &out);
    });
}

struct Slopes {
    q: pool::Shared<f32>,
    k: pool::Shared<f32>,
    v: pool::Shared<f32>,
}

/// Keys and values of one head in the orders that products want, and their slopes, turned.
struct Keys {
    keys: Vec<Line>,
    values: Vec<Line>,
    zipped: Vec<Line>,
    d_keys: Vec<Block>,
    d_values: Vec<Block>,
    blocks: usize,
}

/// One key head of one sequence with all query heads that share it.
#[allow(clippy::too_many_arguments)]
fn group_backward(
    level: DenseLevel,
    shape: AttendShape,
    rows: Range<usize>,
    kv_head: usize,
    qkv: Qkv<'_>,
    log_sums: &[f32],
    g: &[f32],
    out: &Slopes,
) {
    let k = gather(level, qkv.k, rows.clone(), shape.kv, kv_head, shape.dim);
    let v = gather(level, qkv.v, rows.clone(), shape.kv, kv_head, shape.dim);
    let blocks = k.row_blocks();
    let count = shape.dim_blocks() * blocks;
    let mut keys = Keys {
        keys: as_columns(level, &k),
        values: as_columns(level, &v),
        zipped: as_zipped(level, &k),
        d_keys: vec![Block::ZERO; count],
        d_values: vec![Block::ZERO; count],
        blocks,
    };
    let group = shape.query / shape.kv;
    for head in kv_head * group..(kv_head + 1) * group {
        let q = gather(level, qkv.q, rows.clone(), shape.query, head, shape.dim);
        let slope = gather(level, g, rows.clone(), shape.query, head, shape.dim);
        let sums: Vec<f32> = rows.clone().map(|row| log_sums[row * shape.query + head]).collect();
        with_tiles(level, || {
            head_backward(level, shape, &q, &slope, &sums, &mut keys, |row, d, values| {
                let at = (rows.start + row) * shape.query * shape.dim + head * shape.dim + d;
                // SAFETY: rows and columns of this task alone.
                unsafe { out.q.write_all(at, values) };
            });
        });
    }
    for (slopes, out) in [(&keys.d_keys, &out.k), (&keys.d_values, &out.v)] {
        for (i, block) in slopes.iter().enumerate() {
            let (d, j) = (i / blocks * BLOCK, i % blocks);
            let len = BLOCK.min(shape.dim - d);
            for c in 0..BLOCK.min(rows.len() - j * BLOCK) {
                let at = (rows.start + j * BLOCK + c) * shape.kv * shape.dim;
                // SAFETY: rows and columns of this task alone.
                let out = unsafe { out.slice(at + kv_head * shape.dim + d, len) };
                for (r, y) in out.iter_mut().enumerate() {
                    *y = block.0[r * BLOCK + c];
                }
            }
        }
    }
}

/// One query head: hands out the slope by its queries, adds to those by keys and values.
fn head_backward(
    level: DenseLevel,
    shape: AttendShape,
    q: &Tiles,
    slope: &Tiles,
    log_sums: &[f32],
    keys: &mut Keys,
    write: impl Fn(usize, usize, &[f32]),
) {
    let blocks = keys.blocks;
    let (q_turned, slope_turned) = (as_turned(q), as_turned(slope));
    let mut scores = vec![Block::ZERO; blocks];
    let mut slopes = vec![Block::ZERO; blocks];
    let (mut weight_lines, mut slope_lines) =
        (vec![Line::ZERO; blocks * BLOCK], vec![Line::ZERO; blocks * BLOCK]);
    // For each block of keys, the blocks of a chunk of rows, zipped.
    let mut weights_zipped = vec![Line::ZERO; blocks * ROWS * BLOCK];
    let mut slopes_zipped = vec![Line::ZERO; blocks * ROWS * BLOCK];
    let mut mixed = Block::ZERO;
    for start in (0..blocks).step_by(ROWS) {
        let chunk = start..blocks.min(start + ROWS);
        let first = shape.first_block(start);
        for i in chunk.clone() {
            let seen = shape.first_block(i)..i + 1;
            let (scores, slopes) = (&mut scores[..seen.len()], &mut slopes[..seen.len()]);
            products(level, q.row_of_blocks(i), &keys.keys, seen.clone(), scores);
            products(level, slope.row_of_blocks(i), &keys.values, seen.clone(), slopes);
            let mut sums = [f32::INFINITY; BLOCK];
            let known = &log_sums[i * BLOCK..log_sums.len().min((i + 1) * BLOCK)];
            sums[..known.len()].copy_from_slice(known);
            let view = View { shape, first_key: seen.start * BLOCK, first_row: i * BLOCK };
            let lines = seen.len() * BLOCK;
            let (weights, by_scores) = (&mut weight_lines[..lines], &mut slope_lines[..lines]);
            differentiate(level.float(), view, scores, slopes, &sums, weights, by_scores);
            for d in 0..shape.dim_blocks() {
                let zipped = &keys.zipped[(d * blocks + seen.start) * BLOCK..][..lines];
                // SAFETY: tile registers are set up where the level asks for them.
                unsafe { multiply(level, by_scores, zipped, false, &mut mixed) };
                let len = BLOCK.min(shape.dim - d * BLOCK);
                for r in 0..known.len() {
                    write(i * BLOCK + r, d * BLOCK, &mixed.0[r * BLOCK..r * BLOCK + len]);
                }
            }
            for j in first..=i {
                let at = (j * ROWS + i - start) * BLOCK..(j * ROWS + i - start + 1) * BLOCK;
                let (weights_out, slopes_out) =
                    (&mut weights_zipped[at.clone()], &mut slopes_zipped[at]);
                if j < seen.start {
                    weights_out.fill(Line::ZERO);
                    slopes_out.fill(Line::ZERO);
                    continue;
                }
                let from = (j - seen.start) * BLOCK..(j - seen.start + 1) * BLOCK;
                zip_rows(level.float(), band_of(&weights[from.clone()]), 0, weights_out);
                zip_rows(level.float(), band_of(&by_scores[from]), 0, slopes_out);
            }
        }
        for j in first..chunk.end {
            let rows = chunk.start.max(j)..chunk.end;
            let at = (j * ROWS + rows.start - start) * BLOCK;
            let len = rows.len() * BLOCK;
            for d in 0..shape.dim_blocks() {
                let left = (d * blocks + rows.start) * BLOCK;
                let place = d * blocks + j;
                // SAFETY: tile registers are set up where the level asks for them.
                unsafe {
                    let weights = &weights_zipped[at..at + len];
                    let by_values = &mut keys.d_values[place];
                    multiply(level, &slope_turned[left..left + len], weights, true, by_values);
                    let by_scores = &slopes_zipped[at..at + len];
                    let by_keys = &mut keys.d_keys[place];
                    multiply(level, &q_turned[left..left + len], by_scores, true, by_keys);
                }
            }
        }
    }
}

/// Which scores a run of blocks holds.
#[derive(Clone, Copy)]
struct View {
    shape: AttendShape,
    first_key: usize,
    first_row: usize,
}

impl View {
    /// The part of the row's scores in the run that it sees.
    #[inline(always)]
    fn seen(&self, r: usize) -> Range<usize> {
        let (low, high) = self.shape.visible(self.first_row + r);
        low.saturating_sub(self.first_key)..high - self.first_key
    }
}

for_each_level! {
    /// Exponentials of scaled scores above each row's maximum, rounded; each row's sum and maximum.
    fn softmax(
        view: View,
        scores: &mut [Block],
        weights: &mut [Line],
        sums: &mut [(f32, f32); BLOCK],
    ) = softmax_body
}

#[inline(always)]
fn softmax_body(
    view: View,
    scores: &mut [Block],
    weights: &mut [Line],
    sums: &mut [(f32, f32); BLOCK],
) {
    for r in 0..BLOCK {
        let seen = view.seen(r);
        let mut max = [f32::NEG_INFINITY; LANES];
        for (j, block) in scores.iter_mut().enumerate() {
            let row = &mut block.0[r * BLOCK..(r + 1) * BLOCK];
            hide(row, j * BLOCK, &seen);
            for half in [0, LANES] {
                for l in 0..LANES {
                    let score = row[half + l] * view.shape.scale;
                    row[half + l] = score;
                    max[l] = if score > max[l] { score } else { max[l] };
                }
            }
        }
        let max = max.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        let mut sum = [0.0; LANES];
        for (j, block) in scores.iter().enumerate() {
            for half in [0, LANES] {
                let mut above = [0.0; LANES];
                for l in 0..LANES {
                    above[l] = block.0[r * BLOCK + half + l] - max;
                }
                let e = exp_lanes(above);
                for l in 0..LANES {
                    sum[l] += e[l];
                    weights[j * BLOCK + r].0[half + l] = round(e[l]);
                }
            }
        }
        sums[r] = (sum_lanes(sum), max);
    }
}

for_each_level! {
    /// Weights `p = exp(scale · score - log_sum)`, and slopes by scores
    /// `scale · p · (dp - Σ p dp)`, both rounded.
    fn differentiate(
        view: View,
        scores: &mut [Block],
        slopes: &mut [Block],
        log_sums: &[f32; BLOCK],
        weights: &mut [Line],
        by_scores: &mut [Line],
    ) = differentiate_body
}

#[inline(always)]
fn differentiate_body(
    view: View,
    scores: &mut [Block],
    slopes: &mut [Block],
    log_sums: &[f32; BLOCK],
    weights: &mut [Line],
    by_scores: &mut [Line],
) {
    for r in 0..BLOCK {
        let seen = view.seen(r);
        let mut along = [0.0; LANES];
        for (j, (block, slope)) in scores.iter_mut().zip(slopes.iter()).enumerate() {
            let row = &mut block.0[r * BLOCK..(r + 1) * BLOCK];
            hide(row, j * BLOCK, &seen);
            for half in [0, LANES] {
                let mut above = [0.0; LANES];
                for l in 0..LANES {
                    above[l] = row[half + l] * view.shape.scale - log_sums[r];
                }
                let p = exp_lanes(above);
                for l in 0..LANES {
                    row[half + l] = p[l];
                    along[l] = p[l].mul_add(slope.0[r * BLOCK + half + l], along[l]);
                    weights[j * BLOCK + r].0[half + l] = round(p[l]);
                }
            }
        }
        let along = sum_lanes(along);
        for (j, (block, slope)) in scores.iter().zip(slopes.iter()).enumerate() {
            for c in 0..BLOCK {
                let p = block.0[r * BLOCK + c];
                let d = p * (slope.0[r * BLOCK + c] - along) * view.shape.scale;
                by_scores[j * BLOCK + r].0[c] = round(d);
            }
        }
    }
}

/// Scores outside of `seen` become as low as can be.
#[inline(always)]
fn hide(row: &mut [f32], first: usize, seen: &Range<usize>) {
    if seen.start <= first && seen.end >= first + BLOCK {
        return;
    }
    for (c, score) in row.iter_mut().enumerate() {
        if !(seen.start..seen.end).contains(&(first + c)) {
            *score = f32::NEG_INFINITY;
        }
    }
}

/// Scores of one block of rows with the blocks of keys `seen`.
fn products(level: DenseLevel, row: &[Line], keys: &[Line], seen: Range<usize>, out: &mut [Block]) {
    for (j, out) in seen.zip(out) {
        let keys = &keys[j * row.len()..(j + 1) * row.len()];
        // SAFETY: tile registers are set up where the level asks for them.
        unsafe { multiply(level, row, keys, false, out) };
    }
}

/// One head's rows.
fn gather(
    level: DenseLevel,
    values: &[f32],
    rows: Range<usize>,
    heads: usize,
    head: usize,
    dim: usize,
) -> Tiles {
    ROW.with_borrow_mut(|part| {
        part.clear();
        for row in rows.clone() {
            part.extend_from_slice(&values[(row * heads + head) * dim..][..dim]);
        }
        Tiles::from_rows_here(level.float(), part, dim)
    })
}

thread_local! {
    /// Kept, because fresh pages would cost a fault each.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Rows as columns: block row after block row, its blocks of columns as steps.
fn as_columns(level: DenseLevel, x: &Tiles) -> Vec<Line> {
    let mut out = vec![Line::ZERO; x.row_blocks() * x.col_blocks() * BLOCK];
    for (i, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let block = x.block(i / x.col_blocks(), i % x.col_blocks());
        rows_to_columns(level.float(), band_of(block), 0, out);
    }
    out
}

/// Rows as terms: block column after block column, its blocks of rows as steps.
fn as_zipped(level: DenseLevel, x: &Tiles) -> Vec<Line> {
    let mut out = vec![Line::ZERO; x.row_blocks() * x.col_blocks() * BLOCK];
    for (i, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let block = x.block(i % x.row_blocks(), i / x.row_blocks());
        zip_rows(level.float(), band_of(block), 0, out);
    }
    out
}

/// The transpose, as a left operand: block column after block column.
fn as_turned(x: &Tiles) -> Vec<Line> {
    let mut out = vec![Line::ZERO; x.row_blocks() * x.col_blocks() * BLOCK];
    for (i, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        transpose(x.block(i % x.row_blocks(), i / x.row_blocks()), out);
    }
    out
}

/// Runs `work` with tile registers set up where `level` asks for them.
pub(super) fn with_tiles<R>(level: DenseLevel, work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this level was detected; callers are leaves that hold no tile registers.
    let _tiles = (level == DenseLevel::Amx).then(|| unsafe { crate::amx::Configured::new() });
    let _ = level;
    work()
}
