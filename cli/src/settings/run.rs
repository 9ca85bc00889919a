//! `run`, resolved.

use std::path::PathBuf;

use super::{Compute, model_or_default};
use crate::{
    args::{RunArgs, SamplingArgs},
    catalog::Catalog,
    env::Environment,
    errors::Failure,
    model::ModelRef,
};

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

impl Drafting {
    /// The small model, if there is one.
    pub fn model(&self) -> Option<&ModelRef> {
        match self {
            Self::Model(model) => Some(model),
            Self::Off | Self::Ngram => None,
        }
    }
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
        catalog: &Catalog,
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
            (Some(one), None) if ModelRef::is_named_by(&one, catalog) => (Some(one), None),
            (Some(one), None) => {
                refuse_misspelt_model(&one, catalog)?;
                (None, Some(one))
            }
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
            Some(name) => Drafting::Model(ModelRef::parse(name, catalog)?),
        };
        Ok(Self {
            model: model_or_default(model, environment, catalog)?,
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

/// A lone word that is nearly the name of a model is a slip, not a prompt.
fn refuse_misspelt_model(word: &str, catalog: &Catalog) -> Result<(), Failure> {
    let like_a_name =
        word.contains(|it: char| it.is_ascii_digit() || matches!(it, '-' | '.' | '_'));
    if word.contains(char::is_whitespace) || !like_a_name {
        return Ok(());
    }
    match catalog.suggestions(word)[..] {
        [name, ..] => {
            Err(Failure::not_found("model-not-found", format!("no such model: `{word}`"))
                .hint(format!("did you mean `{name}`? as a prompt: minicrit run nano \"{word}\"")))
        }
        [] => Ok(()),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
