//! Files to a decoder: every tensor is used, none is missing, every shape is right.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use candle_core::{Device, Tensor};
use minicrit_quant::{PackedKind, PackedTensor, QuantTensor, Weight};

use crate::{
    Result,
    adapter::{Proj, Site},
    arch::{
        self,
        names::{FfnNames, GatedNames, LayerNames, LinearNames, Names, Part},
    },
    cache::ModelId,
    model::{Attention, Decoder, Embedding, Ffn, Gated, Layer, Linear, ModelError, Moe, RmsNorm},
    ops::attend::AttendSpec,
    source::{ModelFiles, StoredTensor},
    spec::{FfnSpec, ModelSpec, RopeScaling},
};

/// Frequency divisors that GGUF files of Llama 3 carry.
const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// How to hold the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Packs the matrices of layers and head into int8 or int4 as they are loaded. `None` leaves
    /// them where they are, in the file's format.
    pub quantize: Option<PackedKind>,
}

/// [`load_decoder_with`] the file's own weights.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights.
pub fn load_decoder(files: &ModelFiles) -> Result<Decoder> {
    load_decoder_with(files, LoadOptions::default())
}

/// Builds the decoder that `files` describe. Matrices stay where they are or are packed one by
/// one; vectors are widened.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights.
pub fn load_decoder_with(files: &ModelFiles, options: LoadOptions) -> Result<Decoder> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let spec = checked_spec(files)?;
    let names = arch::names(&spec);
    let loader = Loader { tensors: &files.tensors, quantize: options.quantize };
    let layers = names
        .layers
        .iter()
        .enumerate()
        .map(|(index, names)| loader.layer(&spec, index, names))
        .collect::<Result<_>>()?;
    let embed = loader.matrix(&names.embed)?;
    let head = match &names.head {
        Some(part) => loader.matrix(part)?,
        None => embed.clone(),
    };
    let head_site = Site { layer: 0, expert: None, proj: Proj::Head };
    Ok(Decoder {
        id: ModelId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
        embed: Embedding::new(embed),
        layers,
        norm: loader.norm(&spec, &names.norm)?,
        head: Linear::new(Some(head_site), loader.packed_head(head)?, None),
        spec,
    })
}

/// The description of `files`, whose weights fit it. Divisors of a rope that the weights hold are
/// part of it.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights.
pub(crate) fn checked_spec(files: &ModelFiles) -> Result<ModelSpec> {
    let mut spec = arch::spec_from_config(&files.config)?;
    check(&spec, &arch::names(&spec), &files.tensors)?;
    if let Some(divisors) = files.tensors.get(ROPE_DIVISORS) {
        let values = floats(ROPE_DIVISORS, divisors)?;
        spec.rope.scaling = RopeScaling::Divisors(values.into_iter().map(f64::from).collect());
    }
    Ok(spec)
}

/// Compares what must be there with what is there.
fn check(spec: &ModelSpec, names: &Names, tensors: &BTreeMap<String, StoredTensor>) -> Result<()> {
    let expected = names.expected();
    let mut problems = Vec::new();
    for (&name, &shape) in &expected {
        match tensors.get(name) {
            None => problems.push(format!("`{name}` of shape {shape:?} is missing")),
            Some(it) if it.shape != shape => problems
                .push(format!("`{name}` has shape {:?}, config.json asks for {shape:?}", it.shape)),
            Some(it) => problems.extend(unusable(name, it)),
        }
    }
    for (name, tensor) in tensors {
        if !expected.contains_key(name.as_str()) && !is_redundant(spec, name, tensor) {
            problems
                .push(format!("`{name}` of shape {:?} is not used by this model", tensor.shape));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(ModelError::Weights { problems }.into()) }
}

/// Why a tensor of the right shape can't be read, if it can't.
fn unusable(name: &str, tensor: &StoredTensor) -> Option<String> {
    let (rows, cols) = match tensor.shape[..] {
        [len] => (1, len),
        [rows, cols] => (rows, cols),
        _ => return Some(format!("`{name}` has {} dimensions", tensor.shape.len())),
    };
    QuantTensor::new(tensor.format, rows, cols, tensor.bytes.clone())
        .err()
        .map(|error| format!("`{name}`: {error}"))
}

/// Tensors that real files carry although nothing needs them.
fn is_redundant(spec: &ModelSpec, name: &str, tensor: &StoredTensor) -> bool {
    let tied_head =
        spec.tied && name == "lm_head.weight" && tensor.shape == [spec.vocab_size, spec.hidden];
    let divisors = name == ROPE_DIVISORS && tensor.shape == [spec.rope.dim / 2];
    tied_head || divisors || name.ends_with(".rotary_emb.inv_freq")
}

fn floats(name: &str, stored: &StoredTensor) -> Result<Vec<f32>> {
    let len = stored.shape.iter().product();
    let values = QuantTensor::new(stored.format, 1, len, stored.bytes.clone())?.dequantize();
    if values.iter().any(|it| !it.is_finite()) {
        return Err(ModelError::NonFiniteWeight { tensor: name.to_string() }.into());
    }
    Ok(values)
}

struct Loader<'a> {
    tensors: &'a BTreeMap<String, StoredTensor>,
    quantize: Option<PackedKind>,
}

