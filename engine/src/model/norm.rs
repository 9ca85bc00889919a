//! A norm and its gains.

use candle_core::Tensor;

use crate::{Result, ops::rms_norm};

/// Root-mean-square norm over the last dimension.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// `[n]`
    pub gain: Tensor,
    /// Added to the mean square.
    pub eps: f32,
}

impl RmsNorm {
    /// Norms the last dimension of `x`.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(rms_norm::rms_norm(x, &self.gain, self.eps)?)
    }

    /// Norms each head of `x_td` by itself.
    pub(super) fn forward_heads(&self, x_td: &Tensor) -> Result<Tensor> {
        let head_dim = self.gain.dim(0)?;
        let by_head = x_td.reshape(((), head_dim))?;
        Ok(self.forward(&by_head)?.reshape(x_td.shape())?)
    }
}
