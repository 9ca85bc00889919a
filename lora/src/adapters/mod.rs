//! Adapters as files: taken apart without their base, combined, and written in other forms.
//!
//! This module must not know decoders: what it does to an adapter holds for every base that the
//! adapter fits.

mod combine;
mod factors;
mod folder;
mod gguf;
mod sparse;

pub use combine::{Combination, combine};
pub use factors::{Factors, Matrix, Pair};
pub use folder::{AdapterSummary, check_removable, create, list, remove, summary, write_file};
pub use gguf::{GgufBase, gguf_bytes};
