//! Attention of query rows over cached keys and values, one pass, chunk by chunk.
//!
//! Keys and values lie in chunks of [`CHUNK`] positions at fixed absolute positions: keys
//! transposed (`[dim, CHUNK]`, so that one register holds one coordinate of 16 positions), values
//! as they come (`[CHUNK, dim]`). A row's running maximum and sum advance by whole chunks, scores
//! add coordinates in order and outputs add positions in order. So a row's bits depend on its query
//! and on the visible keys and values alone, and several rows and heads may share each key and
//! value that is read.

mod element;
mod share;
mod tile;

use std::ops::Range;

use half::{bf16, f16};

pub use self::element::Element;
use super::Level;
use crate::pool;

/// Positions in a chunk.
pub const CHUNK: usize = 64;

/// Rows of queries in one share of the work: their outputs stay in the second-level cache.
const SHARE_ROWS: usize = 16;

/// Multiplications below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 16;

/// Keys and values of one head and one chunk.
#[derive(Debug, Clone, Copy)]
pub struct HeadChunk<'a, E = f32> {
    /// `[dim, CHUNK]`.
    pub keys: &'a [E],
    /// `[CHUNK, dim]`.
    pub values: &'a [E],
}

/// Consecutive query rows of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// `[rows, heads, dim]`.
    pub values: &'a [f32],
    /// Query heads.
    pub heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// Position of the first row.
    pub start: usize,
    /// How many positions a row sees, its own included; all before it where there is no window.
    pub window: Option<usize>,
    /// Factor on `q · k`, usually `1 / sqrt(dim)`.
    pub scale: f32,
}

impl Queries<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / (self.heads * self.dim)
    }

    /// Positions that the row at `position` sees.
    fn visible(&self, position: usize) -> Range<usize> {
        let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
        first..position + 1
    }
}

/// The chunks of each key and value head, from position 0 on, in one of the types of [`Element`].
#[derive(Debug, Clone)]
pub enum Chunks<'a> {
    /// In float32.
    F32(Vec<Vec<HeadChunk<'a, f32>>>),
    /// In half precision.
    F16(Vec<Vec<HeadChunk<'a, f16>>>),
    /// In bfloat16.
    Bf16(Vec<Vec<HeadChunk<'a, bf16>>>),
}

/// `out = softmax(scale · q · kᵀ) · v` for every row and head, in parallel; query heads are
/// dealt to key and value heads in order.
/// `log_sums` (`[rows, heads]`, or nothing) receives the logs of the sums of exponentials of the
/// scores, which a backward pass needs.
///
/// # Panics
/// Where lengths do not fit: a caller's mistake, not a user's.
pub fn attend(
    level: Level,
    queries: &Queries<'_>,
    chunks: &Chunks<'_>,
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    match chunks {
        Chunks::F32(chunks) => attend_typed(level, queries, chunks, out, log_sums),
        Chunks::F16(chunks) => attend_typed(level, queries, chunks, out, log_sums),
        Chunks::Bf16(chunks) => attend_typed(level, queries, chunks, out, log_sums),
    }
}

fn attend_typed<E: Element>(
    level: Level,
    queries: &Queries<'_>,
    chunks: &[Vec<HeadChunk<'_, E>>],
    out: &mut [f32],
    log_sums: &mut [f32],
) {
    let Queries { heads, dim, start, .. } = *queries;
    let rows = queries.rows();
    assert_eq!(queries.values.len(), rows * heads * dim, "queries");
    assert_eq!(out.len(), queries.values.len(), "outputs");
    assert!(log_sums.is_empty() || log_sums.len() == rows * heads, "log sums");
    assert!(!chunks.is_empty() && heads.is_multiple_of(chunks.len()), "heads");
    let used = (start + rows).div_ceil(CHUNK);
    for head in chunks {
        assert!(head.len() >= used, "chunks");
        let fits =
            |it: &HeadChunk<'_, E>| it.keys.len() == dim * CHUNK && it.values.len() == dim * CHUNK;
        assert!(head[..used].iter().all(fits), "chunk length");
    }
    if rows == 0 || dim == 0 {
        return;
    }
    let level = level.min(Level::detected());
    let group = heads / chunks.len();
    let worth_it = rows * heads * dim * (start + rows) >= PARALLEL_FROM;
    // A few rows over few heads would leave threads without work: then a group's heads are shared
    // out too, although each part reads the keys for itself.
    let row_parts = rows.div_ceil(SHARE_ROWS);
    let wanted = if worth_it { pool::current_threads() } else { 1 };
    let head_parts = wanted.div_ceil(row_parts * chunks.len()).clamp(1, group);
    let out = pool::Shared::new(out);
    let log_sums = (!log_sums.is_empty()).then(|| pool::Shared::new(log_sums));
    pool::for_each(row_parts * chunks.len() * head_parts, worth_it, |index| {
        // Later rows see more: they come first, so that the last share to end is a short one.
        let row_part = row_parts - 1 - index / (chunks.len() * head_parts);
        let (kv, head_part) = (index / head_parts % chunks.len(), index % head_parts);
        let share = share::Share {
            rows: row_part * SHARE_ROWS..rows.min((row_part + 1) * SHARE_ROWS),
            heads: kv * group + group * head_part / head_parts
                ..kv * group + group * (head_part + 1) / head_parts,
        };
        share::run(level, queries, &share, &chunks[kv], &out, log_sums.as_ref());
    });
}

#[cfg(test)]
mod tests;
