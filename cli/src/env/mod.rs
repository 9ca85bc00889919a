//! Every environment variable that the program reads, in one place.
//!
//! Precedence, everywhere: flag, environment, files (see [`crate::config`]), default.

mod hub;

use std::path::PathBuf;

pub use hub::{HubEnvironment, TokenSource};

/// Number of threads, where `--threads` does not say.
pub const THREADS: &str = "MINICRIT_THREADS";
/// The model, where the command line names none.
pub const MODEL: &str = "MINICRIT_MODEL";
/// Folder for chats and history, instead of the system's data folder.
pub const HOME: &str = "MINICRIT_HOME";
/// Folder of config.toml and models.toml, instead of the system's configuration folder.
pub const CONFIG: &str = "MINICRIT_CONFIG";
/// Keeps the chat's input history out of the disk (1, on, yes, true).
pub const NO_HISTORY: &str = "MINICRIT_NOHISTORY";
/// Bearer token for `--endpoint`.
pub const ENDPOINT_KEY: &str = "MINICRIT_ENDPOINT_KEY";
/// No colours, whatever its value (<https://no-color.org>).
pub const NO_COLOR: &str = "NO_COLOR";

/// Name and meaning of each, as the help prints them.
pub const ALL: [(&str, &str); 7] = [
    (THREADS, "number of threads, where --threads does not say"),
    (MODEL, "the model, where the command line names none"),
    (HOME, "folder for chats, history and the library's state"),
    (CONFIG, "folder of your own config.toml and models.toml"),
    (NO_HISTORY, "1: keep no history of what was typed"),
    (ENDPOINT_KEY, "bearer token that is sent to --endpoint"),
    (NO_COLOR, "no colours"),
];

/// What the environment said when the program started.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// [`THREADS`], as written.
    pub threads: Option<String>,
    /// [`MODEL`].
    pub model: Option<String>,
    /// [`HOME`].
    pub home: Option<PathBuf>,
    /// [`CONFIG`].
    pub config: Option<PathBuf>,
    /// [`NO_HISTORY`].
    pub no_history: bool,
    /// [`ENDPOINT_KEY`].
    pub endpoint_key: Option<String>,
    /// The system's folder for what can be made again, where this user has one.
    pub caches: Option<PathBuf>,
    /// Keep no rounded weights; a file says so.
    pub no_cache_quant: bool,
    /// Hugging Face's own variables.
    pub hub: HubEnvironment,
}

impl Environment {
    /// Reads the variables. An empty one counts as absent.
    pub fn read() -> Self {
        let text = |name| std::env::var(name).ok().filter(|it| !it.is_empty());
        let folder = |name| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        Self {
            threads: text(THREADS),
            model: text(MODEL),
            home: folder(HOME),
            config: folder(CONFIG),
            hub: HubEnvironment::read(),
            no_history: text(NO_HISTORY).is_some_and(|it| is_on(&it)),
            endpoint_key: text(ENDPOINT_KEY),
            caches: folder("XDG_CACHE_HOME")
                .or_else(|| folder("LOCALAPPDATA"))
                .or_else(|| folder("HOME").map(|it| it.join(".cache"))),
            no_cache_quant: false,
        }
    }

    /// Where rounded weights are kept, if they are.
    pub fn kept_folder(&self) -> Option<PathBuf> {
        self.kept_folder_of_any().filter(|_| !self.no_cache_quant)
    }

    /// Where rounded weights lie that were kept at any time.
    pub fn kept_folder_of_any(&self) -> Option<PathBuf> {
        let caches = || self.caches.as_ref().map(|it| it.join("minicrit"));
        Some(self.home.clone().or_else(caches)?.join("packed"))
    }
}

/// The part of `--help` that lists the variables.
pub fn help() -> String {
    let all = || ALL.iter().chain(&hub::ALL);
    let width = all().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        all().map(|(name, meaning)| format!("  {name:width$}  {meaning}")).collect();
    format!("Environment:\n{}", lines.join("\n"))
}

fn is_on(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|it| value.eq_ignore_ascii_case(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_true_in_four_spellings() {
        for value in ["1", "on", "ON", "Yes", "TRUE"] {
            assert!(is_on(value), "{value}");
        }
        for value in ["0", "off", "no", "2", ""] {
            assert!(!is_on(value), "{value}");
        }
    }

    #[test]
    fn the_help_names_every_variable() {
        let help = help();
        for name in [THREADS, MODEL, HOME, CONFIG, NO_HISTORY, NO_COLOR, "HF_TOKEN"] {
            assert!(help.contains(name), "{name}");
        }
    }
}
