//! A large buffer of memory of its own, on pages of a chosen size.

/// Which pages to ask the system for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Whatever size is usual (mostly 4 KiB).
    Normal,
    /// Huge pages, where the system has them: fewer address translations for the same bytes.
    Huge,
}

/// Memory that is really there: every page has been written to.
pub struct Buffer {
    memory: memmap2::MmapMut,
    bytes: usize,
}

impl Buffer {
    /// A buffer of about `bytes`, written once, or `None` where the system refuses.
    pub fn filled(bytes: usize, pages: Pages) -> Option<Self> {
        let bytes = bytes / 64 * 64;
        let mut memory = memmap2::MmapMut::map_anon(bytes.max(64)).ok()?;
        // Advice may be refused (an old kernel, a container); the figure then is that of the pages
        // that there are, which is the truth about this process.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(match pages {
            Pages::Normal => memmap2::Advice::NoHugePage,
            Pages::Huge => memmap2::Advice::HugePage,
        });
        #[cfg(not(target_os = "linux"))]
        let _ = pages;
        // Untouched pages would all be the same page of zeros, and reading them would measure a
        // cache. The values do not matter, as long as they differ.
        for (index, word) in memory.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&(index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        }
        Some(Self { memory, bytes })
    }

    /// The buffer as 64-bit words.
    pub fn words(&self) -> &[u64] {
        let bytes = &self.memory[..self.bytes];
        // SAFETY: every bit pattern is a valid u64.
        let (_, words, _) = unsafe { bytes.align_to::<u64>() };
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_there_and_differs() {
        for pages in [Pages::Normal, Pages::Huge] {
            let buffer = Buffer::filled(1 << 16, pages).expect("64 KiB");
            let words = buffer.words();
            assert_eq!(words.len(), (1 << 16) / 8);
            assert_ne!(words[1], words[2]);
            assert_ne!(words[words.len() - 1], 0);
        }
    }
}
