//! Keys and values of one sequence.
//!
//! A cache is pages of [`CHUNK`] positions at fixed absolute positions. Forgetting is setting a
//! length: [`KvCache::truncate`] costs nothing, and what lies behind is overwritten by the next
//! append. Pages are shared between clones until one of them writes.

use std::sync::atomic::{AtomicU64, Ordering};

use std::sync::Arc;

use half::{bf16, f16};
use minicrit_quant::kernels::attend::{CHUNK, Chunks, Element, HeadChunk};

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

/// How keys and values are kept. Arithmetic is in float32 for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheType {
    /// As computed.
    #[default]
    F32,
    /// Half precision: half the memory. A value beyond 65,504 becomes infinite, and the output not
    /// a number, which is an error.
    F16,
    /// Bfloat16: half the memory, any size of value, fewer digits.
    Bf16,
}

impl CacheType {
    /// All of them.
    pub const ALL: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Bf16];

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Bf16 => "bf16",
        }
    }

    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            CacheType::F32 => 4,
            CacheType::F16 | CacheType::Bf16 => 2,
        }
    }
}

/// Keys and values of one sequence under one [`CacheTag`].
#[derive(Debug, Clone)]
pub struct KvCache {
    tag: CacheTag,
    heads: Heads,
    layers: Layers,
    len: usize,
}

/// The pages of each layer.
#[derive(Debug, Clone)]
enum Layers {
    F32(Vec<Vec<Arc<Page<f32>>>>),
    F16(Vec<Vec<Arc<Page<f16>>>>),
    Bf16(Vec<Vec<Arc<Page<bf16>>>>),
}

/// Binds the layers, whatever their type.
macro_rules! for_layers {
    ($layers:expr, $it:ident => $body:expr) => {
        match $layers {
            Layers::F32($it) => $body,
            Layers::F16($it) => $body,
            Layers::Bf16($it) => $body,
        }
    };
}

impl Layers {
    fn new(cache_type: CacheType, count: usize) -> Self {
        match cache_type {
            CacheType::F32 => Layers::F32(vec![Vec::new(); count]),
            CacheType::F16 => Layers::F16(vec![Vec::new(); count]),
            CacheType::Bf16 => Layers::Bf16(vec![Vec::new(); count]),
        }
    }
}

/// 64 positions of one layer: keys `[kv_heads, dim, CHUNK]`, then values `[kv_heads, CHUNK, dim]`.
#[derive(Debug)]
struct Page<E> {
    /// With room to start at a cache line: kernels read whole lines.
    buffer: Vec<E>,
    start: usize,
    len: usize,
}

const LINE: usize = 64;

impl<E: Element> Page<E> {
    fn new(heads: Heads) -> Self {
        let len = 2 * heads.kv * heads.dim * CHUNK;
        let buffer = vec![E::from_f32(0.0); len + LINE / size_of::<E>()];
        let start = buffer.as_ptr().align_offset(LINE).min(LINE / size_of::<E>());
        Self { buffer, start, len }
    }

    fn elements(&self) -> &[E] {
        &self.buffer[self.start..self.start + self.len]
    }

    fn elements_mut(&mut self) -> &mut [E] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    fn head(&self, heads: Heads, head: usize) -> HeadChunk<'_, E> {
        let stride = heads.dim * CHUNK;
        let (keys, values) = self.elements().split_at(self.len / 2);
        let range = head * stride..(head + 1) * stride;
        HeadChunk { keys: &keys[range.clone()], values: &values[range] }
    }

    /// Writes keys and values of one position, `[kv_heads * dim]` each.
    fn write(&mut self, heads: Heads, at: usize, key_row: &[f32], value_row: &[f32]) {
        let half = self.len / 2;
        let (keys, values) = self.elements_mut().split_at_mut(half);
        for head in 0..heads.kv {
            let part = head * heads.dim..(head + 1) * heads.dim;
            let base = part.start * CHUNK;
            let column = keys[base + at..].iter_mut().step_by(CHUNK);
            column.zip(&key_row[part.clone()]).for_each(|(to, &from)| *to = E::from_f32(from));
            let row = values[base + at * heads.dim..].iter_mut();
            row.zip(&value_row[part]).for_each(|(to, &from)| *to = E::from_f32(from));
        }
    }
}

