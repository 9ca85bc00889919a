//! Rounding float weights to q8 and q4: for each group the scale with the least squared error out of
//! a few, found by trying them.

use half::f16;

use super::{
    GROUP, PackedKind, QUAD, SUB, WIDTH,
    layout::{Layout, unpack_step},
};
use crate::kernels::for_each_level;

/// 1.5 · 2²³: adding it rounds to the nearest even integer.
const ROUND: f32 = 12_582_912.0;

/// q8: the largest value becomes one of these many integers. Which of them rounds the other 63
/// values best is chance, so several tries find about a tenth less error.
const Q8_TOPS: [f32; 14] = [
    127.4, 127.0, 126.8, 126.6, 126.4, 126.2, 126.0, 125.8, 125.6, 125.4, 125.2, 125.0, 124.8,
    124.6,
];

/// q4: steps to try for 16 values, against the step that just covers them.
const Q4_STEPS: [f32; 6] = [1.06, 1.01, 0.96, 0.91, 0.86, 0.81];

/// q4: scales to try for a group, against an eighth of its largest step.
const Q4_SCALES: [f32; 5] = [0.94, 0.97, 1.0, 1.03, 1.06];

/// Largest factor of a step.
const MAX_FACTOR: i32 = 8;

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
    /// Writes `rows`, up to 16 rows of `cols` values, as one tile.
    pub(super) fn write_tile(layout: &Layout, rows: &[f32], factor: f32, bytes: &mut [u8])
        = write_tile_body
}

#[inline(always)]
fn write_tile_body(layout: &Layout, rows: &[f32], factor: f32, bytes: &mut [u8]) {
    let inverse = 1.0 / factor;
    for (output, row) in rows.chunks_exact(layout.cols).enumerate() {
        for (group, part) in row.chunks(GROUP).enumerate() {
            let mut values = [0.0f32; GROUP];
            for (value, &weight) in values.iter_mut().zip(part) {
                *value = weight * inverse;
            }
            let places = layout.group_at(group);
            match layout.kind {
                PackedKind::Q8 => write_q8(&values, output, &places, bytes),
                PackedKind::Q4 => write_q4(&values, output, &places, bytes),
            }
        }
    }
}

type Places = [std::ops::Range<usize>; 3];

#[inline(always)]
fn write_scale(scale: f32, output: usize, places: &Places, bytes: &mut [u8]) {
    let at = places[0].start + 2 * output;
    bytes[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
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
fn write_q8(x: &[f32; GROUP], output: usize, places: &Places, bytes: &mut [u8]) {
    let scale = q8_scale(x);
    write_scale(scale, output, places, bytes);
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let values = &mut bytes[places[2].clone()];
    for (column, &value) in x.iter().enumerate() {
        values[byte_at(column, output)] =
            round(value * inverse).clamp(-127.0, 127.0) as i32 as i8 as u8;
    }
}

#[inline(always)]
fn q8_scale(x: &[f32; GROUP]) -> f32 {
    let max = x.iter().fold(0.0f32, |max, it| if it.abs() > max { it.abs() } else { max });
    let mut best = (f32::INFINITY, 0.0);
    for top in Q8_TOPS {
        let scale = f16::from_f32(max / top).to_f32();
        if scale == 0.0 {
            continue;
        }
        let inverse = 1.0 / scale;
        let mut errors = [0.0f32; WIDTH];
        for part in x.as_chunks::<WIDTH>().0 {
            for l in 0..WIDTH {
                let q = round(part[l] * inverse).clamp(-127.0, 127.0);
                let error = part[l] - q * scale;
                errors[l] = error.mul_add(error, errors[l]);
            }
        }
        let error: f32 = errors.iter().sum();
        if error < best.0 {
            best = (error, scale);
        }
    }
    best.1
}

/// Squared error of 16 values as `step · (q - zero)`.
#[inline(always)]
fn q4_error(x: &[f32; SUB], step: f32, zero: f32) -> f32 {
    let inverse = 1.0 / step;
    let mut errors = [0.0f32; SUB];
    for l in 0..SUB {
        let centred = (round(x[l] * inverse) + zero).clamp(0.0, 15.0) - zero;
        let error = x[l] - centred * step;
        errors[l] = error * error;
    }
    errors.iter().sum()
}

/// The best step and zero for 16 values on their own; a step of 0 for zeros.
#[inline(always)]
fn q4_step(x: &[f32; SUB]) -> (f32, f32) {
    let low = x.iter().fold(0.0f32, |low, &it| if it < low { it } else { low });
    let high = x.iter().fold(0.0f32, |high, &it| if it > high { it } else { high });
    let base = (high - low) / 15.0;
    if base == 0.0 {
        return (0.0, 0.0);
    }
    let near = round(-low / base);
    let mut best = (f32::INFINITY, base, near);
    for zero in [near - 1.0, near, near + 1.0] {
        for ratio in Q4_STEPS {
            let (step, zero) = (base * ratio, zero.clamp(0.0, 15.0));
            let error = q4_error(x, step, zero);
            if error < best.0 {
                best = (error, step, zero);
            }
        }
    }
    (best.1, best.2)
}

#[inline(always)]
fn write_q4(x: &[f32; GROUP], output: usize, places: &Places, bytes: &mut [u8]) {
    let (scale, steps) = q4_scale(x);
    write_scale(scale, output, places, bytes);
    let at = places[1].start + 4 * output;
    bytes[at..at + 4].copy_from_slice(&steps);
    let values = &mut bytes[places[2].clone()];
    for (column, &value) in x.iter().enumerate() {
        let (s, z) = unpack_step(steps[column / SUB]);
        let step = scale * s as f32;
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let q = (round(value * inverse) + z as f32).clamp(0.0, 15.0) as u8;
        let (line, rest) = (column / QUAD, column % QUAD);
        values[byte_at(line % 8 * QUAD + rest, output)] |= q << (line / 8 * 4);
    }
}

/// The scale of a group and the step bytes of its four parts.
#[inline(always)]
fn q4_scale(x: &[f32; GROUP]) -> (f32, [u8; GROUP / SUB]) {
    let parts = x.as_chunks::<SUB>().0;
    let alone: [(f32, f32); GROUP / SUB] = std::array::from_fn(|i| q4_step(&parts[i]));
    let top = alone.iter().fold(0.0f32, |top, it| if it.0 > top { it.0 } else { top });
    let mut best = (f32::INFINITY, 0.0, [0; GROUP / SUB]);
    for ratio in Q4_SCALES {
        let scale = f16::from_f32(top * ratio / MAX_FACTOR as f32).to_f32();
        if scale == 0.0 {
            continue;
        }
        let mut total = 0.0;
        let mut steps = [0; GROUP / SUB];
        for (i, part) in parts.iter().enumerate() {
            let (step, zero) = alone[i];
            let near = (round(step / scale) as i32).clamp(1, MAX_FACTOR);
            let mut least = f32::INFINITY;
            for factor in (near - 1).max(1)..=(near + 1).min(MAX_FACTOR) {
                let error = q4_error(part, scale * factor as f32, zero);
                if error < least {
                    least = error;
                    steps[i] = (factor - 1) as u8 | (zero as u8) << 4;
                }
            }
            total += least;
        }
        if total < best.0 {
            best = (total, scale, steps);
        }
    }
    (best.1, best.2)
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
