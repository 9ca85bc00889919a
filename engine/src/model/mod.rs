//! The decoder: immutable after loading, `&self` everywhere, shared by target, draft and trainer.
//!
//! It knows no files, tokens, sampling or kinds of adapter. Legend: `t` rows, `d` model width, `r`
//! chosen rows, `v` vocabulary.

mod attention;
mod embed;
mod error;
mod ffn;
mod layer;
mod linear;
mod norm;

use candle_core::Tensor;

pub use self::{
    attention::Attention,
    embed::Embedding,
    error::ModelError,
    ffn::{Ffn, Gated, Moe},
    layer::Layer,
    linear::{Linear, Products},
    norm::RmsNorm,
};
use crate::{
    Result,
    cache::{CacheTag, KvCache, ModelId},
    ops::rope::RopeTable,
    pass::Pass,
    spec::{ModelSpec, RopeRegime},
};

/// One loaded model.
#[derive(Debug)]
pub struct Decoder {
    /// Shape and habits.
    pub spec: ModelSpec,
    /// Unique within the process.
    pub id: ModelId,
    /// Token embedding.
    pub embed: Embedding,
    /// Layers in order.
    pub layers: Vec<Layer>,
    /// Norm of the last hidden state.
    pub norm: RmsNorm,
    /// Hidden state to logits.
    pub head: Linear,
}

impl Decoder {
    /// Normed hidden states of `tokens`, `[T]` to `[T, D]`. Where the pass has caches, keys and
    /// values are appended to them, and they hold the new rows only if the call succeeds.
    ///
    /// # Errors
    /// A token outside the vocabulary, a cache of another tag, or what the arithmetic gives.
    pub fn hidden(&self, tokens: &[u32], pass: &mut Pass<'_>) -> Result<Tensor> {
        self.hidden_unless(tokens, pass, &|| false)
    }

    /// The same, given up between two layers once `cancelled` says so.
    ///
    /// # Errors
    /// As [`Decoder::hidden`]; [`ModelError::Cancelled`].
    pub fn hidden_unless(
        &self,
        tokens: &[u32],
        pass: &mut Pass<'_>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor> {
        self.check(pass)?;
        let rope = RopeTable::new(&self.spec.rope, pass.rows);
        let mut x_td = self.embedded(tokens, pass)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if cancelled() {
                return Err(ModelError::Cancelled.into());
            }
            x_td = layer.forward(&x_td, index, &rope, pass)?;
        }
        for (cache, span) in pass.caches.iter_mut().zip(pass.rows.spans()) {
            cache.commit(span.start + span.len);
        }
        self.norm.forward(&x_td)
    }

    /// What the first layer sees of `tokens`, `[T]` to `[T, D]`.
    ///
    /// # Errors
    /// A token outside the vocabulary, or what the adapter gives.
    pub fn embedded(&self, tokens: &[u32], pass: &Pass<'_>) -> Result<Tensor> {
        let x_td = self.embed.forward(tokens)?;
        match pass.adapter {
            Some(adapter) => adapter.embed(tokens, x_td),
            None => Ok(x_td),
        }
    }

    /// Logits of chosen rows of a hidden state, `[R, D]` to `[R, V]`.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn logits(&self, rows_rd: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.head.forward(rows_rd, pass)
    }

    /// Another decoder of the same description and norm.
    pub fn with_parts(&self, embed: Embedding, layers: Vec<Layer>, head: Linear) -> Self {
        let (spec, norm) = (self.spec.clone(), self.norm.clone());
        Self { spec, id: ModelId::next(), embed, layers, norm, head }
    }

    /// An empty cache for sequences of the given regime under the adapter of a pass.
    pub fn new_cache(&self, tag: CacheTag) -> KvCache {
        KvCache::new(&self.spec, tag)
    }

    /// Bytes of all matrices.
    pub fn weight_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::weight_bytes).sum();
        let head = if self.spec.tied { 0 } else { self.head.weight_bytes() };
        self.embed.weight_bytes() + layers + head
    }

    /// Bytes of the matrices that one decoded token reads: layers and head, every expert counted.
    pub fn decode_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::weight_bytes).sum();
        layers + self.head.weight_bytes()
    }

    fn check(&self, pass: &Pass<'_>) -> Result<()> {
        for (cache, span) in pass.caches.iter().zip(pass.rows.spans()) {
            let tag = CacheTag {
                model: self.id,
                adapter: pass.adapter.map(|it| it.id()),
                rope: self.spec.rope.regime(span.total),
            };
            if cache.tag() != tag || cache.len() < span.start {
                return Err(ModelError::CacheTag.into());
            }
        }
        Ok(())
    }

    /// The regime of a sequence of `total` tokens.
    pub fn regime(&self, total: usize) -> RopeRegime {
        self.spec.rope.regime(total)
    }
}
