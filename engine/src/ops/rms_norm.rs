//! Root-mean-square norm over the last dimension (Zhang and Sennrich 2019).

use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor};
use minicrit_quant::{
    kernels::{Level, vector},
    pool,
};

use super::{PARALLEL_FROM, values};

/// `x / sqrt(mean(x²) + eps) · gain` for `x` of `[.., n]` and `gain` of `[n]`.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn rms_norm(x: &Tensor, gain: &Tensor, eps: f32) -> Result<Tensor> {
    x.contiguous()?.apply_op2(gain, RmsNorm { eps })
}

/// The same in plain tensor operations.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn reference(x: &Tensor, gain: &Tensor, eps: f32) -> Result<Tensor> {
    let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
    x.broadcast_div(&(mean + f64::from(eps))?.sqrt()?)?.broadcast_mul(gain)
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = values(self.name(), x, x_layout)?;
        let gain = values(self.name(), gain, gain_layout)?;
        let mut out = vec![0.0; x.len()];
        let level = Level::detected();
        let width = gain.len();
        pool::for_each_chunk(&mut out, width, x.len() >= PARALLEL_FROM, |row, y| {
            vector::rms_norm(level, &x[row * width..(row + 1) * width], gain, self.eps, y);
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    /// With `r = 1 / sqrt(mean(x²) + eps)` and `u = g · gain`:
    /// `dx = r · u - x · r³ · mean(u · x)`, `dgain = Σ g · x · r`.
    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let inverse = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(self.eps))?.sqrt()?.recip()?;
        let u = grad.broadcast_mul(gain)?;
        let along = (&u * x)?.mean_keepdim(D::Minus1)?;
        let pull = x.broadcast_mul(&(along * inverse.powf(3.0)?)?)?;
        let dx = (u.broadcast_mul(&inverse)? - pull)?;
        let per_row = (grad * x.broadcast_mul(&inverse)?)?;
        let dgain = per_row.flatten_to(per_row.rank() - 2)?.sum(0)?;
        Ok((Some(dx), Some(dgain)))
    }
}
