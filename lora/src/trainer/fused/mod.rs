//! Training passes in bfloat16: a whole layer at a time, its derivative written out by hand.
//!
//! The tape of [`super::layerwise`] takes any model and adapter, one operation at a time. For the
//! case that matters most, plain LoRA on a dense decoder, this module does the same with the
//! products of [`minicrit_quant::dense`]: activations go from product to product as bfloat16
//! blocks, the low-rank products ride along as a few more columns of the big ones, and what the
//! backward pass needs is kept as long as there is room ([`Buffers::new`]), else computed again.
//! A test holds it against the tape. Legend: `t` rows, `d` model width, `r` rank, `v` vocabulary.

mod backward;
mod forward;
mod low_rank;

use candle_core::{Device, Tensor};
use minicrit_engine::{
    model::{Ffn, Layer},
    ops::rope::RopeTable,
    pass::Pass,
};
use minicrit_quant::{
    Weight,
    dense::{AttendShape, DenseLevel, Gated, Tiles, log_probs, norm_backward, norm_rows},
    pool,
};

use self::low_rank::LayerLowRank;
use super::{Gradients, Learner, batch::Packed};
use crate::{Result, lora::Lora};

/// Bytes of activations that may be kept for the backward pass.
pub(super) const KEPT_BYTES: usize = 900 << 20;

/// Why a model or adapter can't be computed here; `None` where it can.
pub fn unsupported(learner: &Learner) -> Option<&'static str> {
    let Some(lora) = &learner.lora else { return Some("all weights are trained") };
    if learner.trains_head() {
        return Some("the head is trained");
    }
    if [Some(lora), learner.reference_lora()].into_iter().flatten().any(|it| !it.is_plain()) {
        return Some("the adapter has DoRA magnitudes or replaces whole matrices");
    }
    let plain = |layer: &Layer| {
        let attention = &layer.attention;
        let Ffn::Dense(ffn) = &layer.ffn else { return false };
        let linears =
            [&attention.q, &attention.k, &attention.v, &attention.o, &ffn.gate, &ffn.up, &ffn.down];
        let without_bias = [&attention.o, &ffn.gate, &ffn.up, &ffn.down];
        linears.iter().all(|it| it.weight().is_some())
            && without_bias.iter().all(|it| it.bias().is_none())
    };
    if !learner.decoder.layers.iter().all(plain) || learner.decoder.head.weight().is_none() {
        return Some("the model has experts or biases behind its first projections");
    }
    None
}

/// Memory that passes share: fresh pages would cost a fault each.
#[derive(Default)]
pub struct Buffers {
    layers: Vec<Kept>,
    spare: Kept,
    work: Work,
    kept_bytes: usize,
}

impl Buffers {
    /// Empty. Activations of as many layers as fit into `kept_bytes` are kept for the backward
    /// pass; of the others, only the input.
    pub fn new(kept_bytes: usize) -> Self {
        Self { kept_bytes, ..Self::default() }
    }
}

/// What a layer's backward pass needs.
#[derive(Default)]
struct Kept {
    input_td: Vec<f32>,
    /// Queries, keys and values as attention sees them.
    qkv: [Vec<f32>; 3],
    /// Queries and keys before their norms, where the model has such.
    raw: [Vec<f32>; 2],
    log_sums: Vec<f32>,
    /// Output of attention, with its low-rank columns.
    mixed: Tiles,
    middle_td: Vec<f32>,
    gated: Gated,
    /// Low-rank products of the four groups of projections.
    low: [Tiles; 4],
}

/// Values that live within a layer.
#[derive(Default)]
struct Work {
    normed: Tiles,
    act: Tiles,
    slopes: Tiles,
    wide: Tiles,
    floats: [Vec<f32>; 5],
}

/// The parts of a pass that all layers share.
struct Context<'a> {
    level: DenseLevel,
    learner: &'a Learner,
    sequences: Vec<std::ops::Range<usize>>,
    rope: RopeTable,
    rows: usize,
}

impl Context<'_> {
    fn shape(&self, layer: &Layer) -> AttendShape {
        let heads = layer.attention.spec.heads;
        AttendShape {
            query: heads.query,
            kv: heads.kv,
            dim: heads.dim,
            window: layer.attention.spec.window,
            scale: 1.0 / (heads.dim as f32).sqrt(),
        }
    }
}

/// A forward pass that can go back.
pub struct Forward<'a> {
    context: Context<'a>,
    low_rank: Vec<LayerLowRank>,
    top_td: Vec<f32>,
}