impl<E: Element> Clone for Page<E> {
    /// The copy starts at a line too, wherever its buffer lies.
    fn clone(&self) -> Self {
        let mut buffer = vec![E::from_f32(0.0); self.buffer.len()];
        let start = buffer.as_ptr().align_offset(LINE).min(LINE / size_of::<E>());
        buffer[start..start + self.len].copy_from_slice(self.elements());
        Self { buffer, start, len: self.len }
    }
}

impl KvCache {
    /// An empty cache in float32.
    pub fn new(spec: &ModelSpec, tag: CacheTag) -> Self {
        Self::with_layers(spec.heads, spec.num_layers(), tag)
    }

    /// An empty cache of another type, otherwise like this one.
    #[must_use]
    pub fn with_type(mut self, cache_type: CacheType) -> Self {
        let count = for_layers!(&self.layers, it => it.len());
        self.layers = Layers::new(cache_type, count);
        self.len = 0;
        self
    }

    pub(crate) fn with_layers(heads: Heads, num_layers: usize, tag: CacheTag) -> Self {
        Self { tag, heads, layers: Layers::new(CacheType::F32, num_layers), len: 0 }
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

    /// How keys and values are kept.
    pub fn cache_type(&self) -> CacheType {
        match self.layers {
            Layers::F32(_) => CacheType::F32,
            Layers::F16(_) => CacheType::F16,
            Layers::Bf16(_) => CacheType::Bf16,
        }
    }

    /// Bytes of the pages.
    pub fn byte_len(&self) -> usize {
        let page = 2 * self.heads.kv * self.heads.dim * CHUNK * self.cache_type().bytes();
        for_layers!(&self.layers, it => it.iter().map(Vec::len).sum::<usize>()) * page
    }

    /// Writes the keys and values of consecutive positions from `start` on (`[rows, kv_heads *
    /// dim]` each) into one layer. They count only once [`KvCache::commit`] says so.
    pub(crate) fn append(&mut self, layer: usize, start: usize, keys: &[f32], values: &[f32]) {
        let heads = self.heads;
        for_layers!(&mut self.layers, it => append(&mut it[layer], heads, start, keys, values));
    }

    /// Makes `len` positions count, after every layer has been appended to.
    pub(crate) fn commit(&mut self, len: usize) {
        self.len = len;
    }

    /// The chunks of every head of one layer, from position 0 on.
    pub(crate) fn chunks(&self, layer: usize) -> Chunks<'_> {
        match &self.layers {
            Layers::F32(it) => Chunks::F32(chunks(&it[layer], self.heads)),
            Layers::F16(it) => Chunks::F16(chunks(&it[layer], self.heads)),
            Layers::Bf16(it) => Chunks::Bf16(chunks(&it[layer], self.heads)),
        }
    }
}

fn append<E: Element>(
    pages: &mut Vec<Arc<Page<E>>>,
    heads: Heads,
    start: usize,
    keys: &[f32],
    values: &[f32],
) {
    let width = heads.kv * heads.dim;
    let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
    for (position, (key_row, value_row)) in (start..).zip(rows) {
        let page = position / CHUNK;
        if pages.len() <= page {
            pages.push(Arc::new(Page::new(heads)));
        }
        Arc::make_mut(&mut pages[page]).write(heads, position % CHUNK, key_row, value_row);
    }
}

fn chunks<E: Element>(pages: &[Arc<Page<E>>], heads: Heads) -> Vec<Vec<HeadChunk<'_, E>>> {
    let of_head = |head: usize| pages.iter().map(|page| page.head(heads, head)).collect();
    (0..heads.kv).map(of_head).collect()
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
        let Chunks::F32(chunks) = cache.chunks(0) else { panic!("float32 is the default") };
        let chunks = &chunks[1];
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
        let values = |cache: &KvCache| match cache.chunks(0) {
            Chunks::F32(chunks) => chunks[0][0].values[..3].to_vec(),
            _ => Vec::new(),
        };
        assert_eq!(values(&second), row(0)[..3]);
        assert_eq!(values(&first), row(7)[..3]);
    }

    #[test]
    fn narrow_caches_take_half_the_bytes() {
        for cache_type in CacheType::ALL {
            let mut cache = cache().with_type(cache_type);
            cache.append(0, 0, &row(1), &row(2));
            assert_eq!(cache.byte_len(), 2 * 2 * 3 * CHUNK * cache_type.bytes());
            assert_eq!(cache.clone().cache_type(), cache_type);
        }
    }
}
