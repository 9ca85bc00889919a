//! Writers of model files for tests, which also write what no sound file has.
//!
//! They share nothing with the readers under test. Every field can be set to a wrong value.

use std::fmt::Write;

/// A safetensors file of `header` and `data`, with the header's true length.
pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    safetensors_file_with_len(header.len() as u64, header.as_bytes(), data)
}

/// A safetensors file that says its header has `len` bytes.
pub fn safetensors_file_with_len(len: u64, header: &[u8], data: &[u8]) -> Vec<u8> {
    [&len.to_le_bytes()[..], header, data].concat()
}

/// A sound safetensors file of zero-filled float32 tensors.
pub fn zero_safetensors(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let mut header = String::from("{");
    let mut end = 0;
    for (i, (name, shape)) in tensors.iter().enumerate() {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let comma = if i == 0 { "" } else { "," };
        let entry =
            format!(r#"{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#);
        write!(header, "{comma}{name:?}:{entry}").expect("invariant: a String takes all text");
    }
    header.push('}');
    safetensors_file(&header, &vec![0; end])
}

/// A GGUF file, each part of which may be wrong.
#[derive(Debug, Clone)]
pub struct GgufFile {
    /// First four bytes.
    pub magic: [u8; 4],
    /// Version of the container.
    pub version: u32,
    /// What the header says, where it is not the true number.
    pub num_tensors: Option<u64>,
    /// What the header says, where it is not the true number.
    pub num_entries: Option<u64>,
    /// Metadata in the file's order.
    pub entries: Vec<(Vec<u8>, GgufField)>,
    /// Tensors in the file's order.
    pub tensors: Vec<GgufTensor>,
    /// To which multiple the data's start is padded.
    pub alignment: usize,
    /// Bytes after the padding.
    pub data: Vec<u8>,
}

/// A metadata value as the file holds it.
#[derive(Debug, Clone)]
pub struct GgufField {
    /// Number of its type.
    pub value_type: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What a GGUF file says about one tensor.
#[derive(Debug, Clone)]
pub struct GgufTensor {
    /// Name.
    pub name: Vec<u8>,
    /// Dimensions, innermost first.
    pub dims: Vec<u64>,
    /// Number of its type.
    pub ggml_type: u32,
    /// Offset in the data.
    pub offset: u64,
}

impl GgufFile {
    /// A file with neither metadata nor tensors.
    pub fn empty() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            num_tensors: None,
            num_entries: None,
            entries: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: Vec::new(),
        }
    }

    /// A sound llama of one layer: 8 dimensions, 2 heads of 4 with 1 key head, 6 tokens, all zeros.
    pub fn tiny_llama() -> Self {
        let mut file = Self::empty();
        file.set("general.architecture", "llama");
        for (key, value) in [
            ("context_length", 32u32),
            ("embedding_length", 8),
            ("block_count", 1),
            ("feed_forward_length", 16),
            ("attention.head_count", 2),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", 4),
        ] {
            file.set(&format!("llama.{key}"), value);
        }
        file.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
        file.set("llama.rope.freq_base", 10_000f32);
        file.set("tokenizer.ggml.bos_token_id", 1u32);
        for (name, dims) in [
            ("token_embd.weight", &[8u64, 6][..]),
            ("output_norm.weight", &[8]),
            ("output.weight", &[8, 6]),
            ("blk.0.attn_norm.weight", &[8]),
            ("blk.0.attn_q.weight", &[8, 8]),
            ("blk.0.attn_k.weight", &[8, 4]),
            ("blk.0.attn_v.weight", &[8, 4]),
            ("blk.0.attn_output.weight", &[8, 8]),
            ("blk.0.ffn_norm.weight", &[8]),
            ("blk.0.ffn_gate.weight", &[8, 16]),
            ("blk.0.ffn_up.weight", &[8, 16]),
            ("blk.0.ffn_down.weight", &[16, 8]),
        ] {
            file.add_zeros(name, dims);
        }
        file
    }

    /// Sets the value of `key`, in its place or at the end.
    pub fn set(&mut self, key: &str, value: impl Into<GgufField>) -> &mut Self {
        let value = value.into();
        match self.entries.iter_mut().find(|(it, _)| it == key.as_bytes()) {
            Some((_, place)) => *place = value,
            None => self.entries.push((key.into(), value)),
        }
        self
    }

    /// Adds an entry, whether or not the key stands there already.
    pub fn push(&mut self, key: impl AsRef<[u8]>, value: impl Into<GgufField>) -> &mut Self {
        self.entries.push((key.as_ref().to_vec(), value.into()));
        self
    }

    /// Takes out `key`.
    pub fn remove(&mut self, key: &str) -> &mut Self {
        self.entries.retain(|(it, _)| it != key.as_bytes());
        self
    }

    /// Takes out a tensor's description; its bytes stay.
    pub fn remove_tensor(&mut self, name: &str) -> &mut Self {
        self.tensors.retain(|it| it.name != name.as_bytes());
        self
    }

    /// The description of a tensor.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn tensor(&mut self, name: &str) -> &mut GgufTensor {
        let found = self.tensors.iter_mut().find(|it| it.name == name.as_bytes());
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// Adds a zero-filled float32 tensor.
    pub fn add_zeros(&mut self, name: &str, dims: &[u64]) -> &mut Self {
        let bytes = 4 * dims.iter().product::<u64>() as usize;
        self.add(name, dims, 0, &vec![0; bytes])
    }

    /// Adds a tensor with its bytes, at the next aligned offset.
    pub fn add(&mut self, name: &str, dims: &[u64], ggml_type: u32, bytes: &[u8]) -> &mut Self {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        self.data.extend_from_slice(bytes);
        self.tensors.push(GgufTensor { name: name.into(), dims: dims.to_vec(), ggml_type, offset });
        self
    }

    /// The file. Nothing follows the last tensor.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.num_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.num_entries.unwrap_or(self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            out.extend(text(key));
            out.extend(value.value_type.to_le_bytes());
            out.extend(&value.bytes);
        }
        for tensor in &self.tensors {
            out.extend(text(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(tensor.ggml_type.to_le_bytes());
            out.extend(tensor.offset.to_le_bytes());
        }
        if !self.data.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&self.data);
        }
        out
    }
}

