//! Log-probability of one token in each row of logits.

use candle_core::{CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Storage, Tensor, bail};
use minicrit_quant::pool;

/// Values of logits from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 14;

/// `[C, V]` logits and `C` ids to `[C]` natural log-probabilities. Sums run in float64.
///
/// # Errors
/// Shapes or types that do not fit; an id outside the vocabulary.
pub fn row_log_probs(logits_cv: &Tensor, ids: &[u32]) -> Result<Tensor> {
    logits_cv.contiguous()?.apply_op1(RowLogProbs { ids: ids.to_vec() })
}

/// The same in plain tensor operations.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn reference(logits_cv: &Tensor, ids: &[u32]) -> Result<Tensor> {
    let max = logits_cv.max_keepdim(D::Minus1)?.detach();
    let shifted = logits_cv.broadcast_sub(&max)?;
    let sums = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let index = Tensor::from_slice(ids, (ids.len(), 1), logits_cv.device())?;
    shifted.broadcast_sub(&sums)?.gather(&index, 1)?.squeeze(1)
}

struct RowLogProbs {
    ids: Vec<u32>,
}

/// Largest value of a row and the log of the sum of exponentials above it.
fn log_sum(row: &[f32]) -> (f32, f64) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|it| f64::from((it - max).exp())).sum();
    (max, sum.ln())
}

impl RowLogProbs {
    fn check(&self, layout: &Layout) -> Result<usize> {
        let dims = layout.dims();
        let &[rows, vocab_size] = dims else { bail!("row-log-probs needs a matrix") };
        if rows != self.ids.len() || self.ids.iter().any(|&it| it as usize >= vocab_size) {
            bail!("row-log-probs: {} ids do not fit {dims:?}", self.ids.len());
        }
        Ok(vocab_size)
    }
}

impl CustomOp1 for RowLogProbs {
    fn name(&self) -> &'static str {
        "row-log-probs"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let vocab_size = self.check(layout)?;
        let (CpuStorage::F32(logits), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            bail!("row-log-probs needs contiguous float32 logits");
        };
        let logits = &logits[start..end];
        let mut out = vec![0.0f32; self.ids.len()];
        pool::for_each_chunk(&mut out, 1, logits.len() >= PARALLEL_FROM, |row, out| {
            let values = &logits[row * vocab_size..(row + 1) * vocab_size];
            let (max, log_sum) = log_sum(values);
            out[0] = (f64::from(values[self.ids[row] as usize] - max) - log_sum) as f32;
        });
        Ok((CpuStorage::F32(out), Shape::from(self.ids.len())))
    }

    /// `dlogits = g · (onehot - softmax)`
    fn bwd(&self, logits: &Tensor, _res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if logits.dtype() != DType::F32 {
            bail!("row-log-probs' backward pass needs float32");
        }
        let grad = grad.to_vec1::<f32>()?;
        let vocab_size = logits.dim(1)?;
        let (storage, layout) = logits.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        else {
            bail!("row-log-probs needs contiguous float32 logits");
        };
        let values = &values[start..end];
        let mut out = vec![0.0f32; values.len()];
        pool::for_each_chunk(&mut out, vocab_size, values.len() >= PARALLEL_FROM, |row, out| {
            let logits = &values[row * vocab_size..(row + 1) * vocab_size];
            let (max, log_sum) = log_sum(logits);
            let shift = max + log_sum as f32;
            for (out, logit) in out.iter_mut().zip(logits) {
                *out = -grad[row] * (logit - shift).exp();
            }
            out[self.ids[row] as usize] += grad[row];
        });
        Tensor::from_vec(out, logits.shape(), logits.device()).map(Some)
    }
}
