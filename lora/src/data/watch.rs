//! Rows that stand there twice, and prompts that are in training and in validation.

use std::path::PathBuf;

use super::{
    DataFile, Split,
    problem::{Findings, Rule},
    rows::{Body, Row},
    seen::Seen,
};

/// What all files of a data set have shown so far.
#[derive(Debug)]
pub struct Watch {
    rows: Seen,
    /// Prompts of the training files; only kept where there is a validation file.
    prompts: Option<Seen>,
    /// Files in their order, each with the number of its line 0.
    files: Vec<(PathBuf, u64)>,
    split: Split,
    next: u64,
}

impl Watch {
    /// A watch over `files`, which are then read in this order.
    pub fn over(files: &[DataFile]) -> Self {
        let valid = files.iter().any(|it| it.split == Split::Valid);
        Self {
            rows: Seen::new(),
            prompts: valid.then(Seen::new),
            files: Vec::new(),
            split: Split::Train,
            next: 0,
        }
    }

    /// The rows that come now are those of `file`.
    pub(super) fn begin(&mut self, file: &DataFile) {
        self.files.push((file.path.clone(), self.next));
        self.split = file.split;
    }

    /// Whether there were more rows than can be compared.
    pub(super) fn is_full(&self) -> bool {
        self.rows.is_full() || self.prompts.as_ref().is_some_and(Seen::is_full)
    }

    /// Notes rows of a line, and what is known of them already.
    pub(super) fn look(&mut self, rows: &[Row], line: u64, findings: &mut Findings) {
        let first = self.files.last().map_or(0, |it| it.1);
        let number = first + line;
        self.next = self.next.max(number + 1);
        for row in rows {
            let offset = row.bodies()[0].contents().first().map_or(0, |it| it.1);
            let (all, prompt) = row.texts();
            let leak = match (&mut self.prompts, self.split) {
                (Some(prompts), Split::Train) => {
                    prompts.insert(&prompt, number);
                    None
                }
                // A text has no prompt; its rows are compared whole.
                (Some(prompts), Split::Valid) if !is_text(row) => prompts.find(&prompt),
                _ => None,
            };
            let known = self.rows.insert(&all, number);
            if let Some(known) = known.filter(|it| *it < first) {
                let what = format!("the same row is in {}", self.place(known));
                findings.warning(Rule::Leak, offset, what);
            } else if let Some(prompt) = leak {
                let what = format!("the same prompt is in {}", self.place(prompt));
                findings.warning(Rule::Leak, offset, what);
            } else if let Some(known) = known {
                let what = format!("the same row is in {}", self.place(known));
                findings.warning(Rule::Duplicate, offset, what);
            }
        }
    }

    fn place(&self, number: u64) -> String {
        let file = self.files.iter().rfind(|it| it.1 <= number);
        let Some((path, first)) = file else { return format!("line {number}") };
        match self.files.len() {
            1 => format!("line {}", number - first),
            _ => format!("{}:{}", path.display(), number - first),
        }
    }
}

fn is_text(row: &Row) -> bool {
    row.bodies().iter().any(|it| matches!(it, Body::Text { .. }))
}
