//! Blocks of 256 values: groups with small integer scales, under one or two half-precision factors.
//!
//! Each group's best line is found first. The factors that bring the largest scale and minimum to
//! the top of their integers are then refined by least squares over the whole block, and each group
//! takes those integers near its own line that fit it best.

use super::{
    plain_blocks::write_half,
    search::{Line, Range, affine, as_half, error, nearest, symmetric},
};

/// Slopes of lines, against the one that covers all values.
const TRIES_5: [f32; 5] = [0.90, 0.94, 0.97, 1.0, 1.03];
const TRIES_4: [f32; 7] = [0.76, 0.82, 0.87, 0.92, 0.96, 1.0, 1.04];

/// Scales of 16 values in six bits, against the one that covers the furthest.
const TRIES_6: [f32; 8] = [0.95, 0.975, 1.0, 1.02, 1.04, -0.98, -1.0, -1.03];

/// How often factors and groups are fitted to each other.
const ROUNDS: usize = 3;

/// Largest six-bit scale or minimum.
const TOP: f32 = 63.0;

#[inline(always)]
pub(super) fn q4_k(x: &[f32; 256], w: &[f32; 256], out: &mut [u8; 144]) {
    let block = lines(x, w, 15.0, &TRIES_4);
    block.write_head(out);
    write_runs(&block.integers(x, 15.0), &mut out[16..]);
}

#[inline(always)]
pub(super) fn q5_k(x: &[f32; 256], w: &[f32; 256], out: &mut [u8; 176]) {
    let block = lines(x, w, 31.0, &TRIES_5);
    block.write_head(out);
    let integers = block.integers(x, 31.0);
    let fifth = &mut out[16..48];
    fifth.fill(0);
    for (group, integers) in integers.as_chunks::<32>().0.iter().enumerate() {
        for (byte, q) in fifth.iter_mut().zip(integers) {
            *byte |= (q >> 4 & 1) << group;
        }
    }
    write_runs(&integers, &mut out[48..]);
}

/// Low nibbles of 64 values' first 32, high nibbles for the others, run after run.
#[inline(always)]
fn write_runs(integers: &[u8; 256], out: &mut [u8]) {
    for (values, out) in integers.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for i in 0..32 {
            out[i] = values[i] & 15 | (values[32 + i] & 15) << 4;
        }
    }
}

/// Factors and the six-bit integers of eight groups of 32.
#[derive(Clone, Copy)]
struct Block {
    scale: f32,
    min: f32,
    scales: [f32; 8],
    mins: [f32; 8],
}

impl Block {
    #[inline(always)]
    fn line(&self, group: usize) -> Line {
        Line { scale: self.scale * self.scales[group], min: -(self.min * self.mins[group]) }
    }

    #[inline(always)]
    fn integers(&self, x: &[f32; 256], high: f32) -> [u8; 256] {
        let mut integers = [0; 256];
        for (group, x) in x.as_chunks::<32>().0.iter().enumerate() {
            let line = self.line(group);
            let inverse = line.inverse();
            for (q, &value) in integers[32 * group..][..32].iter_mut().zip(x) {
                *q = line.integer(inverse, value, Range { low: 0.0, high }) as i32 as u8;
            }
        }
        integers
    }

    #[inline(always)]
    fn write_head(&self, out: &mut [u8]) {
        write_half(out, 0, self.scale);
        write_half(out, 2, self.min);
        let (scales, mins) = (self.scales.map(|it| it as u8), self.mins.map(|it| it as u8));
        for i in 0..4 {
            out[4 + i] = scales[i] | scales[i + 4] >> 4 << 6;
            out[8 + i] = mins[i] | mins[i + 4] >> 4 << 6;
            out[12 + i] = scales[i + 4] & 15 | (mins[i + 4] & 15) << 4;
        }
    }
}

#[inline(always)]
fn lines(x: &[f32; 256], w: &[f32; 256], high: f32, tries: &[f32]) -> Block {
    let (groups, weights) = (x.as_chunks::<32>().0, w.as_chunks::<32>().0);
    let mut alone = [Line::ZERO; 8];
    for group in 0..8 {
        alone[group] = affine(&groups[group], &weights[group], high, true, tries, |it| it);
    }
    let top = |of: fn(&Line) -> f32| alone.iter().map(of).fold(0.0f32, f32::max);
    let mut factors = (as_half(top(|it| it.scale) / TOP), as_half(top(|it| -it.min) / TOP));
    let mut best =
        (f32::INFINITY, Block { scale: 0.0, min: 0.0, scales: [0.0; 8], mins: [0.0; 8] });
    for _ in 0..ROUNDS {
        let mut block =
            Block { scale: factors.0, min: factors.1, scales: [0.0; 8], mins: [0.0; 8] };
        let mut total = 0.0;
        for group in 0..8 {
            let near = Line { scale: alone[group].scale, min: alone[group].min };
            total += fit_group(&groups[group], &weights[group], near, high, group, &mut block);
        }
        if total < best.0 {
            best = (total, block);
        }
        factors = refined(x, w, &block, high);
    }
    best.1
}

