//! One layer: attention and feed-forward, each on a normed copy, added to the stream.

use candle_core::Tensor;

use super::{Attention, Ffn, RmsNorm};
use crate::{
    Result,
    ops::{add::add, rope::RopeTable},
    pass::Pass,
};

/// One layer of a decoder.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Norm before attention.
    pub attention_norm: RmsNorm,
    /// Attention.
    pub attention: Attention,
    /// Norm before the feed-forward block.
    pub ffn_norm: RmsNorm,
    /// Feed-forward block.
    pub ffn: Ffn,
}

impl Layer {
    /// `[T, D]` to `[T, D]`; `index` is the layer's place in the cache.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn forward(
        &self,
        x_td: &Tensor,
        index: usize,
        rope: &RopeTable,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let normed = self.attention_norm.forward(x_td)?;
        let x_td = add(self.attention.forward(&normed, index, rope, pass)?, x_td)?;
        let normed = self.ffn_norm.forward(&x_td)?;
        Ok(add(self.ffn.forward(&normed, pass)?, &x_td)?)
    }

    /// Bytes of the matrices.
    pub fn weight_bytes(&self) -> usize {
        self.attention.weight_bytes() + self.ffn.weight_bytes()
    }
}
