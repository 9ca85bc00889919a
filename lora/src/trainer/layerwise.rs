//! The backward pass, one layer at a time.
//!
//! The forward pass keeps each layer's input and nothing else. The backward pass computes a layer
//! again on a small tape, sends the gradient in from above, takes what comes out for the layer's
//! parameters and for its input, and drops the tape (Chen et al. 2016, with segments of one
//! layer). Layers below the lowest trained one are not visited.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, Var, backprop::GradStore};
use minicrit_engine::{adapter::Adapter, ops::rope::RopeTable, pass::Pass};

use super::{Gradients, Learner, batch::Packed, learner::EmbedGradient};
use crate::Result;

/// What the backward pass needs of the forward pass.
pub struct Kept {
    /// Inputs of the layers from the lowest trained one on, `[T, D]` each.
    inputs: Vec<Tensor>,
    /// Output of the last layer, before the norm, `[T, D]`.
    top_td: Tensor,
    rope: RopeTable,
}

impl Kept {
    /// The rows of the last layer's output that carry loss, `[R, D]`.
    pub fn rows(&self, packed: &Packed) -> Result<Tensor> {
        Ok(packed.select(&self.top_td)?)
    }
}

/// Runs all layers. Inputs are kept where `keep`.
///
/// # Errors
/// A token outside the vocabulary, or what the arithmetic gives.
pub fn forward(
    learner: &Learner,
    adapter: Option<&dyn Adapter>,
    packed: &Packed,
    keep: bool,
) -> Result<Kept> {
    let decoder = &learner.decoder;
    let rope = RopeTable::new(&decoder.spec.rope, &packed.rows);
    let mut pass = Pass { rows: &packed.rows, caches: &mut [], adapter };
    let mut x_td = decoder.embedded(&packed.tokens, &pass)?.detach();
    let mut inputs = Vec::new();
    for (index, layer) in decoder.layers.iter().enumerate() {
        if keep && index >= learner.lowest() {
            inputs.push(x_td.clone());
        }
        // Parameters are variables, so a tape of this layer comes into being; it goes here.
        x_td = layer.forward(&x_td, index, &rope, &mut pass)?.detach();
    }
    Ok(Kept { inputs, top_td: x_td, rope })
}

/// Adds the gradients of all layers, given the loss's slope by the rows of [`Kept::rows`].
///
/// # Errors
/// What the arithmetic gives.
pub fn backward(
    learner: &Learner,
    adapter: Option<&dyn Adapter>,
    packed: &Packed,
    kept: Kept,
    slope_rd: &Tensor,
    gradients: &mut Gradients,
) -> Result<()> {
    let Kept { mut inputs, top_td, rope } = kept;
    drop(top_td);
    let mut slope_td = packed.scatter(slope_rd)?;
    let mut pass = Pass { rows: &packed.rows, caches: &mut [], adapter };
    let through = learner.embed_gradient() != EmbedGradient::None;
    for (index, layer) in learner.decoder.layers.iter().enumerate().rev() {
        let Some(input_td) = inputs.pop() else { break };
        // What lies below the lowest layer has no use for a gradient, so nobody computes it.
        let wanted = index > learner.lowest() || through;
        let input = if wanted { Some(Var::from_tensor(&input_td)?) } else { None };
        let x_td = input.as_ref().map_or(&input_td, Var::as_tensor);
        let y_td = layer.forward(x_td, index, &rope, &mut pass)?;
        let mut store = backward_from(&y_td, slope_td)?;
        gradients.collect(learner, &mut store)?;
        match input.and_then(|it| store.remove(it.as_tensor())) {
            Some(it) => slope_td = it,
            None => return Ok(()),
        }
    }
    match learner.embed_gradient() {
        EmbedGradient::None => Ok(()),
        EmbedGradient::Rows(index) => gradients.add_rows(index, &packed.tokens, &slope_td),
        EmbedGradient::Tape => {
            let x_td = learner.decoder.embedded(&packed.tokens, &pass)?;
            if !x_td.track_op() {
                return Ok(());
            }
            gradients.collect(learner, &mut backward_from(&x_td, slope_td)?)
        }
    }
}

/// Runs the tape behind `y` with `slope` as the loss's slope by `y`.
///
/// # Errors
/// What the arithmetic gives.
pub fn backward_from(y: &Tensor, slope: Tensor) -> Result<GradStore> {
    Ok(y.contiguous()?.apply_op1(Seed { slope })?.backward()?)
}

/// A scalar whose slope by its input is given: a tape begins with ones, and this turns them into
/// what is meant, without a product and a sum over all values.
struct Seed {
    slope: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.slope.clone()))
    }
}
