//! Files to a decoder: every tensor is used, none is missing, every shape is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use candle_core::{Device, Tensor};
use minicrit_quant::{PackedTensor, QuantTensor, Weight, pool};

use crate::{
    Result,
    adapter::{Proj, Site},
    arch::{
        self,
        names::{FfnNames, GatedNames, LayerNames, LinearNames, Names, Part},
    },
    cache::ModelId,
    export::ExportError,
    importance::Importance,
    model::{
        Attention, Decoder, Embedding, Ffn, Gated, Layer, Linear, ModelError, Moe, Products,
        RmsNorm,
    },
    ops::attend::AttendSpec,
    recipe::{self, Mix, Place, Recipe},
    source::{ModelFiles, SourceError, StoredPacked, StoredTensor},
    spec::{FfnSpec, ModelSpec, RopeScaling},
};

/// Frequency divisors that GGUF files of Llama 3 carry.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// How to hold the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Brings matrices into other forms as they are loaded, one by one. `None` keeps the file's
    /// values: floats stay where they are, integers are interleaved.
    pub quantize: Option<Mix>,
}

/// [`load_decoder_with`] the file's own weights.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights.
pub fn load_decoder(files: &ModelFiles) -> Result<Decoder> {
    load_decoder_with(files, LoadOptions::default())
}

/// Builds the decoder that `files` describe. Matrices stay where they are, or are interleaved or
/// packed one by one; vectors are widened.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights.
pub fn load_decoder_with(files: &ModelFiles, options: LoadOptions) -> Result<Decoder> {
    match options.quantize {
        Some(mix) => quantized_decoder(files, &Recipe::new(mix), &Importance::default()),
        None => files_decoder(files, None),
    }
}

/// Builds the decoder that `files` describe, its matrices brought into other forms one by one.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights, or of their rounding.
pub fn quantized_decoder(
    files: &ModelFiles,
    recipe: &Recipe,
    importance: &Importance,
) -> Result<Decoder> {
    files_decoder(files, Some(Rounding { recipe, importance }))
}

fn files_decoder(files: &ModelFiles, rounding: Option<Rounding<'_>>) -> Result<Decoder> {
    if rounding.is_some() && !files.packed.is_empty() {
        return Err(ExportError::AlreadyPacked.into());
    }
    let spec = checked_spec(files)?;
    let names = arch::names(&spec);
    let packed = packed_tensors(files)?;
    Loader { source: Source::Files(files), packed, rounding }.decoder(spec, &names)
}

/// All packed matrices of the files, several at a time, each checked against its hash.
fn packed_tensors(files: &ModelFiles) -> Result<BTreeMap<String, PackedTensor>> {
    let all: Vec<(&String, &StoredPacked)> = files.packed.iter().collect();
    let loaded = Mutex::new((BTreeMap::new(), BTreeMap::new()));
    pool::for_each(all.len(), true, |at| {
        let (key, stored) = all[at];
        let outcome = packed_tensor(files, key, stored);
        stored.bytes.forget_pages();
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(it) => drop(loaded.0.insert(key.clone(), it)),
            Err(error) => drop(loaded.1.insert(key.clone(), error)),
        }
    });
    let (tensors, mut errors) = loaded.into_inner().unwrap_or_else(PoisonError::into_inner);
    match errors.pop_first() {
        None => Ok(tensors),
        Some((_, error)) => Err(error),
    }
}

fn packed_tensor(files: &ModelFiles, key: &str, stored: &StoredPacked) -> Result<PackedTensor> {
    let StoredPacked { header, bytes, hash } = stored;
    let tensor = PackedTensor::from_bytes(header, bytes)
        .map_err(|source| ExportError::Tensor { tensor: key.to_owned(), source })?;
    // Of the copy, so that a file that changes under us can't differ from what was checked.
    let differs = |it: &String| *it != blake3::hash(tensor.bytes()).to_hex().as_str();
    if hash.as_ref().is_some_and(differs) {
        let problem = format!("`{key}` is damaged: the hash differs");
        return Err(SourceError::BadPacked {
            file: files.origin.clone(),
            problems: problem.into(),
        }
        .into());
    }
    Ok(tensor)
}

/// A decoder of float32 tensors that may be trained, by the names and whole shapes that
/// [`arch::names()`] gives for `spec`. It reads their values anew in every call.
///
/// # Errors
/// [`ModelError::Weights`] with every tensor that is missing or misshapen.
pub fn learned_decoder(
    spec: ModelSpec,
    tensors: &BTreeMap<String, Tensor>,
    products: Products,
) -> Result<Decoder> {
    let names = arch::names(&spec);
    let problems: Vec<String> = names
        .expected()
        .into_iter()
        .filter_map(|(name, shape)| match tensors.get(name) {
            Some(it) if it.dims() == shape => None,
            Some(it) => Some(format!("`{name}` has shape {:?}, not {shape:?}", it.dims())),
            None => Some(format!("`{name}` is missing")),
        })
        .collect();
    if !problems.is_empty() {
        return Err(ModelError::Weights { problems }.into());
    }
    let source = Source::Learned(tensors, products);
    Loader { source, packed: BTreeMap::new(), rounding: None }.decoder(spec, &names)
}

