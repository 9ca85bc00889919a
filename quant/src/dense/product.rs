//! The loops around blocks: what stays in which cache.

use std::{cell::RefCell, ops::Range};

use super::{BLOCK, Block, DenseLevel, Line, Right, Tiles, block::multiply};
use crate::pool;

/// Blocks of terms in a pass: what all threads' buffers are sized for.
const STEPS: usize = 32;

/// Blocks of terms whose panel (2 KiB each) stays in the first-level cache while rows pass.
const CHUNK: usize = 16;

/// Blocks of the left operand (2 KiB each) that stay in the second-level cache.
const RESIDENT: usize = 384;

/// Panels that one task packs at a time.
const GROUP: usize = 8;

/// Blocks of rows in one call of the loops: bounds the sums that wait for later terms.
const ROW_BLOCKS: usize = 64;

/// Block products below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 64;

/// Finished sums of one block of rows and of neighbouring panels.
#[derive(Debug)]
pub struct Finished<'a> {
    /// Which block of 32 rows.
    pub row_block: usize,
    /// The first panel.
    pub panel: usize,
    /// A block for each panel, to be used up.
    pub sums: &'a mut [Block],
}

/// `left · right`, where only the block columns `terms` of `left` take part. Calls `finish` once for
/// every block of rows and every `together` panels, on several threads.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn product(
    level: DenseLevel,
    left: &Tiles,
    terms: Range<usize>,
    right: &Right<'_>,
    together: usize,
    finish: impl Fn(Finished<'_>) + Sync + Send,
) {
    let (panels, steps) = (right.panels(), right.steps());
    assert!(terms.len() == steps && terms.end <= left.col_blocks(), "terms");
    assert!(together >= 1 && panels.is_multiple_of(together), "panels that finish together");
    let level = level.min(DenseLevel::detected());
    if steps == 0 || panels == 0 || left.rows() == 0 {
        return;
    }
    let worth_it = left.row_blocks() * panels * steps >= PARALLEL_FROM;
    let threads = if worth_it { pool::current_threads() } else { 1 };
    let units = panels / together;
    let group = (units / (2 * threads)).clamp(1, GROUP.div_ceil(together));
    let groups = units.div_ceil(group);
    // Where there are few columns, threads share them and divide the rows.
    let row_tasks = if groups >= threads { 1 } else { threads.min(left.row_blocks()) };
    pool::for_each(groups * row_tasks, worth_it, |task| {
        let units = task / row_tasks * group..units.min((task / row_tasks + 1) * group);
        let part = task % row_tasks;
        let rows = left.row_blocks() * part / row_tasks..left.row_blocks() * (part + 1) / row_tasks;
        let job = Job { level, left, first_term: terms.start, right, together };
        SCRATCH.with_borrow_mut(|scratch| {
            for start in rows.clone().step_by(ROW_BLOCKS) {
                let rows = start..rows.end.min(start + ROW_BLOCKS);
                job.run(rows, units.start * together..units.end * together, scratch, &finish);
            }
        });
    });
}

/// `left · right`, rounded in no way, added to the row-major `out` of `cols` columns; with
/// `add` false, `out` is overwritten.
///
/// # Panics
/// Where the shapes do not fit: a caller's mistake.
pub fn product_into(
    level: DenseLevel,
    left: &Tiles,
    terms: Range<usize>,
    right: &Right<'_>,
    add: bool,
    out: &mut [f32],
    cols: usize,
) {
    let rows = left.rows();
    assert_eq!(out.len(), rows * cols, "output length");
    assert_eq!(cols.div_ceil(BLOCK), right.panels(), "output columns");
    let out = pool::Shared::new(out);
    product(level, left, terms, right, 1, |finished| {
        let first = finished.panel * BLOCK;
        let len = BLOCK.min(cols - first);
        for (r, sums) in finished.sums[0].0.chunks_exact(BLOCK).enumerate() {
            let row = finished.row_block * BLOCK + r;
            if row == rows {
                break;
            }
            // SAFETY: inside the row; every block is finished once.
            let out = unsafe { out.slice(row * cols + first, len) };
            for (y, sum) in out.iter_mut().zip(sums) {
                *y = if add { *y + sum } else { *sum };
            }
        }
    });
}