impl GgufField {
    /// A value of any type number.
    pub fn raw(value_type: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { value_type, bytes: bytes.into() }
    }

    /// An array that says it has `len` elements of a type; `bytes` are the elements.
    pub fn array(element_type: u32, len: u64, bytes: &[u8]) -> Self {
        Self::raw(9, [&element_type.to_le_bytes()[..], &len.to_le_bytes(), bytes].concat())
    }

    /// An array of text.
    pub fn strings(texts: &[&str]) -> Self {
        let bytes: Vec<u8> = texts.iter().flat_map(|it| text(it.as_bytes())).collect();
        Self::array(8, texts.len() as u64, &bytes)
    }

    /// An array of `i32`.
    pub fn i32s(values: &[i32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
        Self::array(5, values.len() as u64, &bytes)
    }

    /// Text of any bytes.
    pub fn text(bytes: &[u8]) -> Self {
        Self::raw(8, text(bytes))
    }
}

impl From<&str> for GgufField {
    fn from(value: &str) -> Self {
        Self::text(value.as_bytes())
    }
}

macro_rules! field_from_number {
    ($($number:ty: $value_type:literal),*) => {$(
        impl From<$number> for GgufField {
            fn from(value: $number) -> Self {
                Self::raw($value_type, value.to_le_bytes())
            }
        }
    )*};
}

field_from_number!(u8: 0, i8: 1, u16: 2, i16: 3, u32: 4, i32: 5, f32: 6, u64: 10, i64: 11, f64: 12);

impl From<bool> for GgufField {
    fn from(value: bool) -> Self {
        Self::raw(7, [u8::from(value)])
    }
}

/// Length, then bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}
