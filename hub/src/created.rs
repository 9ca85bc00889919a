//! Models of one's own by name: one small file for each, so that a broken one hides no other.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    atomic_file::{self, Readers},
    modelfile::Definition,
    name::SafeName,
};

const ENDING: &str = ".json";

/// The folder of definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    folder: PathBuf,
}

impl Created {
    /// The definitions of a data folder.
    pub fn new(data_folder: &Path) -> Self {
        Self { folder: data_folder.join("created") }
    }

    /// All names, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|it| it.file_name().into_string().ok())
            .filter_map(|it| Some(it.strip_suffix(ENDING)?.replace('+', ":")))
            .filter(|it| is_name(it))
            .collect();
        names.sort();
        names
    }

    /// The definition of this name, if there is one.
    ///
    /// # Errors
    /// `definition`: a file that does not hold one.
    pub fn get(&self, name: &str) -> Result<Option<Definition>> {
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.path(name)?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::disk("read", &path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::BadDefinition {
            name: name.to_owned(),
            problem: error.to_string(),
        })
    }

    /// Keeps a definition under a name.
    ///
    /// # Errors
    /// `unsafe-name`; those of the file system.
    pub fn put(&self, name: &str, definition: &Definition) -> Result<()> {
        if !is_name(name) {
            let problem =
                "a model's name has letters, digits and `.:_-`, and begins with a letter or digit";
            return Err(Error::UnsafeName { name: name.to_owned(), problem });
        }
        let path = self.path(name)?;
        std::fs::create_dir_all(&self.folder).map_err(Error::disk("create", &self.folder))?;
        atomic_file::write::<io::Error>(&path, Readers::Owner, |file| {
            serde_json::to_writer_pretty(&mut *file, definition)?;
            file.write_all(b"\n")
        })
        .map_err(Error::disk("write", &path))
    }

    /// Takes a definition away; `false` where there is none.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(&self, name: &str) -> Result<bool> {
        if !is_name(name) {
            return Ok(false);
        }
        let path = self.path(name)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::disk("remove", &path)(error)),
        }
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        // A colon can't stand in a file's name everywhere, a plus can't stand in a model's.
        let file = format!("{}{ENDING}", name.replace(':', "+"));
        Ok(SafeName::parse(&file)?.below(&self.folder))
    }
}

/// The names that models.toml may have, too.
fn is_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || ".:_-".contains(c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn definitions_come_back_and_broken_ones_hide_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let created = Created::new(dir.path());
        let definition = Definition { from: "nano".into(), ..Definition::default() };
        assert_eq!(created.names(), Vec::<String>::new());
        created.put("critic:v1", &definition).unwrap();
        created.put("other", &definition).unwrap();
        std::fs::write(dir.path().join("created/broken.json"), "{").unwrap();
        assert_eq!(created.names(), ["broken", "critic:v1", "other"]);
        assert_eq!(created.get("critic:v1").unwrap(), Some(definition));
        assert!(matches!(created.get("broken"), Err(Error::BadDefinition { .. })));
        assert!(created.remove("broken").unwrap() && !created.remove("broken").unwrap());
        for name in ["", "../x", "a/b", "a b", "-a", "con", "a\0"] {
            assert!(created.put(name, &Definition::default()).is_err(), "{name:?}");
        }
    }
}
