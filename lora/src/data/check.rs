//! A look at all files without keeping their rows, and the same with keeping them.

use std::{io::Write, path::Path};

use super::{
    DataError, DataFile, Dataset, FileReport, LabelledExample, PreferenceExample, Problem,
    SupervisedExample, Task,
    encode::{Encoded, Encoder},
    reader,
    watch::Watch,
};

/// Who gets to know what is found.
pub struct Listener<'a> {
    /// Called for every problem, in the order of places.
    pub problem: &'a mut dyn FnMut(&Path, &Problem),
    /// Gets every rejected record, one on a line.
    pub rejected: Option<&'a mut dyn Write>,
}

/// Reads all files and tells every problem; with an encoder, those that only a model can know too.
/// Memory does not grow with the files.
///
/// # Errors
/// Files that can't be read or written. Problems of rows are no errors here.
pub fn check(
    files: &[DataFile],
    encoder: Option<&Encoder>,
    listener: &mut Listener<'_>,
) -> Result<Vec<FileReport>, DataError> {
    let mut watch = Watch::over(files);
    files.iter().map(|file| read(file, encoder, &mut watch, listener, &mut |_| {})).collect()
}

/// Examples of one kind.
#[derive(Debug, Clone)]
pub enum Examples {
    /// Answers to learn.
    Supervised(Dataset<SupervisedExample>),
    /// Pairs of answers.
    Preference(Dataset<PreferenceExample>),
    /// Answers with a verdict.
    Labelled(Dataset<LabelledExample>),
}

/// A file's examples and what was found on the way.
#[derive(Debug)]
pub struct Loaded {
    /// The examples.
    pub examples: Examples,
    /// Counts.
    pub report: FileReport,
}

/// Reads all files into examples for `task`. Rows that can't be used are an error, unless
/// `skip_invalid`: then they are only told and counted.
///
/// # Errors
/// Files that can't be read; rows for another task; rejected rows; nothing left.
pub fn load(
    files: &[DataFile],
    encoder: &Encoder,
    task: Task,
    skip_invalid: bool,
    listener: &mut Listener<'_>,
) -> Result<Vec<Loaded>, DataError> {
    let mut watch = Watch::over(files);
    let mut loaded = Vec::with_capacity(files.len());
    for file in files {
        let mut all = Vec::new();
        let report = read(file, Some(encoder), &mut watch, listener, &mut |it| all.extend(it))?;
        let path = || file.path.clone();
        let format = report.format.ok_or_else(|| DataError::UnknownFormat { path: path() })?;
        if format.task() != task {
            let got = format.task();
            return Err(DataError::WrongTask { path: path(), format, got, expected: task });
        }
        if report.rejected > 0 && !skip_invalid {
            let FileReport { rejected, read, .. } = report;
            return Err(DataError::Rejected { path: path(), rejected, read });
        }
        let examples = examples_of(all, task, &report);
        if examples.is_empty() {
            return Err(DataError::Empty { path: path() });
        }
        loaded.push(Loaded { examples, report });
    }
    Ok(loaded)
}

impl Examples {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        match self {
            Examples::Supervised(it) => it.is_empty(),
            Examples::Preference(it) => it.is_empty(),
            Examples::Labelled(it) => it.is_empty(),
        }
    }
}

fn examples_of(all: Vec<Encoded>, task: Task, report: &FileReport) -> Examples {
    let files = [report.hash];
    let (mut supervised, mut preference, mut labelled) = (Vec::new(), Vec::new(), Vec::new());
    for example in all {
        match example {
            Encoded::Supervised(it) => supervised.push(it),
            Encoded::Preference(it) => preference.push(it),
            Encoded::Labelled(it) => labelled.push(it),
        }
    }
    match task {
        Task::Supervised => Examples::Supervised(Dataset::new(supervised, &files)),
        Task::Preference => Examples::Preference(Dataset::new(preference, &files)),
        Task::Labelled => Examples::Labelled(Dataset::new(labelled, &files)),
    }
}

fn read(
    file: &DataFile,
    encoder: Option<&Encoder>,
    watch: &mut Watch,
    listener: &mut Listener<'_>,
    keep: &mut dyn FnMut(Vec<Encoded>),
) -> Result<FileReport, DataError> {
    reader::read(file, encoder, watch, &mut |outcome| {
        for problem in &outcome.problems {
            (listener.problem)(&file.path, problem);
        }
        if outcome.rejected
            && let Some(out) = &mut listener.rejected
        {
            // A row of a JSON array may have lines of its own.
            let line: Vec<u8> = outcome
                .record
                .bytes
                .iter()
                .map(|it| if matches!(it, b'\n' | b'\r') { b' ' } else { *it })
                .collect();
            out.write_all(&line).and_then(|()| out.write_all(b"\n")).map_err(DataError::Write)?;
        }
        keep(outcome.examples);
        Ok(())
    })
}
