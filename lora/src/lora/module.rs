//! The change of one module.

use std::{ops::Range, sync::RwLock};

use candle_core::{Device, Tensor};
use minicrit_engine::{
    Result,
    adapter::{Proj, Site},
    model::{Decoder, Ffn, Gated, Linear},
};
use minicrit_quant::dense_matmul;

use super::is_zero;
use crate::modules::Module;

/// Rows of the base that are decoded at a time.
const TILE: usize = 256;

/// `A`, `B` and their scale for one module.
#[derive(Debug)]
pub struct LoraModule {
    /// Which module.
    pub module: Module,
    /// `A`, `[r, inputs]`.
    pub a_ri: Tensor,
    /// `B`, `[outputs, r]`.
    pub b_or: Tensor,
    /// `alpha / r`, or `alpha / sqrt(r)` for rsLoRA.
    pub scale: f32,
    /// Learned magnitudes, for DoRA.
    pub dora: Option<Dora>,
}

/// Magnitudes of the rows of `W + s·BA`, in the place of their norms.
#[derive(Debug)]
pub struct Dora {
    /// `[outputs]`
    pub magnitude_o: Tensor,
    /// The bias of the base, `[outputs]`, which the magnitudes leave alone.
    bias_o: Option<Tensor>,
    /// Norms of the rows of `W + s·BA`, `[outputs]`: constants to the backward pass, as in the
    /// paper's section 4.3.
    norm_o: RwLock<Tensor>,
}

impl Dora {
    /// Magnitudes over the base's module in `decoder`. The norms are those of
    /// `refresh`.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn new(magnitude_o: Tensor, module: &Module, decoder: &Decoder) -> Result<Self> {
        let mut biases = Vec::new();
        for (site, rows) in &module.sites {
            let bias = linear_at(decoder, *site).and_then(|it| it.bias().cloned());
            let zeros = || Tensor::zeros(rows.len(), candle_core::DType::F32, &Device::Cpu);
            biases.push((bias.is_some(), bias.map_or_else(zeros, Ok)?));
        }
        let has_bias = biases.iter().any(|it| it.0);
        let parts: Vec<Tensor> = biases.into_iter().map(|it| it.1).collect();
        let bias_o = if has_bias { Some(Tensor::cat(&parts, 0)?) } else { None };
        let norm_o = RwLock::new(magnitude_o.ones_like()?);
        Ok(Self { magnitude_o, bias_o, norm_o })
    }

    fn norm(&self) -> Tensor {
        self.norm_o.read().expect("invariant: no holder of this lock panics").clone()
    }
}

