//! What can go wrong with training data as a whole. Problems of single rows are
//! [`Problem`](super::Problem)s.

use std::path::PathBuf;

use minicrit_engine::NamedError;

use super::Task;

/// Errors of this module.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No such file or folder.
    #[error("can't read `{}`: {source}", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A folder without a training file.
    #[error("there is no train.jsonl in `{}`", folder.display())]
    NoTrainFile {
        /// The folder.
        folder: PathBuf,
    },
    /// Two files for one purpose.
    #[error("`{}` and `{}` are for the same purpose", first.display(), second.display())]
    TwoFiles {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A file that can't be read to its end.
    #[error("can't read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// Rejected rows can't be written down.
    #[error("can't write rejected rows: {0}")]
    Write(std::io::Error),
    /// No row of a known format.
    #[error("no row of a known format in `{}`", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// Rows for another kind of training.
    #[error("`{}` holds {} rows ({}), this training needs {} rows", path.display(), got.name(), format, expected.name())]
    WrongTask {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: super::Format,
        /// What its rows are good for.
        got: Task,
        /// What is needed.
        expected: Task,
    },
    /// Rows that can't be used.
    #[error("{rejected} of {read} rows in `{}` can't be used", path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// Rows that can't be used.
        rejected: u64,
        /// Rows in all.
        read: u64,
    },
    /// Nothing is left to train on.
    #[error("no usable row in `{}`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl NamedError for DataError {
    fn name(&self) -> &'static str {
        match self {
            DataError::NotFound { source, .. } | DataError::Read { source, .. } => {
                match source.kind() {
                    std::io::ErrorKind::NotFound => "file-not-found",
                    _ => "file",
                }
            }
            DataError::NoTrainFile { .. } => "file-not-found",
            DataError::TwoFiles { .. } => "data-ambiguous",
            DataError::Write(_) => "file",
            DataError::UnknownFormat { .. } => "data-unknown-format",
            DataError::WrongTask { .. } => "data-wrong-format",
            DataError::Rejected { .. } => "data-invalid",
            DataError::Empty { .. } => "data-empty",
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            DataError::NoTrainFile { folder } => {
                Some(format!("name the file, or call it {}", folder.join("train.jsonl").display()))
            }
            DataError::TwoFiles { second, .. } => {
                Some(format!("remove one of them, or name the other: {}", second.display()))
            }
            DataError::WrongTask { got: Task::Preference, .. } => {
                Some("pass --method dpo, orpo or simpo".into())
            }
            DataError::WrongTask { got: Task::Labelled, .. } => Some("pass --method kto".into()),
            DataError::WrongTask { got: Task::Supervised, .. } => Some("pass --method sft".into()),
            DataError::UnknownFormat { path } | DataError::Empty { path } => {
                Some(format!("minicrit data check {}", path.display()))
            }
            DataError::Rejected { path, .. } => Some(format!(
                "minicrit data check {} lists them all; --skip-invalid trains without them",
                path.display()
            )),
            DataError::NotFound { .. } => {
                Some("check the spelling: --data takes a file, or a folder with train.jsonl".into())
            }
            DataError::Read { .. } => Some("check the file and its permissions".into()),
            DataError::Write(_) => None,
        }
    }
}
