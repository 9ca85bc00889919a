//! Token ids to vectors.

use candle_core::{Device, Tensor};
use minicrit_quant::Weight;

use super::ModelError;
use crate::Result;

/// The embedding matrix, `[V, D]`, stored or packed.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Weight,
}

impl Embedding {
    /// An embedding with one row for each id.
    pub fn new(weight: impl Into<Weight>) -> Self {
        Self { weight: weight.into() }
    }

    /// Rows of the given ids, `[T, D]`.
    ///
    /// # Errors
    /// [`ModelError::TokenId`].
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor> {
        let (vocab_size, width) = (self.weight.rows(), self.weight.cols());
        let mut x_td = vec![0.0; tokens.len() * width];
        for (&id, row) in tokens.iter().zip(x_td.chunks_exact_mut(width)) {
            if id as usize >= vocab_size {
                return Err(ModelError::TokenId { id, vocab_size }.into());
            }
            self.weight.dequantize_row(id as usize, row)?;
        }
        Ok(Tensor::from_vec(x_td, (tokens.len(), width), &Device::Cpu)?)
    }

    /// Bytes of the matrix.
    pub fn weight_bytes(&self) -> usize {
        self.weight.byte_len()
    }
}
