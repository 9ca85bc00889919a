//! Paths of one repository in the cache, and the two kinds of files that are written besides blobs.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::PART;
use crate::{
    Error, Result,
    atomic_file::{self, Readers},
    name::{Commit, Digest, RepoId, SafeName},
};

/// One repository's part of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoCache {
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// Where this repository lies, or would lie.
    pub fn new(cache: &Path, repo: &RepoId) -> Self {
        let folder = repo.folder_name();
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of blobs.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where the bytes with this digest lie.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.as_str())
    }

    /// Where they grow.
    pub(crate) fn part(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{digest}.{PART}"))
    }

    /// The file whose lock says who fetches them: Python's path for the same purpose.
    pub(crate) fn lock(&self, digest: &Digest) -> PathBuf {
        self.locks.join(format!("{digest}.lock"))
    }

    /// The files of a commit.
    pub fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.root.join("snapshots").join(commit.as_str())
    }

    /// The commit that a branch or tag had when it was last pulled; of a commit, itself.
    pub fn commit_of(&self, revision: &str) -> Option<Commit> {
        if let Some(commit) = Commit::parse(revision) {
            return Some(commit);
        }
        let path = SafeName::parse(revision).ok()?.below(&self.root.join("refs"));
        Commit::parse(std::fs::read_to_string(path).ok()?.trim())
    }

    /// Creates the folders that a pull writes into.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn create(&self, commit: &Commit) -> Result<()> {
        for folder in [self.blobs(), self.snapshot(commit), self.locks.clone()] {
            std::fs::create_dir_all(&folder).map_err(Error::disk("create", &folder))?;
        }
        Ok(())
    }

    /// Makes a blob visible as a file of a commit.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn link(&self, commit: &Commit, name: &SafeName, digest: &Digest) -> Result<()> {
        let path = name.below(&self.snapshot(commit));
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(Error::disk("create", folder))?;
        let up = "../".repeat(1 + name.components().count());
        let target = PathBuf::from(format!("{up}blobs/{digest}"));
        if std::fs::read_link(&path).is_ok_and(|it| it == target) {
            return Ok(());
        }
        // Threads of one process link the same file too.
        static LINKS: AtomicU64 = AtomicU64::new(0);
        let (process, link) = (std::process::id(), LINKS.fetch_add(1, Ordering::Relaxed));
        let beside = folder.join(format!(".{}.{process}-{link}.{PART}", name.file_name()));
        let _ = std::fs::remove_file(&beside);
        link_or_copy(&target, &self.blob(digest), &beside)
            .and_then(|()| std::fs::rename(&beside, &path))
            .and_then(|()| sync_folder(folder))
            .map_err(Error::disk("write", &path))
    }

    /// Remembers the commit of a branch or tag.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write_ref(&self, revision: &str, commit: &Commit) -> Result<()> {
        if Commit::parse(revision).is_some() {
            return Ok(());
        }
        let path = SafeName::parse(revision)?.below(&self.root.join("refs"));
        if self.commit_of(revision).as_ref() == Some(commit) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(Error::disk("create", folder))?;
        atomic_file::write::<io::Error>(&path, Readers::Umask, |file| {
            file.write_all(commit.as_str().as_bytes())
        })
        .map_err(Error::disk("write", &path))
    }
}

/// A relative link where the system has them, else a second copy.
fn link_or_copy(target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let _ = blob;
        std::os::unix::fs::symlink(target, link)
    }
    #[cfg(not(unix))]
    {
        let _ = target;
        std::fs::copy(blob, link).map(|_| ())
    }
}

/// Makes renames inside a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}