impl LoraModule {
    /// Its tensors under PEFT's names.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let path = format!("base_model.model.{}", self.module.path);
        let mut all = vec![
            (format!("{path}.lora_A.weight"), self.a_ri.clone()),
            (format!("{path}.lora_B.weight"), self.b_or.clone()),
        ];
        if let Some(dora) = &self.dora {
            all.push((format!("{path}.lora_magnitude_vector"), dora.magnitude_o.clone()));
        }
        all
    }

    /// Rank.
    pub fn rank(&self) -> usize {
        self.a_ri.dims()[0]
    }

    /// The projection of the module's `rows` with the change: `x_ti` is its input, `y_to` what the
    /// base gives for those rows.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn apply(&self, rows: Range<usize>, x_ti: &Tensor, y_to: Tensor) -> Result<Tensor> {
        let of = |whole: &Tensor| whole.narrow(0, rows.start, rows.len());
        let low_tr = (dense_matmul(x_ti, &self.a_ri)? * f64::from(self.scale))?;
        let delta_to = dense_matmul(&low_tr, &of(&self.b_or)?)?;
        let Some(dora) = &self.dora else { return Ok((y_to + delta_to)?) };
        let factor_o = (of(&dora.magnitude_o)? / of(&dora.norm())?)?;
        let Some(bias_o) = &dora.bias_o else {
            return Ok((y_to + delta_to)?.broadcast_mul(&factor_o)?);
        };
        let bias_o = of(bias_o)?;
        let linear_to = (y_to.broadcast_sub(&bias_o)? + delta_to)?;
        Ok(linear_to.broadcast_mul(&factor_o)?.broadcast_add(&bias_o)?)
    }

    /// Whether any output changes.
    ///
    /// # Errors
    /// What reading the tensors gives.
    pub fn has_effect(&self) -> Result<bool> {
        let product = self.scale != 0.0 && !is_zero(&self.a_ri)? && !is_zero(&self.b_or)?;
        let Some(dora) = &self.dora else { return Ok(product) };
        let norms = dora.norm().to_vec1::<f32>()?;
        let magnitudes = dora.magnitude_o.to_vec1::<f32>()?;
        // A magnitude that is the norm up to rounding leaves its row as it was.
        let moved = norms.iter().zip(&magnitudes).any(|(n, m)| (n - m).abs() > 1e-5 * n.abs());
        Ok(product || moved)
    }

    /// Computes the norms of the rows of `W + s·BA` anew.
    pub(super) fn refresh(&self, decoder: &Decoder) -> Result<()> {
        let Some(dora) = &self.dora else { return Ok(()) };
        let norms = self.norms(decoder)?;
        let norm_o = Tensor::from_vec(norms, self.module.outputs, &Device::Cpu)?;
        *dora.norm_o.write().expect("invariant: no holder of this lock panics") = norm_o;
        Ok(())
    }

    /// Norms of the rows of `W + s·BA`, `[outputs]`.
    pub(crate) fn norms(&self, decoder: &Decoder) -> Result<Vec<f32>> {
        let mut norms = Vec::with_capacity(self.module.outputs);
        for (site, rows) in &self.module.sites {
            let weight = linear_at(decoder, *site).and_then(Linear::weight);
            let Some(weight) = weight else {
                let what = format!("{}: the base has no frozen matrix here", self.module.path);
                return Err(candle_core::Error::msg(what).into());
            };
            for start in (0..rows.len()).step_by(TILE) {
                let range = start..rows.len().min(start + TILE);
                let mut values = weight.dequantize_rows(range.clone())?;
                self.add_delta(rows.start + range.start..rows.start + range.end, &mut values)?;
                let squares = |row: &[f32]| row.iter().map(|it| f64::from(it * it)).sum::<f64>();
                let row_norms = values.chunks_exact(self.module.inputs).map(squares);
                norms.extend(row_norms.map(|it| it.sqrt() as f32));
            }
        }
        Ok(norms)
    }

    /// Adds `s·BA` to the given rows of the base's matrix, `[rows, inputs]`.
    fn add_delta(&self, rows: Range<usize>, values: &mut [f32]) -> Result<()> {
        let b_or = self.b_or.narrow(0, rows.start, rows.len())?;
        let a_ir = self.a_ri.t()?;
        let delta = (dense_matmul(&b_or, &a_ir)? * f64::from(self.scale))?;
        let delta = delta.flatten_all()?.to_vec1::<f32>()?;
        values.iter_mut().zip(&delta).for_each(|(value, change)| *value += change);
        Ok(())
    }

    /// Merges the change into the module's whole matrix, `[outputs, inputs]` in float32: `W + s·BA`,
    /// and for DoRA its rows at their magnitudes.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn merge_into(&self, values: &mut [f32]) -> Result<()> {
        let Module { inputs, outputs, .. } = self.module;
        for start in (0..outputs).step_by(TILE) {
            let range = start..outputs.min(start + TILE);
            self.add_delta(range.clone(), &mut values[range.start * inputs..range.end * inputs])?;
        }
        let Some(dora) = &self.dora else { return Ok(()) };
        let factors = (&dora.magnitude_o / dora.norm())?.to_vec1::<f32>()?;
        for (row, factor) in values.chunks_exact_mut(inputs).zip(factors) {
            row.iter_mut().for_each(|it| *it *= factor);
        }
        Ok(())
    }
}

/// The projection at `site`.
fn linear_at(decoder: &Decoder, site: Site) -> Option<&Linear> {
    if site.proj == Proj::Head {
        return Some(&decoder.head);
    }
    let layer = decoder.layers.get(usize::from(site.layer))?;
    let gated: Option<&Gated> = match (&layer.ffn, site.expert) {
        (Ffn::Dense(it), None) => Some(it),
        (Ffn::Moe(it), Some(expert)) => it.experts.get(usize::from(expert)),
        _ => None,
    };
    match site.proj {
        Proj::Q => Some(&layer.attention.q),
        Proj::K => Some(&layer.attention.k),
        Proj::V => Some(&layer.attention.v),
        Proj::O => Some(&layer.attention.o),
        Proj::Gate => gated.map(|it| &it.gate),
        Proj::Up => gated.map(|it| &it.up),
        Proj::Down => gated.map(|it| &it.down),
        Proj::Head => None,
    }
}
