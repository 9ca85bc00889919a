//! A model and what of it is trained.

use std::{collections::BTreeMap, sync::Arc};

use candle_core::{Device, Tensor, Var};
use minicrit_engine::{
    arch,
    load::learned_decoder,
    model::{Decoder, Products},
    spec::ModelSpec,
};

use super::fused;
use crate::{LoraError, Result, lora::Lora, modules::HEAD};

/// One trained tensor.
#[derive(Debug)]
pub struct Param {
    /// Its name in a file.
    pub name: String,
    /// Factor on the learning rate.
    pub rate_factor: f64,
    var: Var,
}

impl Param {
    fn new(name: String, tensor: &Tensor, rate_factor: f64) -> Result<Self> {
        Ok(Self { name, rate_factor, var: Var::from_tensor(&tensor.contiguous()?)? })
    }

    /// The tensor; it changes in place with each step.
    pub fn tensor(&self) -> &Tensor {
        self.var.as_tensor()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.var.elem_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of the values.
    ///
    /// # Errors
    /// What reading the tensor gives.
    pub fn values(&self) -> Result<Vec<f32>> {
        Ok(self.var.flatten_all()?.to_vec1()?)
    }

    /// New values.
    ///
    /// # Errors
    /// Another number of values.
    pub fn set(&self, values: Vec<f32>) -> Result<()> {
        Ok(self.var.set(&Tensor::from_vec(values, self.var.shape(), &Device::Cpu)?)?)
    }
}

/// How a training pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// In float32, with the bits that serving computes; any model, any adapter.
    #[default]
    Float32,
    /// Products in bfloat16 with float32 sums: several times faster, for plain LoRA on dense models
    /// and for whole models. What is learned, its moments and the residual stream stay float32.
    Bf16,
}

/// Where the gradient of the embedded tokens goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EmbedGradient {
    /// Nowhere.
    None,
    /// To the rows of this parameter, the embedding itself.
    Rows(usize),
    /// Through the adapter.
    Tape,
}

/// A decoder with an adapter in training, or a decoder that is trained itself.
pub struct Learner {
    /// The model.
    pub decoder: Arc<Decoder>,
    /// The adapter in training.
    pub lora: Option<Lora>,
    /// The adapter that a loss compares with; none where that is the decoder alone.
    reference: Option<Lora>,
    params: Vec<Param>,
    lowest: usize,
    embed: EmbedGradient,
    head: bool,
    compute: Compute,
}

impl Learner {
    /// An adapter on a frozen decoder. `b_rate` is the factor on the learning rate of `B` (LoRA+,
    /// Hayou et al. 2024); 1 for plain LoRA.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn adapter(decoder: Arc<Decoder>, mut lora: Lora, b_rate: f64) -> Result<Self> {
        let mut params = Vec::new();
        lora.replace_tensors(&mut |name, tensor| {
            let is_b = name.ends_with(".lora_B.weight") || name.ends_with(".lora_embedding_B");
            let param = Param::new(name.to_string(), tensor, if is_b { b_rate } else { 1.0 })?;
            let tensor = param.tensor().clone();
            params.push(param);
            Ok(tensor)
        })?;
        let embed =
            if lora.changes_embedding() { EmbedGradient::Tape } else { EmbedGradient::None };
        let layers = lora.modules().iter().filter_map(|it| it.module.layer);
        let lowest = match embed {
            EmbedGradient::None => layers.min().unwrap_or(decoder.layers.len()),
            _ => 0,
        };
        let head = lora.modules().iter().any(|it| it.module.path == HEAD) || lora.replaces_head();
        lora.refresh(&decoder)?;
        Ok(Self {
            decoder,
            lora: Some(lora),
            reference: None,
            params,
            lowest,
            embed,
            head,
            compute: Compute::Float32,
        })
    }

    /// Every weight of a model. `tensors` are float32, under their names and whole shapes in a
    /// Hugging Face folder.
    ///
    /// # Errors
    /// Tensors that are missing or misshapen.
    pub fn full(
        spec: ModelSpec,
        tensors: &BTreeMap<String, Tensor>,
        compute: Compute,
    ) -> Result<Self> {
        let names = arch::names(&spec);
        let mut params = Vec::new();
        let mut learned = BTreeMap::new();
        for (name, tensor) in
            tensors.iter().filter(|it| names.expected().contains_key(it.0.as_str()))
        {
            let param = Param::new(name.clone(), tensor, 1.0)?;
            learned.insert(name.clone(), param.tensor().clone());
            params.push(param);
        }
        let embed = params.iter().position(|it| it.name == names.embed.name);
        let products = match compute {
            Compute::Float32 => Products::Float32,
            Compute::Bf16 => Products::Bf16,
        };
        let decoder = Arc::new(learned_decoder(spec, &learned, products)?);
        let embed = embed.map_or(EmbedGradient::None, EmbedGradient::Rows);
        Ok(Self {
            decoder,
            lora: None,
            reference: None,
            params,
            lowest: 0,
            embed,
            head: true,
            compute,
        })
    }

    /// Compares with a frozen adapter instead of the decoder alone.
    #[must_use]
    pub fn with_reference(mut self, reference: Lora) -> Self {
        self.reference = Some(reference);
        self
    }

    /// The adapter that a loss compares with, where it is not the decoder alone.
    pub(super) fn reference_lora(&self) -> Option<&Lora> {
        self.reference.as_ref()
    }

    /// How passes of an adapter compute from now on.
    ///
    /// # Errors
    /// `bad-setting` where bfloat16 is asked for and model or adapter can't be computed so.
    pub fn with_compute(mut self, compute: Compute) -> Result<Self> {
        if let (Compute::Bf16, Some(why)) = (compute, fused::unsupported(&self)) {
            return Err(LoraError::setting("dtype", format!("bf16 can't be used here: {why}")));
        }
        self.compute = compute;
        Ok(self)
    }

    /// How passes compute.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Whether passes go through whole layers in bfloat16 and not over the tape.
    pub(super) fn is_fused(&self) -> bool {
        self.compute == Compute::Bf16 && self.lora.is_some()
    }

    /// The trained tensors, in a fixed order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The lowest layer that has to be differentiated.
    pub(super) fn lowest(&self) -> usize {
        self.lowest
    }

    pub(super) fn embed_gradient(&self) -> EmbedGradient {
        self.embed
    }

    /// Whether the head or the last norm is trained.
    pub(super) fn trains_head(&self) -> bool {
        self.head
    }

    /// Brings what depends on the parameters up to date.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn refresh(&self) -> Result<()> {
        match &self.lora {
            Some(lora) => Ok(lora.refresh(&self.decoder)?),
            None => Ok(()),
        }
    }
}
