//! Versions of a named adapter: each is kept as it was, one is current, and the way back is open.
//!
//! A name is a folder: `versions/N` hold the adapters, `current` the number of the one in use,
//! `history.jsonl` a line for each change. A change writes the version whole, then moves the
//! pointer by a rename, then adds its line: a kill leaves the old state or the new one.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use minicrit_hub::atomic_file::{self, Readers};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, gate::Decision};

/// All versions of one name.
#[derive(Debug, Clone)]
pub struct Versions {
    folder: PathBuf,
}

/// One change of what is current.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When, as RFC 3339.
    pub time: String,
    /// `promoted` or `rolled-back`.
    pub what: String,
    /// The version that became current.
    pub version: u32,
    /// The folder that it was made from, or why it came back.
    pub from: String,
    /// What the gate said.
    #[serde(default)]
    pub reasons: Vec<String>,
}

impl Versions {
    /// The versions of `name` below `root`, whether there are any or not.
    ///
    /// # Errors
    /// [`Error::Setting`] for a name that could leave the folder.
    pub fn open(root: &Path, name: &str) -> Result<Self> {
        let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            let expected = "letters, digits, `-`, `_` and `.`, not beginning with `.`";
            return Err(Error::Setting { field: "name", value: format!("{name:?}"), expected });
        }
        Ok(Self { folder: root.join(name) })
    }

    /// The version in use.
    ///
    /// # Errors
    /// A pointer that can't be read or is no number.
    pub fn current(&self) -> Result<Option<u32>> {
        let path = self.folder.join("current");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { path, source }),
        };
        let bad = |_| Error::File {
            path: path.clone(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "not a version number"),
        };
        text.trim().parse().map(Some).map_err(bad)
    }

    /// The folder of a version.
    pub fn path(&self, version: u32) -> PathBuf {
        self.folder.join("versions").join(version.to_string())
    }

    /// Copies `adapter` as the next version and makes it current.
    ///
    /// # Errors
    /// A gate that refused; files that can't be copied.
    pub fn promote(&self, adapter: &Path, decision: &Decision, time: &str) -> Result<u32> {
        if !decision.promoted {
            return Err(Error::Refused { reasons: decision.reasons.clone() });
        }
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::File { path, source }
        };
        let all = self.folder.join("versions");
        fs::create_dir_all(&all).map_err(failed(&all))?;
        let version = self.newest()? + 1;
        // A folder that a kill left half copied has no number and is made anew.
        let part = all.join(format!(".{version}.part"));
        if part.exists() {
            fs::remove_dir_all(&part).map_err(failed(&part))?;
        }
        fs::create_dir(&part).map_err(failed(&part))?;
        for entry in fs::read_dir(adapter).map_err(failed(adapter))? {
            let entry = entry.map_err(failed(adapter))?;
            if entry.file_type().map_err(failed(adapter))?.is_file() {
                let to = part.join(entry.file_name());
                fs::copy(entry.path(), &to).map_err(failed(&to))?;
                fs::File::open(&to).and_then(|it| it.sync_all()).map_err(failed(&to))?;
            }
        }
        sync_folder(&part)?;
        let path = self.path(version);
        fs::rename(&part, &path).map_err(failed(&path))?;
        sync_folder(&all)?;
        self.point_at(version)?;
        self.remember(&Change {
            time: time.to_owned(),
            what: "promoted".into(),
            version,
            from: adapter.display().to_string(),
            reasons: decision.reasons.clone(),
        })?;
        Ok(version)
    }

    /// Makes an earlier version current: the given one, or the one that was current before.
    ///
    /// # Errors
    /// [`Error::NoVersion`].
    pub fn roll_back(&self, to: Option<u32>, time: &str) -> Result<u32> {
        let current = self.current()?;
        let history = self.history()?;
        let before = || {
            let earlier = history.iter().rev().map(|it| it.version);
            earlier.into_iter().find(|it| Some(*it) != current)
        };
        let wanted = to.or_else(before).filter(|it| self.path(*it).is_dir());
        let name = self.folder.display().to_string();
        let version = wanted.ok_or(Error::NoVersion { name, version: to })?;
        self.point_at(version)?;
        let from = current.map_or_else(String::new, |it| format!("version {it}"));
        let (time, what) = (time.to_owned(), "rolled-back".into());
        self.remember(&Change { time, what, version, from, reasons: Vec::new() })?;
        Ok(version)
    }

    /// Every change, the oldest first. A line that a kill cut short is left out.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn history(&self) -> Result<Vec<Change>> {
        let path = self.folder.join("history.jsonl");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|it| serde_json::from_str(it).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    fn newest(&self) -> Result<u32> {
        let all = self.folder.join("versions");
        let entries = fs::read_dir(&all).map_err(|source| Error::File { path: all, source })?;
        let number =
            |it: std::io::Result<fs::DirEntry>| it.ok()?.file_name().to_str()?.parse().ok();
        Ok(entries.filter_map(number).max().unwrap_or(0))
    }

    fn point_at(&self, version: u32) -> Result<()> {
        let path = self.folder.join("current");
        atomic_file::write(&path, Readers::Umask, |file| writeln!(file, "{version}"))
            .map_err(|source: std::io::Error| Error::File { path: path.clone(), source })
    }

    fn remember(&self, change: &Change) -> Result<()> {
        let path = self.folder.join("history.jsonl");
        let line = serde_json::to_string(change).expect("invariant: a plain struct") + "\n";
        let append = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()
        };
        append().map_err(|source| Error::File { path: path.clone(), source })
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    #[cfg(unix)]
    fs::File::open(path)
        .and_then(|it| it.sync_all())
        .map_err(|source| Error::File { path: path.to_path_buf(), source })?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn decision(promoted: bool) -> Decision {
        Decision { promoted, reasons: vec!["f1 is worse".into()] }
    }

    #[test]
    fn versions_go_forward_and_back_and_history_tells() {
        let dir = tempfile::tempdir().unwrap();
        let adapter = dir.path().join("adapter");
        fs::create_dir(&adapter).unwrap();
        fs::write(adapter.join("a.bin"), "one").unwrap();
        let versions = Versions::open(&dir.path().join("home"), "critic-trading").unwrap();
        assert_eq!(versions.current().unwrap(), None);
        assert_eq!(versions.promote(&adapter, &decision(true), "t1").unwrap(), 1);
        fs::write(adapter.join("a.bin"), "two").unwrap();
        assert_eq!(versions.promote(&adapter, &decision(true), "t2").unwrap(), 2);
        assert_eq!(fs::read(versions.path(1).join("a.bin")).unwrap(), b"one");
        assert_eq!(versions.roll_back(None, "t3").unwrap(), 1);
        assert_eq!(versions.current().unwrap(), Some(1));
        assert_eq!(versions.roll_back(None, "t4").unwrap(), 2);
        assert!(versions.roll_back(Some(9), "t5").is_err());
        let told: Vec<_> = versions.history().unwrap().iter().map(|it| it.version).collect();
        assert_eq!(told, [1, 2, 1, 2]);
    }

    #[test]
    fn a_refused_adapter_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let versions = Versions::open(dir.path(), "a").unwrap();
        let refused = versions.promote(dir.path(), &decision(false), "t").unwrap_err();
        assert_eq!(refused.to_string(), "the adapter is not promoted: f1 is worse");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(versions.roll_back(None, "t").is_err());
        for bad in ["", "..", ".x", "a/b", "a b"] {
            assert!(Versions::open(dir.path(), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_half_copied_version_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let adapter = dir.path().join("adapter");
        fs::create_dir(&adapter).unwrap();
        fs::write(adapter.join("a.bin"), "one").unwrap();
        let versions = Versions::open(dir.path(), "n").unwrap();
        let part = dir.path().join("n/versions/.1.part");
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("junk"), "x").unwrap();
        assert_eq!(versions.promote(&adapter, &decision(true), "t").unwrap(), 1);
        assert!(!versions.path(1).join("junk").exists() && !part.exists());
    }
}