/// The description of `files`, whose weights fit it. Divisors of a rope that the weights hold are
/// part of it.
///
/// # Errors
/// [`ModelError`] with every problem of the description or of the weights.
pub(crate) fn checked_spec(files: &ModelFiles) -> Result<ModelSpec> {
    let mut spec = arch::spec_from_config(&files.config)?;
    check(&spec, &arch::names(&spec), files)?;
    if let Some(divisors) = files.tensors.get(ROPE_DIVISORS) {
        let values = floats(ROPE_DIVISORS, divisors)?;
        spec.rope.scaling = RopeScaling::Divisors(values.into_iter().map(f64::from).collect());
    }
    Ok(spec)
}

/// Compares what must be there with what is there.
fn check(spec: &ModelSpec, names: &Names, files: &ModelFiles) -> Result<()> {
    let tensors = &files.tensors;
    let mut expected = names.expected();
    let mut problems = check_packed(names, files, &mut expected);
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

/// Problems of packed matrices; those that are there are no longer `expected` as tensors.
fn check_packed(
    names: &Names,
    files: &ModelFiles,
    expected: &mut BTreeMap<&str, &[usize]>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for (_, part) in recipe::matrices(names) {
        let key = part.key();
        if let Some(StoredPacked { header, .. }) = files.packed.get(&key) {
            expected.remove(part.name.as_str());
            let (rows, cols) = (part.rows.len(), part.shape[1]);
            if (header.rows, header.cols) != (rows, cols) {
                problems.push(format!(
                    "packed `{key}` has shape {:?}, config.json asks for {:?}",
                    [header.rows, header.cols],
                    [rows, cols]
                ));
            }
        }
        known.insert(key);
    }
    // A tensor of several parts is packed as a whole or not at all.
    for (_, part) in recipe::matrices(names) {
        let packed = files.packed.contains_key(&part.key());
        if !packed && !expected.contains_key(part.name.as_str()) {
            problems.push(format!("packed `{}` is missing", part.key()));
        }
    }
    for key in files.packed.keys().filter(|it| !known.contains(*it)) {
        problems.push(format!("packed `{key}` is not used by this model"));
    }
    problems
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

/// Where weights come from.
enum Source<'a> {
    /// Files, whose bytes are used where they lie.
    Files(&'a ModelFiles),
    /// Tensors that may be trained.
    Learned(&'a BTreeMap<String, Tensor>, Products),
}

/// What matrices are brought into.
#[derive(Clone, Copy)]
struct Rounding<'a> {
    recipe: &'a Recipe,
    importance: &'a Importance,
}

struct Loader<'a> {
    source: Source<'a>,
    /// Matrices that are packed in the files, by [`Part::key`].
    packed: BTreeMap<String, PackedTensor>,
    rounding: Option<Rounding<'a>>,
}

fn missing(name: &str) -> crate::Error {
    ModelError::Weights { problems: vec![format!("`{name}` is missing")] }.into()
}

impl Loader<'_> {
    fn decoder(&self, spec: ModelSpec, names: &Names) -> Result<Decoder> {
        let layers = names
            .layers
            .iter()
            .enumerate()
            .map(|(index, names)| self.layer(&spec, index, names))
            .collect::<Result<_>>()?;
        let head_part = names.head.as_ref().unwrap_or(&names.embed);
        let head_site = Some(Site { layer: 0, expert: None, proj: Proj::Head });
        let (embed, head) = match self.learned(&names.embed)? {
            Some(embed) => {
                let head = self.learned(head_part)?.ok_or_else(|| missing(&head_part.name))?;
                (Embedding::learned(embed), Linear::learned(head_site, head, None, self.products()))
            }
            None => {
                let embed = self.weight(&spec, Place::Embedding, &names.embed)?;
                let head = match &names.head {
                    Some(part) => self.weight(&spec, Place::HEAD, part)?,
                    None => embed.clone(),
                };
                (Embedding::new(embed), Linear::new(head_site, head, None))
            }
        };
        Ok(Decoder {
            id: ModelId::next(),
            embed,
            layers,
            norm: self.norm(&spec, &names.norm)?,
            head,
            spec,
        })
    }

    fn stored(&self, name: &str) -> Result<&StoredTensor> {
        match self.source {
            Source::Files(files) => files.tensors.get(name).ok_or_else(|| missing(name)),
            Source::Learned(..) => Err(missing(name)),
        }
    }

    fn products(&self) -> Products {
        match self.source {
            Source::Learned(_, products) => products,
            Source::Files(_) => Products::Float32,
        }
    }

    /// The rows of a part as a tensor that may be trained, where weights are such.
    fn learned(&self, part: &Part) -> Result<Option<Tensor>> {
        let Source::Learned(tensors, _) = self.source else { return Ok(None) };
        let whole = tensors.get(&part.name).ok_or_else(|| missing(&part.name))?;
        Ok(Some(whole.narrow(0, part.rows.start, part.rows.len())?))
    }

    fn matrix(&self, part: &Part) -> Result<QuantTensor> {
        let stored = self.stored(&part.name)?;
        let (rows, cols) = (part.shape[0], part.shape[1]);
        let whole = QuantTensor::new(stored.format, rows, cols, stored.bytes.clone())?;
        Ok(whole.slice_rows(part.rows.clone())?)
    }

    /// A matrix, packed in the file or rounded where that was asked for.
    fn weight(&self, spec: &ModelSpec, place: Place, part: &Part) -> Result<Weight> {
        if let Some(packed) = self.packed.get(&part.key()) {
            return Ok(packed.clone().into());
        }
        let stored = self.matrix(part)?;
        let Some(Rounding { recipe, importance }) = self.rounding else {
            return Ok(Weight::resident(stored)?);
        };
        let format = recipe.format(spec, place, stored.cols());
        let named = |source| ExportError::Tensor { tensor: part.name.clone(), source };
        let weight = format.quantize(&stored, importance.of(place)).map_err(named)?;
        // What was read of the source need not stay in memory beside what was made of it.
        stored.shared_bytes().forget_pages();
        Ok(match weight {
            Weight::Stored(it) => Weight::resident(it).map_err(named)?,
            other => other,
        })
    }

    fn vector(&self, part: &Part) -> Result<Tensor> {
        if let Some(learned) = self.learned(part)? {
            return Ok(learned);
        }
        let values = floats(&part.name, self.stored(&part.name)?)?;
        let Range { start, end } = part.rows;
        Ok(Tensor::from_slice(&values[start..end], end - start, &Device::Cpu)?)
    }

    fn norm(&self, spec: &ModelSpec, part: &Part) -> Result<RmsNorm> {
        Ok(RmsNorm { gain: self.vector(part)?, eps: spec.norm_eps })
    }

    fn linear(&self, spec: &ModelSpec, site: Option<Site>, names: &LinearNames) -> Result<Linear> {
        let bias = names.bias.as_ref().map(|it| self.vector(it)).transpose()?;
        if let Some(weight_oi) = self.learned(&names.weight)? {
            return Ok(Linear::learned(site, weight_oi, bias, self.products()));
        }
        // A router is tiny, and a rounding there sends a token to another expert.
        let weight = match site {
            Some(site) => self.weight(spec, Place::Projection(site), &names.weight)?,
            None => self.matrix(&names.weight)?.into(),
        };
        Ok(Linear::new(site, weight, bias))
    }

    fn gated(
        &self,
        spec: &ModelSpec,
        layer: u16,
        expert: Option<u16>,
        names: &GatedNames,
    ) -> Result<Gated> {
        let site = |proj| Some(Site { layer, expert, proj });
        Ok(Gated {
            gate: self.linear(spec, site(Proj::Gate), &names.gate)?,
            up: self.linear(spec, site(Proj::Up), &names.up)?,
            down: self.linear(spec, site(Proj::Down), &names.down)?,
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
                let expert = |(e, names): (usize, &GatedNames)| {
                    self.gated(spec, layer, Some(e as u16), names)
                };
                Ffn::Moe(Moe {
                    router: self.linear(spec, None, router)?,
                    experts: experts.iter().enumerate().map(expert).collect::<Result<_>>()?,
                    per_token,
                    normalize,
                })
            }
            (FfnNames::Dense(names), _) => Ffn::Dense(self.gated(spec, layer, None, names)?),
            (FfnNames::Moe { .. }, FfnSpec::Dense { .. }) => {
                unreachable!("invariant: names are made from the spec")
            }
        };
        Ok(Layer {
            attention_norm: self.norm(spec, &names.attention_norm)?,
            attention: Attention {
                spec: AttendSpec { heads: spec.heads, window: spec.layers[index].window },
                q: self.linear(spec, site(Proj::Q), &names.q)?,
                k: self.linear(spec, site(Proj::K), &names.k)?,
                v: self.linear(spec, site(Proj::V), &names.v)?,
                o: self.linear(spec, site(Proj::O), &names.o)?,
                qk_norm,
            },
            ffn_norm: self.norm(spec, &names.ffn_norm)?,
            ffn,
        })
    }
}
