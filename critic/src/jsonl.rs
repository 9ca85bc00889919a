//! Files of one JSON value a line, read with all their problems at once.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// The longest line that is read.
const MOST_LINE_BYTES: usize = 16 << 20;

/// Lines of `path` as values, each with its line number from 1. Empty lines do not count.
///
/// # Errors
/// [`Error::File`], or [`Error::BadLines`] with every line that is no such value.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<(usize, T)>> {
    let failed = |source| Error::File { path: path.to_path_buf(), source };
    let file = BufReader::new(File::open(path).map_err(failed)?);
    parse(path, file)
}

/// As [`read`], from an open file that is called `path`.
pub fn parse<T: DeserializeOwned>(path: &Path, mut file: impl BufRead) -> Result<Vec<(usize, T)>> {
    let failed = |source| Error::File { path: path.to_path_buf(), source };
    let (mut values, mut problems, mut number) = (Vec::new(), Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MOST_LINE_BYTES as u64 + 1;
        let mut part = std::io::Read::take(&mut file, limit);
        if part.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        number += 1;
        if line.len() > MOST_LINE_BYTES {
            problems.push(format!("line {number}: longer than {MOST_LINE_BYTES} bytes"));
            break;
        }
        let text = line.strip_prefix(b"\xEF\xBB\xBF").filter(|_| number == 1).unwrap_or(&line);
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(text) {
            Ok(value) => values.push((number, value)),
            Err(error) => {
                // The number of the line in the file is ours; serde's is always 1.
                let what = error.to_string();
                let what = what.split(" at line 1 column ").next().unwrap_or_default().to_owned();
                problems.push(format!("line {number}, column {}: {what}", error.column()));
            }
        }
    }
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(Error::BadLines { path: path.to_path_buf(), read: number, problems })
    }
}
