//! One projection: a stored or packed matrix, perhaps a bias, and the one place where an adapter acts.

use candle_core::Tensor;
use minicrit_quant::{QuantMatmul, Weight};

use crate::{Result, adapter::Site, pass::Pass};

/// `x · wᵀ + b`, then the adapter.
#[derive(Debug, Clone)]
pub struct Linear {
    site: Option<Site>,
    matmul: QuantMatmul,
    bias: Option<Tensor>,
    weight_bytes: usize,
    packed: bool,
}

impl Linear {
    /// A projection that adapters know as `site`, or one that they leave alone.
    pub fn new(site: Option<Site>, weight: impl Into<Weight>, bias: Option<Tensor>) -> Self {
        let weight = weight.into();
        let weight_bytes = weight.byte_len();
        let packed = matches!(weight, Weight::Packed(_));
        Self { site, matmul: QuantMatmul::new(weight), bias, weight_bytes, packed }
    }

    /// `[T, inputs]` to `[T, outputs]`.
    ///
    /// # Errors
    /// What the arithmetic or the adapter gives.
    pub fn forward(&self, x_ti: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let mut y_to = self.matmul.forward(x_ti)?;
        if let Some(bias) = &self.bias {
            y_to = y_to.broadcast_add(bias)?;
        }
        match (pass.adapter, self.site) {
            (Some(adapter), Some(site)) => adapter.apply(site, pass.rows, x_ti, y_to),
            _ => Ok(y_to),
        }
    }

    /// Whether the matrix was packed into int8 or int4 at load.
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// Bytes of the matrix.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }
}
