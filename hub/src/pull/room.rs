//! Room on the disk, asked for before the first byte comes.

use std::path::Path;

use crate::{Error, Result};

/// What stays free for everybody else.
const RESERVE: u64 = 16 << 20;

/// Refuses what will not fit. A system that does not tell is not asked twice.
///
/// # Errors
/// `no-space`.
pub fn check(folder: &Path, needed: u64) -> Result<()> {
    match free_bytes(folder) {
        Some(free) if needed > 0 && needed.saturating_add(RESERVE) > free => {
            Err(Error::NoSpace { path: folder.to_path_buf(), needed, free })
        }
        _ => Ok(()),
    }
}

/// Bytes that this user may still write in a folder.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let it = rustix::fs::statvfs(folder).ok()?;
        Some(it.f_bavail.saturating_mul(it.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_disk_is_refused_with_the_numbers() {
        let here = Path::new(".");
        assert!(check(here, 0).is_ok());
        let error = check(here, u64::MAX / 2).err().map(|it| it.to_string()).unwrap_or_default();
        assert!(error.contains("are free"), "{error}");
    }
}
