//! From a GGUF file's metadata to config.json and generation_config.json in Hugging Face's keys.
//!
//! It knows the keys of both sides, and must not know tensors beyond whether some exist, nor what a
//! model computes. Sources: the key list of gguf-py (`constants.py`) and the configuration classes
//! of transformers.

use serde_json::{Map, Value, json};

use super::{
    Result, SourceError,
    error::{Problems, quoted},
    gguf::{Gguf, GgufValue},
};

/// Families of models that GGUF files may hold and that are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Llama, and Mistral where the file has no sliding window.
    Llama,
    /// Mistral with a sliding window.
    Mistral,
    /// Mixtral: architecture `llama` with experts.
    Mixtral,
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Phi3,
}

impl Family {
    /// The family of `gguf`.
    ///
    /// # Errors
    /// The file is no model, or one of an architecture that is not run.
    pub(super) fn of(gguf: &Gguf) -> Result<Self> {
        let file = || gguf.origin.clone();
        if let Some(kind) = gguf.get("general.type").and_then(GgufValue::as_str)
            && kind != "model"
        {
            let found = format!("it is a GGUF file of type {}", quoted(kind));
            return Err(SourceError::NotAModel { file: file(), found });
        }
        let Some(architecture) = gguf.get("general.architecture").and_then(GgufValue::as_str)
        else {
            let problems = "`general.architecture` is missing or not a text".into();
            return Err(SourceError::GgufMetadata { file: file(), problems });
        };
        let positive =
            |key: &str| gguf.get(key).and_then(GgufValue::as_u64).is_some_and(|value| value > 0);
        match architecture {
            "llama" if positive("llama.expert_count") => Ok(Family::Mixtral),
            "llama" if positive("llama.attention.sliding_window") => Ok(Family::Mistral),
            "llama" => Ok(Family::Llama),
            "qwen2" => Ok(Family::Qwen2),
            "qwen3" => Ok(Family::Qwen3),
            "qwen3moe" => Ok(Family::Qwen3Moe),
            "phi3" => Ok(Family::Phi3),
            other => Err(SourceError::UnsupportedArchitecture {
                file: file(),
                architecture: quoted(other),
            }),
        }
    }

    /// What metadata keys start with.
    fn prefix(self) -> &'static str {
        match self {
            Family::Llama | Family::Mistral | Family::Mixtral => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Qwen3Moe => "qwen3moe",
            Family::Phi3 => "phi3",
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::Mixtral => "mixtral",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Qwen3Moe => "qwen3_moe",
            Family::Phi3 => "phi3",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Family::Llama => "LlamaForCausalLM",
            Family::Mistral => "MistralForCausalLM",
            Family::Mixtral => "MixtralForCausalLM",
            Family::Qwen2 => "Qwen2ForCausalLM",
            Family::Qwen3 => "Qwen3ForCausalLM",
            Family::Qwen3Moe => "Qwen3MoeForCausalLM",
            Family::Phi3 => "Phi3ForCausalLM",
        }
    }

    /// Whether the file stores query and key rows in the order of interleaved rotary pairs
    /// (llama.cpp's converter turns them for architecture `llama` alone).
    pub(super) fn has_interleaved_rows(self) -> bool {
        self.prefix() == "llama"
    }
}

/// The numbers of attention heads, and of experts, that tensors are cut by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) experts: usize,
}

