//! What adapters do beside projections: a change of the embedding, and whole modules that were
//! trained and saved (`modules_to_save`).

use candle_core::{Device, Tensor};
use minicrit_engine::{
    Result,
    adapter::{Proj, Site},
};
use minicrit_quant::dense_matmul;

use crate::modules::{EMBED, HEAD};

/// `E + s·(BA)ᵀ` for the embedding `E` `[V, D]`.
#[derive(Debug)]
pub struct EmbedDelta {
    /// `A`, `[r, V]`.
    pub a_rv: Tensor,
    /// `B`, `[D, r]`.
    pub b_dr: Tensor,
    /// As for projections.
    pub scale: f32,
}

impl EmbedDelta {
    /// Its tensors under PEFT's names.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let name = |which: &str| format!("base_model.model.{EMBED}.lora_embedding_{which}");
        vec![(name("A"), self.a_rv.clone()), (name("B"), self.b_dr.clone())]
    }

    /// Merges the change into the whole embedding, `[V, D]` in float32.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn merge_into(&self, values: &mut [f32]) -> Result<()> {
        let a_vr = self.a_rv.t()?.contiguous()?;
        let delta = (dense_matmul(&a_vr, &self.b_dr)? * f64::from(self.scale))?;
        let delta = delta.flatten_all()?.to_vec1::<f32>()?;
        values.iter_mut().zip(&delta).for_each(|(value, change)| *value += change);
        Ok(())
    }

    pub(super) fn apply(&self, tokens: &[u32], x_td: Tensor) -> Result<Tensor> {
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        let low_tr = (self.a_rv.index_select(&ids, 1)?.t()?.contiguous()? * f64::from(self.scale))?;
        Ok((x_td + dense_matmul(&low_tr, &self.b_dr)?)?)
    }
}

/// Modules that are replaced as a whole.
#[derive(Debug, Default)]
pub struct Replaced {
    /// The head, `[V, D]`.
    pub head_vd: Option<Tensor>,
    /// The embedding, `[V, D]`.
    pub embed_vd: Option<Tensor>,
}

impl Replaced {
    /// Whether nothing is replaced.
    pub fn is_empty(&self) -> bool {
        self.head_vd.is_none() && self.embed_vd.is_none()
    }

    /// Its tensors under PEFT's names.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = |path: &str, it: &Option<Tensor>| {
            it.as_ref().map(|it| (format!("base_model.model.{path}.weight"), it.clone()))
        };
        named(HEAD, &self.head_vd).into_iter().chain(named(EMBED, &self.embed_vd)).collect()
    }

    pub(super) fn head(&self, site: Site) -> Option<&Tensor> {
        self.head_vd.as_ref().filter(|_| site.proj == Proj::Head)
    }

    pub(super) fn embed(&self, tokens: &[u32], x_td: Tensor) -> Result<Tensor> {
        let Some(embed_vd) = &self.embed_vd else { return Ok(x_td) };
        let ids = Tensor::from_slice(tokens, tokens.len(), &Device::Cpu)?;
        Ok(embed_vd.index_select(&ids, 0)?)
    }
}
