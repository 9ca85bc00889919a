//! What tile registers work on at a time, and the pipeline that overlaps it with float sums.
//!
//! Registers 0 to 3 hold integer sums, 4 and 5 input, 6 and 7 weights. A vector that reads what a
//! tile has just stored waits until the store has left the core; so the floats of a unit are
//! computed piece by piece between the tile instructions of the next one.

use std::arch::{asm, x86_64::*};

use crate::packed::{SLICE, WIDTH, activations::BLOCK};

/// Sums of 16 outputs.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Sums(pub(super) [f32; WIDTH]);

impl Sums {
    pub(super) const ZERO: Self = Self([0.0; WIDTH]);
}

/// Integer sums of four tile registers; two such pages are used in turn.
#[repr(C, align(4096))]
struct Page([i32; 4 * BLOCK * WIDTH]);

/// One group of two tiles of weights, and of two blocks of input or the two planes of one.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    /// Rows of lines, slice after slice.
    pub(super) x: [*const u8; 2],
    /// Operands, slice after slice.
    pub(super) w: [*const u8; 2],
    /// 1 to 4.
    pub(super) slices: usize,
    /// One scale for each row, of each block.
    pub(super) x_scales: [*const f32; 2],
    /// 16 scales of each tile.
    pub(super) w_scales: [*const Sums; 2],
    /// Where the sums of 16 rows are: first block and tile, second tile, and the same of the second
    /// block.
    pub(super) sums: [*mut Sums; 4],
}

/// Units in order: the integers of one, the floats of the one before.
pub(super) struct Pipeline<const PLANES: bool> {
    dots: Box<[Page; 2]>,
    turn: usize,
    rows: usize,
    pending: Option<Unit>,
}

/// One tile instruction by its name and registers.
macro_rules! tile {
    ($instruction:literal) => { asm!($instruction, options(nostack, nomem)) };
    (load $tile:literal, $from:expr) => {
        asm!(
            concat!("tileloadd ", $tile, ", [{from} + {line}*1]"),
            from = in(reg) $from, line = in(reg) 64usize, options(nostack, readonly)
        )
    };
    (store $tile:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{to} + {line}*1], ", $tile),
            to = in(reg) $to, line = in(reg) 64usize, options(nostack)
        )
    };
}

impl<const PLANES: bool> Pipeline<PLANES> {
    /// For blocks of `rows` rows.
    pub(super) fn new(rows: usize) -> Self {
        let page = || Page([0; 4 * BLOCK * WIDTH]);
        Self { dots: Box::new([page(), page()]), turn: 0, rows, pending: None }
    }

    /// Multiplies one unit, and adds the one before to its sums.
    ///
    /// # Safety
    /// Tile registers are set up for this number of rows and used by nothing else until
    /// [`Pipeline::finish`], AVX-512 is there, and the pointers of the unit hold until then.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn run(&mut self, unit: Unit) {
        // SAFETY: by the caller's promise. Registers keep their values between the statements,
        // because no other code of this thread touches tile registers.
        unsafe {
            match self.pending {
                Some(pending) if self.rows == BLOCK => self.multiply::<true>(&unit, &pending),
                Some(pending) => self.multiply::<false>(&unit, &pending),
                None => {
                    // The first unit has nothing to overlap with: its own sums plus zeros.
                    self.dots[1].0.fill(0);
                    self.multiply::<false>(&unit, &unit);
                }
            }
        }
        self.pending = Some(unit);
    }

    /// # Safety
    /// As [`Pipeline::run`].
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn multiply<const FULL: bool>(&mut self, unit: &Unit, pending: &Unit) {
        let rows = if FULL { BLOCK } else { self.rows };
        let before = self.dots[1 - self.turn].0.as_ptr();
        // SAFETY: by the caller's promise.
        unsafe {
            tile!("tilezero tmm0");
            tile!("tilezero tmm1");
            tile!("tilezero tmm2");
            tile!("tilezero tmm3");
            let mut part = 0;
            for slice in 0..unit.slices {
                let x = unit.x.map(|it| it.add(slice * rows * SLICE));
                let w = unit.w.map(|it| it.add(slice * WIDTH * SLICE));
                tile!(load "tmm4", x[0]);
                tile!(load "tmm6", w[0]);
                tile!("tdpbssd tmm0, tmm4, tmm6");
                tile!(load "tmm7", w[1]);
                tile!("tdpbssd tmm1, tmm4, tmm7");
                tile!(load "tmm5", x[1]);
                tile!("tdpbssd tmm2, tmm5, tmm6");
                tile!("tdpbssd tmm3, tmm5, tmm7");
                let until = (slice + 1) * 4 / unit.slices;
                while part < until {
                    add::<PLANES>(pending, part, rows, before);
                    part += 1;
                }
            }
            let dots = self.dots[self.turn].0.as_mut_ptr();
            tile!(store "tmm0", dots);
            tile!(store "tmm1", dots.add(BLOCK * WIDTH));
            tile!(store "tmm2", dots.add(2 * BLOCK * WIDTH));
            tile!(store "tmm3", dots.add(3 * BLOCK * WIDTH));
        }
        self.turn = 1 - self.turn;
    }

    /// Adds the last unit to its sums.
    ///
    /// # Safety
    /// As [`Pipeline::run`].
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn finish(&mut self) {
        if let Some(pending) = self.pending.take() {
            let before = self.dots[1 - self.turn].0.as_ptr();
            for part in 0..4 {
                // SAFETY: by the caller's promise.
                unsafe { add::<PLANES>(&pending, part, self.rows, before) };
            }
        }
    }
}

/// A quarter of the float sums of a unit: `acc = fma(dot · x_scale, w_scale, acc)`.
///
/// # Safety
/// As [`Pipeline::run`]; `dots` holds the integer sums of the unit.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn add<const PLANES: bool>(unit: &Unit, part: usize, rows: usize, dots: *const i32) {
    let (sums, block, tile, range) = if PLANES {
        let half = rows.div_ceil(2);
        (part / 2, 0, part / 2, if part.is_multiple_of(2) { 0..half } else { half..rows })
    } else {
        (part, part / 2, part % 2, 0..rows)
    };
    // SAFETY: by the caller's promise.
    unsafe {
        let high = dots.add(sums * BLOCK * WIDTH);
        let low = dots.add((sums + 2) % 4 * BLOCK * WIDTH);
        let (sums, x_scales) = (unit.sums[sums], unit.x_scales[block]);
        let w_scale = _mm512_load_ps((*unit.w_scales[tile]).0.as_ptr());
        let one = |row: usize| {
            let mut dot = _mm512_load_si512(high.add(row * WIDTH).cast());
            if PLANES {
                let low = _mm512_load_si512(low.add(row * WIDTH).cast());
                dot = _mm512_add_epi32(_mm512_slli_epi32::<8>(dot), low);
            }
            let x_scale = _mm512_set1_ps(*x_scales.add(row));
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), x_scale);
            let place = (*sums.add(row)).0.as_mut_ptr();
            _mm512_store_ps(place, _mm512_fmadd_ps(scaled, w_scale, _mm512_load_ps(place)));
        };
        range.for_each(one);
    }
}
