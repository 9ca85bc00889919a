//! A few rows over one chunk, their sums in registers.

use super::{CHUNK, Element, HeadChunk, share::State};
use crate::kernels::{
    LANES,
    register::{Register, exp},
};

/// Most rows of a tile, on any processor.
pub(super) const MOST_ROWS: usize = 8;

/// Rows of the next tile, where `left` rows are left: one of the numbers that there is code for.
#[inline(always)]
pub(super) fn tile_rows(most: usize, left: usize) -> usize {
    match left.min(most) {
        5 => 4,
        3 => 2,
        rows => rows,
    }
}

/// Scores of one row, then the weights of its values.
#[repr(C, align(64))]
pub(super) struct Scores([f32; CHUNK]);

/// Rows that meet one chunk.
pub(super) struct Tile<'a, E> {
    chunk: HeadChunk<'a, E>,
    dim: usize,
    scale: f32,
    weigh: Weigh,
    /// Where each row's query starts.
    pub(super) queries: [*const f32; MOST_ROWS],
    /// Where each row's output starts.
    pub(super) outputs: [*mut f32; MOST_ROWS],
    /// First position of the chunk that the row sees.
    pub(super) lows: [usize; MOST_ROWS],
    /// First position behind those that it sees.
    pub(super) highs: [usize; MOST_ROWS],
}

impl<'a, E: Element> Tile<'a, E> {
    /// Without rows yet.
    #[inline(always)]
    pub(super) fn new(chunk: HeadChunk<'a, E>, dim: usize, scale: f32, weigh: Weigh) -> Self {
        Self {
            chunk,
            dim,
            scale,
            weigh,
            queries: [std::ptr::null(); MOST_ROWS],
            outputs: [std::ptr::null_mut(); MOST_ROWS],
            lows: [0; MOST_ROWS],
            highs: [0; MOST_ROWS],
        }
    }

    /// Adds the chunk to the first `rows` rows.
    ///
    /// # Safety
    /// That of [`Register`]. Queries and outputs are good for `dim` values, `states` for `rows`
    /// states; each row sees at least one position; the chunk holds `CHUNK * dim` keys and values.
    #[inline(always)]
    pub(super) unsafe fn run<V: Register>(&self, rows: usize, states: *mut State) {
        // SAFETY: the caller's promise.
        unsafe {
            match rows {
                1 => self.of_rows::<V, 1>(states),
                2 => self.of_rows::<V, 2>(states),
                4 => self.of_rows::<V, 4>(states),
                6 if V::ROWS >= 6 => self.of_rows::<V, 6>(states),
                7 if V::ROWS >= 7 => self.of_rows::<V, 7>(states),
                8 if V::ROWS >= 8 => self.of_rows::<V, 8>(states),
                _ => unreachable!("invariant: a number that tile_rows gives"),
            }
        }
    }

    #[inline(always)]
    unsafe fn of_rows<V: Register, const R: usize>(&self, states: *mut State) {
        let mut scores = [const { Scores([0.0; CHUNK]) }; R];
        let mut shrinks = [0.0f32; LANES];
        let (mut low, mut high) = (0, CHUNK);
        let (mut least, mut most) = (CHUNK, 0);
        for r in 0..R {
            (low, high) = (low.max(self.lows[r]), high.min(self.highs[r]));
            (least, most) = (least.min(self.lows[r]), most.max(self.highs[r]));
        }
        // SAFETY: the caller's promise; positions are below `CHUNK`.
        unsafe {
            let width = V::COLUMNS * LANES;
            let mut at = least / width * width;
            while at < most {
                self.scores::<V, R>(at, &mut scores);
                at += width;
            }
            (self.weigh)(&mut scores, &self.lows, &self.highs, &mut shrinks, states);

            // All rows read the positions that all of them see; at the edges each reads its own.
            // Every row still takes its positions in rising order.
            for r in 0..R {
                let end = if low < high { low } else { self.highs[r] };
                if self.lows[r] < end {
                    let weights = [scores[r].0.as_ptr()];
                    let output = [self.outputs[r]];
                    self.values::<V, 1>(self.lows[r]..end, weights, &[shrinks[r]], output);
                    shrinks[r] = 1.0;
                }
            }
            if low < high {
                let mut weights = [std::ptr::null(); R];
                let mut outputs = [std::ptr::null_mut(); R];
                for r in 0..R {
                    weights[r] = scores[r].0.as_ptr();
                    outputs[r] = self.outputs[r];
                }
                self.values::<V, R>(low..high, weights, &shrinks, outputs);
                for r in 0..R {
                    if high < self.highs[r] {
                        let weights = [scores[r].0.as_ptr()];
                        let output = [self.outputs[r]];
                        self.values::<V, 1>(high..self.highs[r], weights, &[1.0], output);
                    }
                }
            }
        }
    }

