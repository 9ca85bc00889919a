//! Causal attention over packed rows, with grouped heads and an optional sliding window.
//!
//! Two entrances, one arithmetic: [`attend_cached`] appends to caches and reads from them;
//! [`attend_whole`] takes whole sequences and can be differentiated. Both go through
//! [`attend_row`], so training computes the bits that serving computes.

mod backward;

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use minicrit_quant::{
    kernels::{
        Level,
        attend::{HeadChunk, Visible, attend_row},
    },
    pool,
};

use super::{values, with_values};
use crate::{
    cache::{CacheTag, KvCache, ModelId},
    pass::{Rows, Span},
    spec::{Heads, RopeRegime},
};

/// Multiplications below which a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 16;

/// What attention needs to know of a layer.
#[derive(Debug, Clone, Copy)]
pub struct AttendSpec {
    /// Heads.
    pub heads: Heads,
    /// Sliding window.
    pub window: Option<usize>,
}

impl AttendSpec {
    fn scale(&self) -> f32 {
        1.0 / (self.heads.dim as f32).sqrt()
    }

    /// What the row at `position` sees.
    fn visible(&self, position: usize) -> Visible {
        let first = match self.window {
            Some(window) => (position + 1).saturating_sub(window),
            None => 0,
        };
        Visible { first, last: position, scale: self.scale() }
    }
}

/// Attention of `q_td` after `k_td` and `v_td` (`[T, heads * dim]`) have been appended to layer
/// `layer` of the span's cache. No gradient passes.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn attend_cached(
    spec: AttendSpec,
    (q_td, k_td, v_td): (&Tensor, &Tensor, &Tensor),
    rows: &Rows,
    caches: &mut [&mut KvCache],
    layer: usize,
) -> Result<Tensor> {
    let kv_width = spec.heads.kv * spec.heads.dim;
    with_values(k_td, |k| {
        with_values(v_td, |v| {
            for ((span, range), cache) in rows.ranges().zip(caches.iter_mut()) {
                let at = range.start * kv_width..range.end * kv_width;
                cache.append(layer, span.start, &k[at.clone()], &v[at]);
            }
        })
    })??;
    let mut out = vec![0.0; q_td.elem_count()];
    with_values(q_td, |q| {
        let mut rest = &mut out[..];
        for ((span, range), cache) in rows.ranges().zip(caches.iter()) {
            let width = spec.heads.query * spec.heads.dim;
            let (part, tail) = rest.split_at_mut(range.len() * width);
            rest = tail;
            attend_span(spec, &q[range.start * width..range.end * width], span, cache, layer, part);
        }
    })?;
    Tensor::from_vec(out, q_td.shape(), q_td.device())
}

/// Every row and head of one sequence.
fn attend_span(
    spec: AttendSpec,
    q: &[f32],
    span: Span,
    cache: &KvCache,
    layer: usize,
    out: &mut [f32],
) {
    let Heads { query, kv, dim } = spec.heads;
    let chunks: Vec<Vec<HeadChunk<'_>>> =
        (0..kv).map(|head| cache.head_chunks(layer, head)).collect();
    let level = Level::detected();
    let worth_it = span.len * query * dim * (span.start + span.len) >= PARALLEL_FROM;
    pool::for_each_chunk(out, dim, worth_it, |index, out| {
        let (row, head) = (index / query, index % query);
        let q = &q[index * dim..(index + 1) * dim];
        let visible = spec.visible(span.start + row);
        attend_row(level, q, &chunks[head * kv / query], visible, out);
    });
}

/// Attention within whole sequences (every span starts at 0); differentiable.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn attend_whole(
    spec: AttendSpec,
    (q_td, k_td, v_td): (&Tensor, &Tensor, &Tensor),
    rows: &Rows,
) -> Result<Tensor> {
    if rows.spans().iter().any(|span| span.start != 0) {
        bail!("rows that do not start their sequence need a cache");
    }
    let op = AttendWhole { spec, rows: rows.clone() };
    q_td.contiguous()?.apply_op3(&k_td.contiguous()?, &v_td.contiguous()?, op)
}

/// [`attend_whole`] in plain tensor operations, of the type of its inputs.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn reference(
    spec: AttendSpec,
    (q_td, k_td, v_td): (&Tensor, &Tensor, &Tensor),
    rows: &Rows,
) -> Result<Tensor> {
    let Heads { query, kv, dim } = spec.heads;
    let mut parts = Vec::new();
    for (span, range) in rows.ranges() {
        let n = span.len;
        let by_head = |x_td: &Tensor, heads: usize| {
            x_td.narrow(0, range.start, n)?.reshape((n, heads, dim))?.transpose(0, 1)?.contiguous()
        };
        let repeat = |x_hte: Tensor| {
            let shape = (kv, query / kv, n, dim);
            x_hte.unsqueeze(1)?.broadcast_as(shape)?.reshape((query, n, dim))?.contiguous()
        };
        let (q, k, v) =
            (by_head(q_td, query)?, repeat(by_head(k_td, kv)?)?, repeat(by_head(v_td, kv)?)?);
        let mask: Vec<f32> = (0..n)
            .flat_map(|i| {
                let visible = spec.visible(i);
                (0..n).map(move |j| {
                    if (visible.first..=visible.last).contains(&j) {
                        0.0
                    } else {
                        f32::NEG_INFINITY
                    }
                })
            })
            .collect();
        let mask = Tensor::from_vec(mask, (n, n), q_td.device())?.to_dtype(q_td.dtype())?;
        let scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * f64::from(spec.scale()))?;
        let weights = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, 2)?;
        let out = weights.matmul(&v)?.transpose(0, 1)?.contiguous()?;
        parts.push(out.reshape((n, query * dim))?);
    }
    Tensor::cat(&parts, 0)
}

struct AttendWhole {
    spec: AttendSpec,
    rows: Rows,
}

/// A cache of one layer that holds the sequence whose rows are `range`.
fn cache_of(spec: AttendSpec, range: Range<usize>, k: &[f32], v: &[f32]) -> KvCache {
    let tag = CacheTag { model: ModelId(0), adapter: None, rope: RopeRegime(0) };
    let width = spec.heads.kv * spec.heads.dim;
    let mut cache = KvCache::with_layers(spec.heads, 1, tag);
    let at = range.start * width..range.end * width;
    cache.append(0, 0, &k[at.clone()], &v[at]);
    cache
}

impl CustomOp3 for AttendWhole {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let q = values(self.name(), q, q_layout)?;
        let k = values(self.name(), k, k_layout)?;
        let v = values(self.name(), v, v_layout)?;
        let width = self.spec.heads.query * self.spec.heads.dim;
        let mut out = vec![0.0; q.len()];
        for (span, range) in self.rows.ranges() {
            let cache = cache_of(self.spec, range.clone(), k, v);
            let at = range.start * width..range.end * width;
            attend_span(self.spec, &q[at.clone()], span, &cache, 0, &mut out[at]);
        }
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        if q.dtype() != DType::F32 {
            bail!("attend's backward pass needs float32");
        }
        let all = |x: &Tensor| with_values(x, <[f32]>::to_vec);
        let (qs, ks, vs, out, g) = (all(q)?, all(k)?, all(v)?, all(res)?, all(grad)?);
        let inputs = backward::Inputs { q: &qs, k: &ks, v: &vs, out: &out, grad: &g };
        let [dq, dk, dv] = backward::gradients(self.spec, &self.rows, &inputs);
        let like = |values, x: &Tensor| Tensor::from_vec(values, x.shape(), x.device()).map(Some);
        Ok((like(dq, q)?, like(dk, k)?, like(dv, v)?))
    }
}
