//! Keys and values of one sequence.
//!
//! A cache is pages of [`CHUNK`] positions at fixed absolute positions. Forgetting is setting a
//! length: [`KvCache::truncate`] costs nothing, and what lies behind is overwritten by the next
//! append. Pages are shared between clones until one of them writes.

use std::sync::atomic::{AtomicU64, Ordering};

use std::sync::Arc;

use minicrit_quant::kernels::attend::{CHUNK, HeadChunk};

use crate::{
    adapter::AdapterId,
    spec::{Heads, ModelSpec, RopeRegime},
};

/// A loaded decoder, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ModelId(pub u64);

impl ModelId {
    /// One that no decoder of this process has.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// All that cached keys and values depend on, besides the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheTag {
    /// The decoder.
    pub model: ModelId,
    /// The adapter that was on.
    pub adapter: Option<AdapterId>,
    /// The rope's regime.
    pub rope: RopeRegime,
}

/// Keys and values of one sequence under one [`CacheTag`].
#[derive(Debug, Clone)]
pub struct KvCache {
    tag: CacheTag,
    heads: Heads,
    layers: Vec<Vec<Arc<Page>>>,
    len: usize,
}

/// 64 positions of one layer.
#[derive(Debug, Clone)]
struct Page {
    /// `[kv_heads, dim, CHUNK]`
    keys: Vec<f32>,
    /// `[kv_heads, CHUNK, dim]`
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache.
    pub fn new(spec: &ModelSpec, tag: CacheTag) -> Self {
        Self::with_layers(spec.heads, spec.num_layers(), tag)
    }

    pub(crate) fn with_layers(heads: Heads, num_layers: usize, tag: CacheTag) -> Self {
        Self { tag, heads, layers: vec![Vec::new(); num_layers], len: 0 }
    }

    /// What the contents depend on.
    pub fn tag(&self) -> CacheTag {
        self.tag
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` positions.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Bytes of the pages.
    pub fn byte_len(&self) -> usize {
        let page = 2 * self.heads.kv * self.heads.dim * CHUNK * size_of::<f32>();
        self.layers.iter().map(Vec::len).sum::<usize>() * page
    }

    /// Writes the keys and values of consecutive positions from `start` on (`[rows, kv_heads *
    /// dim]` each) into one layer. They count only once [`KvCache::commit`] says so.
    pub(crate) fn append(&mut self, layer: usize, start: usize, keys: &[f32], values: &[f32]) {
        let Heads { kv, dim, .. } = self.heads;
        let pages = &mut self.layers[layer];
        for (i, (k_row, v_row)) in
            keys.chunks_exact(kv * dim).zip(values.chunks_exact(kv * dim)).enumerate()
        {
            let (page, at) = ((start + i) / CHUNK, (start + i) % CHUNK);
            if pages.len() <= page {
                let zeros = vec![0.0; kv * dim * CHUNK];
                pages.push(Arc::new(Page { keys: zeros.clone(), values: zeros }));
            }
            let page = Arc::make_mut(&mut pages[page]);
            for head in 0..kv {
                let base = head * dim * CHUNK;
                for (j, &value) in k_row[head * dim..(head + 1) * dim].iter().enumerate() {
                    page.keys[base + j * CHUNK + at] = value;
                }
                page.values[base + at * dim..base + (at + 1) * dim]
                    .copy_from_slice(&v_row[head * dim..(head + 1) * dim]);
            }
        }
    }

    /// Makes `len` positions count, after every layer has been appended to.
    pub(crate) fn commit(&mut self, len: usize) {
        self.len = len;
    }

    /// The chunks of one head of one layer, from position 0 on.
    pub(crate) fn head_chunks(&self, layer: usize, head: usize) -> Vec<HeadChunk<'_>> {
        let stride = self.heads.dim * CHUNK;
        let range = head * stride..(head + 1) * stride;
        self.layers[layer]
            .iter()
            .map(|page| HeadChunk {
                keys: &page.keys[range.clone()],
                values: &page.values[range.clone()],
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> KvCache {
        let tag = CacheTag { model: ModelId(1), adapter: None, rope: RopeRegime(0) };
        KvCache::with_layers(Heads { query: 2, kv: 2, dim: 3 }, 1, tag)
    }

    fn row(position: usize) -> Vec<f32> {
        (0..6).map(|i| (position * 10 + i) as f32).collect()
    }

    #[test]
    fn positions_are_found_again_across_pages() {
        let mut cache = cache();
        for p in 0..130 {
            cache.append(0, p, &row(p), &row(p + 1000));
        }
        let chunks = cache.head_chunks(0, 1);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[2].keys[2 * CHUNK + 1], row(129)[5]);
        assert_eq!(chunks[1].values[3..6], row(1065)[3..6]);
    }

    #[test]
    fn a_clone_keeps_its_bytes_when_the_other_writes() {
        let mut first = cache();
        first.append(0, 0, &row(0), &row(0));
        first.commit(1);
        let second = first.clone();
        first.truncate(0);
        first.append(0, 0, &row(7), &row(7));
        assert_eq!(second.len(), 1);
        assert_eq!(second.head_chunks(0, 0)[0].values[..3], row(0)[..3]);
        assert_eq!(first.head_chunks(0, 0)[0].values[..3], row(7)[..3]);
    }
}
