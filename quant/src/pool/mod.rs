//! Parallel loops over independent outputs.
//!
//! Work is split over outputs and never over a sum, so the number of threads can't change a bit.
//! The threads are those that the caller runs with ([`Threads::run`]); outside of that, as many as the
//! process may use. A loop inside of a loop is done by the thread that comes to it.

mod team;

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, OnceLock},
};

use team::Team;

/// Tasks for each thread that many small chunks are gathered in.
const TASKS_EACH: usize = 8;

thread_local! {
    /// The threads that loops of this thread use, where it runs with some.
    static CURRENT: RefCell<Option<Arc<Team>>> = const { RefCell::new(None) };

    /// Whether this thread is inside of a loop.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed set of threads. They sleep when there is no work.
#[derive(Clone)]
pub struct Threads {
    team: Arc<Team>,
}

impl Threads {
    /// `count` threads, at least one: the one that calls [`Threads::run`], and workers.
    ///
    /// # Errors
    /// The system's error where a thread can't be started.
    pub fn new(count: usize) -> std::io::Result<Self> {
        Team::new(count.max(1)).map(|team| Self { team: Arc::new(team) })
    }

    /// Runs `work` with these threads as the ones that parallel loops use. Several threads may do so
    /// at a time; the workers then help one after the other.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        /// Puts back what was there, also where `work` panics.
        struct Before(Option<Arc<Team>>);
        impl Drop for Before {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }
        let _before = Before(CURRENT.replace(Some(Arc::clone(&self.team))));
        work()
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.team.count()
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({})", self.count())
    }
}

/// The threads of this thread's loops; `None` where it would be alone.
fn current() -> Option<Arc<Team>> {
    static COMMON: OnceLock<Option<Arc<Team>>> = OnceLock::new();
    if INSIDE.get() {
        return None;
    }
    let team = CURRENT.with_borrow(Option::clone).or_else(|| {
        let common = || {
            let count = std::thread::available_parallelism().map_or(1, usize::from);
            Team::new(count).ok().map(Arc::new)
        };
        COMMON.get_or_init(common).clone()
    });
    team.filter(|it| it.count() > 1)
}

/// Runs `work` as a part of a loop.
fn inside<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _before = Before(INSIDE.replace(true));
    work()
}

/// Threads that a loop started here would use.
pub fn current_threads() -> usize {
    current().map_or(1, |it| it.count())
}

/// Calls `body` once for each index below `count`, in parallel where `worth_it`.
pub fn for_each(count: usize, worth_it: bool, body: impl Fn(usize) + Sync + Send) {
    match current().filter(|_| worth_it && count > 1) {
        Some(team) => inside(|| team.run(count, &body)),
        None => (0..count).for_each(body),
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

    /// `len` elements that `buffer`, which is empty, has room for once they are written.
    pub(crate) fn room(buffer: &mut Vec<T>, len: usize) -> Self {
        debug_assert!(buffer.is_empty());
        buffer.reserve_exact(len);
        Self { start: buffer.as_mut_ptr(), len }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
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

    /// `len` elements from `index` on.
    ///
    /// # Safety
    /// `index + len` is at most the length; no other thread touches these elements during the loop,
    /// and the caller holds no other reference to them.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, index: usize, len: usize) -> &mut [T] {
        debug_assert!(index + len <= self.len);
        // SAFETY: in range and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index), len) }
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
    let threads = if worth_it { current_threads() } else { 1 };
    if threads == 1 {
        return out.chunks_mut(chunk_len).enumerate().for_each(|(i, chunk)| body(i, chunk));
    }
    let (len, count) = (out.len(), out.len().div_ceil(chunk_len));
    let tasks = count.min(TASKS_EACH * threads);
    let out = Shared::new(out);
    for_each(tasks, true, |task| {
        for i in count * task / tasks..count * (task + 1) / tasks {
            let start = i * chunk_len;
            // SAFETY: chunks do not overlap, and each belongs to one task.
            body(i, unsafe { out.slice(start, chunk_len.min(len - start)) });
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_index_comes_once_whatever_the_threads() {
        for threads in [1, 2, 3, 8] {
            let threads = Threads::new(threads).unwrap();
            for count in [0, 1, 2, 7, 100] {
                let seen: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                threads.run(|| {
                    for_each(count, true, |i| {
                        seen[i].fetch_add(1, Ordering::Relaxed);
                    });
                });
                assert!(seen.iter().all(|it| it.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn chunks_are_whole_and_in_place() {
        Threads::new(3).unwrap().run(|| {
            for (len, chunk) in [(0, 4), (1, 4), (100, 7), (1000, 1)] {
                let mut values = vec![0; len];
                for_each_chunk(&mut values, chunk, true, |i, part| {
                    assert!(part.len() == chunk || (i + 1) * chunk > len);
                    part.fill(i + 1);
                });
                assert!(values.iter().enumerate().all(|(at, it)| *it == at / chunk + 1));
            }
        });
    }

    #[test]
    fn thousands_of_loops_with_pauses_lose_nothing() {
        let threads = Threads::new(4).unwrap();
        let total = AtomicUsize::new(0);
        threads.run(|| {
            for round in 0..3000 {
                for_each(8, true, |_| {
                    total.fetch_add(1, Ordering::Relaxed);
                });
                if round % 1000 == 0 {
                    // Longer than workers stay awake.
                    std::thread::park_timeout(std::time::Duration::from_millis(2));
                }
            }
        });
        assert_eq!(total.into_inner(), 24_000);
    }

    #[test]
    fn loops_inside_of_loops_and_of_several_callers_end() {
        let threads = Threads::new(3).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    threads.run(|| {
                        for_each(20, true, |_| {
                            for_each(5, true, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    });
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 20 * 5);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_threads_live_on() {
        let threads = Threads::new(3).unwrap();
        for bad in [0, 50, 99] {
            let work = || threads.run(|| for_each(100, true, |i| assert_ne!(i, bad, "planted")));
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            assert!(caught.is_err());
            assert!(!INSIDE.get());
        }
        let count = AtomicUsize::new(0);
        threads.run(|| {
            for_each(10, true, |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(count.into_inner(), 10);
    }
}
