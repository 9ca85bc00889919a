//! Random weights in the shapes of real models, for speed and memory: values do not matter there.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use half::bf16;
use minicrit_engine::arch;
use serde_json::{Value, json};

/// A real model's shape.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// 8 layers of 256, 8 heads over 4, a vocabulary of 4,096: 7.9 million parameters.
    Mini,
    /// Qwen2.5-0.5B: 24 layers of 896, 14 heads over 2, tied vocabulary of 151,936.
    Qwen2_0_5b,
    /// Qwen2.5-1.5B: 28 layers of 1,536, 12 heads over 2, tied vocabulary of 151,936.
    Qwen2_1_5b,
    /// Llama-3.2-1B: 16 layers of 2,048, 32 heads over 8, tied vocabulary of 128,256.
    Llama3_1b,
}

impl Shape {
    /// Name for files and benchmark ids.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Mini => "mini",
            Shape::Qwen2_0_5b => "qwen2.5-0.5b",
            Shape::Qwen2_1_5b => "qwen2.5-1.5b",
            Shape::Llama3_1b => "llama-3.2-1b",
        }
    }

    /// config.json in the Hub's spelling.
    pub fn config(self) -> Value {
        let qwen = |hidden: usize, layers: usize, heads: usize, ffn: usize| {
            json!({
                "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu",
                "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers,
                "num_attention_heads": heads, "num_key_value_heads": 2, "vocab_size": 151_936,
                "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
                "tie_word_embeddings": true, "use_sliding_window": false, "sliding_window": 32_768,
                "max_window_layers": layers, "torch_dtype": "bfloat16",
            })
        };
        match self {
            Shape::Qwen2_0_5b => qwen(896, 24, 14, 4_864),
            Shape::Qwen2_1_5b => qwen(1_536, 28, 12, 8_960),
            Shape::Mini => json!({
                "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
                "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 8,
                "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 4_096,
                "max_position_embeddings": 4_096, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
                "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            }),
            Shape::Llama3_1b => json!({
                "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
                "hidden_size": 2_048, "intermediate_size": 8_192, "num_hidden_layers": 16,
                "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
                "vocab_size": 128_256, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5,
                "rope_theta": 5e5, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
            }),
        }
    }

    /// A folder with config.json and bf16 weights below `parent`, written if it is not there.
    pub fn folder(self, parent: &Path) -> PathBuf {
        let dir = parent.join(format!("shape-{}", self.name()));
        if !dir.join("config.json").exists() {
            std::fs::create_dir_all(&dir).expect("folder for weights");
            self.write_weights(&dir.join("model.safetensors")).expect("weights");
            std::fs::write(dir.join("config.json"), self.config().to_string()).expect("config");
        }
        dir
    }

    fn write_weights(self, path: &Path) -> std::io::Result<()> {
        let spec = arch::spec_from_config(&self.config()).expect("invariant: our own config");
        let names = arch::names(&spec);
        let tensors = names.expected();
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (name, shape) in &tensors {
            let start = end;
            end += 2 * shape.iter().product::<usize>();
            let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
            header.insert((*name).to_string(), entry);
        }
        let header = Value::Object(header).to_string();
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        for (name, shape) in tensors {
            let is_gain = name.contains("norm");
            for _ in 0..shape.iter().product::<usize>() {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let uniform = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                let value = if is_gain { 1.0 + 0.1 * uniform } else { 0.05 * uniform };
                file.write_all(&bf16::from_f32(value).to_le_bytes())?;
            }
        }
        file.flush()
    }
}
