//! Low-rank adapters (Hu et al. 2021; rsLoRA, Kalajdzievski 2023; DoRA, Liu et al. 2024) at the
//! engine's seam.
//!
//! `y + s · (x Aᵀ) Bᵀ`, and for DoRA the result's rows scaled to learned magnitudes. Serving and
//! training run the same code: the matrices are plain tensors in the one, variables in the other,
//! and the products have the engine's fixed order, so a row's bits do not depend on its company.
//! Legend: `t` rows, `i` inputs, `o` outputs, `r` rank, `d` model width, `v` vocabulary.

mod dropout;
mod init;
mod module;
mod saved;

use std::collections::HashMap;

use candle_core::Tensor;
use minicrit_engine::{
    Result,
    adapter::{Adapter, AdapterId, Site},
    model::Decoder,
    pass::Rows,
};
use minicrit_quant::dense_matmul;

pub use self::{
    dropout::{Dropout, WithDropout},
    module::{Dora, LoraModule},
    saved::{EmbedDelta, Replaced},
};

/// An adapter: what it changes, module by module.
#[derive(Debug)]
pub struct Lora {
    id: AdapterId,
    modules: Vec<LoraModule>,
    by_site: HashMap<Site, (usize, std::ops::Range<usize>)>,
    embed: Option<EmbedDelta>,
    replaced: Replaced,
}

impl Lora {
    /// An adapter of `modules`, and what it does to the embedding and the head beside that.
    ///
    /// # Errors
    /// What reading the tensors gives.
    pub fn new(
        modules: Vec<LoraModule>,
        embed: Option<EmbedDelta>,
        replaced: Replaced,
    ) -> Result<Self> {
        let by_site = modules
            .iter()
            .enumerate()
            .flat_map(|(i, it)| {
                it.module.sites.iter().map(move |(site, rows)| (*site, (i, rows.clone())))
            })
            .collect();
        let mut lora = Self { id: AdapterId([0; 32]), modules, by_site, embed, replaced };
        lora.id = lora.hashed()?;
        Ok(lora)
    }

    /// The changed modules, in order of layers.
    pub fn modules(&self) -> &[LoraModule] {
        &self.modules
    }

    /// The change of the embedding.
    pub fn embed_delta(&self) -> Option<&EmbedDelta> {
        self.embed.as_ref()
    }

    /// Modules that are replaced as a whole.
    pub fn replaced(&self) -> &Replaced {
        &self.replaced
    }

