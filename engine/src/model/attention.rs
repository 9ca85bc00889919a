//! Self-attention of one layer.

use candle_core::Tensor;

use super::{Linear, RmsNorm};
use crate::{
    Result,
    ops::{
        attend::{AttendSpec, attend_cached, attend_whole},
        rope::RopeTable,
    },
    pass::Pass,
};

/// Projections, norms and heads of one layer.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Heads and window.
    pub spec: AttendSpec,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Output.
    pub o: Linear,
    /// Norms of queries and keys, per head.
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
}

impl Attention {
    /// `[T, D]` to `[T, D]`.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn forward(
        &self,
        x_td: &Tensor,
        layer: usize,
        rope: &RopeTable,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let [mut q, mut k, v] = Linear::forward_all([&self.q, &self.k, &self.v], x_td, pass)?;
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            q = q_norm.forward_heads(&q)?;
            k = k_norm.forward_heads(&k)?;
        }
        let q = rope.rotate(q, self.spec.heads.dim)?;
        let k = rope.rotate(k, self.spec.heads.dim)?;
        let mixed = if pass.caches.is_empty() {
            attend_whole(self.spec, (&q, &k, &v), pass.rows)?
        } else {
            attend_cached(self.spec, (&q, &k, &v), pass.rows, pass.caches, layer)?
        };
        self.o.forward(&mixed, pass)
    }

    /// Bytes of the matrices.
    pub fn weight_bytes(&self) -> usize {
        [&self.q, &self.k, &self.v, &self.o].map(Linear::weight_bytes).iter().sum()
    }
}
