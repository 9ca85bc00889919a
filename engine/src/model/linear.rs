//! One projection: a matrix, perhaps a bias, and the one place where an adapter acts.

use candle_core::Tensor;
use minicrit_quant::{QuantMatmul, Weight, dense_matmul};

use crate::{Result, adapter::Site, pass::Pass};

/// `x · wᵀ + b`, then the adapter.
#[derive(Debug, Clone)]
pub struct Linear {
    site: Option<Site>,
    matrix: Matrix,
    bias: Option<Tensor>,
}

/// What a projection multiplies by.
#[derive(Debug, Clone)]
enum Matrix {
    /// A stored or packed matrix, which no training changes.
    Frozen(QuantMatmul),
    /// A float32 tensor `[outputs, inputs]`, which gets a gradient where candle tracks it.
    Learned(Tensor),
}

impl Linear {
    /// A projection that adapters know as `site`, or one that they leave alone.
    pub fn new(site: Option<Site>, weight: impl Into<Weight>, bias: Option<Tensor>) -> Self {
        Self { site, matrix: Matrix::Frozen(QuantMatmul::new(weight)), bias }
    }

    /// As [`Linear::new`], by a float32 tensor `[outputs, inputs]` that may be trained.
    pub fn learned(site: Option<Site>, weight_oi: Tensor, bias: Option<Tensor>) -> Self {
        Self { site, matrix: Matrix::Learned(weight_oi), bias }
    }

    /// `[T, inputs]` to `[T, outputs]`.
    ///
    /// # Errors
    /// What the arithmetic or the adapter gives.
    pub fn forward(&self, x_ti: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let mut y_to = match &self.matrix {
            Matrix::Frozen(matmul) => matmul.forward(x_ti)?,
            Matrix::Learned(weight_oi) => dense_matmul(x_ti, weight_oi)?,
        };
        if let Some(bias) = &self.bias {
            y_to = y_to.broadcast_add(bias)?;
        }
        match (pass.adapter, self.site) {
            (Some(adapter), Some(site)) => adapter.apply(site, pass.rows, x_ti, y_to),
            _ => Ok(y_to),
        }
    }

    /// Where adapters act on it.
    pub fn site(&self) -> Option<Site> {
        self.site
    }

    /// The frozen matrix; `None` where it is learned.
    pub fn weight(&self) -> Option<&Weight> {
        match &self.matrix {
            Matrix::Frozen(matmul) => Some(matmul.weight()),
            Matrix::Learned(_) => None,
        }
    }

    /// The bias, `[outputs]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Whether the matrix was packed into int8 or int4 at load.
    pub fn is_packed(&self) -> bool {
        matches!(self.weight(), Some(Weight::Packed(_)))
    }

    /// Bytes of the matrix.
    pub fn weight_bytes(&self) -> usize {
        match &self.matrix {
            Matrix::Frozen(matmul) => matmul.weight().byte_len(),
            Matrix::Learned(weight_oi) => weight_oi.elem_count() * size_of::<f32>(),
        }
    }
}
