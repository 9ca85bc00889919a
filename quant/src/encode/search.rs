//! The search for a scale, or for a scale and a minimum, of a few values.
//!
//! Sums run over 16 lanes that are added in order, without fused operations, so that every
//! instruction set finds the same numbers.

use half::f16;

/// Lanes of every sum; blocks are multiples of it.
const LANES: usize = 16;

/// 1.5 · 2²³: adding it rounds to the nearest even integer.
const ROUND: f32 = 12_582_912.0;

/// Scales below this count as zero: their reciprocal would overflow.
const SMALLEST: f32 = 1e-30;

/// The nearest integer, ties to even, of a number below 2²².
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    value + ROUND - ROUND
}

/// A number as half precision holds it.
#[inline(always)]
pub(super) fn as_half(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

/// Which integers stand for values.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) low: f32,
    pub(super) high: f32,
}

/// `value ≈ scale * q + min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) min: f32,
}

impl Line {
    pub(super) const ZERO: Line = Line { scale: 0.0, min: 0.0 };

    /// What turns a difference from the minimum into an integer; 0 for a line without a slope.
    #[inline(always)]
    pub(super) fn inverse(self) -> f32 {
        if self.scale.abs() < SMALLEST { 0.0 } else { 1.0 / self.scale }
    }

    /// The integer for one value, by [`Line::inverse`].
    #[inline(always)]
    pub(super) fn integer(self, inverse: f32, value: f32, range: Range) -> f32 {
        nearest(((value - self.min) * inverse).clamp(range.low, range.high))
    }
}

/// Weighted squared error of values on a line.
#[inline(always)]
pub(super) fn error<const N: usize>(x: &[f32; N], w: &[f32; N], line: Line, range: Range) -> f32 {
    let inverse = line.inverse();
    let mut lanes = [0.0f32; LANES];
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            let q = line.integer(inverse, x[l], range);
            let difference = x[l] - (line.scale * q + line.min);
            lanes[l] += w[l] * difference * difference;
        }
    }
    lanes.iter().sum()
}

/// The best scale without a minimum, as `keep` stores it. `tries` are scales against the one that
/// just covers the value furthest from zero.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    range: Range,
    tries: &[f32],
    keep: impl Fn(f32) -> f32,
) -> f32 {
    let (low, high) = extremes(x);
    let furthest = if high > -low { high } else { low };
    if furthest.abs() < SMALLEST {
        return 0.0;
    }
    let base = furthest / range.low;
    let mut best = (f32::INFINITY, 0.0);
    for &ratio in tries {
        let first = keep(base * ratio);
        let better = keep(slope(x, w, Line { scale: first, min: 0.0 }, range));
        for scale in [first, better] {
            let error = error(x, w, Line { scale, min: 0.0 }, range);
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    best.1
}

/// The best line through values, as `keep` stores its two numbers. Where `capped`, its minimum is
/// not above zero. `tries` are slopes against the one that just covers all values.
#[inline(always)]
pub(super) fn affine<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    high: f32,
    capped: bool,
    tries: &[f32],
    keep: impl Fn(f32) -> f32,
) -> Line {
    let range = Range { low: 0.0, high };
    let (mut lowest, highest) = extremes(x);
    if capped {
        lowest = lowest.min(0.0);
    }
    let flat = Line { scale: 0.0, min: keep(lowest) };
    let mut best = (error(x, w, flat, range), flat);
    let width = highest - lowest;
    if width < SMALLEST {
        return best.1;
    }
    for &ratio in tries {
        for shift in [0.0, 0.5, 1.0] {
            let first = Line {
                scale: keep(width * ratio / high),
                min: keep(lowest + width * (1.0 - ratio) * shift),
            };
            let better = fitted(x, w, first, range, capped);
            let better = Line { scale: keep(better.scale), min: keep(better.min) };
            for line in [first, better] {
                if capped && line.min > 0.0 {
                    continue;
                }
                let error = error(x, w, line, range);
                if error < best.0 {
                    best = (error, line);
                }
            }
        }
    }
    best.1
}

#[inline(always)]
fn extremes<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    let low = x.iter().fold(f32::INFINITY, |low, &it| if it < low { it } else { low });
    let high = x.iter().fold(f32::NEG_INFINITY, |high, &it| if it > high { it } else { high });
    (low, high)
}

/// The scale with the least error for the integers that `line` gives, by least squares.
#[inline(always)]
fn slope<const N: usize>(x: &[f32; N], w: &[f32; N], line: Line, range: Range) -> f32 {
    let inverse = line.inverse();
    let (mut xq, mut qq) = ([0.0f32; LANES], [0.0f32; LANES]);
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            let q = line.integer(inverse, x[l], range);
            xq[l] += w[l] * x[l] * q;
            qq[l] += w[l] * q * q;
        }
    }
    let (xq, qq): (f32, f32) = (xq.iter().sum(), qq.iter().sum());
    if qq > 0.0 { xq / qq } else { line.scale }
}

/// The line with the least error for the integers that `line` gives, by least squares.
#[inline(always)]
fn fitted<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    line: Line,
    range: Range,
    capped: bool,
) -> Line {
    let inverse = line.inverse();
    let mut sums = [[0.0f32; LANES]; 5];
    for (x, w) in x.as_chunks::<LANES>().0.iter().zip(w.as_chunks::<LANES>().0) {
        for l in 0..LANES {
            let q = line.integer(inverse, x[l], range);
            sums[0][l] += w[l];
            sums[1][l] += w[l] * x[l];
            sums[2][l] += w[l] * q;
            sums[3][l] += w[l] * q * q;
            sums[4][l] += w[l] * x[l] * q;
        }
    }
    let [one, of_x, of_q, of_qq, of_xq] = sums.map(|it| it.iter().sum::<f32>());
    let determinant = one * of_qq - of_q * of_q;
    if determinant <= 0.0 {
        return line;
    }
    let min = (of_qq * of_x - of_q * of_xq) / determinant;
    if capped && min > 0.0 {
        return Line { scale: of_xq / of_qq, min: 0.0 };
    }
    let scale = (one * of_xq - of_x * of_q) / determinant;
    if scale > 0.0 { Line { scale, min } } else { line }
}
