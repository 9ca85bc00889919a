//! Typed reading of a GGUF file's metadata, with all problems noted.
//!
//! It knows types, and must not know what a key means.

use super::{
    error::Problems,
    gguf::{Gguf, GgufValue},
};

/// Typed access to one architecture's keys; wrong types are noted.
pub(super) struct Keys<'a> {
    /// The file.
    pub(super) gguf: &'a Gguf,
    prefix: &'static str,
    /// All that is missing or wrong so far.
    pub(super) problems: Problems,
}

impl<'a> Keys<'a> {
    /// Keys that start with `prefix` and a dot.
    pub(super) fn new(gguf: &'a Gguf, prefix: &'static str) -> Self {
        Self { gguf, prefix, problems: Problems::default() }
    }

    pub(super) fn problem(&mut self, line: impl Into<String>) {
        self.problems.push(line);
    }

    fn value(&self, key: &str) -> Option<&'a GgufValue> {
        self.gguf.get(&format!("{}.{key}", self.prefix))
    }

    fn wrong_type(&mut self, key: &str, value: &GgufValue, wanted: &str) {
        self.problems.push(format!(
            "`{}.{key}` is {}, not {wanted}",
            self.prefix,
            value.type_name()
        ));
    }

    /// A whole number; a list for the layers counts where all its numbers are one.
    pub(super) fn count(&mut self, key: &str) -> Option<u64> {
        let value = self.value(key)?;
        let same = |list: &[i64]| match list {
            [first, rest @ ..] if rest.iter().all(|it| it == first) => u64::try_from(*first).ok(),
            _ => None,
        };
        let count = value.as_u64().or_else(|| value.as_i64s().and_then(same));
        if count.is_none() {
            self.wrong_type(key, value, "one whole number");
        }
        count
    }

    pub(super) fn required(&mut self, key: &str) -> u64 {
        match (self.value(key).is_some(), self.count(key)) {
            (_, Some(count)) if count > 0 => count,
            (_, Some(_)) => {
                self.problems.push(format!("`{}.{key}` is 0", self.prefix));
                0
            }
            (true, None) => 0,
            (false, None) => {
                self.problems.push(format!("`{}.{key}` is missing", self.prefix));
                0
            }
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.value(key)?;
        let number = value.as_f64().filter(|number| number.is_finite());
        if number.is_none() {
            self.wrong_type(key, value, "a finite number");
        }
        number
    }

    pub(super) fn required_number(&mut self, key: &str) -> f64 {
        if self.value(key).is_none() {
            self.problems.push(format!("`{}.{key}` is missing", self.prefix));
        }
        self.number(key).unwrap_or_default()
    }

    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        let value = self.value(key)?;
        if value.as_str().is_none() {
            self.wrong_type(key, value, "a text");
        }
        value.as_str()
    }
}
