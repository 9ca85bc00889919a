//! Where a user's settings lie: config.toml and models.toml of their own.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::env::Environment;

/// The folder, whether it exists or not; `None` where the system has no home for this user.
pub fn path(environment: &Environment) -> Option<PathBuf> {
    if let Some(folder) = &environment.config {
        return Some(folder.clone());
    }
    // One variable moves everything, so that a test or a USB stick needs no second one.
    if let Some(home) = &environment.home {
        return Some(home.clone());
    }
    etcetera::choose_base_strategy().ok().map(|it| it.config_dir().join("minicrit"))
}
