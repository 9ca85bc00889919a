//! Rounding float weights to q8 and q4: for each group the scale with the least squared error out of
//! a few, found by trying them, for 16 outputs at once.

use half::f16;

use super::{
    MAX_GROUP, PackedKind, QUAD, SLICE, SUB, WIDTH,
    layout::{Layout, unpack_step},
};
use crate::kernels::for_each_level;

/// 1.5 · 2²³: adding it rounds to the nearest even integer.
const ROUND: f32 = 12_582_912.0;

/// q8: the largest value becomes one of these many integers. Which of them rounds the other values
/// best is chance, so several tries find a few per cent less error.
const Q8_TOPS: [f32; 6] = [127.4, 127.0, 126.6, 126.2, 125.8, 125.4];

/// q4: steps to try for 16 values, against the step that just covers them.
const Q4_STEPS: [f32; 5] = [1.03, 0.98, 0.93, 0.88, 0.83];

/// q4: scales to try for a group, against the least one that reaches its largest step.
const Q4_SCALES: [f32; 5] = [0.92, 0.96, 1.0, 1.04, 1.08];

/// Largest factor of a step.
const MAX_FACTOR: f32 = 16.0;

/// Subs of a whole group.
const SUBS: usize = MAX_GROUP / SUB;

/// One number for each output of a tile.
type Lanes = [f32; WIDTH];

/// The power of two that brings the scales of weights up to `max` into the middle of what half
/// precision holds.
pub(super) fn tensor_factor(max: f32) -> f32 {
    if max == 0.0 {
        return 1.0;
    }
    let exponent = max.to_bits() >> 23;
    f32::from_bits(exponent.saturating_sub(17).max(1) << 23)
}

for_each_level! {
    /// The largest absolute value of a row, infinite where one is not finite, and for groups of 32,
    /// 64, 128 and 256 columns the sum of the squared largest values times the columns.
    pub(super) fn spread(row: &[f32]) -> (f32, [f64; 4]) = spread_body
}

#[inline(always)]
fn spread_body(row: &[f32]) -> (f32, [f64; 4]) {
    let mut largest = 0u32;
    let mut squares = [0.0f64; 4];
    for group in row.chunks(MAX_GROUP) {
        let mut maxima = [0u32; MAX_GROUP / 32];
        for (max, part) in maxima.iter_mut().zip(group.chunks(32)) {
            // Bits of absolute values have the order of the values, and those of infinity and of
            // what is not a number lie above.
            *max = part.iter().fold(0, |max, it| max.max(it.to_bits() & (u32::MAX >> 1)));
        }
        for (i, square) in squares.iter_mut().enumerate() {
            for (maxima, part) in maxima.chunks(1 << i).zip(group.chunks(32 << i)) {
                let max = maxima.iter().fold(0, |max, it| it.max(&max).to_owned());
                *square += part.len() as f64 * f64::from(f32::from_bits(max)).powi(2);
                largest = largest.max(max);
            }
        }
    }
    (
        if largest >= f32::INFINITY.to_bits() { f32::INFINITY } else { f32::from_bits(largest) },
        squares,
    )
}

for_each_level! {
    /// Writes `rows`, up to 16 rows of `cols` values, as one tile. Errors in a column count
    /// `importance` times.
    pub(super) fn write_tile(
        layout: &Layout,
        rows: &[f32],
        factor: f32,
        importance: &[f32],
        bytes: &mut [u8],
    ) = write_tile_body
}

#[inline(always)]
fn write_tile_body(
    layout: &Layout,
    rows: &[f32],
    factor: f32,
    importance: &[f32],
    bytes: &mut [u8],
) {
    let inverse = 1.0 / factor;
    let mut columns = [[0.0f32; WIDTH]; MAX_GROUP];
    let mut weights = [1.0f32; MAX_GROUP];
    let group_cols = layout.group_slices * SLICE;
    for group in 0..layout.groups {
        let first = group * group_cols;
        let count = (layout.cols - first).min(group_cols);
        if count < group_cols {
            columns.fill([0.0; WIDTH]);
        }
        for (output, row) in rows.chunks_exact(layout.cols).enumerate() {
            for (column, &weight) in columns.iter_mut().zip(&row[first..first + count]) {
                column[output] = weight * inverse;
            }
        }
        weights[..count].copy_from_slice(&importance[first..first + count]);
        let slices =
            group * layout.group_slices..layout.slices.min((group + 1) * layout.group_slices);
        let columns = &columns[..slices.len() * SLICE];
        let weights = &weights[..columns.len()];
        let scales = match layout.kind {
            PackedKind::Q8 => {
                let scales = q8_scales(columns, weights);
                for (slice, part) in slices.zip(columns.as_chunks::<SLICE>().0) {
                    write_q8(part, &scales, &mut bytes[layout.values_at(slice)]);
                }
                scales
            }
            PackedKind::Q4 => {
                let (scales, steps) = q4_scales(columns, weights);
                let subs = steps.as_chunks::<{ SLICE / SUB }>().0;
                for ((slice, part), steps) in slices.zip(columns.as_chunks::<SLICE>().0).zip(subs) {
                    for (sub, steps) in steps.iter().enumerate() {
                        for (output, &step) in steps.iter().enumerate() {
                            bytes[layout.steps_at(slice)][output * QUAD + sub] = step;
                        }
                    }
                    write_q4(part, &scales, steps, &mut bytes[layout.values_at(slice)]);
                }
                scales
            }
        };
        let places = bytes[layout.scales_at(group)].as_chunks_mut::<2>().0;
        for (place, scale) in places.iter_mut().zip(scales) {
            *place = f16::from_f32(scale).to_le_bytes();
        }
    }
}

