//! One model of the registry, and what it needs of a machine.

use serde::Deserialize;

/// A model that can be asked for by name. Facts that are not certain are absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Unique name: family, `:`, size or variant.
    pub name: String,
    /// Other unique names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Its name as its makers write it.
    pub title: String,
    /// One sentence for a list.
    pub description: String,
    /// What it is good for.
    #[serde(default)]
    pub specialty: Vec<Specialty>,
    /// `organization/name` on the Hub, or `builtin`.
    pub repo: String,
    /// Commit of the repository, 40 hexadecimal digits; never a branch.
    pub revision: Option<String>,
    /// The family of its config.json.
    pub architecture: Architecture,
    /// Number of parameters.
    pub params: Option<u64>,
    /// Longest context in tokens (`max_position_embeddings`).
    pub context: Option<usize>,
    /// SPDX expression.
    pub license: String,
    /// Where the license is, if it is not a common one.
    pub license_url: Option<String>,
    /// Whether the repository asks its visitors to agree to something first.
    #[serde(default)]
    pub gated: bool,
    /// How its repository stores the weights.
    pub dtype: Option<StoredType>,
    /// Names of models for which it can draft: same tokenizer, much smaller.
    #[serde(default)]
    pub draft_for: Vec<String>,
    /// Whether this project has loaded and run these very weights.
    #[serde(default)]
    pub verified: bool,
    /// What decides its need of memory beside the weights.
    pub memory: Option<MemoryShape>,
}

/// Families that the engine loads, as config.json calls them (`model_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are those of the families")]
pub enum Architecture {
    Qwen2,
    Qwen3,
    Qwen3Moe,
    Llama,
    Mistral,
    Mixtral,
    Phi3,
}

/// What a model is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Specialty {
    /// Dialog.
    Chat,
    /// Continuing text.
    Completion,
    /// Programs.
    Code,
    /// Thinking aloud before an answer.
    Reasoning,
    /// Being taught to judge rationales.
    CriticBase,
    /// Proposing tokens for a larger model.
    Draft,
    /// Showing that the program works.
    Demo,
}

/// How a repository stores its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum StoredType {
    F32,
    F16,
    Bf16,
}

/// Sizes from which the need of memory for any context can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryShape {
    /// Number of layers.
    pub layers: u64,
    /// Key and value heads of a layer.
    pub kv_heads: u64,
    /// Length of a head.
    pub head_dim: u64,
    /// Length of a hidden state.
    pub hidden: u64,
    /// Size of the vocabulary.
    pub vocab: u64,
}

impl Entry {
    /// Whether it is part of the program.
    pub fn is_builtin(&self) -> bool {
        self.repo == "builtin"
    }

    /// Whether `name` is its name, an alias or its repository, in any case of letters.
    pub fn is_called(&self, name: &str) -> bool {
        let mut names = self.names().chain([self.repo.as_str()]);
        names.any(|it| it.eq_ignore_ascii_case(name))
    }

    /// Its name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }

    /// Bytes to run it with a context of so many tokens: weights of so many bits each, a cache of
    /// float32 keys and values, and a tenth more for activations and the program. An estimate;
    /// `None` where the facts are not known.
    pub fn bytes_needed(&self, bits_per_weight: f64, context: u64) -> Option<u64> {
        let weights = self.params? as f64 * bits_per_weight / 8.0;
        let cache = self.memory?.kv_bytes_per_token(4)?.checked_mul(context)?;
        Some(((weights + cache as f64) * 1.1) as u64)
    }
}

impl MemoryShape {
    /// Bytes of keys and values for one token, or `None` where that does not fit a number.
    pub fn kv_bytes_per_token(&self, bytes_per_value: u64) -> Option<u64> {
        [self.layers, self.kv_heads, self.head_dim, bytes_per_value]
            .into_iter()
            .try_fold(2_u64, u64::checked_mul)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::registry::Registry;

    #[test]
    fn memory_follows_from_the_shape() {
        let entry = Registry::embedded().find("qwen2.5:0.5b").unwrap();
        // 2 (key, value) x 24 layers x 2 heads x 64 values x 4 bytes.
        assert_eq!(entry.memory.unwrap().kv_bytes_per_token(4), Some(24_576));
        let weights = 494_032_768.0 * 2.0;
        let cache = 24_576.0 * 4096.0;
        let expected = ((weights + cache) * 1.1) as u64;
        assert_eq!(entry.bytes_needed(16.0, 4096), Some(expected));
    }

    #[test]
    fn an_absurd_context_has_no_estimate() {
        let entry = Registry::embedded().find("mistral:7b").unwrap();
        assert_eq!(entry.bytes_needed(16.0, u64::MAX), None);
    }
}