thread_local! {
    /// Kept, because fresh pages would cost a fault each in every product.
    static SCRATCH: RefCell<Scratch> =
        const { RefCell::new(Scratch { packed: Vec::new(), sums: Vec::new() }) };
}

struct Scratch {
    packed: Vec<Line>,
    sums: Vec<Block>,
}

struct Job<'a> {
    level: DenseLevel,
    left: &'a Tiles,
    first_term: usize,
    right: &'a Right<'a>,
    together: usize,
}

impl Job<'_> {
    fn run(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: &mut Scratch,
        finish: &(impl Fn(Finished<'_>) + Sync),
    ) {
        let steps = self.right.steps();
        let passes = steps.div_ceil(STEPS);
        let resident = (RESIDENT / steps.div_ceil(passes)).max(1);
        let Scratch { packed, sums } = scratch;
        // With one pass, the sums of a few rows and of a unit of panels; else those of all.
        let kept = if passes == 1 { resident.min(rows.len()) } else { rows.len() };
        let units = if passes == 1 { 1 } else { panels.len() / self.together };
        grow(sums, kept * units * self.together, Block::ZERO);
        for pass in 0..passes {
            let steps = steps * pass / passes..steps * (pass + 1) / passes;
            grow(packed, panels.len() * steps.len() * BLOCK, Line::ZERO);
            let packed = &mut packed[..panels.len() * steps.len() * BLOCK];
            self.right.pack(self.level.float(), panels.clone(), steps.clone(), packed);
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level was detected; nothing up the stack holds tile registers, because
            // `finish` is only called from here and `pack` uses none.
            let _tiles =
                (self.level == DenseLevel::Amx).then(|| unsafe { crate::amx::Configured::new() });
            for start in rows.clone().step_by(resident) {
                let part = start..rows.end.min(start + resident);
                for (unit, panel) in panels.clone().step_by(self.together).enumerate() {
                    let at = match passes {
                        1 => 0,
                        _ => (unit * kept + part.start - rows.start) * self.together,
                    };
                    let sums = &mut sums[at..at + part.len() * self.together];
                    let width = steps.len() * BLOCK;
                    let at = unit * self.together * width;
                    let packed = &packed[at..at + self.together * width];
                    let last = pass + 1 == passes;
                    self.unit(part.clone(), panel, &steps, pass > 0, packed, sums, |it| {
                        if last {
                            finish(it);
                        }
                    });
                }
            }
        }
    }

    /// All terms of `steps` for some rows and the panels that finish together.
    #[allow(clippy::too_many_arguments)]
    fn unit(
        &self,
        rows: Range<usize>,
        panel: usize,
        steps: &Range<usize>,
        add: bool,
        packed: &[Line],
        sums: &mut [Block],
        finish: impl Fn(Finished<'_>),
    ) {
        let chunks = steps.len().div_ceil(CHUNK);
        for chunk in 0..chunks {
            let terms = steps.len() * chunk / chunks..steps.len() * (chunk + 1) / chunks;
            for (row_block, sums) in rows.clone().zip(sums.chunks_exact_mut(self.together)) {
                let first = self.first_term + steps.start;
                let a = self.left.row_of_blocks(row_block);
                let a = &a[(first + terms.start) * BLOCK..(first + terms.end) * BLOCK];
                for (panel, sums) in sums.iter_mut().enumerate() {
                    let b = &packed[panel * steps.len() * BLOCK..];
                    let b = &b[terms.start * BLOCK..terms.end * BLOCK];
                    // SAFETY: tile registers were set up where the level asks for them.
                    unsafe { multiply(self.level, a, b, add || chunk > 0, sums) };
                }
                if chunk + 1 == chunks {
                    finish(Finished { row_block, panel, sums });
                }
            }
        }
    }
}

fn grow<T: Copy>(buffer: &mut Vec<T>, len: usize, value: T) {
    if buffer.len() < len {
        buffer.resize(len, value);
    }
}
