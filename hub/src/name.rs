//! Names that come from servers, files and users, checked once: [`SafeName`] for anything that
//! becomes a path, [`RepoId`], [`Commit`] and [`Digest`] for what names a repository's content.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// Longest component of a path, in bytes: the limit of common file systems.
const COMPONENT_LIMIT: usize = 200;
/// Longest name with all its folders.
const NAME_LIMIT: usize = 512;
/// Names that Windows keeps for devices, with any extension.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// A relative path of plain components, which stays inside the folder it is joined to on every
/// system. The only way from a name in somebody's answer to a path on this disk.
///
/// ```
/// use minicrit_hub::name::SafeName;
/// assert!(SafeName::parse("gguf/model-Q4_K_M.gguf").is_ok());
/// assert!(SafeName::parse("../../.ssh/authorized_keys").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeName(String);

impl SafeName {
    /// Checks a name.
    ///
    /// # Errors
    /// `unsafe-name`, with what is wrong with it.
    pub fn parse(name: &str) -> Result<Self> {
        match problem_of(name) {
            None => Ok(Self(name.to_owned())),
            Some(problem) => Err(Error::UnsafeName { name: shown(name), problem }),
        }
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.components().next_back().unwrap_or(&self.0)
    }

    /// Where it lies below `root`.
    pub fn below(&self, root: &Path) -> PathBuf {
        self.components().fold(root.to_path_buf(), |path, it| path.join(it))
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A foreign name in a message: short and without control characters.
fn shown(name: &str) -> String {
    name.chars().take(120).map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

fn problem_of(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > NAME_LIMIT {
        return Some("it is too long");
    }
    name.split('/').find_map(problem_of_component)
}

fn problem_of_component(it: &str) -> Option<&'static str> {
    // Look-alikes of dots and slashes, marks that reverse the reading direction: models need none.
    let plain = |c: char| c.is_ascii_graphic() && !r#"\:*?"<>|"#.contains(c) || c == ' ';
    let stem = it.split('.').next().unwrap_or(it).trim_end().to_ascii_lowercase();
    let numbered = |of: &str| {
        stem.strip_prefix(of).is_some_and(|it| it.len() == 1 && it.as_bytes()[0].is_ascii_digit())
    };
    match it {
        "" => Some("a component is empty"),
        "." | ".." => Some("it leaves its folder"),
        _ if it.len() > COMPONENT_LIMIT => Some("a component is too long"),
        _ if !it.chars().all(plain) => Some("it holds characters that file names may not have"),
        _ if it.starts_with([' ', '.']) => Some("a component begins with a dot or a space"),
        _ if it.ends_with([' ', '.']) => Some("a component ends in a dot or a space"),
        _ if DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt") => {
            Some("it is a device on some systems")
        }
        _ => None,
    }
}

/// `organization/name` of a repository, in the characters that hubs allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// Checks an id.
    ///
    /// # Errors
    /// `unsafe-name`.
    pub fn parse(id: &str) -> Result<Self> {
        let problem = |problem| Err(Error::UnsafeName { name: shown(id), problem });
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 96
                && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        match id.split_once('/') {
            // Two hyphens are what the cache writes for the slash.
            _ if id.contains("--") || id.contains("..") => {
                problem("a repository's name has no `--` and no `..`")
            }
            Some((organization, name)) if plain(organization) && plain(name) => {
                SafeName::parse(id).map(|it| Self(it.0))
            }
            _ => problem("a repository is called `organization/name`"),
        }
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its folder in the cache: `models--organization--name`.
    pub fn folder_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The id whose folder this is.
    pub fn of_folder_name(folder: &str) -> Option<Self> {
        let (organization, name) = folder.strip_prefix("models--")?.split_once("--")?;
        Self::parse(&format!("{organization}/{name}")).ok()
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A commit of a repository: 40 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(String);

impl Commit {
    /// The commit, if `text` is one.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 40 && is_hex(text)).then(|| Self(text.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a file's bytes must hash to. It is the file's name among the cache's blobs, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// SHA-256 of the bytes: large files.
    Sha256(String),
    /// git's name of the file, SHA-1 of `blob SIZE\0` and the bytes: small files.
    GitBlob(String),
}

impl Digest {
    /// The digest whose hexadecimal digits these are; 64 or 40 of them.
    pub fn parse(text: &str) -> Option<Self> {
        match text.len() {
            64 if is_hex(text) => Some(Self::Sha256(text.to_owned())),
            40 if is_hex(text) => Some(Self::GitBlob(text.to_owned())),
            _ => None,
        }
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// Something to feed the bytes of a file of this size.
    pub fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::GitBlob(_) => {
                Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0").as_bytes()))
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A digest that is being made.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// For [`Digest::Sha256`].
    Sha256(Sha256),
    /// For [`Digest::GitBlob`].
    GitBlob(Sha1),
}

impl Hasher {
    /// The next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(it) => it.update(bytes),
            Self::GitBlob(it) => it.update(bytes),
        }
    }

    /// The digest of all bytes so far.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(it) => Digest::Sha256(hex(&it.finalize())),
            Self::GitBlob(it) => Digest::GitBlob(hex(&it.finalize())),
        }
    }
}

/// Lower-case hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        let long = "a".repeat(201);
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "a\\b",
            "C:x",
            "a\0b",
            "a\nb",
            "a\u{1b}[0m",
            ".hidden",
            "a/.git/config",
            "a.",
            "a ",
            " a",
            "con",
            "NUL.safetensors",
            "com1.json",
            "lpt9",
            "a\u{202e}b",
            "a\u{2215}b",
            "a\u{ff0e}\u{ff0e}/b",
            "a?b",
            "a*b",
            &long,
        ] {
            assert!(SafeName::parse(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn names_of_models_are_accepted() {
        let root = Path::new("root");
        for name in [
            "model-00001-of-00002.safetensors",
            "config.json",
            "Q4_K_M/model (1).gguf",
            "refs/pr/1",
            "console.json",
            "com10.json",
            "a..b",
        ] {
            let path = SafeName::parse(name).unwrap().below(root);
            assert!(path.starts_with(root) && path.ends_with(name), "{name}");
        }
    }

    #[test]
    fn repositories_have_an_organization_and_a_name() {
        for id in ["Qwen/Qwen2.5-0.5B", "a/b", "_a/b_c.d"] {
            let repo = RepoId::parse(id).unwrap();
            assert_eq!(RepoId::of_folder_name(&repo.folder_name()), Some(repo));
        }
        for id in ["a", "a/b/c", "../b", "a/..", "a/.b", "a b/c", "a/b--c", "", "/", "a/", "-a/b"] {
            assert!(RepoId::parse(id).is_err(), "{id}");
        }
    }

    #[test]
    fn digests_are_those_of_git_and_of_sha256sum() {
        let of = |digest: &Digest, bytes: &[u8]| {
            let mut hasher = digest.hasher(bytes.len() as u64);
            hasher.update(bytes);
            hasher.finish()
        };
        let git = Digest::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert_eq!(of(&git, b"hello\n"), git);
        let text = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let sha256 = Digest::parse(text).unwrap();
        assert_eq!(of(&sha256, b"hello\n"), sha256);
        for text in ["", "ce01", &text.to_uppercase(), &format!("{}/", &text[1..])] {
            assert_eq!(Digest::parse(text), None, "{text}");
        }
    }
}
