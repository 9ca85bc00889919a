//! A base and an adapter as one model of plain weights.
//!
//! Weights are merged in float32 and written as floats, one tensor in memory at a time. What an
//! adapter does to a tied embedding or head unties the two, as they are then two matrices.

use std::{borrow::Cow, collections::BTreeMap, io::Write};

use minicrit_engine::source::{ModelFiles, StoredTensor};
use minicrit_quant::{Format, QuantTensor};
use serde_json::{Map, Value, json};

use crate::{
    LoraError, Result,
    lora::Lora,
    modules::{EMBED, HEAD},
};

/// How merged weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusedDtype {
    /// As the base's floats; float32 where the base is quantized.
    Base,
    /// float32.
    F32,
    /// bfloat16: half the size, and changes below 1/256 of a weight are rounded away.
    Bf16,
}

/// The merged model, ready to be written.
pub struct Fused<'a> {
    files: &'a ModelFiles,
    lora: &'a Lora,
    dtype: FusedDtype,
    /// Names of the tensors and where their values come from.
    sources: BTreeMap<String, &'a StoredTensor>,
}

impl<'a> Fused<'a> {
    /// The merge of `files` and an adapter that was loaded for them.
    ///
    /// # Errors
    /// `bad-fuse` for a base without the tensors that the adapter changes.
    pub fn new(files: &'a ModelFiles, lora: &'a Lora, dtype: FusedDtype) -> Result<Self> {
        let mut sources: BTreeMap<String, &StoredTensor> =
            files.tensors.iter().map(|(name, it)| (name.clone(), it)).collect();
        let (embed, head) = (weight(EMBED), weight(HEAD));
        let own_head = sources.contains_key(&head);
        let moves_head = lora.modules().iter().any(|it| it.module.path == HEAD)
            || lora.replaced().head_vd.is_some();
        if !own_head && (moves_head || lora.changes_embedding()) {
            let tied = sources.get(&embed).copied().ok_or_else(|| missing(&embed))?;
            sources.insert(head, tied);
        }
        for module in lora.modules() {
            let name = weight(&module.module.path);
            if !sources.contains_key(&name) {
                return Err(missing(&name));
            }
        }
        Ok(Self { files, lora, dtype, sources })
    }

    /// config.json of the merged model.
    pub fn config(&self) -> Value {
        let mut config = self.files.config.clone();
        if let Value::Object(map) = &mut config {
            let head = weight(HEAD);
            if self.sources.contains_key(&head) && !self.files.tensors.contains_key(&head) {
                map.insert("tie_word_embeddings".into(), json!(false));
            }
            map.remove("quantization_config");
            if let Some(name) = self.dtype_name() {
                map.remove("torch_dtype");
                map.insert("dtype".into(), json!(name));
            }
        }
        config
    }

    fn dtype_name(&self) -> Option<&'static str> {
        let format = |it: &&StoredTensor| self.format(it);
        let mut formats: Vec<Format> = self.sources.values().map(format).collect();
        formats.dedup();
        match formats[..] {
            [Format::F32] => Some("float32"),
            [Format::F16] => Some("float16"),
            [Format::Bf16] => Some("bfloat16"),
            _ => None,
        }
    }

    fn format(&self, stored: &StoredTensor) -> Format {
        match (self.dtype, stored.format) {
            (FusedDtype::F32, _) => Format::F32,
            (FusedDtype::Bf16, _) => Format::Bf16,
            (FusedDtype::Base, Format::F16) => Format::F16,
            (FusedDtype::Base, Format::Bf16) => Format::Bf16,
            (FusedDtype::Base, _) => Format::F32,
        }
    }

    /// Writes model.safetensors.
    ///
    /// # Errors
    /// Those of the stream and of the arithmetic; `bad-fuse` for a weight that is not finite.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        let failed = |it| LoraError::file("write", std::path::Path::new("model.safetensors"), it);
        out.write_all(&self.header()).map_err(failed)?;
        for (name, stored) in &self.sources {
            let values = self.values(name, stored)?;
            if !values.iter().all(|it| it.is_finite()) {
                let what = format!("`{name}` holds a value that is not finite");
                return Err(LoraError::Fuse { what });
            }
            out.write_all(&encode(&values, self.format(stored))).map_err(failed)?;
        }
        Ok(())
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!({"format": "pt"}));
        let mut start = 0;
        for (name, stored) in &self.sources {
            let format = self.format(stored);
            let (dtype, size) = match format {
                Format::F16 => ("F16", 2),
                Format::Bf16 => ("BF16", 2),
                _ => ("F32", 4),
            };
            let end = start + size * stored.shape.iter().product::<usize>();
            let entry =
                json!({"dtype": dtype, "shape": stored.shape, "data_offsets": [start, end]});
            header.insert(name.clone(), entry);
            start = end;
        }
        let mut header = Value::Object(header).to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
    }

    /// The merged values of one tensor.
    fn values(&self, name: &str, stored: &StoredTensor) -> Result<Vec<f32>> {
        let replaced = self.lora.replaced();
        for (path, tensor) in [(HEAD, &replaced.head_vd), (EMBED, &replaced.embed_vd)] {
            if let Some(tensor) = tensor.as_ref().filter(|_| name == weight(path)) {
                let values = tensor.flatten_all()?.to_vec1::<f32>()?;
                return self.changed(name, values);
            }
        }
        let (rows, cols) = match stored.shape[..] {
            [rows, cols] => (rows, cols),
            _ => (1, stored.shape.iter().product()),
        };
        let values =
            QuantTensor::new(stored.format, rows, cols, stored.bytes.clone())?.dequantize();
        self.changed(name, values)
    }

    fn changed(&self, name: &str, mut values: Vec<f32>) -> Result<Vec<f32>> {
        let path: Cow<'_, str> = name.strip_suffix(".weight").unwrap_or(name).into();
        if let Some(module) = self.lora.modules().iter().find(|it| it.module.path == path) {
            module.merge_into(&mut values)?;
        }
        if let Some(embed) = self.lora.embed_delta().filter(|_| path == EMBED) {
            embed.merge_into(&mut values)?;
        }
        Ok(values)
    }
}

fn encode(values: &[f32], format: Format) -> Vec<u8> {
    match format {
        Format::F16 => {
            values.iter().flat_map(|it| half::f16::from_f32(*it).to_le_bytes()).collect()
        }
        Format::Bf16 => {
            values.iter().flat_map(|it| half::bf16::from_f32(*it).to_le_bytes()).collect()
        }
        _ => values.iter().flat_map(|it| it.to_le_bytes()).collect(),
    }
}

fn weight(path: &str) -> String {
    format!("{path}.weight")
}

fn missing(name: &str) -> LoraError {
    LoraError::Fuse { what: format!("the base has no tensor `{name}`") }
}