/// What a model of `family` is, in Hugging Face's keys.
///
/// # Errors
/// [`SourceError::GgufMetadata`] with all keys that are missing or wrong.
pub(super) fn config(gguf: &Gguf, family: Family) -> Result<(Value, Counts)> {
    let mut keys = Keys { gguf, prefix: family.prefix(), problems: Problems::default() };
    let mut config = Map::new();
    config.insert("architectures".into(), json!([family.class()]));
    config.insert("model_type".into(), json!(family.model_type()));
    let heads = keys.required("attention.head_count");
    let kv_heads = keys.count("attention.head_count_kv").unwrap_or(heads);
    let hidden_size = keys.required("embedding_length");
    let head_dim =
        keys.count("attention.key_length").or_else(|| hidden_size.checked_div(heads)).unwrap_or(0);
    if let Some(value_length) = keys.count("attention.value_length").filter(|it| *it != head_dim) {
        keys.problem(format!("values of {value_length} beside keys of {head_dim} are not run"));
    }
    config.insert("hidden_size".into(), json!(hidden_size));
    config.insert("num_hidden_layers".into(), json!(keys.required("block_count")));
    config.insert("num_attention_heads".into(), json!(heads));
    config.insert("num_key_value_heads".into(), json!(kv_heads));
    config.insert("head_dim".into(), json!(head_dim));
    config.insert("intermediate_size".into(), json!(keys.required("feed_forward_length")));
    config.insert("max_position_embeddings".into(), json!(keys.required("context_length")));
    config.insert(
        "rms_norm_eps".into(),
        json!(keys.required_number("attention.layer_norm_rms_epsilon")),
    );
    config.insert("hidden_act".into(), json!("silu"));
    config.insert("tie_word_embeddings".into(), json!(!gguf.tensors.contains_key("output.weight")));
    if matches!(family, Family::Llama | Family::Qwen3 | Family::Qwen3Moe) {
        config
            .insert("attention_bias".into(), json!(gguf.tensors.contains_key("blk.0.attn_q.bias")));
    }
    if family == Family::Llama {
        config.insert("mlp_bias".into(), json!(gguf.tensors.contains_key("blk.0.ffn_gate.bias")));
    }
    let experts = insert_experts(&mut keys, family, &mut config);
    insert_window(&mut keys, family, &mut config);
    insert_rope(&mut keys, family, head_dim, &mut config);
    insert_vocabulary(&mut keys, &mut config);
    if !keys.problems.is_empty() {
        return Err(SourceError::GgufMetadata {
            file: gguf.origin.clone(),
            problems: keys.problems,
        });
    }
    let usize_of = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let counts =
        Counts { heads: usize_of(heads), kv_heads: usize_of(kv_heads), experts: usize_of(experts) };
    Ok((config.into(), counts))
}

/// End tokens and recommended sampling, as generation_config.json has them.
pub(super) fn generation_config(gguf: &Gguf) -> Value {
    let mut config = Map::new();
    let id = |name: &str| {
        gguf.get(&format!("tokenizer.ggml.{name}_token_id")).and_then(GgufValue::as_u64)
    };
    if let Some(bos) = id("bos") {
        config.insert("bos_token_id".into(), json!(bos));
    }
    if let Some(pad) = id("padding") {
        config.insert("pad_token_id".into(), json!(pad));
    }
    let mut ends: Vec<u64> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
    ends.dedup();
    if !ends.is_empty() {
        config.insert("eos_token_id".into(), json!(ends));
    }
    let sampling = [
        ("temp", "temperature"),
        ("top_k", "top_k"),
        ("top_p", "top_p"),
        ("min_p", "min_p"),
        ("penalty_repeat", "repetition_penalty"),
    ];
    for (theirs, ours) in sampling {
        let value = gguf.get(&format!("general.sampling.{theirs}"));
        match value.map(|value| (value.as_u64(), value.as_f64())) {
            Some((Some(whole), _)) => config.insert(ours.into(), json!(whole)),
            Some((None, Some(number))) => config.insert(ours.into(), json!(number)),
            _ => None,
        };
    }
    if let Some(temperature) = config.get("temperature").and_then(Value::as_f64) {
        config.insert("do_sample".into(), json!(temperature > 0.0));
    }
    config.into()
}

fn insert_experts(keys: &mut Keys<'_>, family: Family, config: &mut Map<String, Value>) -> u64 {
    if !matches!(family, Family::Mixtral | Family::Qwen3Moe) {
        return 0;
    }
    let experts = keys.required("expert_count");
    config.insert("num_experts_per_tok".into(), json!(keys.required("expert_used_count")));
    if family == Family::Mixtral {
        config.insert("num_local_experts".into(), json!(experts));
    } else {
        config.insert("num_experts".into(), json!(experts));
        let size = keys.required("expert_feed_forward_length");
        config.insert("moe_intermediate_size".into(), json!(size));
        // The file has no key for these: every published model has them so.
        config.insert("norm_topk_prob".into(), json!(true));
        config.insert("decoder_sparse_step".into(), json!(1));
        config.insert("mlp_only_layers".into(), json!([]));
    }
    experts
}

