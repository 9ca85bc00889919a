//! The seam through which an adapter (LoRA and its kin, in `minicrit-lora`) changes a projection.

use candle_core::Tensor;

use crate::{Result, pass::Rows};

/// Which linear layer of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proj {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// Gate of the feed-forward block.
    Gate,
    /// Up projection of the feed-forward block.
    Up,
    /// Down projection of the feed-forward block.
    Down,
    /// The language-model head.
    Head,
}

/// One place where an adapter can act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// Layer index, from 0. The head has layer 0.
    pub layer: u16,
    /// Expert of a mixture, or `None` for a dense layer.
    pub expert: Option<u16>,
    /// Which projection.
    pub proj: Proj,
}

/// Content hash of an adapter: two adapters with one id are the same function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdapterId(pub [u8; 32]);

/// A learned change to projections.
pub trait Adapter: Send + Sync {
    /// Content hash; part of every cache tag.
    fn id(&self) -> AdapterId;

    /// Given a projection's input `x_ti` and output `y_to`, the changed output.
    ///
    /// # Errors
    /// Whatever the tensor arithmetic gives.
    fn apply(&self, site: Site, rows: &Rows, x_ti: &Tensor, y_to: Tensor) -> Result<Tensor>;

    /// Given the embedded `tokens`, the changed rows `[T, D]`. Most adapters leave them alone.
    ///
    /// # Errors
    /// Whatever the tensor arithmetic gives.
    fn embed(&self, _tokens: &[u32], x_td: Tensor) -> Result<Tensor> {
        Ok(x_td)
    }
}
