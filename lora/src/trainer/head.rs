//! Last norm, head and log-probabilities, a few rows at a time: the logits of all rows never exist
//! at once.

use candle_core::{Device, Tensor, Var};
use minicrit_engine::{adapter::Adapter, pass::Pass};

use super::{Gradients, Learner, batch::Packed, layerwise::backward_from};
use crate::{Result, losses::row_log_probs};

/// Bytes of logits that exist at once.
const LOGITS_BYTES: usize = 32 << 20;

/// What is wanted beside the log-probabilities.
pub enum Want<'a> {
    /// Nothing.
    Values,
    /// The slope of each row's log-probability by its input.
    Unit,
    /// The same times the given slope of the loss by each row's log-probability, and the gradients
    /// of the parameters of head and norm.
    Slopes(&'a [f32], &'a mut Gradients),
}

/// Log-probabilities of the rows `rows_rd` of the last layer's output, `[R]`, and the slope by these
/// rows, `[R, D]` (empty where it was not asked for).
///
/// # Errors
/// What the arithmetic gives.
pub fn log_probs(
    learner: &Learner,
    adapter: Option<&dyn Adapter>,
    packed: &Packed,
    rows_rd: &Tensor,
    mut want: Want<'_>,
) -> Result<(Vec<f32>, Tensor)> {
    let decoder = &learner.decoder;
    let pass = Pass { rows: &packed.rows, caches: &mut [], adapter };
    let (count, width) = rows_rd.dims2()?;
    let step = (LOGITS_BYTES / (4 * decoder.spec.vocab_size)).clamp(8, 1024);
    let mut values = Vec::with_capacity(count);
    let mut slopes = Vec::with_capacity(count * width);
    for start in (0..count).step_by(step) {
        let len = step.min(count - start);
        let part_cd = rows_rd.narrow(0, start, len)?.contiguous()?;
        let input = match want {
            Want::Values => None,
            _ => Some(Var::from_tensor(&part_cd)?),
        };
        let x_cd = input.as_ref().map_or(&part_cd, Var::as_tensor);
        let logits_cv = decoder.logits(&decoder.norm.forward(x_cd)?, &pass)?;
        let log_probs_c = row_log_probs(&logits_cv, &packed.ids[start..start + len])?;
        values.extend(log_probs_c.to_vec1::<f32>()?);
        let slope_c = match &want {
            Want::Values => continue,
            Want::Unit => vec![1.0; len],
            Want::Slopes(slopes, _) => slopes[start..start + len].to_vec(),
        };
        let slope_c = Tensor::from_vec(slope_c, len, &Device::Cpu)?;
        let mut store = backward_from(&log_probs_c, slope_c)?;
        if let Want::Slopes(_, gradients) = &mut want {
            gradients.collect(learner, &mut store)?;
        }
        if let Some(slope) = input.and_then(|it| store.remove(it.as_tensor())) {
            slopes.extend(slope.flatten_all()?.to_vec1::<f32>()?);
        }
    }
    let rows = slopes.len() / width;
    Ok((values, Tensor::from_vec(slopes, (rows, width), &Device::Cpu)?))
}

/// Each row of `x_rd` times its factor.
///
/// # Errors
/// Lengths that do not fit.
pub fn scale_rows(x_rd: &Tensor, factors: &[f32]) -> Result<Tensor> {
    let factors = Tensor::from_slice(factors, (factors.len(), 1), &Device::Cpu)?;
    Ok(x_rd.broadcast_mul(&factors)?)
}
