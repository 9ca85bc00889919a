//! One layer backwards.

use minicrit_engine::model::{Layer, Linear};
use minicrit_quant::dense::{
    Qkv, QkvSlopes, Right, Tiles, attend_backward, gated_backward, norm_backward, product_into,
    sum_over_rows,
};

use super::{
    Context, Kept, Work,
    forward::{dense, frozen, gain},
    low_rank::{Group, LayerLowRank},
};
use crate::{Result, trainer::Gradients};

impl Context<'_> {
    /// `slope_td`, the slope by the layer's output, to the slope by its input, in place (only where
    /// `through`); gradients are added.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn layer_backward(
        &self,
        layer: &Layer,
        low_rank: &LayerLowRank,
        kept: &Kept,
        slope_td: &mut [f32],
        work: &mut Work,
        gradients: &mut Gradients,
        through: bool,
    ) -> Result<()> {
        self.ffn_backward(layer, low_rank, kept, slope_td, work, gradients);
        self.attention_backward(layer, low_rank, kept, slope_td, work, gradients, through);
        Ok(())
    }

    fn ffn_backward(
        &self,
        layer: &Layer,
        low_rank: &LayerLowRank,
        kept: &Kept,
        slope_td: &mut [f32],
        work: &mut Work,
        gradients: &mut Gradients,
    ) {
        let [_, _, ffn_low, down_low] = &low_rank.groups;
        let ffn = dense(layer);
        let width = slope_td.len() / self.rows;
        let inner = kept.gated.gate.col_blocks();
        let blocks = width.div_ceil(32);

        let Work { normed, act, slopes, wide, floats } = work;
        wide.reshape(self.rows, blocks + down_low.blocks());
        wide.set_columns(self.level.float(), 0, slope_td, width);
        let down_slope = self.low_slope(wide, blocks, down_low);
        let right = stacked(&[&ffn.down], down_low);
        act.reshape(self.rows, inner);
        slopes.reshape(self.rows, 2 * inner + ffn_low.blocks());
        gated_backward(self.level, wide, &right, &kept.gated, act, slopes);
        self.b_gradient(down_low, 0, &kept.low[3], wide, 0, gradients);
        self.a_gradients(down_low, &down_slope, act, gradients);

        let low_slope = self.low_slope(slopes, 2 * inner, ffn_low);
        let by_normed = &mut floats[0];
        by_normed.resize(slope_td.len(), 0.0);
        let right = stacked(&[&ffn.gate, &ffn.up], ffn_low);
        let terms = 0..slopes.col_blocks();
        product_into(self.level, slopes, terms, &right, false, by_normed, width);
        self.b_gradient(ffn_low, 0, &kept.low[2], slopes, 0, gradients);
        self.b_gradient(ffn_low, 1, &kept.low[2], slopes, inner, gradients);
        if ffn_low.rank > 0 {
            self.normed(&layer.ffn_norm, &kept.middle_td, ffn_low, normed);
            self.a_gradients(ffn_low, &low_slope, normed, gradients);
        }
        let (norm, x_td) = (&layer.ffn_norm, &kept.middle_td);
        norm_backward(self.level, x_td, &gain(norm), norm.eps, by_normed, slope_td);
    }

    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &self,
        layer: &Layer,
        low_rank: &LayerLowRank,
        kept: &Kept,
        slope_td: &mut [f32],
        work: &mut Work,
        gradients: &mut Gradients,
        through: bool,
    ) {
        let [qkv_low, o_low, ..] = &low_rank.groups;
        let attention = &layer.attention;
        let shape = self.shape(layer);
        let (width, level) = (slope_td.len() / self.rows, self.level.float());
        let blocks = width.div_ceil(32);

        let Work { normed, slopes, wide, floats, .. } = work;
        wide.reshape(self.rows, blocks + o_low.blocks());
        wide.set_columns(level, 0, slope_td, width);
        let o_slope = self.low_slope(wide, blocks, o_low);
        let [by_normed, by_mixed, dq, dk, dv] = floats;
        by_mixed.resize(kept.qkv[0].len(), 0.0);
        let right = stacked(&[&attention.o], o_low);
        let cols = shape.query * shape.dim;
        let terms = 0..wide.col_blocks();
        product_into(self.level, wide, terms, &right, false, by_mixed, cols);
        self.b_gradient(o_low, 0, &kept.low[1], wide, 0, gradients);
        self.a_gradients(o_low, &o_slope, &kept.mixed, gradients);

        let [q, k, v] = &kept.qkv;
        for (slope, x) in [&mut *dq, dk, dv].into_iter().zip([q, k, v]) {
            slope.resize(x.len(), 0.0);
        }
        let into = QkvSlopes { q: dq, k: dk, v: dv };
        let qkv = Qkv { q, k, v };
        let (sums, sequences) = (&kept.log_sums, &self.sequences);
        attend_backward(self.level, shape, sequences, qkv, sums, by_mixed, into);
        let back = self.rope.inverse();
        back.rotate_rows(dq, shape.query * shape.dim, shape.dim);
        back.rotate_rows(dk, shape.kv * shape.dim, shape.dim);
        if let Some((q_norm, k_norm)) = &attention.qk_norm {
            let norms = [(q_norm, &mut *dq), (k_norm, &mut *dk)];
            for ((norm, slope), raw) in norms.into_iter().zip(&kept.raw) {
                let by_raw = &mut *by_mixed;
                by_raw.clear();
                by_raw.resize(slope.len(), 0.0);
                norm_backward(self.level, raw, &gain(norm), norm.eps, slope, by_raw);
                slope.copy_from_slice(by_raw);
            }
        }

        let widths = [cols, shape.kv * shape.dim, shape.kv * shape.dim];
        let firsts = [0, widths[0].div_ceil(32), (widths[0].div_ceil(32) + widths[1].div_ceil(32))];
        let main = firsts[2] + widths[2].div_ceil(32);
        slopes.reshape(self.rows, main + qkv_low.blocks());
        for ((first, values), width) in firsts.into_iter().zip([&*dq, dk, dv]).zip(widths) {
            slopes.set_columns(level, first, values, width);
        }
        let low_slope = self.low_slope(slopes, main, qkv_low);
        for (part, first) in firsts.into_iter().enumerate() {
            self.b_gradient(qkv_low, part, &kept.low[0], slopes, first, gradients);
        }
        if qkv_low.rank > 0 {
            self.normed(&layer.attention_norm, &kept.input_td, qkv_low, normed);
            self.a_gradients(qkv_low, &low_slope, normed, gradients);
        }
        if !through {
            return;
        }
        by_normed.resize(slope_td.len(), 0.0);
        let right = stacked(&[&attention.q, &attention.k, &attention.v], qkv_low);
        let terms = 0..slopes.col_blocks();
        product_into(self.level, slopes, terms, &right, false, by_normed, width);
        let (norm, x_td) = (&layer.attention_norm, &kept.input_td);
        norm_backward(self.level, x_td, &gain(norm), norm.eps, by_normed, slope_td);
    }

    /// The slope by the group's low-rank product, `g · s B`, given the slopes by its projections in
    /// the first `main` block columns of `slopes`; also copied into the last ones.
    fn low_slope(&self, slopes: &mut Tiles, main: usize, group: &Group) -> Tiles {
        if group.rank == 0 {
            return Tiles::default();
        }
        let parts = (0..group.parts.len()).filter_map(|it| group.b(it)).collect();
        let mut low = vec![0.0; self.rows * group.rank];
        let right = Right::Columns(parts);
        product_into(self.level, slopes, 0..main, &right, false, &mut low, group.rank);
        let low = Tiles::from_rows(self.level.float(), &low, group.rank);
        slopes.copy_columns(main, &low);
        low
    }

    /// `dB = s · gᵀ · low` of one projection, whose slopes begin at block column `first`.
    fn b_gradient(
        &self,
        group: &Group,
        part: usize,
        low: &Tiles,
        slopes: &Tiles,
        first: usize,
        gradients: &mut Gradients,
    ) {
        let part = &group.parts[part];
        let Some(params) = &part.params else { return };
        let outputs = params.rows.len();
        let columns = part.columns.start..part.columns.start + params.rank;
        let mut turned = vec![0.0; params.rank * outputs];
        let range = 32 * first..32 * first + outputs;
        sum_over_rows(self.level, low, columns, slopes, range, &mut turned);
        gradients.edit(params.b, |values| {
            let values = &mut values[params.rows.start * params.rank..];
            for (o, row) in values.chunks_exact_mut(params.rank).take(outputs).enumerate() {
                for (r, value) in row.iter_mut().enumerate() {
                    *value += params.scale * turned[r * outputs + o];
                }
            }
        });
    }

    /// `dA = lowᵀ · x` of all projections of a group.
    fn a_gradients(&self, group: &Group, low: &Tiles, x: &Tiles, gradients: &mut Gradients) {
        for part in &group.parts {
            let Some(params) = &part.params else { continue };
            let columns = part.columns.start..part.columns.start + params.rank;
            gradients.edit(params.a, |values| {
                let mut sums = vec![0.0; values.len()];
                let inputs = values.len() / params.rank;
                sum_over_rows(self.level, low, columns, x, 0..inputs, &mut sums);
                values.iter_mut().zip(&sums).for_each(|(value, sum)| *value += sum);
            });
        }
    }
}

/// Projections below each other, and the group's `A` below them.
fn stacked<'a>(linears: &[&'a Linear], group: &'a Group) -> Right<'a> {
    Right::Columns(linears.iter().map(|it| frozen(it)).chain(group.a()).collect())
}
