//! What a failure looks like: `error[name]: what: where`, `hint: ...`, and the exit code.

use std::{fmt, process::ExitCode};

use minicrit_engine::{
    NamedError, chat::ChatError, export::ExportError, model::ModelError, registry::RegistryError,
    session::SessionError, source::SourceError, tokens::TokensError,
};
use minicrit_lora::{LoraError, data::DataError};

use crate::printer;

/// Exit codes, as `minicrit --help` lists them.
pub mod exit {
    /// The work failed.
    pub const FAILED: u8 = 1;
    /// The command line makes no sense.
    pub const USAGE: u8 = 2;
    /// A model or file is not there, or a download would be needed.
    pub const NOT_FOUND: u8 = 3;
    /// Memory or disk does not suffice.
    pub const NO_ROOM: u8 = 4;
    /// A verdict that `--fail-on` names.
    pub const FLAWED: u8 = 10;
    /// A threshold was missed.
    pub const MISSED: u8 = 100;
    /// Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// A failure that the command line itself finds.
#[derive(Debug)]
pub struct Failure {
    /// Stable name.
    pub name: &'static str,
    /// What and where.
    pub message: String,
    /// What to do, if there is something.
    pub hint: Option<String>,
    /// Exit code.
    pub code: u8,
}

impl Failure {
    /// Exit code 1.
    pub fn failed(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into(), hint: None, code: exit::FAILED }
    }

    /// Exit code 2.
    pub fn usage(name: &'static str, message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, ..Self::failed(name, message) }
    }

    /// Exit code 3.
    pub fn not_found(name: &'static str, message: impl Into<String>) -> Self {
        Self { code: exit::NOT_FOUND, ..Self::failed(name, message) }
    }

    /// Exit code 4.
    pub fn no_room(name: &'static str, message: impl Into<String>) -> Self {
        Self { code: exit::NO_ROOM, ..Self::failed(name, message) }
    }

    /// With a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// All is said already: only the exit code is left.
#[derive(Debug)]
pub struct Finished(pub ExitCode);

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("finished")
    }
}

impl std::error::Error for Finished {}

/// A file that a flag names can't be read or written.
pub fn file(verb: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let message = format!("can't {verb} `{}`: {error}", path.display());
    match error.kind() {
        ErrorKind::NotFound => Failure::not_found("file-not-found", message)
            .hint("check the spelling; a relative path is meant from the current folder"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::no_room("no-space", message),
        _ => Failure::failed("file", message).hint("check the path and its permissions"),
    }
}

/// An error that has a name, as a failure.
pub fn named_failure(error: impl NamedError) -> Failure {
    let (name, hint) = (error.name(), error.hint());
    Failure { name, message: error.to_string(), hint, code: code_of(name) }
}

/// Wrong usage of `command` (such as `minicrit run`), as clap found it, in our form.
pub fn usage(error: &clap::Error, command: &str) -> Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let message = text.split("For more information, try ").next().unwrap_or(text);
    Failure::usage("usage", message.trim_end()).hint(format!("{command} --help"))
}

/// Prints `error` on stderr and says how to exit.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Finished(code)) = error.downcast_ref() {
        return *code;
    }
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let seen = Seen::of(error);
    printer::error(seen.name, &seen.message, seen.hint.as_deref());
    ExitCode::from(seen.code)
}

/// `minicrit ... | head` is no failure: who reads has read enough.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|it| it.downcast_ref::<std::io::Error>())
        .any(|it| it.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A failure, as far as the user is concerned.
#[derive(Debug, PartialEq)]
struct Seen {
    name: &'static str,
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Seen {
    /// The messages down to the first named error, whose own message holds all below it.
    fn of(error: &anyhow::Error) -> Self {
        let mut messages = Vec::new();
        for cause in error.chain() {
            messages.push(cause.to_string());
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                let Failure { name, hint, code, .. } = failure;
                return Self {
                    name,
                    message: messages.join(": "),
                    hint: hint.clone(),
                    code: *code,
                };
            }
            if let Some(named) = named(cause) {
                let (name, hint) = (named.name(), named.hint());
                return Self { name, message: messages.join(": "), hint, code: code_of(name) };
            }
        }
        let code = exit::FAILED;
        Self { name: "failed", message: messages.join(": "), hint: None, code }
    }
}

fn named<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a dyn NamedError> {
    fn cast<'a, E: NamedError + 'static>(
        cause: &'a (dyn std::error::Error + 'static),
    ) -> Option<&'a dyn NamedError> {
        cause.downcast_ref::<E>().map(|it| it as &dyn NamedError)
    }
    cast::<minicrit_engine::Error>(cause)
        .or_else(|| cast::<minicrit_critic::Error>(cause))
        .or_else(|| cast::<LoraError>(cause))
        .or_else(|| cast::<DataError>(cause))
        .or_else(|| cast::<SourceError>(cause))
        .or_else(|| cast::<ModelError>(cause))
        .or_else(|| cast::<ExportError>(cause))
        .or_else(|| cast::<TokensError>(cause))
        .or_else(|| cast::<ChatError>(cause))
        .or_else(|| cast::<SessionError>(cause))
        .or_else(|| cast::<RegistryError>(cause))
        .or_else(|| cast::<minicrit_hub::Error>(cause))
}

/// Exit code of an error that the engine names.
fn code_of(name: &str) -> u8 {
    match name {
        "not-found" | "model-not-found" | "adapter-not-found" | "file-not-found" | "no-version"
        | "offline" | "unreachable" => exit::NOT_FOUND,
        "repo-not-found" | "revision-not-found" | "remote-file-not-found" | "gguf-not-found" => {
            exit::NOT_FOUND
        }
        "not-enough-memory" | "no-space" => exit::NO_ROOM,
        "bad-setting" | "unknown-name" | "bad-reference" => exit::USAGE,
        _ => exit::FAILED,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn context_stands_in_front_of_a_named_failure() {
        let failure = Failure::not_found("model-not-found", "no model `x`").hint("minicrit list");
        let error = Err::<(), _>(failure).context("the draft").expect_err("it is an error");
        let seen = Seen::of(&error);
        assert_eq!(seen.message, "the draft: no model `x`");
        assert_eq!((seen.name, seen.code), ("model-not-found", 3));
        assert_eq!(seen.hint.as_deref(), Some("minicrit list"));
    }

    #[test]
    fn an_error_without_a_name_shows_its_whole_chain() {
        let error = anyhow::anyhow!("deep").context("high");
        assert_eq!(Seen::of(&error).message, "high: deep");
        assert_eq!(Seen::of(&error).code, exit::FAILED);
    }

    #[test]
    fn a_closed_pipe_is_found_below_context() {
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&anyhow::Error::new(pipe).context("writing")));
        let other = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert!(!is_closed_pipe(&anyhow::Error::new(other)));
    }
}