/// Picks the integers of one group near its own line; the error that is left.
#[inline(always)]
fn fit_group(
    x: &[f32; 32],
    w: &[f32; 32],
    near: Line,
    high: f32,
    group: usize,
    block: &mut Block,
) -> f32 {
    let near_scale = quotient(near.scale, block.scale);
    let near_min = quotient(-near.min, block.min);
    let mut best = (f32::INFINITY, 0.0, 0.0);
    for by_scale in [0.0, -1.0, 1.0] {
        for by_min in [0.0, -1.0, 1.0] {
            block.scales[group] = (near_scale + by_scale).clamp(0.0, TOP);
            block.mins[group] = (near_min + by_min).clamp(0.0, TOP);
            let error = error(x, w, block.line(group), Range { low: 0.0, high });
            if error < best.0 {
                best = (error, block.scales[group], block.mins[group]);
            }
        }
    }
    (block.scales[group], block.mins[group]) = (best.1, best.2);
    best.0
}

#[inline(always)]
fn quotient(value: f32, factor: f32) -> f32 {
    if factor > 0.0 { nearest((value / factor).min(TOP)) } else { 0.0 }
}

/// The two factors with the least error for the integers that `block` gives, by least squares.
#[inline(always)]
fn refined(x: &[f32; 256], w: &[f32; 256], block: &Block, high: f32) -> (f32, f32) {
    // x ≈ scale · a - min · b, with a = group scale · q and b = group minimum.
    let integers = block.integers(x, high);
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
    for group in 0..8 {
        let (scale, b) = (block.scales[group], block.mins[group]);
        let (mut one, mut of_q, mut of_qq, mut of_x, mut of_xq) =
            (0.0f32, 0.0f32, 0.0f32, 0.0f32, 0.0f32);
        for i in 32 * group..32 * (group + 1) {
            let q = f32::from(integers[i]);
            one += w[i];
            of_q += w[i] * q;
            of_qq += w[i] * q * q;
            of_x += w[i] * x[i];
            of_xq += w[i] * x[i] * q;
        }
        aa += scale * scale * of_qq;
        ab += scale * b * of_q;
        bb += b * b * one;
        ax += scale * of_xq;
        bx += b * of_x;
    }
    let determinant = aa * bb - ab * ab;
    if bb == 0.0 && aa > 0.0 {
        return (as_half(ax / aa), block.min);
    }
    if determinant <= 0.0 {
        return (block.scale, block.min);
    }
    let scale = as_half((ax * bb - bx * ab) / determinant);
    let min = as_half((ax * ab - bx * aa) / determinant);
    if scale > 0.0 && min >= 0.0 { (scale, min) } else { (block.scale, block.min) }
}

#[inline(always)]
pub(super) fn q6_k(x: &[f32; 256], w: &[f32; 256], out: &mut [u8; 210]) {
    const RANGE: Range = Range { low: -32.0, high: 31.0 };
    let (groups, weights) = (x.as_chunks::<16>().0, w.as_chunks::<16>().0);
    let mut alone = [0.0f32; 16];
    for group in 0..16 {
        alone[group] = symmetric(&groups[group], &weights[group], RANGE, &TRIES_6, |it| it);
    }
    let furthest =
        alone.iter().fold(0.0f32, |top, &it| if it.abs() > top.abs() { it } else { top });
    let mut factor = as_half(furthest / -128.0);
    let mut best = (f32::INFINITY, 0.0, [0.0f32; 16]);
    for _ in 0..ROUNDS {
        let mut scales = [0.0f32; 16];
        let mut total = 0.0;
        for group in 0..16 {
            let near = if factor == 0.0 {
                0.0
            } else {
                nearest((alone[group] / factor).clamp(-128.0, 127.0))
            };
            let mut least = f32::INFINITY;
            for by in [0.0, -1.0, 1.0] {
                let scale = (near + by).clamp(-128.0, 127.0);
                let line = Line { scale: factor * scale, min: 0.0 };
                let error = error(&groups[group], &weights[group], line, RANGE);
                if error < least {
                    (least, scales[group]) = (error, scale);
                }
            }
            total += least;
        }
        if total < best.0 {
            best = (total, factor, scales);
        }
        factor = refined_factor(x, w, factor, &scales, RANGE);
    }
    write_q6_k(x, best.1, &best.2, RANGE, out);
}

#[inline(always)]
fn refined_factor(
    x: &[f32; 256],
    w: &[f32; 256],
    factor: f32,
    scales: &[f32; 16],
    range: Range,
) -> f32 {
    let (mut of_xq, mut of_qq) = (0.0f32, 0.0f32);
    for group in 0..16 {
        let line = Line { scale: factor * scales[group], min: 0.0 };
        let inverse = line.inverse();
        for i in 16 * group..16 * (group + 1) {
            let q = line.integer(inverse, x[i], range) * scales[group];
            of_xq += w[i] * x[i] * q;
            of_qq += w[i] * q * q;
        }
    }
    if of_qq > 0.0 { as_half(of_xq / of_qq) } else { factor }
}

/// Two halves of 128 values: 64 bytes of nibbles, 32 of two high bits, then 16 scales.
#[inline(always)]
fn write_q6_k(x: &[f32; 256], factor: f32, scales: &[f32; 16], range: Range, out: &mut [u8; 210]) {
    out.fill(0);
    for group in 0..16 {
        out[192 + group] = scales[group] as i8 as u8;
        let line = Line { scale: factor * scales[group], min: 0.0 };
        let inverse = line.inverse();
        for i in 16 * group..16 * (group + 1) {
            let q = (line.integer(inverse, x[i], range) + 32.0) as i32 as u8;
            let (half, run, lane) = (i / 128, i % 128 / 32, i % 32);
            out[64 * half + 32 * (run % 2) + lane] |= (q & 15) << (4 * (run / 2));
            out[128 + 32 * half + lane] |= q >> 4 << (2 * run);
        }
    }
    write_half(out, 208, factor);
}
