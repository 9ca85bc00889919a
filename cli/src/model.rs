//! From what a user calls a model to a loaded one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use minicrit_engine::{
    adapter::Adapter,
    arch, assemble,
    load::LoadOptions,
    registry::Registry,
    sequence::Sequence,
    source::ModelFiles,
    tokens::{Tokenizer, Vocabulary},
};

use crate::{errors::Failure, memory, printer, settings::Compute, signals};

/// What the built-in model is called.
pub const BUILTIN: &str = "nano";

/// What a user means by a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelRef {
    /// The one in the program.
    Builtin,
    /// A folder or file.
    Path(PathBuf),
    /// A known name, or `org/repo[@revision]`: it would have to be downloaded.
    Hub(String),
}

impl ModelRef {
    /// Whether `text` names a model (rather than being a prompt): it exists as a path, is known by
    /// name, or has the form of a path, of `org/repo` or of `name:tag`.
    pub fn is_named_by(text: &str, registry: &Registry) -> bool {
        exists(text)
            || text == BUILTIN
            || registry.find(text).is_some()
            || looks_like_repo(text)
            || looks_like_path(text)
            || looks_like_tag(text)
    }

    /// What `text` names.
    ///
    /// # Errors
    /// `model-not-found`, with the nearest known name.
    pub fn parse(text: &str, registry: &Registry) -> Result<Self, Failure> {
        if exists(text) {
            return Ok(Self::Path(text.into()));
        }
        if text == BUILTIN {
            return Ok(Self::Builtin);
        }
        if let Some(entry) = registry.find(text) {
            return Ok(if entry.is_builtin() {
                Self::Builtin
            } else {
                Self::Hub(entry.name.clone())
            });
        }
        if looks_like_path(text) {
            return Ok(Self::Path(text.into()));
        }
        if looks_like_repo(text) {
            return Ok(Self::Hub(text.into()));
        }
        let failure = Failure::not_found("model-not-found", format!("no such model: `{text}`"));
        Err(match registry.suggestions(text)[..] {
            [name, ..] => failure.hint(format!("did you mean `{name}`? (minicrit list shows all)")),
            [] => failure.hint("pass a folder or GGUF file, or a name from: minicrit list"),
        })
    }

    /// What to call it in results.
    pub fn label(&self) -> String {
        match self {
            Self::Builtin => BUILTIN.into(),
            Self::Path(path) => path.display().to_string(),
            Self::Hub(name) => name.clone(),
        }
    }

    /// Opens its files.
    ///
    /// # Errors
    /// Absent or broken files; a model that would have to be downloaded.
    pub fn files(&self) -> anyhow::Result<ModelFiles> {
        match self {
            Self::Builtin => Ok(ModelFiles::builtin()?),
            Self::Path(path) if std::fs::metadata(path).is_err_and(is_absent) => {
                let message = format!("no such folder or file: `{}`", path.display());
                Err(Failure::not_found("model-not-found", message)
                    .hint("pass a model folder in Hugging Face format or a .gguf file")
                    .into())
            }
            Self::Path(path) => Ok(ModelFiles::open(path)?),
            Self::Hub(name) => {
                let message = format!("this model is not on this machine: `{name}`");
                Err(Failure::not_found("model-not-downloaded", message)
                    .hint("downloading is not built yet: pass a model folder or a GGUF file")
                    .into())
            }
        }
    }
}

