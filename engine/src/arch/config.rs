//! Reading an untrusted config.json: every number in a range, every problem noted.

use std::{cell::RefCell, ops::RangeInclusive};

use serde_json::{Map, Value};

use crate::model::ModelError;

/// What a layer attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// Everything before it.
    Full,
    /// A window.
    Sliding,
}

/// A config.json under examination. Getters note problems and return a harmless value, so that one
/// run finds them all; [`ConfigReader::finish`] turns them into one error.
#[derive(Clone)]
pub struct ConfigReader<'a> {
    map: &'a Map<String, Value>,
    path: String,
    problems: &'a RefCell<Vec<String>>,
}

impl<'a> ConfigReader<'a> {
    /// A reader of `map`, noting into `problems`.
    pub fn new(map: &'a Map<String, Value>, problems: &'a RefCell<Vec<String>>) -> Self {
        Self { map, path: String::new(), problems }
    }

    /// A reader of the object under `key`, or `None` where it is absent or null.
    pub fn object(&self, key: &str) -> Option<ConfigReader<'a>> {
        let value = self.present(key)?;
        let Some(map) = value.as_object() else {
            self.wrong(key, "an object", value);
            return None;
        };
        Some(ConfigReader { map, path: format!("{}{key}.", self.path), problems: self.problems })
    }

    /// The value of `key`, null counting as absent.
    pub fn present(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|it| !it.is_null())
    }

    /// A required whole number.
    pub fn count(&self, key: &str, range: RangeInclusive<usize>) -> usize {
        match self.count_opt(key, range.clone()) {
            Some(count) => count,
            None => {
                if self.present(key).is_none() {
                    self.note(format!("`{}{key}` is missing", self.path));
                }
                *range.start()
            }
        }
    }

    /// An optional whole number.
    pub fn count_opt(&self, key: &str, range: RangeInclusive<usize>) -> Option<usize> {
        let value = self.present(key)?;
        let count = value.as_u64().and_then(|it| usize::try_from(it).ok());
        match count.filter(|it| range.contains(it)) {
            Some(count) => Some(count),
            None => {
                let expected = format!("a whole number in {}..={}", range.start(), range.end());
                self.wrong(key, &expected, value);
                None
            }
        }
    }

    /// An optional number.
    pub fn number_opt(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.present(key)?;
        match value.as_f64().filter(|it| it.is_finite() && range.contains(it)) {
            Some(number) => Some(number),
            None => {
                let expected = format!("a number in {:e}..={:e}", range.start(), range.end());
                self.wrong(key, &expected, value);
                None
            }
        }
    }

    /// A required number.
    pub fn number(&self, key: &str, range: RangeInclusive<f64>) -> f64 {
        match self.number_opt(key, range.clone()) {
            Some(number) => number,
            None => {
                if self.present(key).is_none() {
                    self.note(format!("`{}{key}` is missing", self.path));
                }
                *range.start()
            }
        }
    }

    /// A truth value, `default` where it is absent.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        let Some(value) = self.present(key) else { return default };
        value.as_bool().unwrap_or_else(|| {
            self.wrong(key, "true or false", value);
            default
        })
    }

    /// An optional text.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let value = self.present(key)?;
        if !value.is_string() {
            self.wrong(key, "a text", value);
        }
        value.as_str()
    }

    /// A required list of `len` numbers.
    pub fn numbers(&self, key: &str, len: usize, range: RangeInclusive<f64>) -> Vec<f64> {
        let list = self.present(key).and_then(Value::as_array);
        let numbers: Option<Vec<f64>> = list.filter(|it| it.len() == len).and_then(|it| {
            it.iter().map(|v| v.as_f64().filter(|n| n.is_finite() && range.contains(n))).collect()
        });
        numbers.unwrap_or_else(|| {
            let (low, high) = (range.start(), range.end());
            let path = &self.path;
            self.note(format!(
                "`{path}{key}` is not a list of {len} numbers in {low:e}..={high:e}"
            ));
            vec![*low; len]
        })
    }

    /// The kind of each layer's attention, where `layer_types` says it.
    pub fn layer_kinds(&self, num_layers: usize) -> Option<Vec<LayerKind>> {
        let value = self.present("layer_types")?;
        let kind = |it: &Value| match it.as_str() {
            Some("full_attention") => Some(LayerKind::Full),
            Some("sliding_attention") => Some(LayerKind::Sliding),
            _ => None,
        };
        let kinds = value.as_array().filter(|it| it.len() == num_layers);
        let kinds = kinds.and_then(|it| it.iter().map(kind).collect());
        if kinds.is_none() {
            let expected = format!("full_attention or sliding_attention for {num_layers} layers");
            self.wrong("layer_types", &expected, value);
        }
        kinds
    }

    /// Notes a problem in full words.
    pub fn note(&self, problem: String) {
        self.problems.borrow_mut().push(problem);
    }

    /// Every problem as one error.
    ///
    /// # Errors
    /// [`ModelError::Config`] where there was any.
    pub fn finish(&self) -> Result<(), ModelError> {
        let problems = self.problems.take();
        if problems.is_empty() { Ok(()) } else { Err(ModelError::Config { problems }) }
    }

    fn wrong(&self, key: &str, expected: &str, got: &Value) {
        let mut shown = got.to_string();
        if shown.len() > 60 {
            shown = shown.chars().take(60).chain("...".chars()).collect();
        }
        self.note(format!("`{}{key}` is {shown}, expected {expected}", self.path));
    }
}