    /// Every tensor under PEFT's name, in a fixed order.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut all: Vec<_> = self.modules.iter().flat_map(LoraModule::tensors).collect();
        all.extend(self.embed.iter().flat_map(EmbedDelta::tensors));
        all.extend(self.replaced.tensors());
        all
    }

    /// Puts what `replace` makes of each tensor in its place, in the order of [`Lora::tensors`].
    pub(crate) fn replace_tensors(
        &mut self,
        replace: &mut dyn FnMut(&str, &Tensor) -> crate::Result<Tensor>,
    ) -> crate::Result<()> {
        let mut new = self
            .tensors()
            .iter()
            .map(|(name, tensor)| replace(name, tensor))
            .collect::<crate::Result<Vec<_>>>()?
            .into_iter();
        let mut put = |slot: &mut Tensor| {
            if let Some(tensor) = new.next() {
                *slot = tensor;
            }
        };
        for module in &mut self.modules {
            put(&mut module.a_ri);
            put(&mut module.b_or);
            module.dora.iter_mut().for_each(|it| put(&mut it.magnitude_o));
        }
        if let Some(embed) = &mut self.embed {
            put(&mut embed.a_rv);
            put(&mut embed.b_dr);
        }
        self.replaced.head_vd.iter_mut().for_each(&mut put);
        self.replaced.embed_vd.iter_mut().for_each(&mut put);
        Ok(())
    }

    /// The module that changes `site`, and the rows of its `B` there.
    pub(crate) fn at(&self, site: Site) -> Option<(usize, std::ops::Range<usize>)> {
        self.by_site.get(&site).cloned()
    }

    /// Whether it is low-rank products and nothing else.
    pub(crate) fn is_plain(&self) -> bool {
        let no_dora = self.modules.iter().all(|it| it.dora.is_none());
        no_dora && self.embed.is_none() && self.replaced.is_empty()
    }

    /// Whether embedded tokens change.
    pub(crate) fn changes_embedding(&self) -> bool {
        self.embed.is_some() || self.replaced.embed_vd.is_some()
    }

    /// Whether the head is replaced as a whole.
    pub(crate) fn replaces_head(&self) -> bool {
        self.replaced.head_vd.is_some()
    }

    /// The same with each change multiplied by `factor`.
    ///
    /// # Errors
    /// What the arithmetic gives; `bad-setting` where the adapter can't be scaled.
    pub fn scaled(self, factor: f32) -> crate::Result<Self> {
        if factor == 1.0 {
            return Ok(self);
        }
        let fixed = !self.replaced.is_empty() || self.modules.iter().any(|it| it.dora.is_some());
        if fixed {
            let what = "an adapter with DoRA magnitudes or whole saved modules can't be scaled";
            return Err(crate::LoraError::setting(format!(":{factor}"), what));
        }
        let Self { mut modules, mut embed, replaced, .. } = self;
        modules.iter_mut().for_each(|it| it.scale *= factor);
        embed.iter_mut().for_each(|it| it.scale *= factor);
        Ok(Self::new(modules, embed, replaced)?)
    }

    /// Whether it changes nothing: every product is zero, every magnitude as it was.
    ///
    /// # Errors
    /// What reading the tensors gives.
    pub fn is_without_effect(&self) -> Result<bool> {
        if !self.replaced.is_empty() {
            return Ok(false);
        }
        for module in &self.modules {
            if module.has_effect()? {
                return Ok(false);
            }
        }
        match &self.embed {
            Some(it) => Ok(it.scale == 0.0 || is_zero(&it.a_rv)? || is_zero(&it.b_dr)?),
            None => Ok(true),
        }
    }

    /// Computes the row norms of DoRA anew; to be called whenever `A` or `B` changed.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn refresh(&self, decoder: &Decoder) -> Result<()> {
        for module in &self.modules {
            module.refresh(decoder)?;
        }
        Ok(())
    }

    /// What `apply` does, with the module's input changed by `drop` first.
    fn apply_with(
        &self,
        site: Site,
        x_ti: &Tensor,
        y_to: Tensor,
        drop: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let y_to = match self.replaced.head(site) {
            Some(weight_vd) => dense_matmul(x_ti, weight_vd)?,
            None => y_to,
        };
        match self.by_site.get(&site) {
            Some((index, rows)) => self.modules[*index].apply(rows.clone(), &drop(x_ti)?, y_to),
            None => Ok(y_to),
        }
    }

    fn hashed(&self) -> Result<AdapterId> {
        let mut hasher = blake3::Hasher::new();
        for module in &self.modules {
            hasher.update(&module.scale.to_le_bytes());
        }
        for (name, tensor) in self.tensors() {
            hasher.update(name.as_bytes());
            for value in tensor.flatten_all()?.to_vec1::<f32>()? {
                hasher.update(&value.to_le_bytes());
            }
        }
        Ok(AdapterId(*hasher.finalize().as_bytes()))
    }
}

impl Adapter for Lora {
    fn id(&self) -> AdapterId {
        self.id
    }

    fn apply(&self, site: Site, _rows: &Rows, x_ti: &Tensor, y_to: Tensor) -> Result<Tensor> {
        self.apply_with(site, x_ti, y_to, |x_ti| Ok(x_ti.clone()))
    }

    fn embed(&self, tokens: &[u32], x_td: Tensor) -> Result<Tensor> {
        let x_td = self.replaced.embed(tokens, x_td)?;
        match &self.embed {
            Some(delta) => delta.apply(tokens, x_td),
            None => Ok(x_td),
        }
    }
}

pub(crate) fn is_zero(tensor: &Tensor) -> Result<bool> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|it| *it == 0.0))
}
