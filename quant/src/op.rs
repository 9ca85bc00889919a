//! The stored matrix as an operation that candle can differentiate.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, bail};

use crate::Weight;

/// Weight rows that the backward pass decodes at a time.
const TILE: usize = 256;

/// `x [.., cols] -> x · wᵀ [.., rows]` for float32 `x`. The weight is frozen: it gets no gradient.
#[derive(Debug, Clone)]
pub struct QuantMatmul {
    weight: Weight,
}

impl QuantMatmul {
    /// The operation for `weight`, stored or packed.
    pub fn new(weight: impl Into<Weight>) -> Self {
        Self { weight: weight.into() }
    }

    /// The weight.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Applies the operation; the gradient for `x_ti` is kept where candle tracks it.
    ///
    /// # Errors
    /// A shape or type that does not fit.
    pub fn forward(&self, x_ti: &Tensor) -> candle_core::Result<Tensor> {
        x_ti.contiguous()?.apply_op1(self.clone())
    }

    /// The same in plain tensor operations: oracle and path for other devices. A packed weight is
    /// multiplied by `x_ti` as it is, not rounded.
    ///
    /// # Errors
    /// A shape or type that does not fit.
    pub fn reference(&self, x_ti: &Tensor) -> candle_core::Result<Tensor> {
        let weight_oi = self.rows_as_tensor(0..self.weight.rows(), x_ti)?;
        x_ti.broadcast_matmul(&weight_oi.t()?)
    }

    fn rows_as_tensor(&self, range: Range<usize>, like: &Tensor) -> candle_core::Result<Tensor> {
        let cols = self.weight.cols();
        let values =
            self.weight.dequantize_rows(range.clone()).map_err(candle_core::Error::wrap)?;
        Tensor::from_vec(values, (range.len(), cols), like.device())?.to_dtype(like.dtype())
    }
}

impl CustomOp1 for QuantMatmul {
    fn name(&self) -> &'static str {
        "quant-matmul"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (Some((start, end)), CpuStorage::F32(x)) = (layout.contiguous_offsets(), storage)
        else {
            bail!("quant-matmul needs contiguous float32 rows");
        };
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut().filter(|last| **last == self.weight.cols()) else {
            bail!("quant-matmul: rows of {:?} do not fit {} inputs", dims, self.weight.cols());
        };
        *last = self.weight.rows();
        let y = self.weight.matmul(&x[start..end]);
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    /// `dx = g · w`, with the weight decoded tile by tile.
    fn bwd(&self, x: &Tensor, _res: &Tensor, grad: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let grad_to = grad.flatten_to(grad.rank() - 2)?;
        let mut dx_ti =
            Tensor::zeros((grad_to.dim(0)?, self.weight.cols()), x.dtype(), x.device())?;
        for start in (0..self.weight.rows()).step_by(TILE) {
            let range = start..self.weight.rows().min(start + TILE);
            let g_to = grad_to.narrow(1, start, range.len())?.contiguous()?;
            dx_ti = (dx_ti + g_to.matmul(&self.rows_as_tensor(range, x)?)?)?;
        }
        dx_ti.reshape(x.shape()).map(Some)
    }
}
