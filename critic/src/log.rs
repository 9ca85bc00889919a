//! A file that grows by one line for each finished piece of work, so that a run that was killed
//! goes on where it stopped.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// A log of finished work. Its first line says of what work.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a log, or begins one, and gives what an earlier run finished. A line that a kill cut
    /// short is dropped.
    ///
    /// # Errors
    /// [`Error::OtherRun`] where the first line is not `header`; [`Error::File`].
    pub fn open<H, T>(path: &Path, header: &H) -> Result<(Self, Vec<T>)>
    where
        H: Serialize + DeserializeOwned + PartialEq,
        T: DeserializeOwned,
    {
        let failed = |source| Error::File { path: path.to_path_buf(), source };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let (mut whole, mut known) = (0, Vec::new());
        let mut lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        if let Some(first) = lines.next() {
            if serde_json::from_str::<H>(first).ok().as_ref() != Some(header) {
                return Err(Error::OtherRun { path: path.to_path_buf() });
            }
            whole += first.len();
            for line in lines {
                let Ok(value) = serde_json::from_str(line) else { break };
                whole += line.len();
                known.push(value);
            }
        }
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        // Rationales may be private.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let mut log = Self { path: path.to_path_buf(), file };
        if whole == 0 {
            log.append(header)?;
        }
        Ok((log, known))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn append(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value).expect("invariant: plain data");
        line.push('\n');
        let failed = |source| Error::File { path: self.path.clone(), source };
        self.file.write_all(line.as_bytes()).map_err(failed)
    }
}
