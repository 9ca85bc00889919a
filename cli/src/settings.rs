//! What was typed, resolved once: flag, then environment, then default. Commands read these
//! structs and never the raw arguments.
//!
//! Each `resolve` takes its raw struct apart by name, so that a flag that nobody reads does not
//! compile.

use std::path::PathBuf;

use minicrit_engine::registry::Registry;

use crate::{
    args::{BenchArgs, ComputeArgs, RunArgs, SamplingArgs, ScoreArgs, TokenizeArgs},
    env::{self, Environment},
    errors::Failure,
    model::ModelRef,
};

/// How to load and drive a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Compute {
    /// Worker threads.
    pub threads: usize,
    /// Rows in one prefill step.
    pub chunk: usize,
    /// Context length, where it shall not be the model's.
    pub context: Option<usize>,
}

impl Compute {
    /// Resolves the flags that every computing command has.
    ///
    /// # Errors
    /// What is not built yet, by name; a bad environment variable.
    pub fn resolve(args: ComputeArgs, environment: &Environment) -> Result<Self, Failure> {
        let ComputeArgs { threads, chunk, ctx, quant, adapter } = args;
        refuse_quant(&quant)?;
        if adapter.is_some() {
            return Err(Failure::usage(
                "not-built-yet",
                "adapters can't be applied yet: `--adapter`",
            )
            .hint("run the base model without --adapter"));
        }
        let threads = match (threads, &environment.threads) {
            (Some(flag), _) => flag as usize,
            (None, Some(text)) => threads_of(text)?,
            (None, None) => std::thread::available_parallelism().map_or(1, usize::from),
        };
        Ok(Self { threads, chunk: chunk as usize, context: ctx.map(|it| it as usize) })
    }
}

fn threads_of(text: &str) -> Result<usize, Failure> {
    text.parse().ok().filter(|it| (1..=4096).contains(it)).ok_or_else(|| {
        let message = format!("{} must be a number from 1 to 4096: `{text}`", env::THREADS);
        Failure::usage("bad-environment", message)
            .hint(format!("unset {} or pass --threads", env::THREADS))
    })
}

fn refuse_quant(quant: &str) -> Result<(), Failure> {
    let quant = quant.to_ascii_lowercase();
    let known = ["q8", "q4"].into_iter().chain(minicrit_quant::Format::ALL.map(|it| it.name()));
    if quant == "none" {
        return Ok(());
    }
    if known.into_iter().any(|it| it == quant) {
        let message = format!("weights can't be quantized at load yet: `--quant {quant}`");
        return Err(Failure::usage("not-built-yet", message)
            .hint("pass --quant none, or a GGUF file that is quantized already"));
    }
    let message = format!("no such weight format: `{quant}`");
    Err(Failure::usage("unknown-format", message).hint("pass --quant none"))
}

/// How tokens are chosen; absent values leave the model's default.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Sampling {
    pub temperature: Option<f64>,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub typical_p: Option<f64>,
    pub repeat_penalty: Option<f64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    pub seed: u64,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    pub ignore_eos: bool,
}

impl Sampling {
    fn resolve(args: SamplingArgs) -> Result<Self, Failure> {
        let SamplingArgs {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            seed,
            max_tokens,
            stop,
            ignore_eos,
        } = args;
        if stop.iter().any(String::is_empty) {
            return Err(Failure::usage("usage", "a stop text can't be empty: `--stop`"));
        }
        Ok(Self {
            temperature,
            top_k: top_k.map(|it| it as usize),
            top_p,
            min_p,
            typical_p,
            repeat_penalty,
            presence_penalty,
            frequency_penalty,
            seed,
            max_tokens: max_tokens.map(|it| it as usize),
            stop,
            ignore_eos,
        })
    }
}

/// Who drafts tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Drafting {
    /// Nobody.
    Off,
    /// Repetitions in the context.
    Ngram,
    /// A small model.
    Model(ModelRef),
}

/// What the model is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// This text.
    Prompt(String),
    /// What standard input holds.
    Stdin,
    /// The messages in a JSON file.
    Messages(PathBuf),
    /// The token ids in a JSON file.
    Ids(PathBuf),
    /// Whatever the user types, again and again.
    Chat,
}

/// What comes out beside the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Talk {
    /// Nothing.
    Quiet,
    /// One line, on a terminal.
    Short,
    /// A block.
    Verbose,
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// One JSON object.
    Json,
    /// Text as it is made.
    Stream,
    /// Text when it is whole.
    Whole,
}

