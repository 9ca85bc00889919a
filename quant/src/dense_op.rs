//! A product with a float32 matrix that is itself learned.

use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor, bail};

use crate::{
    Format,
    kernels::{self, Level, Matrix},
};

/// `x [m, k] -> x · wᵀ [m, n]` for float32 `x` and `w [n, k]`; both get gradients where candle
/// tracks them. The forward pass has the bits of [`crate::QuantTensor::matmul_into`].
///
/// # Errors
/// A shape or type that does not fit.
pub fn dense_matmul(x_ti: &Tensor, w_oi: &Tensor) -> candle_core::Result<Tensor> {
    x_ti.contiguous()?.apply_op2(&w_oi.contiguous()?, DenseMatmul)
}

/// The same in plain tensor operations.
///
/// # Errors
/// A shape or type that does not fit.
pub fn dense_reference(x_ti: &Tensor, w_oi: &Tensor) -> candle_core::Result<Tensor> {
    x_ti.matmul(&w_oi.t()?)
}

struct DenseMatmul;

impl CustomOp2 for DenseMatmul {
    fn name(&self) -> &'static str {
        "dense-matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Factors { x, w, m, n, k } = Factors::of(self.name(), (x, x_layout), (w, w_layout))?;
        // SAFETY: a float is four bytes without padding, and any byte may be read as such.
        let bytes = unsafe { std::slice::from_raw_parts(w.as_ptr().cast(), size_of_val(w)) };
        let mut y = vec![0.0; m * n];
        let matrix = Matrix { format: Format::F32, n, k, bytes };
        kernels::matmul(Level::detected(), matrix, x, &mut y);
        Ok((CpuStorage::F32(y), Shape::from((m, n))))
    }

    /// `dx = g · w`, `dw = gᵀ · x`.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = if x.track_op() { Some(grad.matmul(w)?) } else { None };
        let dw = if w.track_op() { Some(grad.t()?.matmul(x)?) } else { None };
        Ok((dx, dw))
    }
}

/// Two float32 matrices in a row-major `[m, k]` and `[n, k]`, checked to fit each other.
pub(crate) struct Factors<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) w: &'a [f32],
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
}

impl<'a> Factors<'a> {
    /// The values of an operation's two inputs; `op` is its name in errors.
    pub(crate) fn of(
        op: &str,
        (x, x_layout): (&'a CpuStorage, &Layout),
        (w, w_layout): (&'a CpuStorage, &Layout),
    ) -> candle_core::Result<Self> {
        let (CpuStorage::F32(x), CpuStorage::F32(w)) = (x, w) else {
            bail!("{op} needs float32 values");
        };
        let (Some(x_at), Some(w_at)) =
            (x_layout.contiguous_offsets(), w_layout.contiguous_offsets())
        else {
            bail!("{op} needs contiguous values");
        };
        let (&[m, k], &[n, w_k]) = (x_layout.dims(), w_layout.dims()) else {
            bail!("{op} needs matrices");
        };
        if k != w_k || k == 0 {
            bail!("{op}: {m} x {k} does not fit {n} x {w_k}");
        }
        Ok(Self { x: &x[x_at.0..x_at.1], w: &w[w_at.0..w_at.1], m, n, k })
    }
}
