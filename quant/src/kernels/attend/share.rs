//! Rows and heads that read the same keys and values: chunk after chunk, tile after tile.

use std::{cell::RefCell, ops::Range};

use super::{CHUNK, Element, HeadChunk, Queries, tile};
use crate::{
    kernels::{
        LANES, Level,
        register::{Portable, Register},
    },
    pool::Shared,
};

/// Rows, and heads of one group.
pub(super) struct Share {
    pub(super) rows: Range<usize>,
    pub(super) heads: Range<usize>,
}

/// What a row of a head carries from chunk to chunk, beside its output.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct State {
    pub(super) sums: [f32; LANES],
    pub(super) max: f32,
}

thread_local! {
    static STATES: RefCell<Vec<State>> = const { RefCell::new(Vec::new()) };
}

/// One share, by the kernels of `level`, which this processor has.
pub(super) fn run<E: Element>(
    level: Level,
    queries: &Queries<'_>,
    share: &Share,
    chunks: &[HeadChunk<'_, E>],
    out: &Shared<f32>,
    log_sums: Option<&Shared<f32>>,
) {
    let work = Work { queries, share, chunks, out, log_sums };
    STATES.with_borrow_mut(|states| match level {
        // SAFETY: the level is one of this processor; lengths were checked by `attend`.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::share(&work, states) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::share(&work, states) },
        // SAFETY: portable code runs everywhere; lengths were checked by `attend`.
        _ => unsafe { share_body::<Portable, E>(&work, tile::weigh::<Portable>, states) },
    });
}

/// The two functions that one instruction set needs.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled_for {
    ($name:ident, $register:ident, $features:literal) => {
        mod $name {
            use super::*;
            use crate::kernels::register::$register;

            #[target_feature(enable = $features)]
            pub(super) unsafe fn share<E: Element>(work: &Work<'_, E>, states: &mut Vec<State>) {
                // SAFETY: the caller's promise.
                unsafe { share_body::<$register, E>(work, weigh, states) }
            }

            #[target_feature(enable = $features)]
            unsafe fn weigh(
                scores: &mut [tile::Scores],
                lows: &[usize],
                highs: &[usize],
                shrinks: &mut [f32; LANES],
                states: *mut State,
            ) {
                // SAFETY: the caller's promise.
                unsafe { tile::weigh::<$register>(scores, lows, highs, shrinks, states) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled_for!(avx2, Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
compiled_for!(avx512, Avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl");

struct Work<'a, E> {
    queries: &'a Queries<'a>,
    share: &'a Share,
    chunks: &'a [HeadChunk<'a, E>],
    out: &'a Shared<f32>,
    log_sums: Option<&'a Shared<f32>>,
}

impl<E> Work<'_, E> {
    /// Row and head of a pair: heads of a row follow each other, because they see the same.
    #[inline(always)]
    fn row_and_head(&self, pair: usize) -> (usize, usize) {
        let Share { rows, heads } = self.share;
        (rows.start + pair / heads.len(), heads.start + pair % heads.len())
    }

    /// Where a pair's query and output lie.
    #[inline(always)]
    fn place(&self, pair: usize) -> usize {
        let (row, head) = self.row_and_head(pair);
        (row * self.queries.heads + head) * self.queries.dim
    }

    /// The share's rows that see something of the chunk at `base`.
    #[inline(always)]
    fn seeing(&self, base: usize) -> Range<usize> {
        let Queries { start, window, .. } = *self.queries;
        let Share { rows, .. } = self.share;
        let first = base.saturating_sub(start).clamp(rows.start, rows.end);
        let end = match window {
            Some(window) => (base + CHUNK - 1).saturating_add(window).saturating_sub(start),
            None => rows.end,
        };
        first..end.clamp(first, rows.end)
    }
}

/// # Safety
/// That of [`Register`]; lengths as [`super::attend`] checks them; no other thread touches the
/// outputs of the share.
#[inline(always)]
unsafe fn share_body<V: Register, E: Element>(
    work: &Work<'_, E>,
    weigh: tile::Weigh,
    states: &mut Vec<State>,
) {
    let Queries { dim, start, scale, .. } = *work.queries;
    let Share { rows, heads } = work.share;
    let pairs = rows.len() * heads.len();
    states.clear();
    states.resize(pairs, State { sums: [0.0; LANES], max: f32::NEG_INFINITY });
    // SAFETY: places are inside the outputs, and this thread's own.
    unsafe {
        for pair in 0..pairs {
            work.out.part(work.place(pair), dim).fill(0.0);
        }
        let first = work.queries.visible(start + rows.start).start;
        for chunk in first / CHUNK..(start + rows.end).div_ceil(CHUNK) {
            let base = chunk * CHUNK;
            let seeing = work.seeing(base);
            let mut pair = (seeing.start - rows.start) * heads.len();
            let end = (seeing.end - rows.start) * heads.len();
            while pair < end {
                let count = tile::tile_rows(V::ROWS, end - pair);
                let mut tile = tile::Tile::new(work.chunks[chunk], dim, scale, weigh);
                for i in 0..count {
                    let (row, _) = work.row_and_head(pair + i);
                    let place = work.place(pair + i);
                    let visible = work.queries.visible(start + row);
                    tile.queries[i] = work.queries.values.as_ptr().add(place);
                    tile.outputs[i] = work.out.part(place, dim).as_mut_ptr();
                    tile.lows[i] = visible.start.max(base) - base;
                    tile.highs[i] = visible.end.min(base + CHUNK) - base;
                }
                tile.run::<V>(count, states.as_mut_ptr().add(pair));
                pair += count;
            }
        }
        for pair in 0..pairs {
            let state = &states[pair];
            let sum = V::load(state.sums.as_ptr()).sum();
            for value in work.out.part(work.place(pair), dim) {
                *value /= sum;
            }
            if let Some(log_sums) = work.log_sums {
                let (row, head) = work.row_and_head(pair);
                log_sums.write(row * work.queries.heads + head, state.max + sum.ln());
            }
        }
    }
}
