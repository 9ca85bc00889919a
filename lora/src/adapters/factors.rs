//! The two matrices of every module of an adapter.

use std::{collections::BTreeMap, path::Path};

use candle_core::{Device, Tensor};
use minicrit_quant::QuantTensor;

use crate::{
    LoraError, Result,
    peft::{self, AdapterConfig, TENSORS_FILE, Targets},
};

/// Prefix of every name in a PEFT file.
const PREFIX: &str = "base_model.model.";

/// A matrix of float32, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` values.
    pub values: Vec<f32>,
}

/// What an adapter adds to one module: `scale * B A`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// `A`, `[r, inputs]`.
    pub a: Matrix,
    /// `B`, `[outputs, r]`.
    pub b: Matrix,
    /// `alpha / r`, or `alpha / sqrt(r)` for rsLoRA.
    pub scale: f32,
}

impl Pair {
    /// Rank.
    pub fn rank(&self) -> usize {
        self.a.rows
    }
}

/// An adapter of low-rank changes, by the path of each module.
#[derive(Debug, Clone, PartialEq)]
pub struct Factors {
    /// What errors call it.
    pub origin: String,
    /// Its settings.
    pub config: AdapterConfig,
    /// The changed modules.
    pub pairs: BTreeMap<String, Pair>,
}

impl Factors {
    /// Reads the adapter in `folder`. Magnitudes, embeddings and whole saved modules are no
    /// low-rank change of a linear layer, so an adapter that has any is refused.
    ///
    /// # Errors
    /// `adapter-not-found`, `bad-adapter-config`, or `bad-adapter` with every problem.
    pub fn open(folder: &Path) -> Result<Self> {
        let config = peft::read_config(folder)?;
        let mut tensors = peft::stored_tensors(&folder.join(TENSORS_FILE))?;
        let mut problems = Vec::new();
        let mut pairs = BTreeMap::new();
        let paths: Vec<String> = tensors.keys().filter_map(|it| path_of(it)).collect();
        for path in paths {
            let mut matrix = |which: &str| {
                let name = format!("{PREFIX}{path}.lora_{which}.weight");
                let Some(stored) = tensors.remove(&name) else {
                    problems.push(format!("`{name}` is missing"));
                    return Ok(None);
                };
                let [rows, cols] = stored.shape[..] else {
                    problems.push(format!("`{name}` has the shape {:?}", stored.shape));
                    return Ok(None);
                };
                let values =
                    QuantTensor::new(stored.format, rows, cols, stored.bytes)?.dequantize();
                if !values.iter().all(|it| it.is_finite()) {
                    problems.push(format!("`{name}` holds a value that is not finite"));
                }
                Ok::<_, LoraError>(Some(Matrix { rows, cols, values }))
            };
            let (Some(a), Some(b)) = (matrix("A")?, matrix("B")?) else { continue };
            let rank = config.rank_of(&path)?;
            if (a.rows, b.cols) != (rank, rank) {
                let what = format!("`{path}` has the ranks {} and {}, not {rank}", a.rows, b.cols);
                problems.push(what);
                continue;
            }
            let scale = config.scale_of(&path)?;
            pairs.insert(path, Pair { a, b, scale });
        }
        let others = tensors.keys().map(|it| format!("`{it}` is no low-rank change of a layer"));
        problems.extend(others);
        if pairs.is_empty() && problems.is_empty() {
            problems.push("it changes no module".into());
        }
        let origin = folder.display().to_string();
        match problems.is_empty() {
            true => Ok(Self { origin, config, pairs }),
            false => Err(LoraError::AdapterTensors { origin, problems }),
        }
    }

    /// An adapter of `pairs` with scale 1, in the settings that describe it to PEFT: patterns for
    /// whatever differs from the most frequent rank.
    pub fn new(origin: &str, pairs: BTreeMap<String, Pair>, like: &AdapterConfig) -> Self {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for pair in pairs.values() {
            *counts.entry(pair.rank()).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|(rank, count)| (**count, std::cmp::Reverse(**rank)));
        let rank = most.map_or(1, |(rank, _)| *rank);
        let others = || pairs.iter().filter(|(_, it)| it.rank() != rank);
        let config = AdapterConfig {
            rank,
            alpha: rank as f64,
            rank_pattern: others().map(|(path, it)| (pattern(path), it.rank())).collect(),
            alpha_pattern: others().map(|(path, it)| (pattern(path), it.rank() as f64)).collect(),
            rslora: false,
            dora: false,
            targets: Targets::Names(pairs.keys().cloned().collect()),
            excluded: Default::default(),
            modules_to_save: Vec::new(),
            dropout: 0.0,
            base_name: like.base_name.clone(),
        };
        Self { origin: origin.to_owned(), config, pairs }
    }

    /// adapter_config.json and adapter_model.safetensors.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn files(&self) -> Result<[(&'static str, Vec<u8>); 2]> {
        let mut tensors = Vec::with_capacity(2 * self.pairs.len());
        for (path, pair) in &self.pairs {
            for (which, it) in [("A", &pair.a), ("B", &pair.b)] {
                let shape = (it.rows, it.cols);
                let tensor = Tensor::from_vec(it.values.clone(), shape, &Device::Cpu)?;
                tensors.push((format!("{PREFIX}{path}.lora_{which}.weight"), tensor));
            }
        }
        Ok([
            (TENSORS_FILE, peft::safetensors_bytes(&tensors)?),
            (peft::CONFIG_FILE, peft::config_json(&self.config).into_bytes()),
        ])
    }
}

/// A path as the pattern that matches it alone.
fn pattern(path: &str) -> String {
    path.replace('.', r"\.")
}

/// The module of a tensor of a pair, told once for each module where possible.
fn path_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.strip_suffix(".lora_A.weight").map(str::to_owned)
}
