//! The variables of Hugging Face's Python libraries, with the meanings that they have there.

use std::{path::PathBuf, time::Duration};

use minicrit_hub::settings::{HubSettings, Token};

use super::is_on;
use crate::errors::Failure;

/// Name and meaning of each, as the help prints them.
pub const ALL: [(&str, &str); 11] = [
    ("HF_HOME", "folder of Hugging Face's files [~/.cache/huggingface]"),
    ("HF_HUB_CACHE", "folder of downloaded models [HF_HOME/hub]"),
    ("HF_ENDPOINT", "the hub [https://huggingface.co]"),
    ("HF_TOKEN", "who is asking, for gated and private models"),
    ("HF_TOKEN_PATH", "file that holds the token [HF_HOME/token]"),
    ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1: send no token"),
    ("HF_HUB_OFFLINE", "1: no downloads"),
    ("HF_HUB_DOWNLOAD_TIMEOUT", "seconds to wait for the next byte [30]"),
    ("HF_HUB_DISABLE_PROGRESS_BARS", "1: no bars"),
    ("HTTPS_PROXY, ALL_PROXY, NO_PROXY", "a proxy, and hosts that are asked without it"),
    ("REQUESTS_CA_BUNDLE, SSL_CERT_FILE", "certificate authorities in PEM"),
];

/// Where the token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// A variable.
    Environment,
    /// A file.
    File,
}

/// What the environment says about the hub.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the fields are the variables")]
pub struct HubEnvironment {
    pub cache: Option<PathBuf>,
    pub endpoint: Option<String>,
    pub token: Option<Token>,
    pub token_source: Option<TokenSource>,
    pub token_path: Option<PathBuf>,
    pub offline: bool,
    pub download_timeout: Option<String>,
    pub no_bars: bool,
    pub proxy: Option<String>,
    pub no_proxy: Vec<String>,
    pub ca_bundle: Option<PathBuf>,
}

impl HubEnvironment {
    /// Reads the variables, and the token's file.
    pub fn read() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|it| text(it));
        let folder = |names: &[&str]| first(names).map(|it| expanded(&it));
        let home = folder(&["HF_HOME"]).or_else(|| {
            let caches = folder(&["XDG_CACHE_HOME"])
                .or_else(|| etcetera::home_dir().ok().map(|it| it.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let below = |name: &str| home.as_ref().map(|it| it.join(name));
        let token_path = folder(&["HF_TOKEN_PATH"]).or_else(|| below("token"));
        let on = |name: &str| text(name).is_some_and(|it| is_on(&it));
        let in_variable =
            first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).and_then(|it| Token::new(&it));
        let in_file = || {
            let path = token_path.as_ref().filter(|it| it.is_file())?;
            Token::new(&std::fs::read_to_string(path).ok()?)
        };
        let (token, token_source) = match (on("HF_HUB_DISABLE_IMPLICIT_TOKEN"), in_variable) {
            (true, _) => (None, None),
            (false, Some(token)) => (Some(token), Some(TokenSource::Environment)),
            (false, None) => match in_file() {
                Some(token) => (Some(token), Some(TokenSource::File)),
                None => (None, None),
            },
        };
        Self {
            cache: folder(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]).or_else(|| below("hub")),
            endpoint: text("HF_ENDPOINT"),
            token,
            token_source,
            token_path,
            offline: on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            download_timeout: text("HF_HUB_DOWNLOAD_TIMEOUT"),
            no_bars: on("HF_HUB_DISABLE_PROGRESS_BARS"),
            proxy: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            no_proxy: first(&["NO_PROXY", "no_proxy"])
                .map(|it| it.split(',').map(|it| it.trim().to_owned()).collect())
                .unwrap_or_default(),
            ca_bundle: first(&["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
                .map(PathBuf::from),
        }
    }

    /// All that a pull depends on.
    ///
    /// # Errors
    /// A timeout that is no number.
    pub fn settings(&self) -> Result<HubSettings, Failure> {
        // Without a home there is no cache, and looking into this one finds nothing.
        let cache = self.cache.clone().unwrap_or_else(|| PathBuf::from(".no-cache"));
        let defaults = HubSettings::new(cache);
        let mut limits = defaults.limits;
        if let Some(text) = &self.download_timeout {
            let seconds = text.parse().ok().filter(|it| (1..=3600).contains(it));
            limits.stall = Duration::from_secs(seconds.ok_or_else(|| {
                let message =
                    format!("HF_HUB_DOWNLOAD_TIMEOUT must be seconds from 1 to 3600: `{text}`");
                Failure::usage("bad-environment", message).hint("unset HF_HUB_DOWNLOAD_TIMEOUT")
            })?);
        }
        Ok(HubSettings {
            endpoint: self.endpoint.clone().unwrap_or(defaults.endpoint),
            token: self.token.clone(),
            offline: self.offline,
            ca_bundle: self.ca_bundle.clone(),
            proxy: self.proxy.clone(),
            no_proxy: self.no_proxy.clone(),
            limits,
            cache: defaults.cache,
        })
    }
}

/// `~` is the home folder, as in Python's `expanduser`.
fn expanded(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), etcetera::home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}