/// `run`, resolved.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct RunSettings {
    pub model: ModelRef,
    pub input: Input,
    pub system: Option<String>,
    pub raw: bool,
    pub output: Output,
    pub talk: Talk,
    pub drafting: Drafting,
    pub draft_tokens: usize,
    pub sampling: Sampling,
    pub compute: Compute,
}

impl RunSettings {
    /// Resolves `run`. `in_terminal`: standard input is a keyboard.
    ///
    /// # Errors
    /// [`Failure`]: unknown models, contradictions, what is not built yet.
    pub fn resolve(
        args: RunArgs,
        environment: &Environment,
        registry: &Registry,
        in_terminal: bool,
    ) -> Result<Self, Failure> {
        let RunArgs {
            first,
            second,
            system,
            messages,
            ids,
            raw,
            json,
            no_stream,
            verbose,
            quiet,
            draft,
            draft_tokens,
            sampling,
            compute,
        } = args;
        let (model, prompt) = match (first, second) {
            (Some(model), Some(prompt)) => (Some(model), Some(prompt)),
            (Some(one), None) if ModelRef::is_named_by(&one, registry) => (Some(one), None),
            (Some(one), None) => (None, Some(one)),
            (None, prompt) => (None, prompt),
        };
        let input = match (messages, ids, prompt) {
            (Some(file), _, None) => Input::Messages(file),
            (None, Some(file), None) => Input::Ids(file),
            (None, None, Some(prompt)) => Input::Prompt(prompt),
            (None, None, None) if !in_terminal => Input::Stdin,
            (None, None, None) if json => {
                let failure = Failure::usage("usage", "a chat has no JSON form: `--json`");
                return Err(failure.hint("give a PROMPT, --messages, --ids, or standard input"));
            }
            (None, None, None) => Input::Chat,
            (_, _, Some(_)) => {
                let message = "a PROMPT can't be combined with --messages or --ids";
                return Err(Failure::usage("usage", message)
                    .hint("if the first argument is a MODEL, check its spelling"));
            }
        };
        let drafting = match draft.as_deref() {
            None => Drafting::Off,
            Some("ngram") => Drafting::Ngram,
            Some(name) => Drafting::Model(ModelRef::parse(name, registry)?),
        };
        Ok(Self {
            model: model_or_default(model, environment, registry)?,
            input,
            system,
            raw,
            output: match (json, no_stream) {
                (true, _) => Output::Json,
                (false, false) => Output::Stream,
                (false, true) => Output::Whole,
            },
            talk: match (quiet, verbose) {
                (true, _) => Talk::Quiet,
                (false, true) => Talk::Verbose,
                (false, false) => Talk::Short,
            },
            drafting,
            draft_tokens: draft_tokens as usize,
            sampling: Sampling::resolve(sampling)?,
            compute: Compute::resolve(compute, environment)?,
        })
    }
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
        registry: &Registry,
    ) -> Result<Self, Failure> {
        let ScoreArgs { model, text, ids, continuations, logits, json, compute } = args;
        let source = match (text, ids) {
            (_, Some(file)) => Source::Ids(file),
            (text, None) => Source::Text(text.unwrap_or_default()),
        };
        Ok(Self {
            model: ModelRef::parse(&model, registry)?,
            source,
            continuations,
            logits,
            json,
            compute: Compute::resolve(compute, environment)?,
        })
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
    pub fn resolve(args: TokenizeArgs, registry: &Registry) -> Result<Self, Failure> {
        let TokenizeArgs { model, text, messages, tools, no_generation_prompt, json } = args;
        let what = match messages {
            Some(file) => {
                ToTokenize::Messages { file, tools, generation_prompt: !no_generation_prompt }
            }
            None => ToTokenize::Text(text.unwrap_or_default()),
        };
        Ok(Self { model: ModelRef::parse(&model, registry)?, what, json })
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
        registry: &Registry,
    ) -> Result<Self, Failure> {
        let BenchArgs { model, prompt_len, gen_len, depth, reps, json, compute } = args;
        Ok(Self {
            model: model_or_default(model, environment, registry)?,
            prompt_len: prompt_len as usize,
            gen_len: gen_len as usize,
            depth: depth as usize,
            reps: reps as usize,
            json,
            compute: Compute::resolve(compute, environment)?,
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
    registry: &Registry,
) -> Result<ModelRef, Failure> {
    match model.as_ref().or(environment.model.as_ref()) {
        Some(name) => ModelRef::parse(name, registry),
        None => Ok(ModelRef::Builtin),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
