//! Rows of any JSONL file: their text, duplicates, and splits without leakage.

use std::{collections::HashMap, path::Path};

use serde_json::Value;

use super::{Draws, similarity::groups};
use crate::{Error, Result, jsonl};

/// Rows of a file, kept as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows(Vec<Value>);

/// What training and validation get.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts<'a> {
    /// Rows for training.
    pub train: Vec<&'a Value>,
    /// Rows for validation.
    pub valid: Vec<&'a Value>,
    /// Groups that were kept together.
    pub groups: usize,
}

impl Rows {
    /// Reads a file of one JSON object a line.
    ///
    /// # Errors
    /// Those of the file; lines that are no objects; a file without rows.
    pub fn read(path: &Path) -> Result<Self> {
        let lines: Vec<(usize, Value)> = jsonl::read(path)?;
        let read = lines.len();
        let problems: Vec<String> = lines
            .iter()
            .filter(|it| !it.1.is_object())
            .map(|it| format!("line {}: not an object", it.0))
            .collect();
        if !problems.is_empty() {
            return Err(Error::BadLines { path: path.to_path_buf(), read, problems });
        }
        if lines.is_empty() {
            return Err(Error::NoCases { origin: path.display().to_string() });
        }
        Ok(Self(lines.into_iter().map(|it| it.1).collect()))
    }

    /// The rows.
    pub fn values(&self) -> &[Value] {
        &self.0
    }

    /// The rows without those that repeat an earlier one, and the number of exact and of near
    /// repetitions.
    pub fn unique(&self, bar: f64) -> (Vec<&Value>, usize, usize) {
        let texts = self.texts();
        let groups = groups(&texts, &vec![None; texts.len()], bar);
        let mut kept = Vec::new();
        let (mut exact, mut near) = (0, 0);
        for (at, &group) in groups.iter().enumerate() {
            if at == group {
                kept.push(&self.0[at]);
            } else if texts[at] == texts[group] {
                exact += 1;
            } else {
                near += 1;
            }
        }
        (kept, exact, near)
    }

    /// Two parts; rows that are nearly the same or have one `template` are in the same part.
    ///
    /// # Errors
    /// [`Error::Setting`] for a share that is not between 0 and 1.
    pub fn split(&self, valid_share: f64, bar: f64, seed: u64) -> Result<Parts<'_>> {
        if !(valid_share > 0.0 && valid_share < 1.0) {
            let value = valid_share.to_string();
            let expected = "a share between 0 and 1";
            return Err(Error::Setting { field: "valid", value, expected });
        }
        let key = |it: &Value| it.get("template").and_then(Value::as_str).map(str::to_owned);
        let keys: Vec<_> = self.0.iter().map(key).collect();
        let owners = groups(&self.texts(), &keys, bar);
        let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, &group) in owners.iter().enumerate() {
            members.entry(group).or_default().push(at);
        }
        let mut roots: Vec<usize> = members.keys().copied().collect();
        roots.sort_unstable();
        let wanted = (self.0.len() as f64 * valid_share).round() as usize;
        let mut is_valid = vec![false; self.0.len()];
        let mut taken = 0;
        for index in Draws::new(seed, 0).order(roots.len()) {
            let group = &members[&roots[index]];
            // A group that would overshoot stays in training.
            if taken + group.len() <= wanted.max(1) {
                group.iter().for_each(|&it| is_valid[it] = true);
                taken += group.len();
            }
        }
        let part = |wanted: bool| {
            std::iter::zip(&self.0, &is_valid).filter(|it| *it.1 == wanted).map(|it| it.0).collect()
        };
        Ok(Parts { train: part(false), valid: part(true), groups: roots.len() })
    }

    /// The text of each row.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(text_of).collect()
    }
}

/// What a row says: its rationale, text, prompt and completion, or messages; else all of it.
pub fn text_of(row: &Value) -> String {
    let field = |name: &str| row.get(name).and_then(Value::as_str);
    if let Some(text) = field("rationale").or_else(|| field("text")) {
        return text.to_owned();
    }
    let asked = ["system", "instruction", "input", "prompt"].into_iter().filter_map(field);
    let answered = ["output", "completion", "chosen", "rejected"].into_iter().filter_map(field);
    let parts: Vec<&str> = asked.chain(answered).collect();
    if !parts.is_empty() {
        return parts.join("\n");
    }
    let turns = row.get("messages").or_else(|| row.get("conversations")).and_then(Value::as_array);
    let said: Vec<&str> = turns
        .into_iter()
        .flatten()
        .filter_map(|it| it.get("content").or_else(|| it.get("value"))?.as_str())
        .collect();
    if said.is_empty() { row.to_string() } else { said.join("\n") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::data::{HardExamples, Plan, Split, similarity::similarity};

    fn rows(count: usize) -> Rows {
        let items = HardExamples::new(Plan::all(count, Split::Train, 4)).unwrap();
        Rows(items.map(|it| it.unwrap().to_json()).collect())
    }

    #[test]
    fn a_split_keeps_templates_and_near_duplicates_together() {
        let rows = rows(600);
        let parts = rows.split(0.2, 0.6, 1).unwrap();
        assert_eq!(parts.train.len() + parts.valid.len(), 600);
        assert!((100..=120).contains(&parts.valid.len()), "{}", parts.valid.len());
        let template = |it: &&Value| it["template"].as_str().unwrap().to_owned();
        let train: HashSet<String> = parts.train.iter().map(template).collect();
        assert!(parts.valid.iter().all(|it| !train.contains(&template(it))));
        for a in &parts.valid {
            for b in &parts.train {
                assert!(similarity(&text_of(a), &text_of(b)) < 0.6);
            }
        }
        assert_eq!(rows.split(0.2, 0.6, 1).unwrap(), parts);
        assert!(rows.split(1.0, 0.6, 1).is_err() && rows.split(f64::NAN, 0.6, 1).is_err());
    }

    #[test]
    fn repetitions_are_dropped_and_counted() {
        let mut rows = rows(50);
        let first = rows.0[0].clone();
        let mut near = rows.0[1].clone();
        near["rationale"] = format!("{} Yes.", near["rationale"].as_str().unwrap()).into();
        rows.0.extend([first, near]);
        let (kept, exact, near) = rows.unique(0.8);
        assert_eq!((kept.len(), exact, near), (50, 1, 1));
    }
}
