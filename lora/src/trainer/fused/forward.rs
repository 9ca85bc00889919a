//! One layer forwards.

use minicrit_engine::model::{Attention, Ffn, Gated as GatedModel, Layer, Linear};
use minicrit_quant::{
    dense::{Matrix, Qkv, Right, Tiles, attend_forward, gated_forward, norm_rows, product_into},
    kernels::vector,
    pool,
};

use super::{
    Context, Kept, Work,
    low_rank::{Group, LayerLowRank},
};

impl Context<'_> {
    /// Bytes of [`Kept`] for one layer.
    pub(super) fn kept_bytes(&self, layer: &Layer) -> usize {
        let heads = layer.attention.spec.heads;
        let width = self.learner.decoder.spec.hidden;
        let attention = heads.dim * (heads.query + 2 * heads.kv);
        let inner = dense(layer).gate.weight().map_or(0, |it| it.rows());
        let floats = 2 * width + attention + heads.query;
        self.rows * (4 * floats + 2 * heads.dim * heads.query + 4 * inner + 512)
    }

    /// `x_td` to the layer's output, in place.
    pub(super) fn layer(
        &self,
        layer: &Layer,
        low_rank: &LayerLowRank,
        x_td: &mut [f32],
        kept: &mut Kept,
        work: &mut Work,
    ) {
        let [qkv_low, o_low, ffn_low, down_low] = &low_rank.groups;
        copy(&mut kept.input_td, x_td);
        self.normed(&layer.attention_norm, x_td, qkv_low, &mut work.normed);
        kept.low[0] = self.low(&mut work.normed, qkv_low);
        self.project_qkv(&layer.attention, qkv_low, &work.normed, kept);
        self.attend(layer, kept, work);
        let attention_width = layer.attention.spec.heads.query * layer.attention.spec.heads.dim;
        let blocks = attention_width.div_ceil(32);
        kept.mixed.reshape(self.rows, blocks + o_low.blocks());
        let level = self.level.float();
        kept.mixed.set_columns(level, 0, &work.floats[0], attention_width);
        kept.low[1] = self.low(&mut kept.mixed, o_low);
        self.add_projected(&layer.attention.o, o_low, &kept.mixed, x_td);

        copy(&mut kept.middle_td, x_td);
        self.normed(&layer.ffn_norm, x_td, ffn_low, &mut work.normed);
        kept.low[2] = self.low(&mut work.normed, ffn_low);
        let ffn = dense(layer);
        let parts = vec![(frozen(&ffn.gate), ffn_low.b(0)), (frozen(&ffn.up), ffn_low.b(1))];
        let inner = frozen(&ffn.gate).rows().div_ceil(32);
        work.act.reshape(self.rows, inner + down_low.blocks());
        let right = Right::Rows { parts, alternate: true };
        let terms = 0..work.normed.col_blocks();
        gated_forward(self.level, &work.normed, terms, &right, &mut kept.gated, &mut work.act);
        kept.low[3] = self.low(&mut work.act, down_low);
        self.add_projected(&ffn.down, down_low, &work.act, x_td);
    }

    /// The normed rows, with room for the group's low-rank columns.
    pub(super) fn normed(
        &self,
        norm: &minicrit_engine::model::RmsNorm,
        x_td: &[f32],
        group: &Group,
        out: &mut Tiles,
    ) {
        let gain = gain(norm);
        out.reshape(self.rows, gain.len().div_ceil(32) + group.blocks());
        norm_rows(self.level, x_td, &gain, norm.eps, out);
    }

    /// The group's low-rank product of the first columns of `left`, also copied into its last ones.
    fn low(&self, left: &mut Tiles, group: &Group) -> Tiles {
        let Some(a) = group.a() else { return Tiles::default() };
        let terms = 0..left.col_blocks() - group.blocks();
        let mut low = vec![0.0; self.rows * group.rank];
        product_into(self.level, left, terms.clone(), &Right::rows(a), false, &mut low, group.rank);
        let low = Tiles::from_rows(self.level.float(), &low, group.rank);
        left.copy_columns(terms.end, &low);
        low
    }

    fn project_qkv(&self, attention: &Attention, group: &Group, normed: &Tiles, kept: &mut Kept) {
        let dim = attention.spec.heads.dim;
        let linears = [&attention.q, &attention.k, &attention.v];
        for (i, (linear, out)) in linears.into_iter().zip(&mut kept.qkv).enumerate() {
            let matrix = frozen(linear);
            let cols = matrix.rows();
            out.resize(self.rows * cols, 0.0);
            let right = Right::Rows { parts: vec![(matrix, group.b(i))], alternate: false };
            let terms = 0..normed.col_blocks();
            product_into(self.level, normed, terms, &right, false, out, cols);
            if let Some(bias) = linear.bias() {
                let bias = values(bias);
                pool::for_each_chunk(out, cols, true, |_, row| {
                    row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b);
                });
            }
        }
        let [q, k, _] = &mut kept.qkv;
        if let Some((q_norm, k_norm)) = &attention.qk_norm {
            for ((norm, x), raw) in
                [(q_norm, &mut *q), (k_norm, &mut *k)].into_iter().zip(&mut kept.raw)
            {
                copy(raw, x);
                let (gain, level) = (gain(norm), self.level.float());
                pool::for_each_chunk(x, dim, true, |head, out| {
                    let raw = &raw[head * dim..(head + 1) * dim];
                    vector::rms_norm(level, raw, &gain, norm.eps, out);
                });
            }
        }
        let heads = attention.spec.heads;
        self.rope.rotate_rows(q, heads.query * dim, dim);
        self.rope.rotate_rows(k, heads.kv * dim, dim);
    }

    /// Attention's output into `work.floats[0]`.
    fn attend(&self, layer: &Layer, kept: &mut Kept, work: &mut Work) {
        let shape = self.shape(layer);
        let [q, k, v] = &kept.qkv;
        let out = &mut work.floats[0];
        out.resize(q.len(), 0.0);
        kept.log_sums.resize(self.rows * shape.query, 0.0);
        let qkv = Qkv { q, k, v };
        attend_forward(self.level, shape, &self.sequences, qkv, out, &mut kept.log_sums);
    }

    /// Adds the projection of `left`, low-rank columns included, to `x_td`.
    fn add_projected(&self, linear: &Linear, group: &Group, left: &Tiles, x_td: &mut [f32]) {
        let matrix = frozen(linear);
        let cols = matrix.rows();
        let right = Right::Rows { parts: vec![(matrix, group.b(0))], alternate: false };
        product_into(self.level, left, 0..left.col_blocks(), &right, true, x_td, cols);
    }
}

/// The block of a dense layer; [`super::unsupported`] has looked.
pub(super) fn dense(layer: &Layer) -> &GatedModel {
    match &layer.ffn {
        Ffn::Dense(it) => it,
        Ffn::Moe(_) => unreachable!("invariant: models with experts are not computed here"),
    }
}

/// The matrix of a projection; [`super::unsupported`] has looked.
pub(super) fn frozen(linear: &Linear) -> Matrix<'_> {
    Matrix::Weight(linear.weight().expect("invariant: weights that are trained are not here"))
}

/// The gain of a norm.
pub(super) fn gain(norm: &minicrit_engine::model::RmsNorm) -> Vec<f32> {
    values(&norm.gain)
}

fn values(tensor: &candle_core::Tensor) -> Vec<f32> {
    super::floats(tensor).expect("invariant: a loaded vector is float32 in memory")
}

fn copy(into: &mut Vec<f32>, from: &[f32]) {
    into.clear();
    into.extend_from_slice(from);
}