fn insert_window(keys: &mut Keys<'_>, family: Family, config: &mut Map<String, Value>) {
    // Zero is how converters write that there is none.
    let window = keys.count("attention.sliding_window").filter(|it| *it > 0);
    match (family, window) {
        (Family::Mistral | Family::Mixtral | Family::Phi3, _) => {
            config.insert("sliding_window".into(), json!(window));
        }
        (Family::Llama, _) | (_, None) => {}
        (_, Some(window)) => {
            keys.problem(format!("a sliding window of {window} is not run for this architecture"));
        }
    }
    if matches!(family, Family::Qwen2 | Family::Qwen3 | Family::Qwen3Moe) {
        config.insert("use_sliding_window".into(), json!(false));
    }
}

fn insert_rope(
    keys: &mut Keys<'_>,
    family: Family,
    head_dim: u64,
    config: &mut Map<String, Value>,
) {
    config.insert("rope_theta".into(), json!(keys.number("rope.freq_base").unwrap_or(10_000.0)));
    if let Some(rotary) = keys.count("rope.dimension_count").filter(|it| *it != head_dim) {
        if rotary == 0 || rotary > head_dim {
            keys.problem(format!("{rotary} rotary dimensions of {head_dim}"));
        } else {
            config.insert("partial_rotary_factor".into(), json!(fraction(rotary, head_dim)));
        }
    }
    let original = keys.count("rope.scaling.original_context_length").filter(|it| *it > 0);
    if let (Family::Phi3, Some(original)) = (family, original) {
        config.insert("original_max_position_embeddings".into(), json!(original));
    }
    if let Some(scaling) = rope_scaling(keys, original) {
        config.insert("rope_scaling".into(), scaling);
    }
}

/// A number whose product with `whole` truncates to `part`, as transformers computes it.
fn fraction(part: u64, whole: u64) -> f64 {
    let quotient = part as f64 / whole as f64;
    if (quotient * whole as f64) as u64 == part { quotient } else { quotient.next_up() }
}

fn rope_scaling(keys: &mut Keys<'_>, original: Option<u64>) -> Option<Value> {
    let factor = keys.number("rope.scaling.factor").or_else(|| keys.number("rope.scale_linear"));
    let named = keys.text("rope.scaling.type");
    let has_factors = keys.gguf.tensors.contains_key("rope_factors_long.weight");
    let kind = match named {
        _ if has_factors => "longrope",
        Some(kind) => kind,
        None if factor.is_some_and(|factor| factor != 1.0) => "linear",
        None => "none",
    };
    let mut scaling = Map::new();
    scaling.insert("rope_type".into(), json!(kind));
    match kind {
        "none" => return None,
        "linear" => {
            scaling.insert("factor".into(), json!(factor.unwrap_or(1.0)));
        }
        "yarn" => insert_yarn(keys, factor, original, &mut scaling),
        "longrope" => insert_longrope(keys, original, &mut scaling),
        other => keys.problem(format!("rope scaling of type {} is not run", quoted(other))),
    }
    Some(scaling.into())
}

fn insert_yarn(
    keys: &mut Keys<'_>,
    factor: Option<f64>,
    original: Option<u64>,
    scaling: &mut Map<String, Value>,
) {
    let factor = factor.unwrap_or_else(|| {
        keys.problem("`rope.scaling.factor` is missing");
        1.0
    });
    scaling.insert("factor".into(), json!(factor));
    if let Some(original) = original {
        scaling.insert("original_max_position_embeddings".into(), json!(original));
    }
    for (theirs, ours) in [("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")] {
        if let Some(beta) = keys.number(&format!("rope.scaling.{theirs}")) {
            scaling.insert(ours.into(), json!(beta));
        }
    }
    // In llama.cpp the key multiplies YaRN's own factor, which transformers' key replaces.
    if let Some(multiplier) = keys.number("rope.scaling.attn_factor").filter(|it| *it != 1.0) {
        let own = if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 };
        scaling.insert("attention_factor".into(), json!(multiplier * own));
    }
}

