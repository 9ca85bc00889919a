//! Where a model's files come from: a Hugging Face folder, a GGUF file, or the program itself.
//!
//! Every source ends in one [`ModelFiles`] in Hugging Face's spelling (config.json keys, tensor
//! names, tokenizer.json), so nothing above this module knows GGUF. Files are untrusted: each
//! reader checks every number before it allocates or maps.
//!
//! Weights stay views of mapped files. A file that another program cuts while it is mapped raises
//! SIGBUS at the next read: no code here can turn that into an error, so the program installs a
//! handler that says so. A file that is replaced by renaming another over it stays whole for us.

mod builtin;
mod error;
mod folder;
pub mod gguf;
pub(crate) mod gguf_arrangements;
pub(crate) mod gguf_config;
mod gguf_cursor;
mod gguf_keys;
mod gguf_model;
pub(crate) mod gguf_names;
mod gguf_reader;
mod gguf_rope;
pub(crate) mod gguf_tokenizer;
mod json;
mod packed_file;
pub(crate) mod packed_index;
pub mod safetensors;

use std::{collections::BTreeMap, path::Path};

use minicrit_quant::{Bytes, Format, PackedHeader};

pub use error::{Problems, SourceError};
pub use packed_file::kept;
pub use packed_index::Kept;

/// Result with [`SourceError`].
pub type Result<T> = std::result::Result<T, SourceError>;

/// One tensor as a file holds it. Nothing is copied or converted yet.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// How its values are stored.
    pub format: Format,
    /// Dimensions, outermost first (a weight matrix is `[outputs, inputs]`).
    pub shape: Vec<usize>,
    /// Its bytes, a view of the mapped file.
    pub bytes: Bytes,
}

/// One packed matrix as a file holds it. Its scales are not looked at yet.
#[derive(Debug, Clone)]
pub struct StoredPacked {
    /// What there is to know about the bytes, which fit it.
    pub header: PackedHeader,
    /// Its bytes, a view of the mapped file.
    pub bytes: Bytes,
    /// BLAKE3 hash that they must have, in hexadecimal, where the file says one. Not looked at yet.
    pub hash: Option<String>,
}

/// All that a model consists of, checked for form but not yet for meaning.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// What errors call it: the folder or file, or `built-in model`.
    pub origin: String,
    /// config.json, in Hugging Face's spelling (older or current form).
    pub config: serde_json::Value,
    /// Tensors by Hugging Face name.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// Packed matrices by Hugging Face name; parts of a tensor by [`Part::key`].
    ///
    /// [`Part::key`]: crate::arch::names::Part::key
    pub packed: BTreeMap<String, StoredPacked>,
    /// tokenizer.json, if there is one.
    pub tokenizer: Option<Vec<u8>>,
    /// tokenizer_config.json, if there is one.
    pub tokenizer_config: Option<serde_json::Value>,
    /// generation_config.json, if there is one.
    pub generation_config: Option<serde_json::Value>,
    /// The chat template's source, wherever it was found.
    pub chat_template: Option<String>,
}

impl ModelFiles {
    /// Opens a folder in Hugging Face format, a packed file or a `.gguf` file.
    ///
    /// # Errors
    /// [`SourceError`], with every problem of form listed at once.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            folder::open(path)
        } else if packed_file::is_packed(path) {
            packed_file::open(path)
        } else {
            gguf_model::open(path)
        }
    }

    /// The model in a packed file that is already in memory; `origin` is what errors call it.
    ///
    /// # Errors
    /// [`SourceError::BadPacked`] with all that is wrong, or [`SourceError::PackedVersion`].
    pub fn from_packed(origin: &str, bytes: Bytes) -> Result<Self> {
        packed_file::parse(origin, bytes)
    }

    /// The model in a GGUF file that is already read.
    ///
    /// # Errors
    /// [`SourceError`], where the metadata describe no model that is run.
    pub fn from_gguf(gguf: gguf::Gguf) -> Result<Self> {
        gguf_model::model_files(gguf)
    }

    /// The model that is part of the program.
    ///
    /// # Errors
    /// None in a correct build; a test opens it.
    pub fn builtin() -> Result<Self> {
        builtin::open()
    }
}
