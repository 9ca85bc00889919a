//! The arithmetic over [`Isa`].

use std::ops::Range;

use super::isa::Isa;
use crate::interleaved::{
    GROUP, LINE, SUB, UNIT, UNITS, WIDTH,
    input::Input,
    kind::{Kind, facts},
    layout::Layout,
    matmul::Output,
};

/// Rows that share one pass of weights through registers.
const TOGETHER: usize = 8;

/// Tiles that rows pass over while the tiles are in the second-level cache.
const PANEL: usize = 8;

/// How far ahead of their use weights are fetched. Prefetching past the end is harmless.
const AHEAD: usize = 2048;

/// All rows of `x` times some tiles.
///
/// # Safety
/// The instructions are there; `bytes` are those of the layout, whose tiles and columns fit; `x` has
/// planes; no other thread writes the outputs of these tiles.
#[inline(always)]
pub(super) unsafe fn tiles<S: Isa, K: Kind>(
    layout: &Layout,
    bytes: &[u8],
    tiles: Range<usize>,
    x: &Input,
    output: &Output<'_>,
) {
    for first_tile in tiles.clone().step_by(PANEL) {
        let panel = first_tile..tiles.end.min(first_tile + PANEL);
        for first in (0..x.rows).step_by(TOGETHER) {
            let count = TOGETHER.min(x.rows - first);
            let mut sums = [[[0.0; WIDTH]; TOGETHER]; PANEL];
            for (tile, sums) in panel.clone().zip(&mut sums) {
                let tile = &bytes[layout.tile_at(tile)];
                // SAFETY: by the caller's promise.
                unsafe {
                    match count {
                        1 => rows::<S, K, 1>(layout, tile, x, first, sums),
                        2 => rows::<S, K, 2>(layout, tile, x, first, sums),
                        3 => rows::<S, K, 3>(layout, tile, x, first, sums),
                        4 => rows::<S, K, 4>(layout, tile, x, first, sums),
                        5 => rows::<S, K, 5>(layout, tile, x, first, sums),
                        6 => rows::<S, K, 6>(layout, tile, x, first, sums),
                        7 => rows::<S, K, 7>(layout, tile, x, first, sums),
                        _ => rows::<S, K, TOGETHER>(layout, tile, x, first, sums),
                    }
                }
            }
            for row in 0..count {
                for (tile, sums) in panel.clone().zip(&sums) {
                    // SAFETY: by the caller's promise.
                    unsafe { output.write(first + row, tile, &sums[row]) };
                }
            }
        }
    }
}

/// A group of one row.
struct Row {
    high: *const i8,
    low: *const i8,
    sums: *const i32,
}

/// # Safety
/// As [`tiles`]; rows `first..first + M` exist.
#[inline(always)]
unsafe fn rows<S: Isa, K: Kind, const M: usize>(
    layout: &Layout,
    tile: &[u8],
    x: &Input,
    first: usize,
    out: &mut [[f32; WIDTH]; TOGETHER],
) {
    // SAFETY: by the caller's promise; each group has its units in the tile and in the input.
    unsafe {
        let mut sums = [S::splat_float(0.0); M];
        for group in 0..layout.groups {
            let part = &tile[layout.group_range(group)];
            let rows: [Row; M] = std::array::from_fn(|row| Row {
                high: x.plane(0, first + row, group * GROUP).as_ptr(),
                low: x.plane(1, first + row, group * GROUP).as_ptr(),
                sums: x.sums(first + row, group * GROUP / SUB).as_ptr(),
            });
            let t = times::<S, K, M>(part.as_ptr(), layout.units(group), &rows);
            for row in 0..M {
                let scale = S::splat_float(x.scale(first + row, group));
                sums[row] = S::fma::<false>(t[row], scale, sums[row]);
            }
        }
        for row in 0..M {
            S::store(out[row].as_mut_ptr(), sums[row]);
        }
    }
}

