//! Broken, hostile and odd model files: each broken one is refused quickly with its named error,
//! each odd but valid one is read.
#![allow(clippy::unwrap_used)]

mod folder;
mod gguf;
mod gguf_model;
mod mutations;
mod odd_but_valid;
mod safetensors;

use std::time::{Duration, Instant};

use minicrit_engine::{NamedError, source::SourceError};

/// A refusal takes no longer, however large the numbers in the file are.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Ends a chain of changes to a file.
fn done<T>(_: &mut T) {}

/// Collects what went otherwise than expected, so that one run shows all of it.
#[derive(Default)]
struct Checks {
    done: usize,
    failures: Vec<String>,
}

impl Checks {
    /// Expects an error of this name whose message and hint contain `says`.
    fn refused<T>(
        &mut self,
        case: &str,
        name: &str,
        says: &str,
        open: impl FnOnce() -> Result<T, SourceError>,
    ) {
        self.done += 1;
        let start = Instant::now();
        let result = open();
        let took = start.elapsed();
        let got = match result {
            Ok(_) => "was accepted".to_owned(),
            Err(error) => {
                let text = format!("{error} / {}", error.hint().unwrap_or_default());
                assert!(
                    !text.chars().any(|c| c.is_control() && c != '\n'),
                    "{case}: control characters"
                );
                if error.name() == name && text.contains(says) && took < MOST_TIME {
                    return;
                }
                format!("[{}] {text} (in {took:?})", error.name())
            }
        };
        self.failures.push(format!("{case}: expected [{name}] ...{says}..., got {got}"));
    }

    /// Expects no error, and gives the value.
    fn accepted<T>(
        &mut self,
        case: &str,
        open: impl FnOnce() -> Result<T, SourceError>,
    ) -> Option<T> {
        self.done += 1;
        match open() {
            Ok(value) => Some(value),
            Err(error) => {
                self.failures.push(format!("{case}: refused with [{}] {error}", error.name()));
                None
            }
        }
    }

    fn finish(self, at_least: usize) {
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
        assert!(self.done >= at_least, "only {} cases", self.done);
    }
}
