//! Tiny models, fixtures and tolerances for the tests of every crate.

pub mod draft_cases;
pub mod fake_hub;
pub mod files;
pub mod fixtures;
mod hostile_templates;
pub mod scripted;
pub mod shapes;

pub use hostile_templates::{Outcome, hostile_templates};
pub use scripted::ScriptedModel;

use std::path::{Path, PathBuf};

/// The folder of reference cases: `fixtures/parity` of this repository, or a fuller set that
/// `MINICRIT_PARITY_DIR` names.
pub fn fixtures_dir() -> PathBuf {
    match std::env::var_os("MINICRIT_PARITY_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/parity"),
    }
}
