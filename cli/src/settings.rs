//! What was typed, resolved once: flag, then environment, then default. Commands read these
//! structs and never the raw arguments.
//!
//! Each `resolve` takes its raw struct apart by name, so that a flag that nobody reads does not
//! compile.

mod critic;
mod data;
mod finetune;
mod fuse;
mod quantize;
mod run;

use std::path::PathBuf;

use minicrit_engine::{cache::CacheType, recipe::Mix};

use crate::{
    adapter::AdapterRef,
    args::{BenchArgs, CacheWidth, ComputeArgs, PullWhen, ScoreArgs, TokenizeArgs},
    catalog::Catalog,
    env::{self, Environment},
    errors::Failure,
    model::ModelRef,
};

pub use critic::{CriticSettings, CritiqueSettings, EvalSettings, Rationales, Sweep};
pub use data::DataCheckSettings;
pub use finetune::{Before, FinetuneSettings, Layers, Length, RejectionSettings, Trained};
pub use fuse::FuseSettings;
pub use quantize::QuantizeSettings;
pub use run::{Drafting, Input, Output, RunSettings, Sampling, Talk};

/// How to load and drive a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Compute {
    /// Worker threads.
    pub threads: usize,
    /// Rows in one prefill step.
    pub chunk: usize,
    /// Context length, where it shall not be the model's.
    pub context: Option<usize>,
    /// What the weights are brought into at load.
    pub quantize: Option<Mix>,
    /// How keys and values are kept.
    pub cache_type: CacheType,
    /// The folder where rounded models are kept for the next start; `None` keeps none.
    pub kept: Option<PathBuf>,
    /// Whether a model that is not here is fetched, where the user says.
    pub pull: Option<PullWhen>,
    /// A learned change to the model.
    pub adapter: Option<AdapterRef>,
}

impl Compute {
    /// What a model of the user's own says counts where no flag says anything.
    ///
    /// # Errors
    /// An adapter's scale that is none.
    pub fn with_definition(mut self, model: &ModelRef) -> Result<Self, Failure> {
        if let Some(definition) = model.definition() {
            let context = definition.parameters.get("ctx").map(|it| *it as usize);
            self.context = self.context.or(context);
            let adapter = definition.adapter.as_deref().map(AdapterRef::parse).transpose()?;
            self.adapter = self.adapter.or(adapter);
        }
        Ok(self)
    }

    /// Resolves the flags that every computing command has.
    ///
    /// # Errors
    /// What is not built yet, by name; a bad environment variable.
    pub fn resolve(args: ComputeArgs, environment: &Environment) -> Result<Self, Failure> {
        let ComputeArgs { threads, chunk, ctx, quant, cache_type, no_cache_quant, pull, adapter } =
            args;
        let quantize = mix_at_load(&quant)?;
        let adapter = adapter.map(|it| AdapterRef::find(&it, environment)).transpose()?;
        let threads = self::threads(threads, environment)?;
        let context = ctx.map(|it| it as usize);
        let cache_type = match cache_type {
            CacheWidth::F32 => CacheType::F32,
            CacheWidth::F16 => CacheType::F16,
            CacheWidth::Bf16 => CacheType::Bf16,
        };
        let kept = environment.kept_folder().filter(|_| !no_cache_quant);
        let chunk = chunk as usize;
        Ok(Self { threads, chunk, context, quantize, cache_type, kept, pull, adapter })
    }
}

