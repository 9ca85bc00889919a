//! Row-wise arithmetic: norms, activations, exponentials.

use super::{
    LANES, Level,
    lanes::for_each_level,
    register::{Portable, Register, exp},
};

/// One register's worth of values.
pub(crate) type Lane = [f32; LANES];

/// [`exp`] for kernels that are written over plain arrays.
#[inline(always)]
pub(crate) fn exp_lanes(mut x: Lane) -> Lane {
    // SAFETY: portable code runs everywhere; there are 16 lanes.
    unsafe { exp(Portable::load(x.as_ptr())).store(x.as_mut_ptr()) };
    x
}

/// Compiles `$body`, generic over a [`Register`], for each level.
macro_rules! for_each_register {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$doc])*
        pub fn $name(level: Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                use super::register::{Avx2, Avx512};
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $ty),*) {
                    // SAFETY: this function runs only where there are these features.
                    unsafe { $body::<Avx2>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) {
                    // SAFETY: as above.
                    unsafe { $body::<Avx512>($($arg),*) }
                }
                match level.min(Level::detected()) {
                    // SAFETY: `min` with the detected level: this processor has the features.
                    Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { avx2($($arg),*) },
                    Level::Portable => {}
                }
            }
            let _ = level;
            // SAFETY: portable code runs everywhere.
            unsafe { $body::<Portable>($($arg),*) }
        }
    };
}

/// Runs a block for the start and length of each stretch of 16 of `len` values; the last may be
/// shorter. Not a function of a closure, because closures do not inherit the instruction set.
macro_rules! for_each_lane {
    ($len:expr, |$at:ident, $part_len:ident| $body:block) => {
        let len = $len;
        let mut $at = 0;
        while $at + LANES <= len {
            let $part_len = LANES;
            $body
            $at += LANES;
        }
        if $at < len {
            let $part_len = len - $at;
            $body
        }
    };
}

for_each_register! {
    /// Root-mean-square norm of one row: `out = x / sqrt(mean(x²) + eps) · gain`.
    ///
    /// # Panics
    /// Where lengths differ: a caller's mistake.
    pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) = rms_norm_body
}

#[inline(always)]
unsafe fn rms_norm_body<V: Register>(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == gain.len() && x.len() == out.len(), "row lengths");
    // SAFETY: the caller runs where V does.
    unsafe {
        let mut squares = V::splat(0.0);
        for_each_lane!(x.len(), |at, len| {
            let x = load::<V>(&x[at..at + len]);
            squares = x.mul_add(x, squares);
        });
        normalize::<V>(squares.sum(), x, gain, eps, out);
    }
}

/// `out = x · gain / sqrt(mean + eps)`.
#[inline(always)]
unsafe fn normalize<V: Register>(squares: f32, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: the caller runs where V does.
    unsafe {
        let inverse = V::splat(1.0 / (squares / x.len() as f32 + eps).sqrt());
        for_each_lane!(x.len(), |at, len| {
            let part = at..at + len;
            let y = load::<V>(&x[part.clone()]).mul(inverse).mul(load(&gain[part.clone()]));
            store(y, &mut out[part]);
        });
    }
}

for_each_register! {
    /// A residual and the norm of the sum: `stream += x`, `out = rms_norm(stream)`, with the bits of
    /// the two steps one after the other.
    ///
    /// # Panics
    /// Where lengths differ: a caller's mistake.
    pub fn add_rms_norm(stream: &mut [f32], x: &[f32], gain: &[f32], eps: f32, out: &mut [f32])
        = add_rms_norm_body
}

#[inline(always)]
unsafe fn add_rms_norm_body<V: Register>(
    stream: &mut [f32],
    x: &[f32],
    gain: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let len = stream.len();
    assert!(len == x.len() && len == gain.len() && len == out.len(), "row lengths");
    // SAFETY: the caller runs where V does.
    unsafe {
        let mut squares = V::splat(0.0);
        for_each_lane!(len, |at, len| {
            let part = at..at + len;
            let sum = load::<V>(&stream[part.clone()]).add(load(&x[part.clone()]));
            store(sum, &mut stream[part]);
            squares = sum.mul_add(sum, squares);
        });
        normalize::<V>(squares.sum(), stream, gain, eps, out);
    }
}

for_each_register! {
    /// `stream += x`.
    ///
    /// # Panics
    /// Where lengths differ: a caller's mistake.
    pub fn add(stream: &mut [f32], x: &[f32]) = add_body
}

#[inline(always)]
unsafe fn add_body<V: Register>(stream: &mut [f32], x: &[f32]) {
    assert_eq!(stream.len(), x.len(), "row lengths");
    for_each_lane!(x.len(), |at, len| {
        let part = at..at + len;
        // SAFETY: the caller runs where V does.
        unsafe {
            let sum = load::<V>(&stream[part.clone()]).add(load(&x[part.clone()]));
            store(sum, &mut stream[part]);
        }
    });
}