impl<'a> Forward<'a> {
    /// Runs all layers under `lora`; with `buffers`, keeps what [`Forward::backward`] needs.
    ///
    /// # Errors
    /// A token outside the vocabulary, or what reading tensors gives.
    pub fn run(
        learner: &'a Learner,
        lora: Option<&Lora>,
        packed: &Packed,
        buffers: &mut Buffers,
        keep: bool,
    ) -> Result<Self> {
        let decoder = &learner.decoder;
        let context = Context {
            level: DenseLevel::detected(),
            learner,
            sequences: packed.rows.ranges().map(|it| it.1).collect(),
            rope: RopeTable::new(&decoder.spec.rope, &packed.rows),
            rows: packed.tokens.len(),
        };
        let low_rank: Vec<LayerLowRank> = (0..decoder.layers.len())
            .map(|layer| LayerLowRank::new(decoder, lora, layer))
            .collect::<Result<_>>()?;
        let pass = Pass { rows: &packed.rows, caches: &mut [], adapter: None };
        let mut x_td = decoder.embedded(&packed.tokens, &pass)?.flatten_all()?.to_vec1::<f32>()?;
        let Buffers { layers, spare, work, kept_bytes } = buffers;
        layers.resize_with(decoder.layers.len(), Kept::default);
        // The last layers are kept first: they are needed soonest, and their memory is in reach.
        let each = context.kept_bytes(&decoder.layers[0]);
        let whole = (*kept_bytes / each.max(1)).min(layers.len());
        let first_whole = layers.len() - whole;
        for (index, (layer, low_rank)) in decoder.layers.iter().zip(&low_rank).enumerate() {
            let kept = match keep && index >= first_whole.max(learner.lowest()) {
                true => &mut layers[index],
                false => &mut *spare,
            };
            context.layer(layer, low_rank, &mut x_td, kept, work);
            if keep && index >= learner.lowest() && index < first_whole {
                std::mem::swap(&mut layers[index].input_td, &mut spare.input_td);
                layers[index].middle_td.clear();
            }
        }
        Ok(Self { context, low_rank, top_td: x_td })
    }

    /// Log-probabilities of the tokens that carry loss, `[R]`, and, where `slopes` is wanted, their
    /// slopes by the rows of the last layer's output, `[R, D]`.
    ///
    /// # Errors
    /// What reading tensors gives.
    pub fn log_probs(&self, packed: &Packed, wanted: bool) -> Result<(Vec<f32>, Vec<f32>)> {
        let decoder = &self.context.learner.decoder;
        let level = self.context.level;
        let width = decoder.spec.hidden;
        let count = packed.ids.len();
        let mut rows_rd = Vec::with_capacity(count * width);
        for &row in &packed.row_index {
            rows_rd.extend_from_slice(&self.top_td[row as usize * width..][..width]);
        }
        let gain = decoder.norm.gain.to_vec1::<f32>()?;
        let mut normed = Tiles::zeros(count, width.div_ceil(32));
        norm_rows(level, &rows_rd, &gain, decoder.norm.eps, &mut normed);
        let head: &Weight = decoder.head.weight().ok_or_else(not_here)?;
        if !wanted {
            return Ok((log_probs(level, &normed, head, &packed.ids, None), Vec::new()));
        }
        let mut by_normed = vec![0.0; count * width];
        let values = log_probs(level, &normed, head, &packed.ids, Some(&mut by_normed));
        let mut slopes = vec![0.0; count * width];
        norm_backward(level, &rows_rd, &gain, decoder.norm.eps, &by_normed, &mut slopes);
        Ok((values, slopes))
    }

    /// Adds the gradients of all layers, given the loss's slope by the rows that carry loss
    /// (`[R, D]`).
    ///
    /// # Errors
    /// What reading tensors gives.
    pub fn backward(
        self,
        packed: &Packed,
        slope_rd: &[f32],
        buffers: &mut Buffers,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let Self { context, low_rank, top_td: mut slope_td } = self;
        let learner = context.learner;
        let width = learner.decoder.spec.hidden;
        slope_td.fill(0.0);
        for (&row, slope) in packed.row_index.iter().zip(slope_rd.chunks_exact(width)) {
            slope_td[row as usize * width..][..width].copy_from_slice(slope);
        }
        let Buffers { layers, spare, work, .. } = buffers;
        for (index, layer) in learner.decoder.layers.iter().enumerate().rev() {
            if index < learner.lowest() {
                break;
            }
            let kept = if layers[index].middle_td.is_empty() {
                let mut input = std::mem::take(&mut layers[index].input_td);
                context.layer(layer, &low_rank[index], &mut input, spare, work);
                layers[index].input_td = input;
                &*spare
            } else {
                &layers[index]
            };
            let through = index > learner.lowest();
            let low_rank = &low_rank[index];
            context.layer_backward(
                layer,
                low_rank,
                kept,
                &mut slope_td,
                work,
                gradients,
                through,
            )?;
        }
        Ok(())
    }
}

/// Each row of `x_rd` times its factor.
pub fn scale_rows(x_rd: &mut [f32], factors: &[f32]) {
    let width = x_rd.len() / factors.len().max(1);
    pool::for_each_chunk(x_rd, width.max(1), true, |row, values| {
        values.iter_mut().for_each(|it| *it *= factors[row]);
    });
}

fn not_here() -> crate::LoraError {
    crate::LoraError::setting("dtype", "this model has no frozen matrix where one is needed")
}

/// The values of a tensor of one dimension.
fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    debug_assert!(tensor.device().same_device(&Device::Cpu));
    Ok(tensor.flatten_all()?.to_vec1()?)
}
