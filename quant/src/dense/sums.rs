//! Sums over rows: the gradients of low-rank factors.

use super::{
    BLOCK, Block, DenseLevel, Line, Tiles,
    block::multiply,
    panel::{band_of, transpose, zip_rows},
};
use crate::pool;

/// Blocks of rows whose panel stays in the first-level cache.
const CHUNK: usize = 16;

/// Blocks below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 64;

/// `aᵀ · b`: sums over all rows of products of the first `a_cols` columns of `a` and the columns
/// `b_cols` of `b`, written row-major to `out` (`[a_cols, b_cols.len()]`).
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn sum_over_rows(
    level: DenseLevel,
    a: &Tiles,
    a_cols: std::ops::Range<usize>,
    b: &Tiles,
    b_cols: std::ops::Range<usize>,
    out: &mut [f32],
) {
    assert_eq!(a.rows(), b.rows(), "rows");
    assert_eq!(out.len(), a_cols.len() * b_cols.len(), "output length");
    assert!(b_cols.start.is_multiple_of(BLOCK), "columns start a block");
    let level = level.min(DenseLevel::detected());
    let row_blocks = a.row_blocks();
    if out.is_empty() {
        return;
    }
    // Columns of `a` as rows: as many blocks, each turned.
    let first = a_cols.start / BLOCK;
    let a_blocks = a_cols.end.div_ceil(BLOCK) - first;
    let mut turned = vec![Line::ZERO; a_blocks * row_blocks * BLOCK];
    for (i, out) in turned.chunks_exact_mut(BLOCK).enumerate() {
        transpose(a.block(i % row_blocks, first + i / row_blocks), out);
    }
    let width = b_cols.len();
    let shared = pool::Shared::new(out);
    let blocks = width.div_ceil(BLOCK);
    let worth_it = blocks * row_blocks >= PARALLEL_FROM;
    pool::for_each(blocks, worth_it, |block| {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level was detected; nothing else here uses tile registers.
        let _tiles = (level == DenseLevel::Amx).then(|| unsafe { crate::amx::Configured::new() });
        let mut sums = vec![Block::ZERO; a_blocks];
        let mut panel = [Line::ZERO; CHUNK * BLOCK];
        for start in (0..row_blocks).step_by(CHUNK) {
            let rows = start..row_blocks.min(start + CHUNK);
            for (row, out) in rows.clone().zip(panel.chunks_exact_mut(BLOCK)) {
                let lines = b.block(row, b_cols.start / BLOCK + block);
                zip_rows(level.float(), band_of(lines), 0, out);
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = &turned[(i * row_blocks + rows.start) * BLOCK..];
                let (a, b) = (&a[..rows.len() * BLOCK], &panel[..rows.len() * BLOCK]);
                // SAFETY: tile registers were set up where the level asks for them.
                unsafe { multiply(level, a, b, start > 0, sums) };
            }
        }
        let len = BLOCK.min(width - block * BLOCK);
        for (r, a_col) in a_cols.clone().enumerate() {
            let sums = &sums[a_col / BLOCK - first].0[a_col % BLOCK * BLOCK..][..len];
            // SAFETY: inside row `r`; each task writes columns of its own.
            unsafe { shared.write_all(r * width + block * BLOCK, sums) };
        }
    });
}