    /// Scores of the positions from `at` on: coordinates are added in order.
    #[inline(always)]
    unsafe fn scores<V: Register, const R: usize>(&self, at: usize, scores: &mut [Scores; R]) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [[V::splat(0.0); 2]; R];
            for j in 0..self.dim {
                let keys = self.chunk.keys.as_ptr().add(j * CHUNK + at);
                let mut key = [V::splat(0.0); 2];
                for c in 0..V::COLUMNS {
                    key[c] = E::load::<V>(keys.add(c * LANES));
                }
                for r in 0..R {
                    let q = V::splat(*self.queries[r].add(j));
                    for c in 0..V::COLUMNS {
                        acc[r][c] = q.mul_add(key[c], acc[r][c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..V::COLUMNS {
                    let scaled = acc[r][c].mul(V::splat(self.scale));
                    scaled.store(scores[r].0.as_mut_ptr().add(at + c * LANES));
                }
            }
        }
    }

    /// `out = out · shrink + Σ weight · value` over the positions of `range`, in order.
    #[inline(always)]
    unsafe fn values<V: Register, const R: usize>(
        &self,
        range: std::ops::Range<usize>,
        weights: [*const f32; R],
        shrinks: &[f32],
        outputs: [*mut f32; R],
    ) {
        let dim = self.dim;
        let values = self.chunk.values.as_ptr();
        let width = V::COLUMNS * LANES;
        let mut at = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while at + width <= dim {
                let mut acc = [[V::splat(0.0); 2]; R];
                for r in 0..R {
                    for c in 0..V::COLUMNS {
                        let out = V::load(outputs[r].add(at + c * LANES));
                        acc[r][c] = out.mul(V::splat(shrinks[r]));
                    }
                }
                for p in range.start..range.end {
                    let row = values.add(p * dim + at);
                    let mut value = [V::splat(0.0); 2];
                    for c in 0..V::COLUMNS {
                        value[c] = E::load::<V>(row.add(c * LANES));
                    }
                    for r in 0..R {
                        let weight = V::splat(*weights[r].add(p));
                        for c in 0..V::COLUMNS {
                            acc[r][c] = weight.mul_add(value[c], acc[r][c]);
                        }
                    }
                }
                for r in 0..R {
                    for c in 0..V::COLUMNS {
                        acc[r][c].store(outputs[r].add(at + c * LANES));
                    }
                }
                at += width;
            }
            for j in at..dim {
                for r in 0..R {
                    let mut sum = *outputs[r].add(j) * shrinks[r];
                    for p in range.start..range.end {
                        sum =
                            (*weights[r].add(p)).mul_add((*values.add(p * dim + j)).to_f32(), sum);
                    }
                    *outputs[r].add(j) = sum;
                }
            }
        }
    }
}

/// The type of [`weigh`], compiled for an instruction set.
pub(super) type Weigh = unsafe fn(
    scores: &mut [Scores],
    lows: &[usize],
    highs: &[usize],
    shrinks: &mut [f32; LANES],
    states: *mut State,
);

/// Turns scores into weights, relative to the largest score so far; `shrinks` is what this makes of
/// earlier weights. A function of its own, because it is the same for any number of rows.
///
/// # Safety
/// That of [`Register`]; `states` is good for as many states as there are scores.
#[inline(always)]
pub(super) unsafe fn weigh<V: Register>(
    scores: &mut [Scores],
    lows: &[usize],
    highs: &[usize],
    shrinks: &mut [f32; LANES],
    states: *mut State,
) {
    // SAFETY: the caller's promise; positions are below `CHUNK`.
    unsafe {
        for (r, Scores(scores)) in scores.iter_mut().enumerate() {
            let (low, high) = (lows[r], highs[r]);
            let (start, end) = (low / LANES * LANES, high.next_multiple_of(LANES));
            scores[start..low].fill(f32::NEG_INFINITY);
            scores[high..end].fill(f32::NEG_INFINITY);
            let mut largest = V::splat(f32::NEG_INFINITY);
            for p in (start..end).step_by(LANES) {
                largest = V::load(scores.as_ptr().add(p)).max(largest);
            }
            let largest = largest.largest();
            let state = &mut *states.add(r);
            let new_max = if largest > state.max { largest } else { state.max };
            shrinks[r] = state.max - new_max;
            state.max = new_max;
        }
        exp(V::load(shrinks.as_ptr())).store(shrinks.as_mut_ptr());
        for (r, Scores(scores)) in scores.iter_mut().enumerate() {
            let state = &mut *states.add(r);
            let mut sums = V::load(state.sums.as_ptr()).mul(V::splat(shrinks[r]));
            let max = V::splat(state.max);
            for p in (lows[r] / LANES * LANES..highs[r]).step_by(LANES) {
                let at = scores.as_mut_ptr().add(p);
                let weights = exp(V::load(at).sub(max));
                weights.store(at);
                sums = sums.add(weights);
            }
            sums.store(state.sums.as_mut_ptr());
        }
    }
}
