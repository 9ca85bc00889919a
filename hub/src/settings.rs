//! Everything that pulling depends on, as plain values. Who fills them reads flags, the environment
//! and files; this crate does not.

use std::{fmt, path::PathBuf, time::Duration};

/// Where models come from and go to.
#[derive(Debug, Clone, PartialEq)]
pub struct HubSettings {
    /// Scheme and host of the hub, without a slash at the end.
    pub endpoint: String,
    /// Who is asking. It is sent to the endpoint's host alone.
    pub token: Option<Token>,
    /// The folder with `models--*`: `HF_HUB_CACHE`.
    pub cache: PathBuf,
    /// No connections at all.
    pub offline: bool,
    /// Certificate authorities in PEM, instead of those that are built in.
    pub ca_bundle: Option<PathBuf>,
    /// `http://[user:password@]host:port` of a proxy.
    pub proxy: Option<String>,
    /// Hosts that are asked without the proxy.
    pub no_proxy: Vec<String>,
    /// How long and how often.
    pub limits: Limits,
}

impl HubSettings {
    /// The public hub with a cache in this folder.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            cache,
            offline: false,
            ca_bundle: None,
            proxy: None,
            no_proxy: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// A secret. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, if `text` has one between its white space.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        // What is no header value can't be sent, and would show up in an error's text.
        let printable = !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
        printable.then(|| Self(text.to_owned()))
    }

    /// The value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Times and counts that bound every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the next byte comes.
    pub stall: Duration,
    /// Least bytes in the time of `stall`; a server that drips is left.
    pub stall_bytes: u64,
    /// Tries in a row that bring nothing new.
    pub tries: u32,
    /// Wait before the second try; it doubles with each further one.
    pub backoff: Duration,
    /// The longest wait that a server's `Retry-After` is obeyed for.
    pub longest_wait: Duration,
    /// Files that are fetched at the same time.
    pub files_at_once: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            stall_bytes: 16 << 10,
            tries: 6,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(120),
            files_at_once: 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let token = Token::new(" hf_secret\n");
        assert_eq!(format!("{token:?}"), "Some(Token(..))");
        assert_eq!(token.map(|it| it.authorization()).as_deref(), Some("Bearer hf_secret"));
        assert_eq!(Token::new("a\r\nHost: b"), None);
        assert_eq!(Token::new("  "), None);
    }
}
