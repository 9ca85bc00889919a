//! What can be wrong with a model's files.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use minicrit_quant::Bytes;

use crate::error::NamedError;

/// Errors of this module. `file` is what the user can look at: a path, or `built-in model/...`.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("no model folder or file at `{}`", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// The system would not let us read it.
    #[error("can't read `{}`: {source}", path.display())]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is something else than a model.
    #[error("`{file}` is not a model: {found}")]
    NotAModel {
        /// The folder or file.
        file: String,
        /// What it looks like.
        found: String,
    },
    /// A folder lacks a file that every model has.
    #[error("`{}` has no {file}", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// What is missing.
        file: &'static str,
        /// What the folder's other files suggest.
        advice: String,
    },
    /// The only weights are Python pickles, which can run any code when opened.
    #[error("`{}` has only pickled weights ({file}), which this program never opens", folder.display())]
    PickledWeights {
        /// The folder.
        folder: PathBuf,
        /// One of its pickles.
        file: String,
    },
    /// A folder with several GGUF files does not say which one is meant.
    #[error("`{}` has {} GGUF files: {}", folder.display(), files.len(), files.join(", "))]
    SeveralGguf {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        files: Vec<String>,
    },
    /// A file is larger than anything sensible of its kind.
    #[error("`{file}` has {bytes} bytes, more than the {limit} that such a file may have")]
    FileTooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// A JSON file is broken, ambiguous (a key twice) or not of the form expected.
    #[error("`{file}` is not usable JSON: {problem}")]
    BadJson {
        /// The file.
        file: String,
        /// What is wrong, with line and column where the text itself is broken.
        problem: String,
    },
    /// A safetensors file breaks its format.
    #[error("`{file}` is not a sound safetensors file: {problems}")]
    BadSafetensors {
        /// The file.
        file: String,
        /// All that is wrong.
        problems: Problems,
    },
    /// The index of a sharded model and its shards do not agree.
    #[error("`{file}` does not fit its shards: {problems}")]
    BadShardIndex {
        /// The index.
        file: String,
        /// All that is wrong.
        problems: Problems,
    },
    /// A GGUF file breaks its format.
    #[error("`{file}` is not a sound GGUF file: {problems}")]
    BadGguf {
        /// The file.
        file: String,
        /// All that is wrong; after a break in the metadata nothing further can be read.
        problems: Problems,
    },
    /// A GGUF file of a version or byte order that is not read.
    #[error("`{file}` is a GGUF file of {found}; versions 2 and 3, little-endian, are read")]
    GgufVersion {
        /// The file.
        file: String,
        /// Its version.
        found: String,
    },
    /// One part of a GGUF model that was split into several files.
    #[error("`{file}` is one of {parts} parts of a split GGUF model")]
    SplitGguf {
        /// The file.
        file: String,
        /// Number of parts.
        parts: u64,
    },
    /// A packed file that is damaged or was never whole.
    #[error("`{file}` is no sound packed file: {problems}")]
    BadPacked {
        /// The file.
        file: String,
        /// All that is wrong.
        problems: Problems,
    },
    /// A packed file of another version of this program.
    #[error("`{file}` is a packed file of {found}, and version 1 is read")]
    PackedVersion {
        /// The file.
        file: String,
        /// What the file says.
        found: String,
    },
    /// A GGUF file's metadata do not describe a model of its architecture.
    #[error("`{file}` does not describe its model: {problems}")]
    GgufMetadata {
        /// The file.
        file: String,
        /// All that is missing or wrong.
        problems: Problems,
    },
    /// Weights are stored in formats that are not run.
    #[error("`{file}` stores tensors in formats that are not run: {formats}")]
    UnsupportedFormat {
        /// The file.
        file: String,
        /// Each format once, with the number of tensors.
        formats: String,
    },
    /// The model is of a family that is not run.
    #[error("`{file}` holds a model of architecture {architecture}")]
    UnsupportedArchitecture {
        /// The file.
        file: String,
        /// What the file calls it.
        architecture: String,
    },
}

