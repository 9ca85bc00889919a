//! Settings in files: `minicrit.toml` of a project, `config.toml` of the user. A flag goes before the
//! environment, that before the project's file, that before the user's, and that before the default.
//!
//! A project's file may come with somebody else's folder, so it can't say where the token is sent,
//! or where models are looked for: those keys are the user's own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    config_folder,
    env::{self, Environment},
    errors::{self, Failure},
};

/// The project's file, in the current folder or the nearest one above it.
const PROJECT_FILE: &str = "minicrit.toml";
/// The user's file, in the configuration folder.
const USER_FILE: &str = "config.toml";
/// The longest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A variable.
    Environment(&'static str),
    /// A file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl Origin {
    /// As `config show --origin` prints it.
    pub fn describe(&self) -> String {
        match self {
            Self::Environment(name) => format!("environment {name}"),
            Self::File(path) => path.display().to_string(),
            Self::Default => "default".into(),
        }
    }
}

/// A setting that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key in the files.
    pub key: &'static str,
    /// Its value, as text.
    pub value: String,
    /// Who said so.
    pub origin: Origin,
}

/// What a file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Option<String>,
    threads: Option<u32>,
    history: Option<bool>,
    cache_quant: Option<bool>,
    offline: Option<bool>,
    cache: Option<PathBuf>,
    endpoint: Option<String>,
}

/// Puts what the files say into the places that the environment left empty, and tells all of it.
///
/// # Errors
/// `config-invalid`: a file that can't be read, with the line.
pub fn complete(environment: &mut Environment) -> Result<Vec<Setting>, Failure> {
    let mut sources: Vec<(PathBuf, File)> = Vec::new();
    if let Some(path) = project_file() {
        let file = read(&path)?;
        let refused = [("cache", file.cache.is_some()), ("endpoint", file.endpoint.is_some())];
        if let Some((key, _)) = refused.iter().find(|it| it.1) {
            let message = format!("`{}`: `{key}` can't be set by a project's file", path.display());
            return Err(Failure::failed("config-invalid", message)
                .hint("put it into your own config.toml (minicrit config show --origin)"));
        }
        sources.push((path, file));
    }
    if let Some(path) = config_folder::path(environment).map(|it| it.join(USER_FILE))
        && path.is_file()
    {
        sources.push((path.clone(), read(&path)?));
    }
    Ok(merge(environment, &sources))
}

fn merge(environment: &mut Environment, sources: &[(PathBuf, File)]) -> Vec<Setting> {
    let from = |of: &dyn Fn(&File) -> Option<String>| {
        sources.iter().find_map(|(path, file)| Some((of(file)?, Origin::File(path.clone()))))
    };
    let mut settings = BTreeMap::new();
    let mut add = |key,
                   variable,
                   set: Option<String>,
                   default: &str,
                   of: &dyn Fn(&File) -> Option<String>| {
        let set = set.map(|it| (it, Origin::Environment(variable)));
        let found = set.or_else(|| from(of));
        let new = found.as_ref().map(|it| it.0.clone());
        let (value, origin) = found.unwrap_or((default.to_owned(), Origin::Default));
        settings.insert(key, Setting { key, value, origin });
        new
    };
    let hub = &mut environment.hub;
    environment.model =
        add("model", env::MODEL, environment.model.take(), "nano", &|it| it.model.clone());
    let threads = environment.threads.take();
    environment.threads = add("threads", env::THREADS, threads, "all cores", &|it| {
        it.threads.map(|it| it.to_string())
    });
    let quiet = environment.no_history.then(|| "false".to_owned());
    let history =
        add("history", env::NO_HISTORY, quiet, "true", &|it| it.history.map(|it| it.to_string()));
    environment.no_history = history.as_deref() == Some("false");
    let cache_quant =
        add("cache_quant", "", None, "true", &|it| it.cache_quant.map(|it| it.to_string()));
    environment.no_cache_quant = cache_quant.as_deref() == Some("false");
    let offline = hub.offline.then(|| "true".to_owned());
    let offline = add("offline", "HF_HUB_OFFLINE", offline, "false", &|it| {
        it.offline.map(|it| it.to_string())
    });
    hub.offline = offline.as_deref() == Some("true");
    let endpoint = hub.endpoint.take();
    hub.endpoint = add("endpoint", "HF_ENDPOINT", endpoint, "https://huggingface.co", &|it| {
        it.endpoint.clone()
    });
    let text = |path: &PathBuf| path.display().to_string();
    let default = hub.cache.as_ref().map_or_else(String::new, text);
    let cache = hub.cache.take().filter(|_| hub.cache_is_set).map(|it| text(&it));
    let cache =
        add("cache", "HF_HUB_CACHE or HF_HOME", cache, &default, &|it| it.cache.as_ref().map(text));
    hub.cache = cache.or(Some(default)).filter(|it| !it.is_empty()).map(PathBuf::from);
    settings.into_values().collect()
}

fn project_file() -> Option<PathBuf> {
    let current = std::env::current_dir().ok()?;
    current.ancestors().map(|it| it.join(PROJECT_FILE)).find(|it| it.is_file())
}

fn read(path: &Path) -> Result<File, Failure> {
    let failed = |error: std::io::Error| errors::file("read", path, &error);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    let bad = |problem: String| {
        Failure::failed("config-invalid", format!("`{}`: {problem}", path.display()))
            .hint("known keys: model, threads, history, cache_quant, offline, cache, endpoint")
    };
    if size > MOST_BYTES {
        return Err(bad(format!("it is too long: {size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    toml::from_str(&text).map_err(|error| {
        let line =
            error.span().map(|it| text[..it.start.min(text.len())].matches('\n').count() + 1);
        let at = line.map_or_else(String::new, |it| format!("line {it}: "));
        bad(format!("{at}{}", error.message()))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> (PathBuf, File) {
        (path.into(), toml::from_str(text).unwrap())
    }

    #[test]
    fn the_nearest_word_holds() {
        let sources = [
            source("minicrit.toml", "threads = 2"),
            source("config.toml", "threads = 3\nmodel = \"mine\"\noffline = true\nhistory = false"),
        ];
        let mut environment = Environment::default();
        let settings = merge(&mut environment, &sources);
        assert_eq!(environment.threads.as_deref(), Some("2"));
        assert_eq!(environment.model.as_deref(), Some("mine"));
        assert!(environment.hub.offline && environment.no_history);
        let origin =
            |key: &str| settings.iter().find(|it| it.key == key).unwrap().origin.describe();
        assert_eq!(
            ["threads", "model", "endpoint"].map(origin),
            ["minicrit.toml", "config.toml", "default"]
        );

        let threads = Some("7".to_owned());
        let mut environment = Environment { threads, ..Environment::default() };
        let settings = merge(&mut environment, &sources);
        assert_eq!(environment.threads.as_deref(), Some("7"));
        let threads = settings.iter().find(|it| it.key == "threads").unwrap();
        assert_eq!(threads.origin, Origin::Environment(env::THREADS));
    }

    #[test]
    fn mistakes_have_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for (text, line) in [("threads = 1\nmodle = 2\n", "line 2"), ("= 1", "line 1")] {
            std::fs::write(&path, text).unwrap();
            let failure = read(&path).unwrap_err();
            assert!(
                failure.name == "config-invalid" && failure.message.contains(line),
                "{failure}"
            );
        }
    }
}
