//! Which files hold the data: a file, or a folder with one for training and one for validation.

use std::path::{Path, PathBuf};

use super::DataError;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// To learn from.
    Train,
    /// To measure with.
    Valid,
}

impl Split {
    /// Its name in messages and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Valid => "valid",
        }
    }
}

/// A file and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is for.
    pub split: Split,
}

const TRAIN: &[&str] = &["train.jsonl", "train.json"];
const VALID: &[&str] = &["valid.jsonl", "valid.json", "validation.jsonl", "validation.json"];

/// The files of `data` (a file, or a folder with `train.jsonl` and perhaps `valid.jsonl`) and of
/// `valid`, which takes the place of a folder's own.
///
/// # Errors
/// [`DataError::NotFound`], [`DataError::NoTrainFile`] or [`DataError::TwoFiles`].
pub fn data_files(data: &Path, valid: Option<&Path>) -> Result<Vec<DataFile>, DataError> {
    let mut files = Vec::new();
    for path in [Some(data), valid].into_iter().flatten() {
        if let Err(source) = std::fs::metadata(path) {
            return Err(DataError::NotFound { path: path.to_path_buf(), source });
        }
    }
    if data.is_dir() {
        let train = one_of(data, TRAIN)?
            .ok_or_else(|| DataError::NoTrainFile { folder: data.to_path_buf() })?;
        files.push(DataFile { path: train, split: Split::Train });
        if valid.is_none()
            && let Some(path) = one_of(data, VALID)?
        {
            files.push(DataFile { path, split: Split::Valid });
        }
    } else {
        files.push(DataFile { path: data.to_path_buf(), split: Split::Train });
    }
    if let Some(path) = valid {
        files.push(DataFile { path: path.to_path_buf(), split: Split::Valid });
    }
    Ok(files)
}

/// The one file of these names in a folder; two would leave open which one counts.
fn one_of(folder: &Path, names: &[&str]) -> Result<Option<PathBuf>, DataError> {
    let mut found: Vec<PathBuf> =
        names.iter().map(|it| folder.join(it)).filter(|it| it.is_file()).collect();
    if found.len() > 1 {
        return Err(DataError::TwoFiles { first: found.remove(0), second: found.remove(0) });
    }
    Ok(found.pop())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(files: &[DataFile]) -> Vec<(String, Split)> {
        let name = |it: &DataFile| it.path.file_name().unwrap().to_string_lossy().into_owned();
        files.iter().map(|it| (name(it), it.split)).collect()
    }

    #[test]
    fn a_folder_holds_train_and_perhaps_valid() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        assert!(matches!(data_files(dir.path(), None), Err(DataError::NoTrainFile { .. })));
        write("train.jsonl");
        write("valid.jsonl");
        write("other.jsonl");
        let files = data_files(dir.path(), None).unwrap();
        let expect = [("train.jsonl".into(), Split::Train), ("valid.jsonl".into(), Split::Valid)];
        assert_eq!(names(&files), expect);
        let other = dir.path().join("other.jsonl");
        let files = data_files(dir.path(), Some(&other)).unwrap();
        assert_eq!(names(&files)[1], ("other.jsonl".into(), Split::Valid));
        write("train.json");
        assert!(matches!(data_files(dir.path(), None), Err(DataError::TwoFiles { .. })));
    }

    #[test]
    fn an_absent_file_is_named() {
        let error = data_files(Path::new("/no/such/file"), None).unwrap_err();
        assert!(error.to_string().contains("/no/such/file"));
    }
}