fn is_absent(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// A model in memory.
pub struct Loaded {
    /// What the engine gave.
    pub model: assemble::Model,
    /// What to call it.
    pub label: String,
    /// Time of opening and loading, in milliseconds.
    pub load_ms: f64,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Weight bytes that one decoded token reads.
    pub decode_bytes: u64,
    /// The learned change that is on.
    pub adapter: Option<Arc<dyn Adapter>>,
    /// Keys and values of one token.
    pub kv_bytes_per_token: u64,
    context: Option<usize>,
    chunk: usize,
}

impl Loaded {
    /// Opens, checks the memory and loads.
    ///
    /// # Errors
    /// Those of [`ModelRef::files`] and of loading; `not-enough-memory`.
    pub fn open(model: &ModelRef, compute: &Compute) -> anyhow::Result<Self> {
        let start = Instant::now();
        let label = model.label();
        let _progress = printer::Progress::start(format!("loading {label}"));
        let files = model.files()?;
        check_context(compute.context, arch::spec_from_config(&files.config)?.max_tokens())?;
        let needs = memory::Needs::of(&files);
        needs.check(compute.context, &memory::available())?;
        let (mut weight_bytes, mut decode_bytes) = (needs.weight_bytes, needs.decode_bytes);
        let model = assemble::load(&files, LoadOptions { quantize: compute.quantize })?;
        if compute.quantize.is_some() {
            weight_bytes = model.decoder.weight_bytes() as u64;
            decode_bytes = model.decoder.decode_bytes() as u64;
        }
        let adapter: Option<Arc<dyn Adapter>> = match &compute.adapter {
            Some(it) => Some(Arc::new(it.load(&model.decoder)?)),
            None => None,
        };
        Ok(Self {
            model,
            adapter,
            label,
            load_ms: milliseconds_since(start),
            weight_bytes,
            decode_bytes,
            kv_bytes_per_token: needs.kv_bytes_per_token,
            context: compute.context,
            chunk: compute.chunk,
        })
    }

    /// A fresh sequence in front of the model.
    pub fn sequence(&self) -> Sequence {
        let sequence = Sequence::new(Arc::clone(&self.model.decoder), self.adapter.clone())
            .with_chunk(self.chunk)
            .with_cancel(signals::interruption());
        match self.context {
            Some(tokens) => sequence.with_context_len(tokens),
            None => sequence,
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// `no-tokenizer` where the model came without one.
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>, Failure> {
        self.model.tokenizer.as_ref().ok_or_else(|| no_tokenizer(&self.label))
    }

    /// Bytes of each token; an empty table where there is no tokenizer.
    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        match &self.model.tokenizer {
            Some(tokenizer) => Arc::clone(tokenizer.vocabulary()),
            None => Arc::new(Vocabulary::new(Vec::new(), false)),
        }
    }
}

/// A longer context than the model was made for would be cut without a word.
fn check_context(asked: Option<usize>, most: usize) -> Result<(), Failure> {
    match asked {
        Some(tokens) if tokens > most => {
            let message = format!("this model's context has {most} tokens: `--ctx {tokens}`");
            Err(Failure::usage("context-too-long", message)
                .hint(format!("pass --ctx {most} or less")))
        }
        _ => Ok(()),
    }
}

/// The failure of a model that has no tokenizer where one is needed.
pub fn no_tokenizer(label: &str) -> Failure {
    Failure::failed("no-tokenizer", format!("this model has no tokenizer: `{label}`"))
        .hint("put its tokenizer.json beside the weights, or pass token ids with --ids")
}

/// Milliseconds from `start` to now.
pub fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

fn exists(text: &str) -> bool {
    !text.is_empty() && Path::new(text).exists()
}

fn looks_like_path(text: &str) -> bool {
    let begins = ["./", "../", "/", "~/", ".\\", "..\\"].iter().any(|it| text.starts_with(it));
    let ends = text.ends_with(".gguf") || text.ends_with(".safetensors");
    (begins || ends) && !text.contains(char::is_whitespace)
}

/// `org/repo[@revision]` in the characters that the hub allows.
fn looks_like_repo(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'))
    };
    let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
    match repo.split_once('/') {
        Some((org, name)) => {
            plain(org)
                && plain(name)
                && !revision.is_empty()
                && !revision.contains(char::is_whitespace)
        }
        None => false,
    }
}

/// `name:tag`, as registries spell it: nobody's prompt.
fn looks_like_tag(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.chars().all(|it| {
                it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, '-' | '_' | '.')
            })
    };
    text.split_once(':').is_some_and(|(name, tag)| plain(name) && plain(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_do_not_look_like_models() {
        for text in
            ["why?", "a b/c", "yes", "note: this", "5 / 3", "a/b/c", "/no way", "Really: no"]
        {
            assert!(
                !looks_like_repo(text) && !looks_like_path(text) && !looks_like_tag(text),
                "{text}"
            );
        }
        for text in ["org/repo", "Qwen/Qwen2.5-0.5B@abc"] {
            assert!(looks_like_repo(text), "{text}");
        }
    }
}
