//! From what a user calls a model to a loaded one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use minicrit_engine::{
    adapter::Adapter,
    arch, assemble,
    cache::CacheType,
    load::LoadOptions,
    sequence::Sequence,
    source::ModelFiles,
    tokens::{Tokenizer, Vocabulary},
};
use minicrit_hub::{
    cache::{self, Found},
    modelfile::Definition,
    reference::Reference,
    settings::HubSettings,
};

use crate::{
    catalog::Catalog,
    errors::{self, Failure},
    kept::{self, Opened},
    memory::{self, Needs},
    printer,
    settings::Compute,
    signals,
};

/// What the built-in model is called.
pub const BUILTIN: &str = "nano";

/// What a user means by a model.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelRef {
    /// The one in the program.
    Builtin,
    /// A folder or file.
    Path(PathBuf),
    /// A known name, or `org/repo[@revision][:file]`: it lies in the cache, or has to be pulled.
    Hub(HubModel),
    /// One that the user made of another.
    Created(Box<CreatedModel>),
}

/// A model of the user's own: another model, and what was said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedModel {
    /// Its name.
    pub name: String,
    /// What it begins with.
    pub base: ModelRef,
    /// What it is made of.
    pub definition: Definition,
}

/// A model of a hub.
#[derive(Debug, Clone, PartialEq)]
pub struct HubModel {
    /// What the user called it.
    pub label: String,
    /// The repository.
    pub reference: Reference,
    /// The hub, and the cache.
    pub hub: Arc<HubSettings>,
}

impl HubModel {
    /// Where it lies, if it is here.
    pub fn found(&self) -> Option<Found> {
        cache::find(&self.hub.cache, &self.reference)
    }
}

impl ModelRef {
    /// Whether `text` names a model (rather than being a prompt): it exists as a path, is known by
    /// name, or has the form of a path, of `org/repo` or of `name:tag`.
    pub fn is_named_by(text: &str, catalog: &Catalog) -> bool {
        exists(text)
            || text == BUILTIN
            || catalog.find(text).is_some()
            || Reference::parse(text).is_ok()
            || catalog.created_names().iter().any(|it| it == text)
            || looks_like_path(text)
            || looks_like_tag(text)
    }

    /// What `text` names.
    ///
    /// # Errors
    /// `model-not-found`, with the nearest known name.
    pub fn parse(text: &str, catalog: &Catalog) -> Result<Self, Failure> {
        let hub = |label: &str, reference| {
            Self::Hub(HubModel { label: label.into(), reference, hub: Arc::clone(catalog.hub()) })
        };
        if exists(text) {
            return Ok(Self::Path(text.into()));
        }
        if text == BUILTIN {
            return Ok(Self::Builtin);
        }
        if let Some(entry) = catalog.find(text) {
            if entry.is_builtin() {
                return Ok(Self::Builtin);
            }
            let reference = Reference::new(&entry.repo, entry.revision.as_deref());
            return Ok(hub(&entry.name, reference.map_err(errors::named_failure)?));
        }
        if looks_like_path(text) {
            return Ok(Self::Path(text.into()));
        }
        if let Some(definition) = catalog.definition(text)? {
            let base = Self::parse_base(text, &definition.from, catalog)?;
            let name = text.to_owned();
            return Ok(Self::Created(Box::new(CreatedModel { name, base, definition })));
        }
        if let Ok(reference) = Reference::parse(text) {
            return Ok(hub(text, reference));
        }
        let failure = Failure::not_found("model-not-found", format!("no such model: `{text}`"));
        Err(match catalog.suggestions(text)[..] {
            [name, ..] => failure.hint(format!("did you mean `{name}`? (minicrit list shows all)")),
            [] => failure.hint("pass a folder or GGUF file, or a name from: minicrit list"),
        })
    }

    /// The base of a model of one's own, which is not made of another such one.
    fn parse_base(name: &str, from: &str, catalog: &Catalog) -> Result<Self, Failure> {
        if from != name && catalog.definition(from)?.is_none() {
            return Self::parse(from, catalog);
        }
        let message = format!("`{name}` is made from `{from}`, which is made by `create`, too");
        Err(Failure::failed("definition", message)
            .hint("begin with a folder, a GGUF file or a model of the hub"))
    }

