//! Models written in another form, tensor by tensor: at no time is more than one in memory.
//!
//! It gives bytes to whatever takes them, and must not know paths, renaming or printing.

mod container;
mod error;
mod gguf;
mod metadata;
mod names;
mod packed;
mod vocabulary;

pub use error::ExportError;
pub use gguf::write_gguf;
pub use packed::{write_kept, write_packed};

use crate::recipe::Place;

/// One tensor that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its name in the file.
    pub name: String,
    /// What it does, where it is one of the matrices that a recipe decides about.
    pub place: Option<Place>,
    /// Name of its format.
    pub format: String,
    /// Number of its values.
    pub values: usize,
    /// Bytes in the file, without padding.
    pub bytes: usize,
}