impl Loader<'_> {
    fn stored(&self, name: &str) -> Result<&StoredTensor> {
        self.tensors.get(name).ok_or_else(|| {
            ModelError::Weights { problems: vec![format!("`{name}` is missing")] }.into()
        })
    }

    fn matrix(&self, part: &Part) -> Result<QuantTensor> {
        let stored = self.stored(&part.name)?;
        let (rows, cols) = (part.shape[0], part.shape[1]);
        let whole = QuantTensor::new(stored.format, rows, cols, stored.bytes.clone())?;
        Ok(whole.slice_rows(part.rows.clone())?)
    }

    /// A matrix of a layer, packed where that was asked for.
    fn packed(&self, part: &Part) -> Result<Weight> {
        let stored = self.matrix(part)?;
        match self.quantize {
            Some(kind) => Ok(PackedTensor::quantize(kind, &stored)?.into()),
            None => Ok(stored.into()),
        }
    }

    /// The head decides between tokens directly, so it is kept in int8 where layers are int4. The
    /// embedding beside it stays as stored: a pass reads a few of its rows only.
    fn packed_head(&self, stored: QuantTensor) -> Result<Weight> {
        match self.quantize {
            Some(_) => Ok(PackedTensor::quantize(PackedKind::Q8, &stored)?.into()),
            None => Ok(stored.into()),
        }
    }

    fn vector(&self, part: &Part) -> Result<Tensor> {
        let values = floats(&part.name, self.stored(&part.name)?)?;
        let Range { start, end } = part.rows;
        Ok(Tensor::from_slice(&values[start..end], end - start, &Device::Cpu)?)
    }

    fn norm(&self, spec: &ModelSpec, part: &Part) -> Result<RmsNorm> {
        Ok(RmsNorm { gain: self.vector(part)?, eps: spec.norm_eps })
    }

    fn linear(&self, site: Option<Site>, names: &LinearNames) -> Result<Linear> {
        let bias = names.bias.as_ref().map(|it| self.vector(it)).transpose()?;
        // A router is tiny, and a rounding there sends a token to another expert.
        let weight = match site {
            Some(_) => self.packed(&names.weight)?,
            None => self.matrix(&names.weight)?.into(),
        };
        Ok(Linear::new(site, weight, bias))
    }

    fn gated(&self, layer: u16, expert: Option<u16>, names: &GatedNames) -> Result<Gated> {
        let site = |proj| Some(Site { layer, expert, proj });
        Ok(Gated {
            gate: self.linear(site(Proj::Gate), &names.gate)?,
            up: self.linear(site(Proj::Up), &names.up)?,
            down: self.linear(site(Proj::Down), &names.down)?,
        })
    }

    fn layer(&self, spec: &ModelSpec, index: usize, names: &LayerNames) -> Result<Layer> {
        let layer = index as u16;
        let site = |proj| Some(Site { layer, expert: None, proj });
        let qk_norm = match &names.qk_norm {
            Some((q, k)) => Some((self.norm(spec, q)?, self.norm(spec, k)?)),
            None => None,
        };
        let ffn = match (&names.ffn, spec.layers[index].ffn) {
            (FfnNames::Moe { router, experts }, FfnSpec::Moe { per_token, normalize, .. }) => {
                let expert =
                    |(e, names): (usize, &GatedNames)| self.gated(layer, Some(e as u16), names);
                Ffn::Moe(Moe {
                    router: self.linear(None, router)?,
                    experts: experts.iter().enumerate().map(expert).collect::<Result<_>>()?,
                    per_token,
                    normalize,
                })
            }
            (FfnNames::Dense(names), _) => Ffn::Dense(self.gated(layer, None, names)?),
            (FfnNames::Moe { .. }, FfnSpec::Dense { .. }) => {
                unreachable!("invariant: names are made from the spec")
            }
        };
        Ok(Layer {
            attention_norm: self.norm(spec, &names.attention_norm)?,
            attention: Attention {
                spec: AttendSpec { heads: spec.heads, window: spec.layers[index].window },
                q: self.linear(site(Proj::Q), &names.q)?,
                k: self.linear(site(Proj::K), &names.k)?,
                v: self.linear(site(Proj::V), &names.v)?,
                o: self.linear(site(Proj::O), &names.o)?,
                qk_norm,
            },
            ffn_norm: self.norm(spec, &names.ffn_norm)?,
            ffn,
        })
    }
}
