//! A folder to an adapter.

use std::{collections::BTreeMap, path::Path};

use candle_core::{Device, Tensor};
use minicrit_engine::{
    model::Decoder,
    source::{StoredTensor, safetensors},
};
use minicrit_quant::{QuantTensor, Weight};

use super::{AdapterConfig, CONFIG_FILE, TENSORS_FILE};
use crate::{
    LoraError, Result,
    lora::{Dora, EmbedDelta, Lora, LoraModule, Replaced},
    modules::{self, EMBED, HEAD, Module},
};

/// Longest config that is read.
const CONFIG_LIMIT: u64 = 1 << 20;

/// Prefix of every name in a PEFT file.
const PREFIX: &str = "base_model.model.";

/// Values of a saved base matrix may differ from the base by this much: it may be stored in a
/// narrower format than the base that runs (bfloat16 keeps 8 bits, int4 about 4).
const STORED_BASE_TOLERANCE: f32 = 0.15;

/// Reads the config of the adapter in `folder`.
///
/// # Errors
/// `adapter-not-found`, `bad-adapter-config`, or why the file can't be read.
pub fn read_config(folder: &Path) -> Result<AdapterConfig> {
    for missing in [CONFIG_FILE, TENSORS_FILE] {
        if !folder.join(missing).is_file() {
            return Err(LoraError::NoAdapter { path: folder.to_path_buf(), missing });
        }
    }
    let path = folder.join(CONFIG_FILE);
    let bad = |problems| LoraError::AdapterConfig { path: path.clone(), problems };
    let io = |source| LoraError::file("read", &path, source);
    let len = std::fs::metadata(&path).map_err(io)?.len();
    if len > CONFIG_LIMIT {
        return Err(bad(vec![format!("it has {len} bytes, more than {CONFIG_LIMIT}")]));
    }
    let text = std::fs::read(&path).map_err(io)?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let value = serde_json::from_slice(text).map_err(|it| bad(vec![format!("no JSON: {it}")]))?;
    AdapterConfig::from_json(&value).map_err(bad)
}

/// Reads the adapter in `folder` for `decoder`: every tensor that the config asks for is there, has
/// the right shape and finite values, and no tensor is left over.
///
/// # Errors
/// As [`read_config`], or `bad-adapter` with every problem of the tensors.
pub fn open(folder: &Path, decoder: &Decoder) -> Result<Lora> {
    let config = read_config(folder)?;
    let tensors = stored_tensors(&folder.join(TENSORS_FILE))?;
    let mut reader = Reader { tensors, problems: Vec::new() };
    let lora = reader.adapter(&config, decoder)?;
    reader.problems.extend(
        reader
            .tensors
            .iter()
            .map(|(name, it)| format!("`{name}` of shape {:?} is not used", it.shape)),
    );
    if !reader.problems.is_empty() {
        let origin = folder.display().to_string();
        return Err(LoraError::AdapterTensors { origin, problems: reader.problems });
    }
    lora.refresh(decoder)?;
    Ok(lora)
}

/// The tensors of a file, under names without an adapter's own.
///
/// # Errors
/// A file that is no safetensors file.
pub fn stored_tensors(path: &Path) -> Result<BTreeMap<String, StoredTensor>> {
    Ok(plain_names(safetensors::open(path)?))
}

/// Some writers keep the adapter's name, `lora_A.default.weight`; it means nothing.
fn plain_names(stored: BTreeMap<String, StoredTensor>) -> BTreeMap<String, StoredTensor> {
    let mut plain = BTreeMap::new();
    for (name, tensor) in stored {
        let short = name.replacen(".default.weight", ".weight", 1);
        let short = short.strip_suffix(".default").map(str::to_string).unwrap_or(short);
        // Of two names for one tensor the longer is kept, and is then left over.
        let key = if plain.contains_key(&short) { name } else { short };
        plain.insert(key, tensor);
    }
    plain
}

struct Reader {
    tensors: BTreeMap<String, StoredTensor>,
    problems: Vec<String>,
}

