//! Rotary position embedding (Su et al. 2021), in the form that pairs `i` with `i + dim / 2`.

use std::{f64::consts::PI, sync::Arc};

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, Layout, Result, Shape, Tensor};
use minicrit_quant::{
    kernels::{Level, vector},
    pool,
};

use super::{PARALLEL_FROM, is_tracked, values, values_mut};
use crate::{
    pass::Rows,
    spec::{RopeScaling, RopeSpec},
};

/// Cosines and sines for the rows of one pass, `[rows, dim / 2]` each, shared by all layers.
#[derive(Debug, Clone)]
pub struct RopeTable {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// The table of `rows`. Angles are float32 products of position and frequency, as in
    /// transformers, so that long positions agree with it.
    pub fn new(spec: &RopeSpec, rows: &Rows) -> Self {
        let half = spec.dim / 2;
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for span in rows.spans() {
            let (frequencies, factor) = frequencies(spec, span.total);
            for position in span.start..span.start + span.len {
                for frequency in &frequencies {
                    let (s, c) = f64::from(position as f32 * frequency).sin_cos();
                    cos.push(c as f32 * factor);
                    sin.push(s as f32 * factor);
                }
            }
        }
        Self { inner: Arc::new(Inner { half, cos, sin }) }
    }

    /// The table that turns everything back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let Inner { half, cos, sin } = &*self.inner;
        let sin = sin.iter().map(|it| -it).collect();
        Self { inner: Arc::new(Inner { half: *half, cos: cos.clone(), sin }) }
    }

    /// `x_td` of `[rows, heads * head_dim]` with every head rotated by its row's angles. Where no
    /// gradient is wanted this happens in the place of `x_td`, which the caller gives up: no other
    /// tensor may share its values.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn rotate(&self, x_td: Tensor, head_dim: usize) -> Result<Tensor> {
        let x_td = x_td.contiguous()?;
        let op = Rotate { table: self.clone(), head_dim };
        if is_tracked(&[&x_td]) {
            return x_td.apply_op1(op);
        }
        x_td.inplace_op1(&op)?;
        Ok(x_td)
    }

    /// [`RopeTable::rotate`] in place, on values alone: rows of `width` values.
    ///
    /// # Panics
    /// Where the shapes do not fit: a caller's mistake.
    pub fn rotate_rows(&self, x_td: &mut [f32], width: usize, head_dim: usize) {
        let Inner { half, cos, sin } = &*self.inner;
        assert_eq!(x_td.len() / width * half, cos.len(), "rows");
        let level = Level::detected();
        pool::for_each_chunk(x_td, width, x_td.len() >= PARALLEL_FROM, |t, row| {
            let at = t * half..(t + 1) * half;
            for head in row.chunks_exact_mut(head_dim) {
                vector::rotate_half(level, head, &cos[at.clone()], &sin[at.clone()]);
            }
        });
    }

    /// The same in plain tensor operations.
    ///
    /// # Errors
    /// Shapes or types that do not fit.
    pub fn reference(&self, x_td: &Tensor, head_dim: usize) -> Result<Tensor> {
        let (rows, width) = x_td.dims2()?;
        let half = self.inner.half;
        let table = |values: &[f32]| {
            Tensor::from_slice(values, (rows, 1, half), x_td.device())?.to_dtype(x_td.dtype())
        };
        let (cos, sin) = (table(&self.inner.cos)?, table(&self.inner.sin)?);
        let x_the = x_td.reshape((rows, width / head_dim, head_dim))?;
        let low = x_the.narrow(2, 0, half)?;
        let high = x_the.narrow(2, half, half)?;
        let rest = x_the.narrow(2, 2 * half, head_dim - 2 * half)?;
        let new_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let new_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        let parts =
            if rest.dim(2)? == 0 { vec![new_low, new_high] } else { vec![new_low, new_high, rest] };
        Tensor::cat(&parts, 2)?.reshape((rows, width))
    }
}

struct Rotate {
    table: RopeTable,
    head_dim: usize,
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = values("rope", x, layout)?.to_vec();
        let width = layout.dims().last().copied().unwrap_or(0);
        self.table.rotate_rows(&mut out, width, self.head_dim);
        Ok((CpuStorage::F32(out), layout.shape().clone()))
    }

    /// The transpose of a rotation turns the other way.
    fn bwd(&self, _x: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        grad.contiguous()?
            .apply_op1(Rotate { table: self.table.inverse(), head_dim: self.head_dim })
            .map(Some)
    }
}

impl InplaceOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = layout.dims().last().copied().unwrap_or(0);
        let x = values_mut("rope", x, layout)?;
        self.table.rotate_rows(x, width, self.head_dim);
        Ok(())
    }
}

/// Frequencies for a sequence of `total` tokens, and the factor on cosines and sines. Formulas are
/// those of transformers' `modeling_rope_utils.py`.
fn frequencies(spec: &RopeSpec, total: usize) -> (Vec<f32>, f32) {
    let dim = spec.dim as f64;
    let base = match spec.scaling {
        RopeScaling::Dynamic { factor, original } if total > original => {
            let growth = factor * total as f64 / original as f64 - (factor - 1.0);
            spec.theta * growth.powf(dim / (dim - 2.0))
        }
        _ => spec.theta,
    };
    let plain: Vec<f64> = (0..spec.dim / 2)
        .map(|i| {
            let exponent = (2 * i) as f32 / spec.dim as f32;
            f64::from(1.0 / base.powf(f64::from(exponent)) as f32)
        })
        .collect();
    let divided = |divisors: &[f64]| plain.iter().zip(divisors).map(|(f, d)| f / d).collect();
    let (scaled, factor): (Vec<f64>, f64) = match &spec.scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain.iter().map(|f| f / factor).collect(), 1.0),
        RopeScaling::Llama3 { factor, low, high, original } => {
            (llama3(&plain, *factor, *low, *high, *original as f64), 1.0)
        }
        RopeScaling::Yarn { attention_factor, .. } => (yarn(spec, &plain), *attention_factor),
        RopeScaling::LongRope { short, long, original, attention_factor } => {
            (divided(if total > *original { long } else { short }), *attention_factor)
        }
        RopeScaling::Divisors(divisors) => (divided(divisors), 1.0),
    };
    (scaled.into_iter().map(|it| it as f32).collect(), factor as f32)
}

fn llama3(plain: &[f64], factor: f64, low: f64, high: f64, original: f64) -> Vec<f64> {
    plain
        .iter()
        .map(|&frequency| {
            let wavelength = 2.0 * PI / frequency;
            if wavelength < original / high {
                frequency
            } else if wavelength > original / low {
                frequency / factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        })
        .collect()
}

fn yarn(spec: &RopeSpec, plain: &[f64]) -> Vec<f64> {
    let RopeScaling::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } = spec.scaling
    else {
        unreachable!("invariant: called for yarn only");
    };
    let dim = spec.dim as f64;
    let turning = |rotations: f64| {
        dim * (original as f64 / (rotations * 2.0 * PI)).ln() / (2.0 * spec.theta.ln())
    };
    let (mut low, mut high) = (turning(beta_fast), turning(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(dim - 1.0));
    if low == high {
        high += 0.001;
    }
    plain
        .iter()
        .enumerate()
        .map(|(i, &frequency)| {
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            frequency / factor * ramp + frequency * (1.0 - ramp)
        })
        .collect()
}