/// Byte of column `column` and `output` inside lines of 16 outputs.
#[inline(always)]
fn byte_at(column: usize, output: usize) -> usize {
    column / QUAD * (WIDTH * QUAD) + output * QUAD + column % QUAD
}

#[inline(always)]
fn round(value: f32) -> f32 {
    value + ROUND - ROUND
}

#[inline(always)]
fn halves(values: Lanes) -> Lanes {
    values.map(|it| f16::from_f32(it).to_f32())
}

/// One over each value, and zero for zero.
#[inline(always)]
fn inverses(values: &Lanes) -> Lanes {
    values.map(|it| if it > 0.0 { 1.0 / it } else { 0.0 })
}

#[inline(always)]
fn write_q8(columns: &[Lanes; SLICE], scales: &Lanes, values: &mut [u8]) {
    let inverse = inverses(scales);
    for (column, x) in columns.iter().enumerate() {
        for l in 0..WIDTH {
            values[byte_at(column, l)] =
                round(x[l] * inverse[l]).clamp(-127.0, 127.0) as i32 as i8 as u8;
        }
    }
}

#[inline(always)]
fn q8_scales(columns: &[Lanes], weights: &[f32]) -> Lanes {
    let mut max = [0.0f32; WIDTH];
    for x in columns {
        for l in 0..WIDTH {
            let size = x[l].abs();
            max[l] = if size > max[l] { size } else { max[l] };
        }
    }
    let mut best = ([f32::INFINITY; WIDTH], [0.0f32; WIDTH]);
    for top in Q8_TOPS {
        let scales = halves(max.map(|it| it / top));
        let inverse = inverses(&scales);
        let mut errors = [0.0f32; WIDTH];
        for (x, &weight) in columns.iter().zip(weights) {
            for l in 0..WIDTH {
                let q = round(x[l] * inverse[l]);
                let q = if q > 127.0 { 127.0 } else { q };
                let q = if q < -127.0 { -127.0 } else { q };
                let error = x[l] - q * scales[l];
                errors[l] += weight * error * error;
            }
        }
        for l in 0..WIDTH {
            let better = errors[l] < best.0[l];
            best.0[l] = if better { errors[l] } else { best.0[l] };
            best.1[l] = if better { scales[l] } else { best.1[l] };
        }
    }
    best.1
}

/// Weighted squared error of 16 values of each output as `step · (q - zero)`.
#[inline(always)]
fn q4_errors(
    columns: &[Lanes; SUB],
    weights: &[f32; SUB],
    step: &Lanes,
    inverse: &Lanes,
    zero: &Lanes,
) -> Lanes {
    let mut errors = [0.0f32; WIDTH];
    for (x, &weight) in columns.iter().zip(weights) {
        for l in 0..WIDTH {
            let q = round(x[l] * inverse[l]);
            let low = -zero[l];
            let high = 15.0 - zero[l];
            let q = if q < low { low } else { q };
            let q = if q > high { high } else { q };
            let error = x[l] - q * step[l];
            errors[l] += weight * error * error;
        }
    }
    errors
}

/// 16 columns on their own.
#[derive(Clone, Copy)]
struct Sub {
    /// The best step; 0 for zeros.
    step: Lanes,
    zero: Lanes,
    /// The largest factor for which `factor · (q - zero)` fits eight bits.
    limit: Lanes,
}

#[inline(always)]
fn q4_sub(columns: &[Lanes; SUB], weights: &[f32; SUB]) -> Sub {
    let (mut low, mut high) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
    for x in columns {
        for l in 0..WIDTH {
            low[l] = if x[l] < low[l] { x[l] } else { low[l] };
            high[l] = if x[l] > high[l] { x[l] } else { high[l] };
        }
    }
    let base: Lanes = std::array::from_fn(|l| (high[l] - low[l]) / 15.0);
    let base_inverse = inverses(&base);
    let near: Lanes = std::array::from_fn(|l| round(-low[l] * base_inverse[l]));
    let mut best = ([f32::INFINITY; WIDTH], base, near);
    for shift in [-1.0, 0.0, 1.0] {
        let zero: Lanes = std::array::from_fn(|l| {
            let zero = near[l] + shift;
            let zero = if zero < 0.0 { 0.0 } else { zero };
            if zero > 15.0 { 15.0 } else { zero }
        });
        for ratio in Q4_STEPS {
            let step = base.map(|it| it * ratio);
            let inverse = base_inverse.map(|it| it * (1.0 / ratio));
            let errors = q4_errors(columns, weights, &step, &inverse, &zero);
            for l in 0..WIDTH {
                let better = errors[l] < best.0[l];
                best.0[l] = if better { errors[l] } else { best.0[l] };
                best.1[l] = if better { step[l] } else { best.1[l] };
                best.2[l] = if better { zero[l] } else { best.2[l] };
            }
        }
    }
    let (_, step, zero) = best;
    let limit = zero.map(|zero| {
        let above = (127.0 / (15.0 - zero).max(1.0)) as i32;
        let below = (128.0 / zero.max(1.0)) as i32;
        (above.min(below) as f32).min(MAX_FACTOR)
    });
    Sub { step, zero, limit }
}

