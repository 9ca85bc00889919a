//! Shared, immutable bytes: owned, compiled in, or mapped from a file.

use std::{fs::File, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;

use crate::{Error, Result};

/// A page of memory, the largest size that is common.
#[cfg(unix)]
const PAGE: usize = 1 << 16;

/// A cheap, cloneable view of immutable bytes. Slicing shares the storage.
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<Storage>,
    range: Range<usize>,
}

enum Storage {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Mapped(Mmap),
}

impl Bytes {
    /// Bytes that are part of the program.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self::new(bytes.len(), Storage::Static(bytes))
    }

    /// Little-endian bytes of `values`.
    pub fn from_f32(values: &[f32]) -> Self {
        Self::from(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Maps a whole file for reading. An empty file gives empty bytes.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn map_file(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Ok(Self::from(Vec::new()));
        }
        // SAFETY: the mapping is private and read-only. Another process that truncates the file
        // while it is mapped raises SIGBUS, which the command line turns into a named error; it
        // can't be turned into undefined behaviour of ours, because we never hold references that
        // assume the bytes stay the same across reads for memory safety.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::new(map.len(), Storage::Mapped(map)))
    }

    /// The bytes of `range`, sharing storage, or `None` where it lies outside.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(Self { storage: self.storage.clone(), range: start..start + range.len() })
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Whether the bytes lie in a mapped file.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.storage, Storage::Mapped(_))
    }

    /// Gives the memory of whole mapped pages back to the system; they are read again when they are
    /// next asked for.
    pub fn forget_pages(&self) {
        #[cfg(unix)]
        if let Storage::Mapped(map) = &*self.storage {
            // Pages that are shared with neighbours stay.
            let start = self.range.start.next_multiple_of(PAGE);
            let end = self.range.end / PAGE * PAGE;
            if start < end {
                // SAFETY: the mapping is of a file and read-only, so that dropped pages come back
                // with the same bytes. A refusal changes nothing.
                let _ = unsafe {
                    let advice = memmap2::UncheckedAdvice::DontNeed;
                    map.unchecked_advise_range(advice, start, end - start)
                };
            }
        }
    }

    fn new(len: usize, storage: Storage) -> Self {
        Self { storage: Arc::new(storage), range: 0..len }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes.len(), Storage::Owned(bytes))
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole: &[u8] = match &*self.storage {
            Storage::Static(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
            Storage::Mapped(map) => map,
        };
        &whole[self.range.clone()]
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_pages_are_read_again() {
        let dir = std::env::temp_dir().join(format!("minicrit-bytes-{}", std::process::id()));
        let content: Vec<u8> = (0..400_000).map(|it| (it % 251) as u8).collect();
        std::fs::write(&dir, &content).unwrap();
        let bytes = Bytes::map_file(&dir).unwrap();
        for range in [0..400_000, 5..300_001, 399_999..400_000, 70_000..70_000] {
            let part = bytes.slice(range.clone()).unwrap();
            part.forget_pages();
            assert!(part[..] == content[range]);
        }
        Bytes::from(content).forget_pages();
        std::fs::remove_file(&dir).unwrap();
    }
}
