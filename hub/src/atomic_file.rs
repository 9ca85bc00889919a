//! Files that appear whole or not at all: written beside, synced, renamed, folder synced.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Numbers the unfinished files of this process: its threads may write one file at a time.
static PARTS: AtomicU64 = AtomicU64::new(0);

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone: chats are nobody else's business.
    Owner,
    /// Whom the process's umask lets.
    Umask,
}

/// Writes `path` by `fill`. A failure leaves what was there before. A link is followed; a device
/// or a pipe can't be replaced, so it is written to as it is.
///
/// # Errors
/// Those of the file system and of `fill`.
pub fn write<E: From<io::Error>>(
    path: &Path,
    readers: Readers,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let path = target.as_path();
    if std::fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir()) {
        let mut file = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        fill(&mut file)?;
        return Ok(file.flush()?);
    }
    let beside = beside(path)?;
    let result = write_beside(&beside, path, readers, fill);
    if result.is_err() {
        // The error that counts is already on its way.
        let _ = std::fs::remove_file(&beside);
    }
    result
}

fn write_beside<E: From<io::Error>>(
    beside: &Path,
    path: &Path,
    readers: Readers,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut file = BufWriter::new(new_file(beside, readers)?);
    fill(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    std::fs::rename(beside, path)?;
    #[cfg(unix)]
    File::open(folder(path))?.sync_all()?;
    Ok(())
}

fn new_file(path: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = readers;
    options.open(path)
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let part = PARTS.fetch_add(1, Ordering::Relaxed);
    hidden.push(format!(".{}-{part}.part", std::process::id()));
    Ok(folder(path).join(hidden))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write::<io::Error>(&path, Readers::Umask, |it| it.write_all(b"old")).unwrap();
        let failed = write::<io::Error>(&path, Readers::Umask, |it| {
            it.write_all(b"new")?;
            Err(io::Error::other("stop"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write::<io::Error>(dir.path(), Readers::Owner, |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed_and_a_device_is_not_replaced() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        write::<io::Error>(&link, Readers::Owner, |it| it.write_all(b"new")).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());

        let null = Path::new("/dev/null");
        write::<io::Error>(null, Readers::Owner, |it| it.write_all(b"new")).unwrap();
        assert!(std::fs::metadata(null).unwrap().file_type().is_char_device());
    }
}
