//! Token ids to vectors.

use candle_core::{Device, Tensor};
use minicrit_quant::Weight;

use super::ModelError;
use crate::{Result, ops::with_values};

/// The embedding matrix, `[V, D]`: stored or packed, or a float32 tensor that may be trained.
#[derive(Debug, Clone)]
pub struct Embedding {
    matrix: Matrix,
}

#[derive(Debug, Clone)]
enum Matrix {
    Frozen(Weight),
    Learned(Tensor),
}

impl Embedding {
    /// An embedding with one row for each id.
    pub fn new(weight: impl Into<Weight>) -> Self {
        Self { matrix: Matrix::Frozen(weight.into()) }
    }

    /// An embedding of a contiguous float32 tensor `[V, D]`, whose values are read anew at each
    /// call. The rows carry no gradient: who trains it adds the gradients of rows up by id.
    pub fn learned(weight_vd: Tensor) -> Self {
        Self { matrix: Matrix::Learned(weight_vd) }
    }

    /// Rows of the given ids, `[T, D]`.
    ///
    /// # Errors
    /// [`ModelError::TokenId`].
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor> {
        let (vocab_size, width) = match &self.matrix {
            Matrix::Frozen(it) => (it.rows(), it.cols()),
            Matrix::Learned(it) => it.dims2()?,
        };
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(ModelError::TokenId { id, vocab_size }.into());
        }
        let mut x_td = vec![0.0; tokens.len() * width];
        let rows = tokens.iter().zip(x_td.chunks_exact_mut(width));
        match &self.matrix {
            Matrix::Frozen(weight) => {
                for (&id, row) in rows {
                    weight.dequantize_row(id as usize, row)?;
                }
            }
            Matrix::Learned(weight_vd) => with_values(weight_vd, |values| {
                for (&id, row) in rows {
                    row.copy_from_slice(&values[id as usize * width..][..width]);
                }
            })?,
        }
        Ok(Tensor::from_vec(x_td, (tokens.len(), width), &Device::Cpu)?)
    }

    /// The frozen matrix; `None` where it is learned.
    pub fn weight(&self) -> Option<&Weight> {
        match &self.matrix {
            Matrix::Frozen(weight) => Some(weight),
            Matrix::Learned(_) => None,
        }
    }

    /// Bytes of the matrix.
    pub fn weight_bytes(&self) -> usize {
        match &self.matrix {
            Matrix::Frozen(weight) => weight.byte_len(),
            Matrix::Learned(weight_vd) => weight_vd.elem_count() * size_of::<f32>(),
        }
    }
}
