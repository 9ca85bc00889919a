//! Many rows: a group of 16 outputs becomes 16-bit integers in the first-level cache, and all rows
//! pass over it.

use std::{arch::x86_64::*, cell::RefCell, ops::Range};

use super::widen::{floats, integers, quad};
use crate::interleaved::{
    GROUP, SUB, UNIT, UNITS, WIDTH,
    input::Input,
    kind::{Kind, facts},
    layout::Layout,
    matmul::Output,
};

/// Rows that one pass over a widened group multiplies together.
const TOGETHER: usize = 6;

/// Bytes of input that stay in the second-level cache while tiles pass over them.
const INPUT_BYTES: usize = 256 << 10;

/// Tiles whose outputs are written together: whole stretches of a row.
const PANEL: usize = 8;

/// Two columns of 16 outputs.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Pair([i16; 2 * WIDTH]);

/// A group of 16 outputs, widened.
struct Wide {
    /// `s · (q - z)`; the order of columns is that of the input.
    pairs: [Pair; GROUP / 2],
    /// For each span, and 16 outputs.
    scales: [[f32; WIDTH]; UNITS],
    /// For each unit of plain types; K-blocks: the first alone.
    minima: [[f32; WIDTH]; UNITS],
    /// For each unit of K-blocks.
    integer_minima: [[i32; WIDTH]; UNITS],
}

struct Scratch {
    wide: Box<Wide>,
    /// For each tile of a panel, the sums of some rows.
    sums: Vec<[f32; WIDTH]>,
}

thread_local! {
    /// Kept, because fresh pages would cost a fault each in every product.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        wide: Box::new(Wide {
            pairs: [Pair([0; 2 * WIDTH]); GROUP / 2],
            scales: [[0.0; WIDTH]; UNITS],
            minima: [[0.0; WIDTH]; UNITS],
            integer_minima: [[0; WIDTH]; UNITS],
        }),
        sums: Vec::new(),
    });
}

/// All rows of `x` times some tiles.
///
/// # Safety
/// AVX2, FMA and F16C; `bytes` are those of the layout, whose tiles and columns fit.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tiles<K: Kind>(
    layout: &Layout,
    bytes: &[u8],
    tiles: Range<usize>,
    x: &Input,
    output: &Output<'_>,
) {
    let fitting = INPUT_BYTES / (2 * layout.cols);
    let chunk = (fitting / TOGETHER * TOGETHER).clamp(4 * TOGETHER, 64 * TOGETHER);
    SCRATCH.with_borrow_mut(|Scratch { wide, sums }| {
        sums.resize(PANEL * chunk.min(x.rows), [0.0; WIDTH]);
        for first in (0..x.rows).step_by(chunk) {
            let rows = first..x.rows.min(first + chunk);
            for first in tiles.clone().step_by(PANEL) {
                let panel = first..tiles.end.min(first + PANEL);
                for (tile, sums) in panel.clone().zip(sums.chunks_exact_mut(rows.len())) {
                    sums.fill([0.0; WIDTH]);
                    let tile = &bytes[layout.tile_at(tile)];
                    // SAFETY: by the caller's promise.
                    unsafe { one_tile::<K>(layout, tile, x, rows.clone(), wide, sums) };
                }
                for (i, row) in rows.clone().enumerate() {
                    for (tile, sums) in panel.clone().zip(sums.chunks_exact(rows.len())) {
                        // SAFETY: tasks own disjoint ranges of tiles.
                        unsafe { output.write(row, tile, &sums[i]) };
                    }
                }
            }
        }
    });
}

/// # Safety
/// As [`tiles`]; `sums` are as many as rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one_tile<K: Kind>(
    layout: &Layout,
    tile: &[u8],
    x: &Input,
    rows: Range<usize>,
    wide: &mut Wide,
    sums: &mut [[f32; WIDTH]],
) {
    for group in 0..layout.groups {
        let units = layout.units(group);
        let part = &tile[layout.group_range(group)];
        // SAFETY: by the caller's promise.
        unsafe {
            widen::<K>(part.as_ptr(), units, wide);
            for (row, sums) in rows.clone().step_by(TOGETHER).zip(sums.chunks_mut(TOGETHER)) {
                match sums.len() {
                    1 => times::<K, 1>(wide, units, x, row, group, sums),
                    2 => times::<K, 2>(wide, units, x, row, group, sums),
                    3 => times::<K, 3>(wide, units, x, row, group, sums),
                    4 => times::<K, 4>(wide, units, x, row, group, sums),
                    5 => times::<K, 5>(wide, units, x, row, group, sums),
                    _ => times::<K, TOGETHER>(wide, units, x, row, group, sums),
                }
            }
        }
    }
}

