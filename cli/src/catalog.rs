//! The models that can be asked for by name on this machine: those of models.toml, and those that
//! the user added to it; and where the files of such a model lie.

use std::{ops::Deref, path::Path, sync::Arc};

use minicrit_engine::registry::Registry;
use minicrit_hub::settings::HubSettings;

use crate::{
    config_folder,
    env::Environment,
    errors::{self, Failure},
};

/// The longest list of models that a user may have.
const MOST_BYTES: u64 = 16 << 20;

/// Known names, and the hub that stands behind them.
#[derive(Debug)]
pub struct Catalog {
    registry: Registry,
    hub: Arc<HubSettings>,
}

impl Catalog {
    /// Reads the user's models.toml, if there is one.
    ///
    /// # Errors
    /// Every problem of that file, with its line.
    pub fn read(environment: &Environment) -> anyhow::Result<Self> {
        let registry = match config_folder::path(environment).map(|it| it.join("models.toml")) {
            Some(path) if path.is_file() => {
                let text = read_text(&path)?;
                Registry::embedded().extended(&text).map_err(|error| {
                    anyhow::Error::from(error).context(path.display().to_string())
                })?
            }
            _ => Registry::embedded().clone(),
        };
        Ok(Self { registry, hub: Arc::new(environment.hub.settings()?) })
    }

    /// The names that are part of the program, for tests.
    #[cfg(test)]
    pub fn embedded() -> Self {
        let hub = HubSettings { offline: true, ..HubSettings::new("no-cache".into()) };
        Self { registry: Registry::embedded().clone(), hub: Arc::new(hub) }
    }

    /// Where models come from, and where they lie.
    pub fn hub(&self) -> &Arc<HubSettings> {
        &self.hub
    }
}

impl Deref for Catalog {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| errors::file("read", path, &error);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MOST_BYTES {
        let message = format!("`{}` is no list of models: {size} bytes", path.display());
        return Err(Failure::failed("registry-invalid", message));
    }
    std::fs::read_to_string(path).map_err(failed)
}