fn insert_longrope(keys: &mut Keys<'_>, original: Option<u64>, scaling: &mut Map<String, Value>) {
    for length in ["long", "short"] {
        let name = format!("rope_factors_{length}.weight");
        match keys.gguf.tensors.get(&name).and_then(super::gguf_model::float_values) {
            Some(values) if values.iter().all(|value| value.is_finite() && *value > 0.0) => {
                let decimals = values.into_iter().map(|value| GgufValue::F32(value).as_f64());
                scaling.insert(format!("{length}_factor"), json!(decimals.collect::<Vec<_>>()));
            }
            _ => keys.problem(format!("tensor {name} is missing, or not of positive f32 numbers")),
        }
    }
    let Some(original) = original else {
        return keys.problem("`rope.scaling.original_context_length` is missing");
    };
    let longer = keys.count("context_length").unwrap_or(original) as f64 / original as f64;
    let own = if longer > 1.0 { (1.0 + longer.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
    // Where the stored number is transformers' own but for its rounding, it is left out, so that
    // both compute the same one.
    const F32_ROUNDING: f64 = 1e-6;
    if let Some(stored) =
        keys.number("rope.scaling.attn_factor").filter(|it| (it / own - 1.0).abs() > F32_ROUNDING)
    {
        scaling.insert("attention_factor".into(), json!(stored));
    }
}

fn insert_vocabulary(keys: &mut Keys<'_>, config: &mut Map<String, Value>) {
    let Some(rows) = keys.gguf.tensors.get("token_embd.weight").and_then(|it| it.shape.first())
    else {
        return keys.problem("tensor token_embd.weight is missing");
    };
    config.insert("vocab_size".into(), json!(rows));
    let tokens =
        keys.gguf.get("tokenizer.ggml.tokens").and_then(GgufValue::as_strings).map(<[String]>::len);
    if let Some(tokens) = tokens.filter(|tokens| tokens > rows) {
        keys.problem(format!("{tokens} tokens, but embeddings of {rows}"));
    }
    for name in ["bos", "eos", "eot", "eom", "unknown", "padding"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(value) = keys.gguf.get(&key) else {
            continue;
        };
        match value.as_u64() {
            Some(id) if id < *rows as u64 => {
                if matches!(name, "bos" | "eos") {
                    config.insert(format!("{name}_token_id"), json!(id));
                }
            }
            Some(id) => {
                keys.problem(format!("`{key}` is {id}, but embeddings are of {rows} tokens"))
            }
            None => keys.problem(format!("`{key}` is {}, not a token's id", value.type_name())),
        }
    }
}

/// Typed access to one architecture's keys; wrong types are noted.
struct Keys<'a> {
    gguf: &'a Gguf,
    prefix: &'static str,
    problems: Problems,
}

impl<'a> Keys<'a> {
    fn problem(&mut self, line: impl Into<String>) {
        self.problems.push(line);
    }

    fn value(&self, key: &str) -> Option<&'a GgufValue> {
        self.gguf.get(&format!("{}.{key}", self.prefix))
    }

    fn wrong_type(&mut self, key: &str, value: &GgufValue, wanted: &str) {
        self.problems.push(format!(
            "`{}.{key}` is {}, not {wanted}",
            self.prefix,
            value.type_name()
        ));
    }

    /// A whole number; a list for the layers counts where all its numbers are one.
    fn count(&mut self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        let same = |list: &[i64]| match list {
            [first, rest @ ..] if rest.iter().all(|it| it == first) => u64::try_from(*first).ok(),
            _ => None,
        };
        let count = value.as_u64().or_else(|| value.as_i64s().and_then(same));
        if count.is_none() {
            self.wrong_type(key, value, "one whole number");
        }
        count
    }

    fn required(&mut self, key: &str) -> u64 {
        match (self.value(key).is_some(), self.count(key)) {
            (_, Some(count)) if count > 0 => count,
            (_, Some(_)) => {
                self.problems.push(format!("`{}.{key}` is 0", self.prefix));
                0
            }
            (true, None) => 0,
            (false, None) => {
                self.problems.push(format!("`{}.{key}` is missing", self.prefix));
                0
            }
        }
    }

    fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.value(key)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            self.wrong_type(key, value, "a finite number");
        }
        number
    }

    fn required_number(&mut self, key: &str) -> f64 {
        if self.value(key).is_none() {
            self.problems.push(format!("`{}.{key}` is missing", self.prefix));
        }
        self.number(key).unwrap_or_default()
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.value(key)?;
        if value.as_str().is_none() {
            self.wrong_type(key, value, "a text");
        }
        value.as_str()
    }
}
