//! What a packed file holds and where: its outside, for the reader and for the writer.
//!
//! ```text
//! "MINICRIT" version zeros          64 bytes
//! tensors and files                 each at a multiple of 64 bytes, packed ones of 4,096
//! index                             JSON: what lies where
//! trailer                           64 bytes: where the index lies, its BLAKE3 hash, version, magic
//! ```
//!
//! The index is at the end because the size of a packed tensor is known only once it is packed: so
//! the file is written in one pass. A file that was cut has no trailer. Numbers are little-endian.

use serde::{Deserialize, Serialize};

pub(crate) const MAGIC: &[u8; 8] = b"MINICRIT";
/// The only version so far. Another layout of packed weights is another version.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the head and of the trailer.
pub(crate) const END_BYTES: usize = 64;
/// Where tensors and files may start.
pub(crate) const ALIGNMENT: usize = 64;
/// Where packed tensors start, so that a mapped one starts on a page.
pub(crate) const PAGE: usize = 4096;

/// Names of the files that may lie beside the tensors.
pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The index.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Index {
    /// What the weights were made into, such as `q4`.
    pub(crate) format: String,
    /// BLAKE3 hash of the source's tensors, in hexadecimal.
    pub(crate) source: String,
    /// What the file is kept for, where it was made to be found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<Kept>,
    /// Files, by name.
    pub(crate) files: Vec<FileEntry>,
    /// Tensors, by the name of their source.
    pub(crate) tensors: Vec<TensorEntry>,
}

/// What a packed file stands for that a program keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Names the source's content and the form, in hexadecimal.
    pub key: String,
    /// Where the source lay.
    pub source: String,
    /// What the weights were made into, such as `q4`.
    pub format: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// BLAKE3 hash of the bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<String>,
}

/// A tensor, or a stretch of its rows: those then stand behind the name, as in `name[0..96]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TensorEntry {
    pub(crate) name: String,
    /// `q8`, `q4`, or a stored format.
    pub(crate) format: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// BLAKE3 hash of the bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hash: Option<String>,
    /// Columns that share a scale, and the factor of all scales; of packed tensors alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) factor: Option<f32>,
}

/// The first bytes of a file.
pub(crate) fn head() -> [u8; END_BYTES] {
    let mut head = [0; END_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head
}

/// The last bytes of a file whose index lies at `offset`.
pub(crate) fn trailer(offset: u64, index: &[u8]) -> [u8; END_BYTES] {
    let mut trailer = [0; END_BYTES];
    trailer[..8].copy_from_slice(&offset.to_le_bytes());
    trailer[8..16].copy_from_slice(&(index.len() as u64).to_le_bytes());
    trailer[16..48].copy_from_slice(blake3::hash(index).as_bytes());
    trailer[48..52].copy_from_slice(&VERSION.to_le_bytes());
    trailer[56..].copy_from_slice(MAGIC);
    trailer
}