    /// The model without what the user added to it.
    pub fn base(&self) -> &Self {
        match self {
            Self::Created(model) => &model.base,
            other => other,
        }
    }

    /// What the user added to it.
    pub fn definition(&self) -> Option<&Definition> {
        match self {
            Self::Created(model) => Some(&model.definition),
            _ => None,
        }
    }

    /// What to call it in results.
    pub fn label(&self) -> String {
        match self {
            Self::Builtin => BUILTIN.into(),
            Self::Path(path) => path.display().to_string(),
            Self::Hub(model) => model.label.clone(),
            Self::Created(model) => model.name.clone(),
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
            Self::Hub(model) => match model.found() {
                Some(found) => Ok(ModelFiles::open(&found.path)?),
                None => Err(not_downloaded(model).into()),
            },
            Self::Created(model) => Ok(self.dressed(model.base.files()?)),
        }
    }

    /// The files of its base with what the user put in their place.
    pub fn dressed(&self, mut files: ModelFiles) -> ModelFiles {
        if let Some(template) = self.definition().and_then(|it| it.template.as_ref()) {
            files.chat_template = Some(template.clone());
        }
        files
    }
}

/// The failure of a model that is not here and is not fetched.
pub fn not_downloaded(model: &HubModel) -> Failure {
    let message = format!("this model is not on this machine: `{}`", model.label);
    Failure::not_found("model-not-downloaded", message)
        .hint(format!("minicrit pull {}", model.label))
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
    cache_type: CacheType,
}

impl Loaded {
    /// Opens, checks the memory and loads.
    ///
    /// # Errors
    /// Those of [`ModelRef::files`] and of loading; `not-enough-memory`.
    pub fn open(model: &ModelRef, compute: &Compute) -> anyhow::Result<Self> {
        let start = Instant::now();
        let label = model.label();
        let mut opened = kept::open(model, compute)?;
        let mut loaded = load(&opened, compute, &label);
        if let Err(error) = &loaded
            && opened.drop_if_damaged(error)
        {
            opened = kept::open(model, compute)?;
            loaded = load(&opened, compute, &label);
        }
        let (needs, model) = loaded?;
        let (mut weight_bytes, mut decode_bytes) = (needs.weight_bytes, needs.decode_bytes);
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
            cache_type: compute.cache_type,
        })
    }

    /// A fresh sequence in front of the model.
    pub fn sequence(&self) -> Sequence {
        let sequence = Sequence::new(Arc::clone(&self.model.decoder), self.adapter.clone())
            .with_chunk(self.chunk)
            .with_cache_type(self.cache_type)
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

fn load(
    opened: &Opened,
    compute: &Compute,
    label: &str,
) -> anyhow::Result<(Needs, assemble::Model)> {
    let Opened { files, mix, .. } = opened;
    let _progress = printer::Progress::start(format!("loading {label}"));
    check_context(compute.context, files)?;
    let needs = kept::needs(files, *mix)?.with_cache_type(compute.cache_type);
    needs.check(compute.context, &memory::available())?;
    Ok((needs, assemble::load(files, LoadOptions { quantize: *mix })?))
}

/// A longer context than the model was made for would be cut without a word.
///
/// # Errors
/// `context-too-long`; a config.json that describes no model that is run.
pub fn check_context(asked: Option<usize>, files: &ModelFiles) -> anyhow::Result<()> {
    let most = arch::spec_from_config(&files.config)?.max_tokens();
    match asked {
        Some(tokens) if tokens > most => {
            let message = format!("this model's context has {most} tokens: `--ctx {tokens}`");
            Err(Failure::usage("context-too-long", message)
                .hint(format!("pass --ctx {most} or less"))
                .into())
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
    let ends = [".gguf", ".safetensors", ".minicrit"].iter().any(|it| text.ends_with(it));
    (begins || ends) && !text.contains(char::is_whitespace)
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
                Reference::parse(text).is_err() && !looks_like_path(text) && !looks_like_tag(text),
                "{text}"
            );
        }
        for text in ["org/repo", "Qwen/Qwen2.5-0.5B@abc"] {
            assert!(Reference::parse(text).is_ok(), "{text}");
        }
    }
}