for_each_register! {
    /// The gated activation of one row: `out = gate · sigmoid(gate) · up`.
    ///
    /// # Panics
    /// Where lengths differ: a caller's mistake.
    pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) = swiglu_body
}

#[inline(always)]
unsafe fn swiglu_body<V: Register>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && gate.len() == out.len(), "row lengths");
    for_each_lane!(gate.len(), |at, len| {
        let part = at..at + len;
        // SAFETY: the caller runs where V does.
        unsafe {
            let y = gated::<V>(load(&gate[part.clone()]), load(&up[part.clone()]));
            store(y, &mut out[part]);
        }
    });
}

for_each_register! {
    /// [`swiglu`] in the place of `gate`.
    ///
    /// # Panics
    /// Where lengths differ: a caller's mistake.
    pub fn swiglu_in_place(gate: &mut [f32], up: &[f32]) = swiglu_in_place_body
}

#[inline(always)]
unsafe fn swiglu_in_place_body<V: Register>(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "row lengths");
    for_each_lane!(up.len(), |at, len| {
        let part = at..at + len;
        // SAFETY: the caller runs where V does.
        unsafe {
            let y = gated::<V>(load(&gate[part.clone()]), load(&up[part.clone()]));
            store(y, &mut gate[part]);
        }
    });
}

#[inline(always)]
unsafe fn gated<V: Register>(gate: V, up: V) -> V {
    // SAFETY: the caller runs where V does.
    unsafe {
        let e = exp(V::splat(-0.0).sub(gate));
        gate.div(V::splat(1.0).add(e)).mul(up)
    }
}

/// Up to 16 values, then zeros.
#[inline(always)]
unsafe fn load<V: Register>(part: &[f32]) -> V {
    // SAFETY: the caller runs where V does; 16 values follow each pointer.
    unsafe {
        if part.len() == LANES {
            return V::load(part.as_ptr());
        }
        let mut lanes = [0.0f32; LANES];
        lanes[..part.len()].copy_from_slice(part);
        V::load(lanes.as_ptr())
    }
}

#[inline(always)]
unsafe fn store<V: Register>(value: V, part: &mut [f32]) {
    // SAFETY: the caller runs where V does; 16 values follow each pointer.
    unsafe {
        if part.len() == LANES {
            return value.store(part.as_mut_ptr());
        }
        let mut lanes = [0.0f32; LANES];
        value.store(lanes.as_mut_ptr());
        part.copy_from_slice(&lanes[..part.len()]);
    }
}

for_each_level! {
    /// Rotates the first `2 · cos.len()` values of a head: pairs are `(i, i + cos.len())`.
    pub fn rotate_half(head: &mut [f32], cos: &[f32], sin: &[f32]) = rotate_half_body
}

#[inline(always)]
fn rotate_half_body(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, rest) = head.split_at_mut(cos.len());
    for (((a, b), &c), &s) in low.iter_mut().zip(rest).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * c - y * s;
        *b = y * c + x * s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exp_of(x: f32) -> f32 {
        exp_lanes([x; LANES])[0]
    }

    #[test]
    fn exp_is_close_and_flushes_to_zero() {
        for i in -9000..9000 {
            let x = i as f32 * 0.009_7;
            let got = exp_of(x);
            let want = f64::from(x).exp();
            let error = (f64::from(got) - want).abs() / want.max(1e-37);
            assert!(error < 3e-7, "exp({x}) = {got}, want {want}");
        }
        assert_eq!(exp_of(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_of(0.0), 1.0);
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let row = |n: usize, k: u32| -> Vec<f32> {
            (0..n).map(|i| ((i as u32 * 7919 + k) % 1000) as f32 / 250.0 - 2.0).collect()
        };
        for n in [1, 2, 15, 16, 17, 24, 64, 100] {
            let (x, g) = (row(n, 1), row(n, 2));
            let run = |level: Level| {
                let [mut a, mut b, mut c] = [(); 3].map(|()| vec![0.0; n]);
                rms_norm(level, &x, &g, 1e-6, &mut a);
                swiglu(level, &x, &g, &mut b);
                let mut in_place = x.clone();
                swiglu_in_place(level, &mut in_place, &g);
                assert_eq!(in_place, b);
                let (mut stream, mut sum, mut normed) = (x.clone(), x.clone(), vec![0.0; n]);
                add_rms_norm(level, &mut stream, &b, &g, 1e-6, &mut normed);
                add(level, &mut sum, &b);
                rms_norm(level, &sum, &g, 1e-6, &mut c);
                assert_eq!((&stream, &normed), (&sum, &c));
                a.extend([b, sum, c].concat());
                a.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            for level in Level::available() {
                assert_eq!(run(level), run(Level::Portable), "{} n={n}", level.name());
            }
        }
    }
}
