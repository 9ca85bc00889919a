//! What a GGUF file holds: metadata values and tensors, read once and checked.
//!
//! This module knows GGUF's containers. It must not know models, tokenizers or what a key means;
//! the reading itself, with its checks, is in `gguf_reader.rs`.

use std::{collections::BTreeMap, path::Path};

use minicrit_quant::Bytes;

use super::{Result, StoredTensor, gguf_reader};

/// A checked GGUF file: every tensor's bytes lie inside it and are a view of it.
#[derive(Debug, Clone)]
pub struct Gguf {
    /// What errors call the file.
    pub origin: String,
    /// Version of the container, 2 or 3.
    pub version: u32,
    /// Metadata by key.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Tensors by GGUF name; dimensions are turned to outermost first.
    pub tensors: BTreeMap<String, StoredTensor>,
}

/// One metadata value. Integers lose their width, which no key needs.
#[derive(Debug, Clone, PartialEq)]
pub enum GgufValue {
    /// `u8`, `u16`, `u32` or `u64`.
    Unsigned(u64),
    /// `i8`, `i16`, `i32` or `i64`.
    Signed(i64),
    /// `f32`.
    F32(f32),
    /// `f64`.
    F64(f64),
    /// `bool`.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Array of any integers but `u64`.
    Integers(Vec<i64>),
    /// Array of `u64`.
    Unsigneds(Vec<u64>),
    /// Array of `f32`.
    F32s(Vec<f32>),
    /// Array of `f64`.
    F64s(Vec<f64>),
    /// Array of `bool`.
    Bools(Vec<bool>),
    /// Array of text.
    Strings(Vec<String>),
    /// Array of arrays.
    Nested(Vec<GgufValue>),
}

impl Gguf {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// [`super::SourceError`], which names the first broken place, or every tensor type that we do
    /// not run.
    pub fn open(path: &Path) -> Result<Self> {
        gguf_reader::open(path)
    }

    /// Checks a file that is already in memory; `origin` is what errors call it.
    ///
    /// # Errors
    /// As [`Gguf::open`].
    pub fn parse(origin: &str, bytes: Bytes) -> Result<Self> {
        gguf_reader::parse(origin, bytes)
    }

    /// The value of `key`, if the file has it.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }
}

impl GgufValue {
    /// A whole number that is not negative, whichever integer type stores it.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            GgufValue::Unsigned(value) => Some(value),
            GgufValue::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    /// A number. An `f32` reads back as the shortest decimal that names it (1e-6 rather than
    /// 9.999999974752427e-7), because that decimal is what the file's writer was given.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            GgufValue::F32(value) if value.is_finite() => format!("{value:e}").parse().ok(),
            GgufValue::F32(value) => Some(f64::from(value)),
            GgufValue::F64(value) => Some(value),
            GgufValue::Unsigned(value) => Some(value as f64),
            GgufValue::Signed(value) => Some(value as f64),
            _ => None,
        }
    }

    /// Text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            GgufValue::String(value) => Some(value),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            GgufValue::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// An array of text.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            GgufValue::Strings(values) => Some(values),
            _ => None,
        }
    }

    /// An array of `f32`.
    pub fn as_f32s(&self) -> Option<&[f32]> {
        match self {
            GgufValue::F32s(values) => Some(values),
            _ => None,
        }
    }

    /// An array of integers of any type but `u64`.
    pub fn as_i64s(&self) -> Option<&[i64]> {
        match self {
            GgufValue::Integers(values) => Some(values),
            _ => None,
        }
    }

    /// What errors call the value's type.
    pub fn type_name(&self) -> &'static str {
        match self {
            GgufValue::Unsigned(_) => "an unsigned integer",
            GgufValue::Signed(_) => "a signed integer",
            GgufValue::F32(_) | GgufValue::F64(_) => "a float",
            GgufValue::Bool(_) => "a bool",
            GgufValue::String(_) => "a string",
            GgufValue::Integers(_) | GgufValue::Unsigneds(_) => "an array of integers",
            GgufValue::F32s(_) | GgufValue::F64s(_) => "an array of floats",
            GgufValue::Bools(_) => "an array of bools",
            GgufValue::Strings(_) => "an array of strings",
            GgufValue::Nested(_) => "an array of arrays",
        }
    }
}
