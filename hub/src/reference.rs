//! What a user types for a model on a hub: `organization/name[@revision][:file]`.

use std::fmt;

use crate::{
    Error, Result,
    name::{RepoId, SafeName},
};

/// The branch that is meant where no revision is given.
pub const DEFAULT_REVISION: &str = "main";

/// A repository, one of its revisions, and, where it holds several GGUF files, which one.
///
/// ```
/// use minicrit_hub::reference::Reference;
/// let it = Reference::parse("org/model-GGUF@v1:Q4_K_M").unwrap();
/// assert_eq!(it.repo.as_str(), "org/model-GGUF");
/// assert_eq!((it.revision(), it.gguf.as_deref()), ("v1", Some("Q4_K_M")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repo: RepoId,
    /// Branch, tag or commit.
    revision: Option<SafeName>,
    /// Part of a GGUF file's name: its quantization, such as `Q4_K_M`.
    pub gguf: Option<String>,
}

impl Reference {
    /// Reads a reference; `hf://` in front of it is allowed.
    ///
    /// # Errors
    /// `bad-reference`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |problem: String| Error::BadReference { text: text.to_owned(), problem };
        let rest = text.strip_prefix("hf://").unwrap_or(text);
        let (rest, gguf) = match rest.split_once(':') {
            Some((rest, gguf)) => (rest, Some(gguf)),
            None => (rest, None),
        };
        let (repo, revision) = match rest.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (rest, None),
        };
        let repo = RepoId::parse(repo).map_err(|error| bad(error.to_string()))?;
        let revision = revision
            .map(|it| SafeName::parse(it).map_err(|error| bad(error.to_string())))
            .transpose()?;
        if revision.as_ref().is_some_and(|it| it.as_str().contains(' ')) {
            return Err(bad("a revision has no spaces".to_owned()));
        }
        let plain = |it: &str| {
            !it.is_empty() && it.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        match gguf {
            Some(gguf) if !plain(gguf) => {
                Err(bad(format!("`{gguf}` can't be a part of a GGUF file's name")))
            }
            _ => Ok(Self { repo, revision, gguf: gguf.map(str::to_owned) }),
        }
    }

    /// A repository at a revision.
    ///
    /// # Errors
    /// `bad-reference`.
    pub fn new(repo: &str, revision: Option<&str>) -> Result<Self> {
        match revision {
            Some(revision) => Self::parse(&format!("{repo}@{revision}")),
            None => Self::parse(repo),
        }
    }

    /// Branch, tag or commit.
    pub fn revision(&self) -> &str {
        self.revision.as_ref().map_or(DEFAULT_REVISION, SafeName::as_str)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repo)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(gguf) = &self.gguf {
            write!(f, ":{gguf}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_printed_as_it_was_typed() {
        for text in ["a/b", "a/b@main", "a/b@refs/pr/1", "a/b:Q4_K_M", "a/b@v1.0:Q8_0"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Reference::parse("hf://a/b").unwrap(), Reference::parse("a/b").unwrap());
    }

    #[test]
    fn what_could_be_a_path_or_a_prompt_is_none() {
        for text in ["a", "a/b/c", "./a", "a/b@", "a/b@../x", "a/b:", "a/b:x/y", "a/b@a b", "a b/c"]
        {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
