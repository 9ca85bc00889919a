//! One projection: a matrix, perhaps a bias, and the one place where an adapter acts.

use candle_core::Tensor;
use minicrit_quant::{QuantMatmul, Weight, dense_matmul, rounded_matmul};

use crate::{
    Result,
    adapter::Site,
    ops::{add::add, with_values},
    pass::Pass,
};

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
    Learned(Tensor, Products),
}

/// How products with learned matrices are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// In float32, with the bits of stored matrices.
    #[default]
    Float32,
    /// Of factors that are rounded to bfloat16, with float32 sums.
    Bf16,
}

impl Linear {
    /// A projection that adapters know as `site`, or one that they leave alone.
    pub fn new(site: Option<Site>, weight: impl Into<Weight>, bias: Option<Tensor>) -> Self {
        Self { site, matrix: Matrix::Frozen(QuantMatmul::new(weight)), bias }
    }

    /// As [`Linear::new`], by a float32 tensor `[outputs, inputs]` that may be trained.
    pub fn learned(
        site: Option<Site>,
        weight_oi: Tensor,
        bias: Option<Tensor>,
        products: Products,
    ) -> Self {
        Self { site, matrix: Matrix::Learned(weight_oi, products), bias }
    }

    /// `[T, inputs]` to `[T, outputs]`.
    ///
    /// # Errors
    /// What the arithmetic or the adapter gives.
    pub fn forward(&self, x_ti: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let y_to = match &self.matrix {
            Matrix::Frozen(matmul) => matmul.forward(x_ti)?,
            Matrix::Learned(weight_oi, Products::Float32) => dense_matmul(x_ti, weight_oi)?,
            Matrix::Learned(weight_oi, Products::Bf16) => rounded_matmul(x_ti, weight_oi)?,
        };
        self.finish(x_ti, y_to, pass)
    }

    /// Several projections of one input, which packed matrices round once: the bits of
    /// [`Linear::forward`] for each.
    ///
    /// # Errors
    /// What the arithmetic or the adapter gives.
    pub fn forward_all<const N: usize>(
        linears: [&Self; N],
        x_ti: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<[Tensor; N]> {
        let weights: Vec<&Weight> = linears.iter().filter_map(|it| it.weight()).collect();
        let outputs: Vec<Tensor> = match weights.try_into() {
            Ok(weights) if !x_ti.track_op() && x_ti.device().is_cpu() => {
                let rows = x_ti.dim(0)?;
                let outputs: [Vec<f32>; N] = with_values(x_ti, |x| Weight::matmul_all(weights, x))?;
                let tensors = outputs.into_iter().zip(linears).map(|(y, linear)| {
                    let width = y.len() / rows.max(1);
                    let y_to = Tensor::from_vec(y, (rows, width), x_ti.device())?;
                    linear.finish(x_ti, y_to, pass)
                });
                tensors.collect::<Result<_>>()?
            }
            _ => linears.iter().map(|it| it.forward(x_ti, pass)).collect::<Result<_>>()?,
        };
        Ok(outputs.try_into().expect("invariant: one output for each projection"))
    }

    /// Bias and adapter.
    fn finish(&self, x_ti: &Tensor, mut y_to: Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        if let Some(bias) = &self.bias {
            y_to = add(y_to, bias)?;
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
            Matrix::Learned(..) => None,
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
            Matrix::Learned(weight_oi, _) => weight_oi.elem_count() * size_of::<f32>(),
        }
    }
}