/// One group times `M` rows, without the scales of the input.
///
/// # Safety
/// As [`rows`]; a group of `units` follows `group`, its bytes and sums follow the pointers of the
/// rows.
#[inline(always)]
unsafe fn times<S: Isa, K: Kind, const M: usize>(
    group: *const u8,
    units: usize,
    rows: &[Row; M],
) -> [S::Floats; M] {
    let facts = const { facts(K::FORMAT).expect("invariant: every kind has facts") };
    // Signed bytes are read as unsigned, with 128 added.
    let zero = if K::BITS == 8 { 128 } else { K::ZERO };
    // SAFETY: by the caller's promise; scales, integer scales and units lie as the layout has them.
    unsafe {
        let subs = group.add(facts.half_bytes());
        let values = group.add(facts.scale_bytes(units));
        let mut t = [S::splat_float(0.0); M];
        let mut span = [S::splat(0); M];
        let mut minima = [S::splat(0); M];
        for unit in 0..units {
            let at = values.add(unit * facts.unit_bytes());
            fetch(at, K::UNIT_LINES);
            let sum = |row: usize, sub: usize| *rows[row].sums.add(unit * (UNIT / SUB) + sub);
            if !K::K {
                let dot = dots::<S, K, M>(at, 0..UNIT / 4, unit, rows);
                let halves = group.add(unit * facts.half_bytes());
                let d = S::load_halves(halves);
                for row in 0..M {
                    let sum = sum(row, 0) + sum(row, 1);
                    let dot = S::add(dot[row], S::splat(-zero * sum));
                    t[row] = S::fma::<false>(S::to_floats(dot), d, t[row]);
                    if K::MIN {
                        let m = S::load_halves(halves.add(2 * WIDTH));
                        t[row] = S::fma::<false>(S::splat_float(sum as f32), m, t[row]);
                    }
                }
                continue;
            }
            let quads = K::SUB / 4;
            for sub in 0..UNIT / K::SUB {
                let dot = dots::<S, K, M>(at, sub * quads..(sub + 1) * quads, unit, rows);
                let s_at = subs.add((unit * (UNIT / K::SUB) + sub) * WIDTH);
                let s = if K::BITS == 6 {
                    S::load_bytes::<true>(s_at)
                } else {
                    S::load_bytes::<false>(s_at)
                };
                for row in 0..M {
                    let mut dot = dot[row];
                    if zero != 0 {
                        dot = S::add(dot, S::splat(-zero * sum(row, sub)));
                    }
                    span[row] = S::add(span[row], S::multiply(dot, s));
                }
            }
            if K::MIN {
                let minimum = S::load_bytes::<false>(subs.add((UNITS + unit) * WIDTH));
                for row in 0..M {
                    let sum = S::splat(sum(row, 0) + sum(row, 1));
                    minima[row] = S::add(minima[row], S::multiply(sum, minimum));
                }
            }
            if ((unit + 1) * UNIT).is_multiple_of(K::SPAN) {
                let d = S::load_halves(group);
                for row in 0..M {
                    t[row] = S::fma::<false>(S::to_floats(span[row]), d, t[row]);
                }
                span = [S::splat(0); M];
            }
        }
        if K::K && K::MIN {
            let d_min = S::load_halves(group.add(2 * WIDTH));
            for row in 0..M {
                t[row] = S::fma::<true>(S::to_floats(minima[row]), d_min, t[row]);
            }
        }
        t
    }
}

/// The dot products of some quads of a unit.
///
/// # Safety
/// As [`times`]; `at` points to the unit.
#[inline(always)]
unsafe fn dots<S: Isa, K: Kind, const M: usize>(
    at: *const u8,
    quads: Range<usize>,
    unit: usize,
    rows: &[Row; M],
) -> [S::Integers; M] {
    // SAFETY: by the caller's promise.
    unsafe {
        let (mut high, mut low) = ([S::splat(0); M], [S::splat(0); M]);
        for index in quads {
            let weights = quad::<S, K>(at, index);
            let column = unit * UNIT + 4 * index;
            for row in 0..M {
                let four =
                    |plane: *const i8| S::splat(plane.add(column).cast::<i32>().read_unaligned());
                high[row] = S::dot(high[row], weights, four(rows[row].high));
                low[row] = S::dot(low[row], weights, four(rows[row].low));
            }
        }
        for row in 0..M {
            high[row] = S::add(S::times_256(high[row]), low[row]);
        }
        high
    }
}

/// One quad of columns of 16 outputs as unsigned bytes.
///
/// # Safety
/// As [`dots`].
#[inline(always)]
unsafe fn quad<S: Isa, K: Kind>(at: *const u8, index: usize) -> S::Integers {
    let each = |byte: u8| i32::from_le_bytes([byte; 4]);
    // SAFETY: by the caller's promise.
    unsafe {
        let line = |line: usize| S::load(at.add(line * LINE));
        if K::BITS == 8 {
            return S::xor(line(index), S::splat(each(0x80)));
        }
        let nibbles = S::shift_16(line(index % 4), if index < 4 { 0 } else { -4 });
        let nibbles = S::and(nibbles, S::splat(each(0x0f)));
        // Where the high bits of this quad are, and which they are at their place.
        let (high, place, mask) = match K::BITS {
            4 => return nibbles,
            5 => (line(4), index as i32, 0x10),
            _ => (line(4 + index / 4), 2 * (index % 4) as i32, 0x30),
        };
        S::or(nibbles, S::and(S::shift_16(high, 4 - place), S::splat(each(mask))))
    }
}

/// Fetches the lines of a unit that will be needed soon.
#[inline(always)]
fn fetch(unit: *const u8, lines: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..lines {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: prefetching reads nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(unit.wrapping_add(AHEAD + line * LINE).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (unit, lines, AHEAD);
}