/// The scales of a group and the step bytes of its subs.
#[inline(always)]
fn q4_scales(columns: &[Lanes], weights: &[f32]) -> (Lanes, [[u8; WIDTH]; SUBS]) {
    let columns = columns.as_chunks::<SUB>().0;
    let weights = weights.as_chunks::<SUB>().0;
    let empty = Sub { step: [0.0; WIDTH], zero: [0.0; WIDTH], limit: [1.0; WIDTH] };
    let mut subs = [empty; SUBS];
    let mut top = [0.0f32; WIDTH];
    for ((sub, columns), weights) in subs.iter_mut().zip(columns).zip(weights) {
        *sub = q4_sub(columns, weights);
        for l in 0..WIDTH {
            let least = sub.step[l] / sub.limit[l];
            top[l] = if least > top[l] { least } else { top[l] };
        }
    }
    let mut best = ([f32::INFINITY; WIDTH], [0.0f32; WIDTH], [[0u8; WIDTH]; SUBS]);
    for ratio in Q4_SCALES {
        let scales = halves(top.map(|it| it * ratio));
        let inverse = inverses(&scales);
        let mut total = [0.0f32; WIDTH];
        let mut steps = [[0u8; WIDTH]; SUBS];
        let parts = columns.iter().zip(weights);
        for ((sub, (columns, weights)), steps) in subs.iter().zip(parts).zip(&mut steps) {
            let mut least = ([f32::INFINITY; WIDTH], [1.0f32; WIDTH]);
            for shift in [-0.5, 0.5] {
                let factor: Lanes = std::array::from_fn(|l| {
                    let factor = round(sub.step[l] * inverse[l] + shift);
                    let factor = if factor < 1.0 { 1.0 } else { factor };
                    if factor > sub.limit[l] { sub.limit[l] } else { factor }
                });
                let step: Lanes = std::array::from_fn(|l| scales[l] * factor[l]);
                let errors = q4_errors(columns, weights, &step, &inverses(&step), &sub.zero);
                for l in 0..WIDTH {
                    let better = errors[l] < least.0[l];
                    least.0[l] = if better { errors[l] } else { least.0[l] };
                    least.1[l] = if better { factor[l] } else { least.1[l] };
                }
            }
            for l in 0..WIDTH {
                total[l] += least.0[l];
                steps[l] = (least.1[l] as i32 - 1) as u8 | (sub.zero[l] as i32 as u8) << 4;
            }
        }
        for l in 0..WIDTH {
            // Where the scale is too small for half precision, it stands for zeros.
            let better = total[l] < best.0[l];
            best.0[l] = if better { total[l] } else { best.0[l] };
            best.1[l] = if better { scales[l] } else { best.1[l] };
            for (best, steps) in best.2.iter_mut().zip(&steps) {
                best[l] = if better { steps[l] } else { best[l] };
            }
        }
    }
    (best.1, best.2)
}

#[inline(always)]
fn write_q4(
    columns: &[Lanes; SLICE],
    scales: &Lanes,
    steps: &[[u8; WIDTH]; SLICE / SUB],
    values: &mut [u8],
) {
    for (sub, (columns, steps)) in columns.as_chunks::<SUB>().0.iter().zip(steps).enumerate() {
        let (mut step, mut zero) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
        for l in 0..WIDTH {
            let (s, z) = unpack_step(steps[l]);
            step[l] = scales[l] * s as f32;
            zero[l] = z as f32;
        }
        let inverse = inverses(&step);
        for (i, x) in columns.iter().enumerate() {
            let (line, rest) = ((sub * SUB + i) / QUAD, i % QUAD);
            for l in 0..WIDTH {
                let q = (round(x[l] * inverse[l]) + zero[l]).clamp(0.0, 15.0) as i32 as u8;
                values[byte_at(line % 8 * QUAD + rest, l)] |= q << (line / 8 * 4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_a_power_of_two_for_every_size() {
        for max in [0.0, 1e-45, f32::MIN_POSITIVE, 1e-20, 0.03, 1.0, 3.0, 1e20, f32::MAX] {
            let factor = tensor_factor(max);
            assert!(factor.is_normal() && factor.to_bits().trailing_zeros() >= 23, "{max}");
            assert!(max / factor / 120.0 * 1.2 < 65504.0, "{max}");
            if max > 1e-30 {
                assert!(max / factor / 127.0 >= 512.0, "{max}");
            }
        }
    }
}
