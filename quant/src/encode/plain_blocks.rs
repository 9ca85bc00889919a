//! Blocks of 32 values with one scale, or one scale and one minimum.

use half::f16;

use super::search::{Line, Range, affine, as_half, symmetric};

/// Eight bits: which integer the largest value becomes decides little, so a few tries do.
const TRIES_8: [f32; 7] = [0.997, 1.0, 1.003, 1.006, 1.009, 1.014, 1.02];

/// The signed integers reach one further below zero than above. A ratio of minus one puts the
/// furthest value on the short side.
const TRIES_5: [f32; 10] = [0.90, 0.94, 0.97, 1.0, 1.04, 1.08, -0.94, -1.0, -1.04, -1.08];
const TRIES_4: [f32; 14] =
    [0.74, 0.80, 0.86, 0.91, 0.96, 1.0, 1.05, 1.12, -0.82, -0.9, -0.96, -1.0, -1.07, -1.14];

/// Slopes of lines, against the one that covers all values.
const TRIES_LINE_5: [f32; 5] = [0.90, 0.94, 0.97, 1.0, 1.03];
const TRIES_LINE_4: [f32; 7] = [0.76, 0.82, 0.87, 0.92, 0.96, 1.0, 1.04];

#[inline(always)]
pub(super) fn q8_0(x: &[f32; 32], w: &[f32; 32], out: &mut [u8; 34]) {
    let range = Range { low: -127.0, high: 127.0 };
    let scale = symmetric(x, w, range, &TRIES_8, as_half);
    write_half(out, 0, scale);
    for (out, q) in out[2..].iter_mut().zip(integers(x, Line { scale, min: 0.0 }, range)) {
        *out = q as i8 as u8;
    }
}

#[inline(always)]
pub(super) fn q4_0(x: &[f32; 32], w: &[f32; 32], out: &mut [u8; 18]) {
    let range = Range { low: -8.0, high: 7.0 };
    let scale = symmetric(x, w, range, &TRIES_4, as_half);
    write_half(out, 0, scale);
    write_nibbles(
        &integers(x, Line { scale, min: 0.0 }, range).map(|q| (q + 8) as u8),
        &mut out[2..],
    );
}

#[inline(always)]
pub(super) fn q4_1(x: &[f32; 32], w: &[f32; 32], out: &mut [u8; 20]) {
    let line = affine(x, w, 15.0, false, &TRIES_LINE_4, as_half);
    write_half(out, 0, line.scale);
    write_half(out, 2, line.min);
    let integers = integers(x, line, Range { low: 0.0, high: 15.0 });
    write_nibbles(&integers.map(|q| q as u8), &mut out[4..]);
}

#[inline(always)]
pub(super) fn q5_0(x: &[f32; 32], w: &[f32; 32], out: &mut [u8; 22]) {
    let range = Range { low: -16.0, high: 15.0 };
    let scale = symmetric(x, w, range, &TRIES_5, as_half);
    write_half(out, 0, scale);
    let integers = integers(x, Line { scale, min: 0.0 }, range).map(|q| (q + 16) as u8);
    out[2..6].copy_from_slice(&fifth_bits(&integers));
    write_nibbles(&integers, &mut out[6..]);
}

#[inline(always)]
pub(super) fn q5_1(x: &[f32; 32], w: &[f32; 32], out: &mut [u8; 24]) {
    let line = affine(x, w, 31.0, false, &TRIES_LINE_5, as_half);
    write_half(out, 0, line.scale);
    write_half(out, 2, line.min);
    let integers = integers(x, line, Range { low: 0.0, high: 31.0 }).map(|q| q as u8);
    out[4..8].copy_from_slice(&fifth_bits(&integers));
    write_nibbles(&integers, &mut out[8..]);
}

#[inline(always)]
fn integers<const N: usize>(x: &[f32; N], line: Line, range: Range) -> [i32; N] {
    let inverse = line.inverse();
    x.map(|value| line.integer(inverse, value, range) as i32)
}

/// Value `i` in the low nibble of byte `i`, value `16 + i` in its high one.
#[inline(always)]
fn write_nibbles(integers: &[u8; 32], out: &mut [u8]) {
    let (low, high) = integers.split_at(16);
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = low & 15 | (high & 15) << 4;
    }
}

#[inline(always)]
fn fifth_bits(integers: &[u8; 32]) -> [u8; 4] {
    let mut bits = 0u32;
    for (i, q) in integers.iter().enumerate() {
        bits |= u32::from(q >> 4 & 1) << i;
    }
    bits.to_le_bytes()
}

#[inline(always)]
pub(super) fn write_half(out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}
