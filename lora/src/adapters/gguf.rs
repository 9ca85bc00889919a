//! An adapter as the GGUF file that llama.cpp applies with `--lora`.
//!
//! llama.cpp knows one `alpha` for the whole file and divides it by each tensor's rank. Whatever
//! else makes up our scales (rsLoRA, patterns) is multiplied into `B`. Files of architecture
//! `llama` hold the rows of queries and keys in the order of interleaved rotary pairs, so the rows
//! of their `B` are put in that order too.

use serde_json::Value;

use super::{Factors, Matrix, Pair};
use crate::{LoraError, Result};

const MAGIC: &[u8] = b"GGUF";
const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;
const TYPE_F32_VALUE: u32 = 6;
const TYPE_STRING: u32 = 8;
const TENSOR_F32: u32 = 0;

/// What the file must know of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufBase {
    architecture: &'static str,
    heads: usize,
    kv_heads: usize,
}

impl GgufBase {
    /// The base of a config.json.
    ///
    /// # Errors
    /// `bad-export` for a family whose adapters llama.cpp does not take.
    pub fn of_config(config: &Value) -> Result<Self> {
        let family = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let architecture = match family {
            "llama" | "mistral" => "llama",
            "qwen2" => "qwen2",
            "qwen3" => "qwen3",
            "phi3" => "phi3",
            other => {
                let what = format!("a model of type `{other}` has no GGUF form for adapters here");
                return Err(LoraError::Export { what });
            }
        };
        let count = |key: &str| config.get(key).and_then(Value::as_u64).map(|it| it as usize);
        let Some(heads) = count("num_attention_heads").filter(|it| *it > 0) else {
            let what = "the config.json of the base has no `num_attention_heads`".to_owned();
            return Err(LoraError::Export { what });
        };
        let kv_heads = count("num_key_value_heads").filter(|it| *it > 0).unwrap_or(heads);
        Ok(Self { architecture, heads, kv_heads })
    }

    /// Heads whose rows this base holds interleaved.
    fn interleaved(&self, path: &str) -> Option<usize> {
        match path.rsplit('.').next() {
            Some("q_proj") if self.architecture == "llama" => Some(self.heads),
            Some("k_proj") if self.architecture == "llama" => Some(self.kv_heads),
            _ => None,
        }
    }

    /// The base's name for a module.
    fn name(&self, path: &str) -> Option<String> {
        if path == "lm_head" {
            return Some("output.weight".into());
        }
        let (layer, module) = path.strip_prefix("model.layers.")?.split_once('.')?;
        let module = match module {
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.qkv_proj" => "attn_qkv",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => return None,
        };
        Some(format!("blk.{layer}.{module}.weight"))
    }
}

/// The file's bytes.
///
/// # Errors
/// `bad-export` for a module without a GGUF name, or one whose rows are no whole heads.
pub fn gguf_bytes(adapter: &Factors, base: &GgufBase, name: &str) -> Result<Vec<u8>> {
    let alpha = match adapter.config.rslora {
        true => adapter.config.alpha * (adapter.config.rank as f64).sqrt(),
        false => adapter.config.alpha,
    } as f32;
    // An alpha of 0 means no alpha to llama.cpp.
    let alpha = if alpha == 0.0 { adapter.config.rank as f32 } else { alpha };
    let mut tensors: Vec<(String, Matrix)> = Vec::with_capacity(2 * adapter.pairs.len());
    for (path, pair) in &adapter.pairs {
        let Some(weight) = base.name(path) else {
            return Err(LoraError::Export { what: format!("`{path}` has no name in GGUF") });
        };
        tensors.push((format!("{weight}.lora_a"), pair.a.clone()));
        tensors.push((format!("{weight}.lora_b"), b_of(path, pair, base, alpha)?));
    }
    Ok(file(base.architecture, name, alpha, &tensors))
}

/// `B` with the part of the scale that one alpha can't say, in the base's order of rows.
fn b_of(path: &str, pair: &Pair, base: &GgufBase, alpha: f32) -> Result<Matrix> {
    let factor = f64::from(pair.scale) / (f64::from(alpha) / pair.rank() as f64);
    let Matrix { rows, cols, values } = &pair.b;
    let mut out = Vec::with_capacity(values.len());
    let heads = base.interleaved(path);
    if let Some(heads) = heads
        && !rows.is_multiple_of(2 * heads)
    {
        let what = format!("`{path}` has {rows} rows, no multiple of twice {heads} heads");
        return Err(LoraError::Export { what });
    }
    for row in 0..*rows {
        let row = heads.map_or(row, |heads| interleaved(row, rows / heads));
        let values = &values[row * cols..(row + 1) * cols];
        // A factor of one must not cost a bit.
        let scaled = |it: &f32| if factor == 1.0 { *it } else { (f64::from(*it) * factor) as f32 };
        out.extend(values.iter().map(scaled));
    }
    Ok(Matrix { rows: *rows, cols: *cols, values: out })
}

/// The row of Hugging Face's order that stands at `row` in the order of interleaved pairs.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

fn file(architecture: &str, name: &str, alpha: f32, tensors: &[(String, Matrix)]) -> Vec<u8> {
    let texts = [
        ("general.type", "adapter"),
        ("general.architecture", architecture),
        ("general.name", name),
        ("adapter.type", "lora"),
    ];
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((texts.len() as u64 + 1).to_le_bytes());
    for (key, value) in texts {
        text(&mut out, key);
        out.extend(TYPE_STRING.to_le_bytes());
        text(&mut out, value);
    }
    text(&mut out, "adapter.lora.alpha");
    out.extend(TYPE_F32_VALUE.to_le_bytes());
    out.extend(alpha.to_le_bytes());
    let mut offset = 0u64;
    for (name, matrix) in tensors {
        text(&mut out, name);
        out.extend(2u32.to_le_bytes());
        // Innermost dimension first.
        out.extend((matrix.cols as u64).to_le_bytes());
        out.extend((matrix.rows as u64).to_le_bytes());
        out.extend(TENSOR_F32.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += (4 * matrix.values.len()).next_multiple_of(ALIGNMENT) as u64;
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    for (_, matrix) in tensors {
        out.extend(matrix.values.iter().flat_map(|it| it.to_le_bytes()));
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    }
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_rows_are_interleaved_in_each_head() {
        let rows: Vec<usize> = (0..8).map(|it| interleaved(it, 4)).collect();
        assert_eq!(rows, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn scales_are_folded_into_b() {
        let base = GgufBase { architecture: "qwen2", heads: 2, kv_heads: 2 };
        let pair = Pair {
            a: Matrix { rows: 4, cols: 1, values: vec![0.0; 4] },
            b: Matrix { rows: 1, cols: 4, values: vec![1.0; 4] },
            scale: 3.0,
        };
        // llama.cpp multiplies by 8 / 4.
        let b = b_of("model.layers.0.self_attn.q_proj", &pair, &base, 8.0);
        assert!(b.is_ok_and(|it| it.values == [1.5; 4]));
    }
}
