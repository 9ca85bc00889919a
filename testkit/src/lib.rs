//! Tiny models, fixtures and tolerances for the tests of every crate.

mod hostile_templates;

use std::path::{Path, PathBuf};

pub use hostile_templates::{Outcome, hostile_templates};

/// The folder of reference cases: `fixtures/parity` of this repository, or a fuller set that
/// `MINICRIT_PARITY_DIR` names.
pub fn fixtures_dir() -> PathBuf {
    match std::env::var_os("MINICRIT_PARITY_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/parity"),
    }
}
