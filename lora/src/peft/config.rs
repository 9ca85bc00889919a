//! What adapter_config.json says, and what of it is supported.

use serde_json::{Map, Value};

use super::targets::{Excluded, Targets, by_pattern};
use crate::Result;

/// Keys that change nothing about what a trained adapter computes.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

/// Keys that are read.
const READ: &[&str] = &[
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "layers_to_transform",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_dora",
    "use_rslora",
];

/// An adapter's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank, where no pattern says otherwise.
    pub rank: usize,
    /// Numerator of the scale, where no pattern says otherwise.
    pub alpha: f64,
    /// Ranks of some modules.
    pub rank_pattern: Vec<(String, usize)>,
    /// Numerators of some modules.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Whether the scale is `alpha / sqrt(r)`.
    pub rslora: bool,
    /// Whether rows have learned magnitudes.
    pub dora: bool,
    /// Modules that are changed.
    pub targets: Targets,
    /// Modules and layers left out.
    pub excluded: Excluded,
    /// Modules that were trained whole (`lm_head`, `embed_tokens`).
    pub modules_to_save: Vec<String>,
    /// Dropout that it was trained with.
    pub dropout: f64,
    /// What its maker called the base.
    pub base_name: Option<String>,
}

impl AdapterConfig {
    /// Rank of the module at `path`.
    ///
    /// # Errors
    /// `bad-targets` for a pattern that is none.
    pub fn rank_of(&self, path: &str) -> Result<usize> {
        Ok(by_pattern(&self.rank_pattern, path)?.unwrap_or(self.rank))
    }

    /// Scale of the module at `path`.
    ///
    /// # Errors
    /// `bad-targets` for a pattern that is none.
    pub fn scale_of(&self, path: &str) -> Result<f32> {
        let alpha = by_pattern(&self.alpha_pattern, path)?.unwrap_or(self.alpha);
        let rank = self.rank_of(path)? as f64;
        Ok((alpha / if self.rslora { rank.sqrt() } else { rank }) as f32)
    }

    /// Reads a config, or says all that is wrong with it.
    ///
    /// # Errors
    /// Every problem.
    pub fn from_json(value: &Value) -> std::result::Result<Self, Vec<String>> {
        let Value::Object(map) = value else { return Err(vec!["it is no object".into()]) };
        let mut reader = Reader { map, problems: Vec::new() };
        let config = reader.config();
        match reader.problems.is_empty() {
            true => Ok(config),
            false => Err(reader.problems),
        }
    }
}

struct Reader<'a> {
    map: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    fn config(&mut self) -> AdapterConfig {
        self.refuse_others();
        let peft_type = self.map.get("peft_type").and_then(Value::as_str).unwrap_or("(absent)");
        if peft_type != "LORA" {
            self.problems.push(format!("`peft_type` is {peft_type}, only LORA is supported"));
        }
        if !matches!(self.map.get("bias").and_then(Value::as_str), None | Some("none")) {
            self.problems.push("`bias` is not none: trained biases are not supported".into());
        }
        let excluded = self.set("exclude_modules").map(|it| self.targets("exclude_modules", it));
        let targets = match self.set("target_modules") {
            Some(it) => self.targets("target_modules", it),
            None => {
                self.problems.push("`target_modules` is absent".into());
                Targets::AllLinear
            }
        };
        AdapterConfig {
            rank: self.positive("r", 8),
            alpha: self.number("lora_alpha", 8.0),
            rank_pattern: self.table("rank_pattern", |it| {
                it.as_u64().filter(|it| (1..=65_536).contains(it)).map(|it| it as usize)
            }),
            alpha_pattern: self
                .table("alpha_pattern", |it| it.as_f64().filter(|it| it.is_finite())),
            rslora: self.flag("use_rslora"),
            dora: self.flag("use_dora"),
            targets,
            excluded: Excluded { modules: excluded, layers: self.layers() },
            modules_to_save: self.saved(),
            dropout: self.number("lora_dropout", 0.0),
            base_name: self
                .map
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(str::to_string),
        }
    }

    /// A key that nobody reads may change what the adapter means, if it is set.
    fn refuse_others(&mut self) {
        for (key, value) in self.map {
            let known = HARMLESS.contains(&key.as_str()) || READ.contains(&key.as_str());
            if !known && is_set(value) {
                self.problems.push(format!("`{key}` is not supported: {value}"));
            }
        }
    }

    fn set(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|it| !it.is_null())
    }

    fn positive(&mut self, key: &str, default: usize) -> usize {
        match self.set(key).map(Value::as_u64) {
            None => default,
            Some(Some(it @ 1..=65_536)) => it as usize,
            Some(_) => {
                self.problems.push(format!("`{key}` must be a whole number from 1 to 65536"));
                default
            }
        }
    }

    fn number(&mut self, key: &str, default: f64) -> f64 {
        match self.set(key).map(Value::as_f64) {
            None => default,
            Some(Some(it)) if it.is_finite() => it,
            Some(_) => {
                self.problems.push(format!("`{key}` must be a number"));
                default
            }
        }
    }

    fn flag(&mut self, key: &str) -> bool {
        match self.set(key).map(Value::as_bool) {
            None => false,
            Some(Some(it)) => it,
            Some(None) => {
                self.problems.push(format!("`{key}` must be true or false"));
                false
            }
        }
    }

    fn targets(&mut self, key: &str, value: &Value) -> Targets {
        let names = value.as_array().map(|list| list.iter().map(|it| it.as_str()).collect());
        match (value.as_str(), names) {
            (Some("all-linear"), _) => Targets::AllLinear,
            (Some(pattern), _) => Targets::Pattern(pattern.to_string()),
            (_, Some(Some(names))) => {
                let names: Vec<&str> = names;
                Targets::Names(names.into_iter().map(str::to_string).collect())
            }
            _ => {
                self.problems.push(format!("`{key}` must be names or a pattern"));
                Targets::AllLinear
            }
        }
    }

    fn layers(&mut self) -> Option<Vec<usize>> {
        let value = self.set("layers_to_transform")?;
        let one = value.as_u64().map(|it| vec![it as usize]);
        let several = || {
            let list = value.as_array()?;
            list.iter().map(|it| it.as_u64().map(|it| it as usize)).collect::<Option<Vec<_>>>()
        };
        let layers = one.or_else(several);
        if layers.is_none() {
            self.problems.push("`layers_to_transform` must be numbers of layers".into());
        }
        layers
    }

    fn saved(&mut self) -> Vec<String> {
        let Some(value) = self.set("modules_to_save") else { return Vec::new() };
        let names = value.as_array().map(|list| list.iter().map(Value::as_str).collect());
        let Some(Some(names)) = names else {
            self.problems.push("`modules_to_save` must be names".into());
            return Vec::new();
        };
        let names: Vec<&str> = names;
        for name in &names {
            if !matches!(*name, "lm_head" | "embed_tokens") {
                self.problems.push(format!("`modules_to_save`: `{name}` is not supported"));
            }
        }
        names.into_iter().map(str::to_string).collect()
    }

    fn table<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Vec<(String, T)> {
        let Some(value) = self.set(key) else { return Vec::new() };
        let entries = value.as_object().and_then(|it| {
            it.iter().map(|(key, value)| Some((key.clone(), read(value)?))).collect::<Option<_>>()
        });
        entries.unwrap_or_else(|| {
            self.problems.push(format!("`{key}` must map patterns to numbers"));
            Vec::new()
        })
    }
}

/// Whether a value is more than an absent one.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(it) => !it.is_empty(),
        Value::Object(it) => !it.is_empty(),
        _ => true,
    }
}
