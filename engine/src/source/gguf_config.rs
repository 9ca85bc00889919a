//! From a GGUF file's metadata to config.json and generation_config.json in Hugging Face's keys.
//!
//! It knows the keys of both sides, and must not know tensors beyond whether some exist, nor what a
//! model computes. Sources: the key list of gguf-py (`constants.py`) and the configuration classes
//! of transformers.

use serde_json::{Map, Value, json};

use super::{
    Result, SourceError,
    error::quoted,
    gguf::{Gguf, GgufValue},
    gguf_keys::Keys,
    gguf_rope::insert_rope,
};

/// Families of models that GGUF files may hold and that are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
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
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Family::Llama | Family::Mistral | Family::Mixtral => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Qwen3Moe => "qwen3moe",
            Family::Phi3 => "phi3",
        }
    }

    pub(crate) fn model_type(self) -> &'static str {
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
    pub(crate) fn has_interleaved_rows(self) -> bool {
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
    let mut keys = Keys::new(gguf, family.prefix());
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
