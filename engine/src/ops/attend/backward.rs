//! The backward pass of attention over whole sequences.

use std::ops::Range;

use minicrit_quant::kernels::{Level, attend::attend_row};

use super::{AttendSpec, cache_of};
use crate::{cache::KvCache, pass::Rows, spec::Heads};

/// What the backward pass reads, `[T, heads * dim]` each.
pub(super) struct Inputs<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) out: &'a [f32],
    pub(super) grad: &'a [f32],
}

/// Gradients of queries, keys and values.
pub(super) fn gradients(spec: AttendSpec, rows: &Rows, inputs: &Inputs<'_>) -> [Vec<f32>; 3] {
    let [mut dq, mut dk, mut dv] = [inputs.q, inputs.k, inputs.v].map(|it| vec![0.0; it.len()]);
    for (_, range) in rows.ranges() {
        let cache = cache_of(spec, range.clone(), inputs.k, inputs.v);
        for head in 0..spec.heads.query {
            let mut grads = Grads { q: &mut dq, k: &mut dk, v: &mut dv };
            head_backward(spec, range.clone(), head, &cache, inputs, &mut grads);
        }
    }
    [dq, dk, dv]
}

struct Grads<'a> {
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
}

/// One head of one sequence, with the weights recomputed from the row's log-sum-exp
/// (Dao et al. 2022): `ds = p · (g·v - g·out)`, `dq = Σ ds k`, `dk = Σ ds q`, `dv = Σ p g`.
fn head_backward(
    spec: AttendSpec,
    range: Range<usize>,
    head: usize,
    cache: &KvCache,
    inputs: &Inputs<'_>,
    grads: &mut Grads<'_>,
) {
    let Heads { query, kv, dim } = spec.heads;
    let kv_head = head * kv / query;
    let q_at = |t: usize| (t * query + head) * dim..(t * query + head + 1) * dim;
    let kv_at = |t: usize| (t * kv + kv_head) * dim..(t * kv + kv_head + 1) * dim;
    let chunks = cache.head_chunks(0, kv_head);
    let mut scratch = vec![0.0; dim];
    let scale = spec.scale();
    for (position, t) in range.clone().enumerate() {
        let visible = spec.visible(position);
        let q = &inputs.q[q_at(t)];
        let g = &inputs.grad[q_at(t)];
        let log_sum = attend_row(Level::detected(), q, &chunks, visible, &mut scratch);
        let along = dot(g, &inputs.out[q_at(t)]);
        for j in visible.first..=visible.last {
            let at = kv_at(range.start + j);
            let k = &inputs.k[at.clone()];
            let p = (scale * dot(q, k) - log_sum).exp();
            let ds = p * (dot(g, &inputs.v[at.clone()]) - along) * scale;
            add(&mut grads.q[q_at(t)], ds, k);
            add(&mut grads.k[at.clone()], ds, q);
            add(&mut grads.v[at], p, g);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn add(into: &mut [f32], factor: f32, x: &[f32]) {
    into.iter_mut().zip(x).for_each(|(y, x)| *y += factor * x);
}