/// # Safety
/// AVX2; a group of `units` follows `group`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen<K: Kind>(group: *const u8, units: usize, wide: &mut Wide) {
    let facts = const { facts(K::FORMAT).expect("invariant: every kind has facts") };
    // SAFETY: by the caller's promise; scales, integer scales and units lie as the layout has them.
    unsafe {
        let subs = group.add(facts.half_bytes());
        let values = group.add(facts.scale_bytes(units));
        let halves = |unit: usize| group.add(if K::K { 0 } else { unit * facts.half_bytes() });
        for side in 0..2 {
            for span in 0..(units * UNIT).div_ceil(K::SPAN) {
                let scales = wide.scales[span].as_mut_ptr().add(8 * side);
                _mm256_storeu_ps(scales, floats(halves(span), side));
            }
            if K::MIN {
                for unit in 0..if K::K { 1 } else { units } {
                    let minima = wide.minima[unit].as_mut_ptr().add(8 * side);
                    _mm256_storeu_ps(minima, floats(halves(unit).add(2 * WIDTH), side));
                }
                for unit in 0..if K::K { units } else { 0 } {
                    let minima = wide.integer_minima[unit].as_mut_ptr().add(8 * side);
                    _mm256_storeu_si256(minima.cast(), integers::<K>(subs, UNITS + unit, side));
                }
            }
            for unit in 0..units {
                let at = values.add(unit * facts.unit_bytes() + 32 * side);
                for half in 0..2 {
                    let sub = if K::SUB == SUB { 2 * unit + half } else { unit };
                    let s =
                        if K::K { integers::<K>(subs, sub, side) } else { _mm256_setzero_si256() };
                    // Once in each half of a lane.
                    let low = _mm256_and_si256(s, _mm256_set1_epi32(0xffff));
                    let s = _mm256_or_si256(low, _mm256_slli_epi32::<16>(s));
                    for index in 0..SUB / 4 {
                        let q = quad::<K>(at, half, index);
                        let pair = unit * (UNIT / 2) + half * (SUB / 2) + 2 * index;
                        for (i, q) in q.into_iter().enumerate() {
                            let mut q = _mm256_sub_epi16(q, _mm256_set1_epi16(K::ZERO as i16));
                            if K::K {
                                q = _mm256_mullo_epi16(q, s);
                            }
                            let place = wide.pairs[pair + i].0.as_mut_ptr().add(WIDTH * side);
                            _mm256_store_si256(place.cast(), q);
                        }
                    }
                }
            }
        }
    }
}

/// Adds one group times `M` rows of `x`, from `row` on, to their sums.
///
/// # Safety
/// AVX2 and FMA; the rows and the group exist, and there are `M` sums.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn times<K: Kind, const M: usize>(
    wide: &Wide,
    units: usize,
    x: &Input,
    row: usize,
    group: usize,
    sums: &mut [[f32; WIDTH]],
) {
    let integers: [*const i32; M] =
        std::array::from_fn(|i| x.integers(row + i, group * GROUP).as_ptr().cast());
    let unit_sum = |i: usize, unit: usize| x.unit_sum(row + i, group * UNITS + unit);
    let mut t = [[_mm256_setzero_ps(); 2]; M];
    let pairs = K::SPAN / 2;
    // SAFETY: by the caller's promise.
    unsafe {
        for span in 0..units * UNIT / K::SPAN {
            let mut dot = [[_mm256_setzero_si256(); 2]; M];
            let weights = wide.pairs.as_ptr().add(span * pairs);
            for pair in 0..pairs {
                let low = _mm256_load_si256(weights.add(pair).cast());
                let high = _mm256_load_si256(weights.add(pair).cast::<__m256i>().add(1));
                for i in 0..M {
                    let x = integers[i].add(span * pairs + pair).read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    dot[i][0] = _mm256_add_epi32(dot[i][0], _mm256_madd_epi16(low, x));
                    dot[i][1] = _mm256_add_epi32(dot[i][1], _mm256_madd_epi16(high, x));
                }
            }
            for side in 0..2 {
                let d = _mm256_loadu_ps(wide.scales[span].as_ptr().add(8 * side));
                for i in 0..M {
                    let dot = _mm256_cvtepi32_ps(dot[i][side]);
                    t[i][side] = _mm256_fmadd_ps(dot, d, t[i][side]);
                }
                if K::MIN && !K::K {
                    let m = _mm256_loadu_ps(wide.minima[span].as_ptr().add(8 * side));
                    for i in 0..M {
                        let sum = _mm256_set1_ps(unit_sum(i, span) as f32);
                        t[i][side] = _mm256_fmadd_ps(sum, m, t[i][side]);
                    }
                }
            }
        }
        for i in 0..M {
            let scale = _mm256_set1_ps(x.scale(row + i, group));
            for side in 0..2 {
                if K::MIN && K::K {
                    let mut all = _mm256_setzero_si256();
                    for unit in 0..units {
                        let minima = wide.integer_minima[unit].as_ptr().add(8 * side);
                        let minima = _mm256_loadu_si256(minima.cast());
                        let sum = _mm256_set1_epi32(unit_sum(i, unit));
                        all = _mm256_add_epi32(all, _mm256_mullo_epi32(sum, minima));
                    }
                    let d_min = _mm256_loadu_ps(wide.minima[0].as_ptr().add(8 * side));
                    t[i][side] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(all), d_min, t[i][side]);
                }
                let place = sums[i].as_mut_ptr().add(8 * side);
                let sum = _mm256_fmadd_ps(t[i][side], scale, _mm256_loadu_ps(place));
                _mm256_storeu_ps(place, sum);
            }
        }
    }
}
