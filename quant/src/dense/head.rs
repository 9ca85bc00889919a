//! Log-probabilities of chosen tokens and their slopes, without logits in memory.
//!
//! A row's slope by its hidden state is the target's row of the head minus the mean of all rows,
//! weighted by their probabilities. That mean is what attention computes, with the head as keys and
//! values: one pass over the head, a running maximum, no array of `[T, V]`. The target itself is
//! left out of the rounded sum, so that a row that is nearly certain keeps an exact slope.

use std::ops::Range;

use super::{
    BLOCK, Block, DenseLevel, Line, Matrix, Right, Tiles, attend::with_tiles, block::multiply,
    tiles::round,
};
use crate::{
    Weight,
    kernels::{LANES, for_each_level, portable::sum_lanes, vector::exp_lanes},
    pool,
};

/// Panels of the head that pass over all rows at a time.
const PANELS: usize = 8;

/// Parts of the vocabulary that threads share: a fixed number, because sums over parts are added in
/// the end.
const PARTS: usize = 8;

/// How far logits may rise above the running maximum before sums are scaled anew.
const SLACK: f32 = 8.0;

/// Natural log-probabilities of `ids` (`[R]`), one for each row of `x`, under `softmax(x · headᵀ)`;
/// where `slopes` is given (`[R, D]`), their slopes by the rows.
///
/// # Panics
/// Where the shapes do not fit or an id is outside of the head: a caller's mistake.
pub fn log_probs(
    level: DenseLevel,
    x: &Tiles,
    head: &Weight,
    ids: &[u32],
    slopes: Option<&mut [f32]>,
) -> Vec<f32> {
    let level = level.min(DenseLevel::detected());
    let (vocab_size, width) = (head.rows(), head.cols());
    assert!(x.rows() == ids.len() && x.col_blocks() == width.div_ceil(BLOCK), "shapes");
    assert!(ids.iter().all(|&it| (it as usize) < vocab_size), "ids");
    let panels = vocab_size.div_ceil(BLOCK);
    let count = panels.div_ceil(PANELS).clamp(1, PARTS);
    let mut parts: Vec<Part> =
        (0..count).map(|_| Part::new(x, slopes.is_some().then_some(width))).collect();
    pool::for_each_chunk(&mut parts, 1, count > 1, |i, parts| {
        let panels = panels * i / count..panels * (i + 1) / count;
        parts[0].run(level, x, head, ids, panels);
    });
    finish(level, x, head, ids, parts, slopes)
}

/// A part of the vocabulary.
struct Part {
    rows: Vec<Row>,
    /// Sums of the head's rows times their exponentials: all block columns of a block row.
    mixed: Vec<Block>,
    wanted: bool,
}

#[derive(Clone, Copy)]
struct Row {
    max: f32,
    sum: f32,
    target: Option<f32>,
}

impl Part {
    fn new(x: &Tiles, width: Option<usize>) -> Self {
        let row = Row { max: f32::NEG_INFINITY, sum: 0.0, target: None };
        let blocks = width.map_or(0, |it| x.row_blocks() * it.div_ceil(BLOCK));
        Self {
            rows: vec![row; x.row_blocks() * BLOCK],
            mixed: vec![Block::ZERO; blocks],
            wanted: width.is_some(),
        }
    }

