//! Memory of its own for packed weights: aligned, and on huge pages where that pays.

use memmap2::MmapMut;

/// A huge page of x86-64; smaller tensors would leave most of one unused.
const HUGE: usize = 2 << 20;

/// Bytes that start on a cache line.
pub(crate) struct Storage {
    map: MmapMut,
    start: usize,
    len: usize,
}

impl Storage {
    /// `len` zeros.
    pub(crate) fn zeroed(len: usize) -> std::io::Result<Self> {
        let huge = len >= HUGE;
        // Mappings start on a small page; the slack lets the bytes start on a huge one.
        let map = MmapMut::map_anon(if huge { len + HUGE } else { len.max(1) })?;
        let start = if huge { map.as_ptr().align_offset(HUGE) } else { 0 };
        // Advice may be refused (an old kernel, a container): then the pages are small, no more.
        #[cfg(target_os = "linux")]
        if huge {
            let _ = map.advise_range(memmap2::Advice::HugePage, start, len);
        }
        Ok(Self { map, start, len })
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..self.start + self.len]
    }
}

impl std::ops::Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.start..self.start + self.len]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn large_storage_starts_on_a_huge_page() {
        for len in [1, 64, HUGE - 1, HUGE, 3 * HUGE + 64] {
            let mut storage = Storage::zeroed(len).unwrap();
            storage.bytes_mut()[len - 1] = 7;
            assert_eq!((storage.len(), storage[len - 1]), (len, 7));
            let align = if len >= HUGE { HUGE } else { 64 };
            assert!(storage.as_ptr().addr().is_multiple_of(align), "{len}");
        }
    }
}