impl NamedError for SourceError {
    fn name(&self) -> &'static str {
        match self {
            SourceError::NotFound { .. } => "model-not-found",
            SourceError::Unreadable { .. } => "model-unreadable",
            SourceError::NotAModel { .. } => "not-a-model",
            SourceError::MissingFile { .. } => "missing-file",
            SourceError::PickledWeights { .. } => "pickled-weights",
            SourceError::SeveralGguf { .. } => "several-gguf",
            SourceError::FileTooLarge { .. } => "file-too-large",
            SourceError::BadJson { .. } => "bad-json",
            SourceError::BadSafetensors { .. } => "bad-safetensors",
            SourceError::BadShardIndex { .. } => "bad-shard-index",
            SourceError::BadGguf { .. } => "bad-gguf",
            SourceError::GgufVersion { .. } => "gguf-version",
            SourceError::SplitGguf { .. } => "split-gguf",
            SourceError::BadPacked { .. } => "bad-packed-file",
            SourceError::PackedVersion { .. } => "packed-version",
            SourceError::GgufMetadata { .. } => "gguf-metadata",
            SourceError::UnsupportedFormat { .. } => "unsupported-format",
            SourceError::UnsupportedArchitecture { .. } => "unsupported-architecture",
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            SourceError::NotFound { .. } => {
                "give a folder with config.json, a .gguf file, or a name of models.toml"
            }
            SourceError::Unreadable { .. } => "check the file's permissions",
            SourceError::NotAModel { .. } => {
                "give a folder with config.json and model.safetensors, or a .gguf file"
            }
            SourceError::MissingFile { advice, .. } => return Some(advice.clone()),
            SourceError::PickledWeights { .. } => {
                "convert them once, in a sandbox: in transformers, `from_pretrained(...)` and then \
                 `save_pretrained(..., safe_serialization=True)`"
            }
            SourceError::SeveralGguf { .. } => "name one of the files instead of the folder",
            SourceError::FileTooLarge { .. } | SourceError::BadJson { .. } => {
                "download or write the file again"
            }
            SourceError::BadSafetensors { .. }
            | SourceError::BadGguf { .. }
            | SourceError::BadShardIndex { .. } => {
                "the download may be incomplete: compare sizes and checksums with the source"
            }
            SourceError::BadPacked { .. } | SourceError::PackedVersion { .. } => {
                "write it again from its source: minicrit quantize"
            }
            SourceError::GgufVersion { .. } => "convert the model again with a current converter",
            SourceError::SplitGguf { .. } => "join the parts with `llama-gguf-split --merge`",
            SourceError::GgufMetadata { .. } => {
                "convert the model again, or use its Hugging Face folder"
            }
            SourceError::UnsupportedFormat { .. } => {
                "use a file with f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k or q6_k \
                 (safetensors: f32, f16 or bf16)"
            }
            SourceError::UnsupportedArchitecture { .. } => {
                "llama (with mistral and mixtral), qwen2, qwen3, qwen3moe and phi3 are run"
            }
        };
        Some(hint.to_owned())
    }
}

/// All problems of one file. The first lines are kept, the rest are counted, because a hostile
/// file can have a million.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    lines: Vec<String>,
    count: usize,
}

impl Problems {
    const MOST_LINES: usize = 20;

    /// Adds one problem.
    pub fn push(&mut self, line: impl Into<String>) {
        self.count += 1;
        if self.lines.len() < Self::MOST_LINES {
            self.lines.push(printable(&line.into()));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }
}

impl<S: Into<String>> From<S> for Problems {
    fn from(line: S) -> Self {
        let mut problems = Self::default();
        problems.push(line);
        problems
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ([line], 1) = (self.lines.as_slice(), self.count) {
            return f.write_str(line);
        }
        write!(f, "{} problems", self.count)?;
        for line in &self.lines {
            write!(f, "\n  - {line}")?;
        }
        match self.count - self.lines.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// What the system's refusal to open `path` means to us.
pub(super) fn unreadable(path: &Path, source: std::io::Error) -> SourceError {
    match source.kind() {
        std::io::ErrorKind::NotFound => SourceError::NotFound { path: path.to_path_buf() },
        _ => SourceError::Unreadable { path: path.to_path_buf(), source },
    }
}

/// Maps a whole file.
pub(super) fn map_file(path: &Path) -> Result<Bytes, SourceError> {
    Bytes::map_file(path).map_err(|error| match error {
        minicrit_quant::Error::Io { source, .. } => unreadable(path, source),
        other => unreadable(path, std::io::Error::other(other)),
    })
}

/// `text` with control characters written out: messages of parsers quote the file as it is.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_debug()),
            false => shown.push(c),
        }
    }
    shown
}

/// Text from a file as messages may show it: short, and without control characters.
pub(super) fn quoted(text: &str) -> String {
    const MOST_CHARS: usize = 80;
    if text.chars().count() <= MOST_CHARS {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(MOST_CHARS).collect();
    format!("{head:?}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_listed_up_to_twenty_and_then_counted() {
        let mut problems = Problems::from("first");
        assert_eq!(problems.to_string(), "first");
        for i in 1..25 {
            problems.push(format!("line {i}"));
        }
        let text = problems.to_string();
        assert!(text.starts_with("25 problems\n  - first\n  - line 1\n"), "{text}");
        assert!(text.ends_with("  - line 19\n  and 5 more"), "{text}");
    }

    #[test]
    fn names_are_shown_short_and_without_control_characters() {
        assert_eq!(quoted("a\u{1b}[31m"), r#""a\u{1b}[31m""#);
        assert_eq!(quoted(&"x".repeat(1000)), format!("\"{}\"...", "x".repeat(80)));
    }
}