impl Reader {
    fn adapter(&mut self, config: &AdapterConfig, decoder: &Decoder) -> Result<Lora> {
        let all = modules::modules(&decoder.spec);
        let mut chosen = Vec::new();
        for module in config.targets.chosen(&all, &config.excluded)? {
            if let Some(it) = self.module(config, module, decoder)? {
                chosen.push(it);
            }
        }
        let embed = match config.targets.choose(EMBED)? {
            true => self.embed(config, decoder)?,
            false => None,
        };
        let mut replaced = Replaced::default();
        let spec = &decoder.spec;
        for name in &config.modules_to_save {
            let (path, slot) = match name.as_str() {
                HEAD => (HEAD, &mut replaced.head_vd),
                _ => (EMBED, &mut replaced.embed_vd),
            };
            *slot = self.take(&format!("{path}.weight"), &[spec.vocab_size, spec.hidden])?;
        }
        self.stored_base(HEAD, decoder.head.weight())?;
        self.stored_base(EMBED, decoder.embed.weight())?;
        if chosen.is_empty() && embed.is_none() && replaced.is_empty() {
            self.problems.push("its config chooses no module of this model".into());
        }
        Ok(Lora::new(chosen, embed, replaced)?)
    }

    fn module(
        &mut self,
        config: &AdapterConfig,
        module: &Module,
        decoder: &Decoder,
    ) -> Result<Option<LoraModule>> {
        let rank = config.rank_of(&module.path)?;
        let Module { path, inputs, outputs, .. } = module;
        let a_ri = self.take(&format!("{path}.lora_A.weight"), &[rank, *inputs])?;
        let b_or = self.take(&format!("{path}.lora_B.weight"), &[*outputs, rank])?;
        let dora = if config.dora {
            // Older PEFT wrote the vector as a module's weight.
            let old = format!("{PREFIX}{path}.lora_magnitude_vector.weight");
            let suffix = if self.tensors.contains_key(&old) { ".weight" } else { "" };
            match self.take(&format!("{path}.lora_magnitude_vector{suffix}"), &[*outputs])? {
                Some(magnitude_o) => Some(Dora::new(magnitude_o, module, decoder)?),
                None => None,
            }
        } else {
            None
        };
        let (Some(a_ri), Some(b_or)) = (a_ri, b_or) else { return Ok(None) };
        let scale = config.scale_of(path)?;
        Ok(Some(LoraModule { module: module.clone(), a_ri, b_or, scale, dora }))
    }

    fn embed(&mut self, config: &AdapterConfig, decoder: &Decoder) -> Result<Option<EmbedDelta>> {
        let rank = config.rank_of(EMBED)?;
        if config.dora {
            self.problems.push(format!("DoRA on `{EMBED}` is not supported"));
        }
        let (vocab_size, hidden) = (decoder.spec.vocab_size, decoder.spec.hidden);
        let a_rv = self.take(&format!("{EMBED}.lora_embedding_A"), &[rank, vocab_size])?;
        let b_dr = self.take(&format!("{EMBED}.lora_embedding_B"), &[hidden, rank])?;
        let (Some(a_rv), Some(b_dr)) = (a_rv, b_dr) else { return Ok(None) };
        Ok(Some(EmbedDelta { a_rv, b_dr, scale: config.scale_of(EMBED)? }))
    }

    /// A copy of the base's own matrix, which PEFT saves beside a change of the embedding. It says
    /// which base the adapter was trained on.
    fn stored_base(&mut self, path: &str, base: Option<&Weight>) -> Result<()> {
        for name in [format!("{path}.base_layer.weight"), format!("{path}.weight")] {
            let full = format!("{PREFIX}{name}");
            let Some(base) = base.filter(|_| self.tensors.contains_key(&full)) else { continue };
            let Some(copy) = self.take(&name, &[base.rows(), base.cols()])? else { continue };
            let copy = copy.flatten_all()?.to_vec1::<f32>()?;
            let base = base.dequantize_rows(0..base.rows())?;
            let size = base.iter().fold(0.0f32, |max, it| max.max(it.abs()));
            let differs = |(a, b): (&f32, &f32)| (a - b).abs() > STORED_BASE_TOLERANCE * size;
            if copy.iter().zip(&base).any(differs) {
                self.problems.push(format!("`{full}` is not the matrix of this base"));
            }
        }
        Ok(())
    }

    /// Takes the tensor `name` (without the prefix) out of the file.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        let name = format!("{PREFIX}{name}");
        let Some(stored) = self.tensors.remove(&name) else {
            self.problems.push(format!("`{name}` of shape {shape:?} is missing"));
            return Ok(None);
        };
        if stored.shape != shape {
            self.problems.push(format!("`{name}` has shape {:?}, not {shape:?}", stored.shape));
            return Ok(None);
        }
        let count = shape.iter().product();
        let values = QuantTensor::new(stored.format, 1, count, stored.bytes)?.dequantize();
        if values.iter().any(|it| !it.is_finite()) {
            self.problems.push(format!("`{name}` holds a value that is not finite"));
            return Ok(None);
        }
        Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
    }
}