    fn run(
        &mut self,
        level: DenseLevel,
        x: &Tiles,
        head: &Weight,
        ids: &[u32],
        panels: Range<usize>,
    ) {
        let (vocab_size, steps) = (head.rows(), x.col_blocks());
        let as_columns = Right::rows(Matrix::Weight(head));
        let as_terms = Right::Columns(vec![Matrix::Weight(head)]);
        let mut columns = vec![Line::ZERO; PANELS * steps * BLOCK];
        let mut terms = vec![Line::ZERO; if self.wanted { PANELS * steps * BLOCK } else { 0 }];
        let mut logits = vec![Block::ZERO; PANELS];
        let mut weights = vec![Line::ZERO; PANELS * BLOCK];
        for start in panels.clone().step_by(PANELS) {
            let group = start..panels.end.min(start + PANELS);
            let len = group.len() * steps * BLOCK;
            as_columns.pack(level.float(), group.clone(), 0..steps, &mut columns[..len]);
            if self.wanted {
                as_terms.pack(level.float(), 0..steps, group.clone(), &mut terms[..len]);
            }
            let logits = &mut logits[..group.len()];
            let weights = &mut weights[..group.len() * BLOCK];
            let first = start * BLOCK;
            let count = vocab_size.min(group.end * BLOCK) - first;
            with_tiles(level, || {
                for block in 0..x.row_blocks() {
                    let row = x.row_of_blocks(block);
                    for (panel, logits) in logits.iter_mut().enumerate() {
                        let b = &columns[panel * row.len()..(panel + 1) * row.len()];
                        // SAFETY: tile registers are set up where the level asks for them.
                        unsafe { multiply(level, row, b, false, logits) };
                    }
                    let rows = &mut self.rows[block * BLOCK..(block + 1) * BLOCK];
                    let ids = &ids[block * BLOCK..ids.len().min((block + 1) * BLOCK)];
                    for (r, &id) in ids.iter().enumerate() {
                        let place = (id as usize).wrapping_sub(first);
                        if place < count {
                            let logit = &mut logits[place / BLOCK].0[r * BLOCK + place % BLOCK];
                            rows[r].target = Some(*logit);
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                    let mut factors = [1.0; BLOCK];
                    exponentials(level.float(), logits, count, rows, weights, &mut factors);
                    if !self.wanted {
                        continue;
                    }
                    let mixed = &mut self.mixed[block * steps..(block + 1) * steps];
                    for (r, factor) in factors.iter().enumerate().filter(|it| *it.1 != 1.0) {
                        for mixed in mixed.iter_mut() {
                            let row = &mut mixed.0[r * BLOCK..(r + 1) * BLOCK];
                            row.iter_mut().for_each(|it| *it *= factor);
                        }
                    }
                    for (d, mixed) in mixed.iter_mut().enumerate() {
                        let b = &terms[d * weights.len()..(d + 1) * weights.len()];
                        // SAFETY: as above.
                        unsafe { multiply(level, weights, b, true, mixed) };
                    }
                }
            });
        }
    }
}

for_each_level! {
    /// Exponentials of logits above each row's running maximum, rounded and added to its sum. Where
    /// the maximum rose, `factors` says how much less all earlier sums count.
    fn exponentials(
        logits: &mut [Block],
        count: usize,
        rows: &mut [Row],
        weights: &mut [Line],
        factors: &mut [f32; BLOCK],
    ) = exponentials_body
}

#[inline(always)]
fn exponentials_body(
    logits: &mut [Block],
    count: usize,
    rows: &mut [Row],
    weights: &mut [Line],
    factors: &mut [f32; BLOCK],
) {
    for (r, row) in rows.iter_mut().enumerate() {
        let mut max = [f32::NEG_INFINITY; LANES];
        for (j, block) in logits.iter_mut().enumerate() {
            let line = &mut block.0[r * BLOCK..(r + 1) * BLOCK];
            if count < (j + 1) * BLOCK {
                line[count - j * BLOCK..].fill(f32::NEG_INFINITY);
            }
            for half in [0, LANES] {
                for l in 0..LANES {
                    max[l] = if line[half + l] > max[l] { line[half + l] } else { max[l] };
                }
            }
        }
        let max = max.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        if max > row.max + SLACK || row.max == f32::NEG_INFINITY {
            // With nothing summed yet, the factor is of no account, but it must be a number.
            let below = if row.max == f32::NEG_INFINITY { 0.0 } else { row.max - max };
            factors[r] = exp_lanes([below; LANES])[0];
            row.sum *= factors[r];
            row.max = max;
        }
        let base = if row.max == f32::NEG_INFINITY { 0.0 } else { row.max };
        let mut sum = [0.0; LANES];
        for (j, block) in logits.iter().enumerate() {
            for half in [0, LANES] {
                let mut above = [0.0; LANES];
                for l in 0..LANES {
                    above[l] = block.0[r * BLOCK + half + l] - base;
                }
                let e = exp_lanes(above);
                for l in 0..LANES {
                    sum[l] += e[l];
                    weights[j * BLOCK + r].0[half + l] = round(e[l]);
                }
            }
        }
        row.sum += sum_lanes(sum);
    }
}

/// Brings the parts together.
fn finish(
    level: DenseLevel,
    x: &Tiles,
    head: &Weight,
    ids: &[u32],
    parts: Vec<Part>,
    slopes: Option<&mut [f32]>,
) -> Vec<f32> {
    let (width, steps) = (head.cols(), x.col_blocks());
    let mut log_probs = vec![0.0f32; ids.len()];
    let mut none = Vec::new();
    let wanted = slopes.is_some();
    let slopes = slopes.unwrap_or_else(|| {
        none.resize(ids.len(), 0.0);
        &mut none
    });
    let row_len = if wanted { width } else { 1 };
    assert_eq!(slopes.len(), ids.len() * row_len, "slopes");
    let shared = pool::Shared::new(&mut log_probs);
    let _ = level;
    pool::for_each_chunk(slopes, row_len, ids.len() * row_len > 1 << 14, |r, slope| {
        let rows = parts.iter().map(|it| it.rows[r]);
        let target = rows.clone().find_map(|it| it.target).unwrap_or(f32::NAN);
        let max = rows.clone().map(|it| it.max).fold(target, f32::max);
        let others: f64 = rows.map(|it| f64::from(it.sum) * f64::from(it.max - max).exp()).sum();
        let own = f64::from(target - max).exp();
        let log_sum = (others + own).ln();
        // SAFETY: each row is written once.
        unsafe { shared.write(r, (f64::from(target - max) - log_sum) as f32) };
        if !wanted {
            return;
        }
        head.dequantize_row(ids[r] as usize, slope)
            .expect("invariant: ids were compared with the number of rows");
        let left = (others / (others + own)) as f32;
        slope.iter_mut().for_each(|it| *it *= left);
        for part in &parts {
            let factor = f64::from(part.rows[r].max - max).exp() / (others + own);
            let factor = if part.rows[r].max == f32::NEG_INFINITY { 0.0 } else { factor as f32 };
            for (c, y) in slope.chunks_mut(BLOCK).enumerate() {
                let mixed = &part.mixed[r / BLOCK * steps + c].0[r % BLOCK * BLOCK..];
                y.iter_mut().zip(mixed).for_each(|(y, m)| *y -= factor * m);
            }
        }
    });
    log_probs
}
