//! What can go wrong between a name and a model on this disk.

use std::{io, path::PathBuf, time::Duration};

use minicrit_engine::NamedError;

use crate::name::{Digest, RepoId};

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum Error {
    #[error("`{text}` names no repository: {problem}")]
    BadReference { text: String, problem: String },
    #[error("the name `{name}` is refused: {problem}")]
    UnsafeName { name: String, problem: &'static str },
    #[error("no download while offline: `{what}`")]
    Offline { what: String },
    #[error("can't reach {host}: {problem}")]
    Unreachable { host: String, problem: String },
    #[error("{host} does not prove who it is: {problem}")]
    BadCertificate { host: String, problem: String },
    #[error("{host} sends too slowly: fewer than {bytes} bytes in {seconds} s")]
    Stalled { host: String, bytes: u64, seconds: u64 },
    #[error("`{repo}` is gated: {}", gated_why(*with_token))]
    Gated { repo: RepoId, page: String, with_token: bool },
    #[error("{host} refuses the token")]
    BadToken { host: String },
    #[error("no such repository on {host}: `{repo}`{}", private_note(*with_token))]
    RepoNotFound { repo: RepoId, host: String, with_token: bool },
    #[error("`{repo}` has no revision `{revision}`")]
    RevisionNotFound { repo: RepoId, revision: String },
    #[error("`{repo}` has no such file any more: `{file}`")]
    RemoteFileNotFound { repo: RepoId, file: String },
    #[error("{host} asks to come back later{}", after(*wait))]
    RateLimited { host: String, wait: Option<Duration> },
    #[error("{host} fails with status {status}")]
    Server { host: String, status: u16 },
    #[error("{host} gives an answer that a hub does not give: {problem}")]
    BadAnswer { host: String, problem: String },
    #[error("a redirect from {from} is refused: {problem}")]
    RedirectRefused { from: String, problem: String },
    #[error("`{file}` does not have the bytes that its hub lists: {problem}")]
    Integrity { file: String, problem: String },
    #[error("{needed} bytes are needed in `{}`, {free} are free", path.display())]
    NoSpace { path: PathBuf, needed: u64, free: u64 },
    #[error("can't {verb} `{}`: {source}", path.display())]
    Disk { verb: &'static str, path: PathBuf, source: io::Error },
    #[error("`{repo}` holds no model that can be run: {problem}")]
    NoModel { repo: RepoId, problem: String },
    #[error("`{repo}` has no GGUF file `{wanted}`; it has {}", listed(available))]
    GgufNotFound { repo: RepoId, wanted: String, available: Vec<String> },
    #[error("the audit log is broken in line {line}: {problem}")]
    AuditBroken { line: u64, problem: String },
    #[error("the Modelfile: {} problem(s)\n{}", problems.len(), indented(problems))]
    Modelfile { problems: Vec<String> },
    #[error("the definition of `{name}` can't be read: {problem}")]
    BadDefinition { name: String, problem: String },
    #[error("the library's database `{}`: {problem}", path.display())]
    State { path: PathBuf, problem: String },
    #[error("a bad setting: {problem}")]
    BadSetting { problem: String },
    /// A model can't be rounded; the engine says why.
    #[error(transparent)]
    Model(Box<minicrit_engine::Error>),
    /// Another file of the same pull failed; its error is the one to show.
    #[error("stopped")]
    Stopped,
}

impl Error {
    /// A failure of the file system.
    pub(crate) fn disk(
        verb: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { verb, path, source }
    }

    /// A failure of the database.
    pub(crate) fn state(path: &std::path::Path, error: &rusqlite::Error) -> Self {
        Self::State { path: path.to_path_buf(), problem: error.to_string() }
    }

    /// Bytes that are not those of `expected`.
    pub(crate) fn wrong_digest(file: &str, expected: &Digest, found: &Digest) -> Self {
        let problem = format!("expected {expected}, got {found}");
        Self::Integrity { file: file.to_owned(), problem }
    }
}

impl NamedError for Error {
    fn name(&self) -> &'static str {
        match self {
            Self::BadReference { .. } => "bad-reference",
            Self::UnsafeName { .. } => "unsafe-name",
            Self::Offline { .. } => "offline",
            Self::Unreachable { .. } => "unreachable",
            Self::BadCertificate { .. } => "bad-certificate",
            Self::Stalled { .. } => "too-slow",
            Self::Gated { .. } => "gated",
            Self::BadToken { .. } => "bad-token",
            Self::RepoNotFound { .. } => "repo-not-found",
            Self::RevisionNotFound { .. } => "revision-not-found",
            Self::RemoteFileNotFound { .. } => "remote-file-not-found",
            Self::RateLimited { .. } => "rate-limited",
            Self::Server { .. } => "server",
            Self::BadAnswer { .. } => "bad-answer",
            Self::RedirectRefused { .. } => "redirect-refused",
            Self::Integrity { .. } => "integrity",
            Self::NoSpace { .. } => "no-space",
            Self::Disk { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "no-space",
                _ => "disk",
            },
            Self::NoModel { .. } => "no-model",
            Self::GgufNotFound { .. } => "gguf-not-found",
            Self::AuditBroken { .. } => "audit-broken",
            Self::Modelfile { .. } => "modelfile",
            Self::BadDefinition { .. } => "definition",
            Self::State { .. } => "state",
            Self::BadSetting { .. } => "bad-setting",
            Self::Model(error) => error.name(),
            Self::Stopped => "stopped",
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::BadReference { .. } => {
                "write organization/name, organization/name@revision or organization/name:Q4_K_M"
                    .to_owned()
            }
            Self::Offline { what } => format!(
                "unset HF_HUB_OFFLINE, or on a connected machine: minicrit pull {what}, and copy \
                 its cache folder here"
            ),
            Self::Unreachable { .. } => {
                "check the connection and HTTPS_PROXY; what is fetched already is kept: try again"
                    .to_owned()
            }
            Self::BadCertificate { .. } => {
                "check the machine's clock; a proxy that reads along has an authority of its own: \
                 REQUESTS_CA_BUNDLE=its.pem"
                    .to_owned()
            }
            Self::Stalled { .. } | Self::Server { .. } => {
                "what is fetched already is kept: run the same command again later".to_owned()
            }
            Self::Gated { page, with_token: false, .. } => format!(
                "agree to its terms at {page}, make a token at https://huggingface.co/settings/tokens, \
                 then: HF_TOKEN=... minicrit pull ..."
            ),
            Self::Gated { page, with_token: true, .. } => {
                format!("agree to its terms at {page} with the account of this token")
            }
            Self::BadToken { .. } => {
                "check HF_TOKEN, or unset it for a public repository (minicrit doctor shows where \
                 it comes from)"
                    .to_owned()
            }
            Self::RepoNotFound { with_token: false, .. } => {
                "check the spelling; a private repository needs HF_TOKEN".to_owned()
            }
            Self::RepoNotFound { with_token: true, .. } => {
                "check the spelling, and that this token may read it".to_owned()
            }
            Self::RevisionNotFound { repo, .. } => format!("minicrit pull {repo}"),
            Self::RemoteFileNotFound { repo, .. } => format!("minicrit pull {repo}"),
            Self::RateLimited { .. } => {
                "wait, then run the same command again; with HF_TOKEN the limits are wider"
                    .to_owned()
            }
            Self::BadAnswer { .. } => {
                "a proxy or a login page may have answered instead: check HF_ENDPOINT and the \
                 connection"
                    .to_owned()
            }
            Self::RedirectRefused { .. } => {
                "the hub or something between misbehaves: check HF_ENDPOINT".to_owned()
            }
            Self::Integrity { .. } => {
                "nothing of it was kept; try again, and if it stays: another network or mirror"
                    .to_owned()
            }
            Self::NoSpace { .. } => {
                "minicrit cache prune, or set HF_HUB_CACHE to a larger disk".to_owned()
            }
            Self::Disk { .. } if self.name() == "no-space" => {
                "free some space and run the same command again: what is fetched already is kept"
                    .to_owned()
            }
            Self::Disk { .. } => "check the folder's rights and the disk's health".to_owned(),
            Self::GgufNotFound { repo, available, .. } => {
                let tag = available.first().map_or("Q4_K_M", String::as_str);
                format!("minicrit pull {repo}:{tag}")
            }
            Self::NoModel { .. } | Self::UnsafeName { .. } => {
                "pick another repository of this model: one with safetensors or GGUF files"
                    .to_owned()
            }
            Self::AuditBroken { .. } => {
                "somebody or something changed the log: keep it as it is, and look who could"
                    .to_owned()
            }
            Self::Modelfile { .. } => "correct the lines named above".to_owned(),
            Self::BadDefinition { name, .. } => format!("minicrit rm {name}, then create it again"),
            Self::State { .. } => {
                "move the file away: models stay, only counts and dates begin anew".to_owned()
            }
            Self::Model(error) => return error.hint(),
            Self::BadSetting { .. } | Self::Stopped => return None,
        })
    }
}

fn gated_why(with_token: bool) -> &'static str {
    if with_token {
        "the account of this token has not agreed to its terms"
    } else {
        "its owner wants to know who fetches it"
    }
}

fn private_note(with_token: bool) -> &'static str {
    if with_token { "" } else { " (or it is private)" }
}

fn after(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |it| format!(", in {} s", it.as_secs()))
}

fn indented(problems: &[String]) -> String {
    problems.iter().map(|it| format!("  {it}")).collect::<Vec<_>>().join("\n")
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
