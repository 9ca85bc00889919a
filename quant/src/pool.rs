//! Parallel loops over independent outputs.
//!
//! Work is split over outputs and never over a sum, so the number of threads can't change a bit.
//! The threads are those of the rayon pool that the caller runs in ([`Threads::run`]); outside of
//! one, rayon's global pool.

use rayon::prelude::*;

/// A fixed set of worker threads. They sleep when there is no work.
pub struct Threads {
    pool: rayon::ThreadPool,
}

impl Threads {
    /// `count` threads, at least one.
    ///
    /// # Errors
    /// The system's error where a thread can't be started.
    pub fn new(count: usize) -> std::io::Result<Self> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(count.max(1))
            .thread_name(|index| format!("minicrit-{index}"))
            .build()
            .map(|pool| Self { pool })
            .map_err(std::io::Error::other)
    }

    /// Runs `work` with these threads as the ones that parallel loops use.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({})", self.count())
    }
}

/// Threads that a loop started here would use.
pub fn current_threads() -> usize {
    rayon::current_num_threads()
}

/// Calls `body` once for each index below `count`, in parallel where `worth_it`.
pub fn for_each(count: usize, worth_it: bool, body: impl Fn(usize) + Sync + Send) {
    if worth_it && count > 1 && current_threads() > 1 {
        (0..count).into_par_iter().with_max_len(1).for_each(body);
    } else {
        (0..count).for_each(body);
    }
}

/// A mutable slice whose disjoint parts several threads write.
pub(crate) struct Shared<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: the pointer is only used through `write`/`slice`, whose callers promise that no two
// threads touch one element.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Where an element lies, or would lie behind the end: to be prefetched, not read.
    pub(crate) fn place(&self, index: usize) -> *const T {
        self.start.wrapping_add(index)
    }

    /// # Safety
    /// `index` is below the length, and no other thread touches this element during the loop.
    pub(crate) unsafe fn write(&self, index: usize, value: T) {
        debug_assert!(index < self.len);
        // SAFETY: in range and exclusive by the caller's promise.
        unsafe { *self.start.add(index) = value };
    }

    /// # Safety
    /// `start + len` is at most the length, and no other thread touches these elements while the
    /// slice lives.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        debug_assert!(start + len <= self.len);
        // SAFETY: in range and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// # Safety
    /// `index + values.len()` is at most the length, and no other thread touches these elements
    /// during the loop.
    pub(crate) unsafe fn write_all(&self, index: usize, values: &[T])
    where
        T: Copy,
    {
        debug_assert!(index + values.len() <= self.len);
        // SAFETY: in range and exclusive by the caller's promise; `values` is borrowed elsewhere.
        unsafe {
            std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(index), values.len());
        }
    }
}

/// Calls `body` with each chunk of `chunk_len` elements of `out` and its index, in parallel where
/// `worth_it`.
pub fn for_each_chunk<T: Send>(
    out: &mut [T],
    chunk_len: usize,
    worth_it: bool,
    body: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if worth_it && current_threads() > 1 {
        out.par_chunks_mut(chunk_len).enumerate().for_each(|(i, chunk)| body(i, chunk));
    } else {
        out.chunks_mut(chunk_len).enumerate().for_each(|(i, chunk)| body(i, chunk));
    }
}