/// Worker threads: the flag's, else the environment's, else the cores of this process.
fn threads(flag: Option<u32>, environment: &Environment) -> Result<usize, Failure> {
    match (flag, &environment.threads) {
        (Some(flag), _) => Ok(flag as usize),
        (None, Some(text)) => threads_of(text),
        (None, None) => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

fn threads_of(text: &str) -> Result<usize, Failure> {
    text.parse().ok().filter(|it| (1..=512).contains(it)).ok_or_else(|| {
        let message = format!("{} must be a number from 1 to 512: `{text}`", env::THREADS);
        Failure::usage("bad-environment", message)
            .hint(format!("unset {} or pass --threads", env::THREADS))
    })
}

/// What the weights are brought into at load: `none`, or the form that a flag names.
fn mix_at_load(name: &str) -> Result<Option<Mix>, Failure> {
    (name != "none").then(|| mix_named(name)).transpose()
}

/// The form of weights that a flag names.
fn mix_named(name: &str) -> Result<Mix, Failure> {
    Mix::named(&name.to_ascii_lowercase()).ok_or_else(|| {
        let names: Vec<&str> = Mix::all().map(Mix::name).collect();
        let message = format!("no such weight format: `{name}`");
        Failure::usage("unknown-format", message).hint(format!("formats are {}", names.join(", ")))
    })
}

/// Text or ids.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// This text.
    Text(String),
    /// The ids in a JSON file.
    Ids(PathBuf),
}

/// `score`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct ScoreSettings {
    pub model: ModelRef,
    pub source: Source,
    pub continuations: Vec<String>,
    pub logits: Option<PathBuf>,
    pub json: bool,
    pub compute: Compute,
}

impl ScoreSettings {
    /// Resolves `score`.
    ///
    /// # Errors
    /// As for `run`.
    pub fn resolve(
        args: ScoreArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let ScoreArgs { model, text, ids, continuations, logits, json, compute } = args;
        let source = match (text, ids) {
            (_, Some(file)) => Source::Ids(file),
            (text, None) => Source::Text(text.unwrap_or_default()),
        };
        let model = ModelRef::parse(&model, catalog)?;
        let compute = Compute::resolve(compute, environment)?.with_definition(&model)?;
        Ok(Self { model, source, continuations, logits, json, compute })
    }
}

/// `tokenize`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct TokenizeSettings {
    pub model: ModelRef,
    pub what: ToTokenize,
    pub json: bool,
}

/// What `tokenize` turns into ids.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum ToTokenize {
    Text(String),
    Messages { file: PathBuf, tools: Option<PathBuf>, generation_prompt: bool },
}

impl TokenizeSettings {
    /// Resolves `tokenize`.
    ///
    /// # Errors
    /// An unknown model.
    pub fn resolve(args: TokenizeArgs, catalog: &Catalog) -> Result<Self, Failure> {
        let TokenizeArgs { model, text, messages, tools, no_generation_prompt, json } = args;
        let what = match messages {
            Some(file) => {
                ToTokenize::Messages { file, tools, generation_prompt: !no_generation_prompt }
            }
            None => ToTokenize::Text(text.unwrap_or_default()),
        };
        Ok(Self { model: ModelRef::parse(&model, catalog)?, what, json })
    }
}

/// `bench`, resolved.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct BenchSettings {
    pub model: ModelRef,
    pub prompt_len: usize,
    pub gen_len: usize,
    pub depth: usize,
    /// Numbers of rows whose cost is compared with that of one; empty where it is not asked for.
    pub rows: Vec<usize>,
    pub reps: usize,
    pub json: bool,
    pub compute: Compute,
}

impl BenchSettings {
    /// Resolves `bench`.
    ///
    /// # Errors
    /// As for `run`.
    pub fn resolve(
        args: BenchArgs,
        environment: &Environment,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let BenchArgs { model, prompt_len, gen_len, depth, rows, reps, json, compute } = args;
        let model = model_or_default(model, environment, catalog)?;
        let compute = Compute::resolve(compute, environment)?.with_definition(&model)?;
        Ok(Self {
            model,
            prompt_len: prompt_len as usize,
            gen_len: gen_len as usize,
            depth: depth as usize,
            rows: rows.into_iter().map(|it| it as usize).collect(),
            reps: reps as usize,
            json,
            compute,
        })
    }
}

/// The model that is named, else that of the environment, else the built-in one.
///
/// # Errors
/// An unknown model.
pub fn model_or_default(
    model: Option<String>,
    environment: &Environment,
    catalog: &Catalog,
) -> Result<ModelRef, Failure> {
    match model.as_ref().or(environment.model.as_ref()) {
        Some(name) => ModelRef::parse(name, catalog),
        None => ModelRef::parse(&catalog.default_entry().name, catalog),
    }
}
