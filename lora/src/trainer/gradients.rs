//! Gradients of all parameters, summed over the passes of a step.

use candle_core::{Tensor, backprop::GradStore};

use super::Learner;
use crate::Result;

/// One buffer for each parameter, in the learner's order.
#[derive(Debug)]
pub struct Gradients {
    values: Vec<Vec<f32>>,
}

impl Gradients {
    /// Zeros.
    pub fn new(learner: &Learner) -> Self {
        Self { values: learner.params().iter().map(|it| vec![0.0; it.len()]).collect() }
    }

    /// The buffers.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The Euclidean norm over all of them.
    pub fn norm(&self) -> f64 {
        let square = |it: &f32| f64::from(*it) * f64::from(*it);
        self.values.iter().map(|it| it.iter().map(square).sum::<f64>()).sum::<f64>().sqrt()
    }

    pub(super) fn clear(&mut self) {
        self.values.iter_mut().for_each(|it| it.fill(0.0));
    }

    /// Adds what a tape found for any parameter.
    pub(super) fn collect(&mut self, learner: &Learner, store: &mut GradStore) -> Result<()> {
        for (param, values) in learner.params().iter().zip(&mut self.values) {
            if let Some(gradient) = store.remove(param.tensor()) {
                add(values, &gradient)?;
            }
        }
        Ok(())
    }

    /// Adds the rows of `rows_td` to the rows `tokens` of parameter `index`, an embedding.
    pub(super) fn add_rows(
        &mut self,
        index: usize,
        tokens: &[u32],
        rows_td: &Tensor,
    ) -> Result<()> {
        let width = rows_td.dim(1)?;
        let rows = rows_td.flatten_all()?.to_vec1::<f32>()?;
        for (&id, row) in tokens.iter().zip(rows.chunks_exact(width)) {
            let into = &mut self.values[index][id as usize * width..][..width];
            into.iter_mut().zip(row).for_each(|(sum, it)| *sum += it);
        }
        Ok(())
    }
}

fn add(values: &mut [f32], gradient: &Tensor) -> Result<()> {
    let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
    values.iter_mut().zip(gradient).for_each(|(sum, it)| *sum += it);
    Ok(())
}
