//! Worker threads that wait for the next loop awake for a moment, and asleep after it.
//!
//! A decoded token is some two hundred short loops, one after the other. A thread that has to be woken
//! for each of them comes when half of the work is done; so workers look for a while before they
//! sleep. Nobody waits for a worker that has not come: a loop ends when its tasks are done.

use std::{
    any::Any,
    cell::UnsafeCell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a worker looks for the next loop before it sleeps.
const AWAKE: Duration = Duration::from_micros(200);

/// Looks between two readings of the clock.
const LOOKS: usize = 32;

/// In [`Common::state`]: workers may join.
const OPEN: usize = 1;

/// In [`Common::state`]: one worker that has joined.
const WORKER: usize = 2;

/// Worker threads, and the one that calls them.
pub(super) struct Team {
    common: Arc<Common>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the thread whose loop the workers are in.
    caller: Mutex<()>,
}

struct Common {
    /// [`OPEN`], and [`WORKER`] for each worker inside of the job.
    state: AtomicUsize,
    /// Jobs so far.
    epoch: AtomicU64,
    /// The next task.
    next: AtomicUsize,
    /// Written by the caller while nobody is inside.
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    asleep: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

/// A loop over the numbers below `count`. The body outlives everybody who is inside of the job.
#[derive(Clone, Copy)]
struct Job {
    body: *const (dyn Fn(usize) + Sync),
    count: usize,
}

// SAFETY: `job` is written only while `state` is zero, which it stays until the writer opens it, and
// read only by workers inside; all else is atomic or locked.
unsafe impl Sync for Common {}
// SAFETY: the body behind the pointer may be called by any thread (`Sync`).
unsafe impl Send for Common {}

impl Team {
    /// A team of `count` threads, of which the caller is one.
    pub(super) fn new(count: usize) -> std::io::Result<Self> {
        let common = Arc::new(Common {
            state: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            asleep: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let mut team = Self { common, workers: Vec::new(), caller: Mutex::new(()) };
        for index in 1..count {
            let common = Arc::clone(&team.common);
            let builder = std::thread::Builder::new().name(format!("minicrit-{index}"));
            team.workers.push(builder.spawn(move || common.work())?);
        }
        Ok(team)
    }

    /// Threads, the caller included.
    pub(super) fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body` with each number below `count`. Where another thread has the workers, the caller
    /// does it alone. A panic of the body is the caller's.
    pub(super) fn run(&self, count: usize, body: &(dyn Fn(usize) + Sync)) {
        let Ok(_mine) = self.caller.try_lock() else {
            return (0..count).for_each(body);
        };
        let common = &*self.common;
        // SAFETY: the lifetime is extended for the job only, and this function does not return, nor
        // unwind, before the last worker has left.
        let body: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(body) };
        let job = Job { body, count };
        // SAFETY: nobody is inside: the last job was closed and left, and its caller has gone.
        unsafe { *common.job.get() = Some(job) };
        common.next.store(0, Ordering::Relaxed);
        common.state.store(OPEN, Ordering::Release);
        common.epoch.fetch_add(1, Ordering::SeqCst);
        if common.asleep.load(Ordering::SeqCst) > 0 {
            let _awake = locked(&common.sleep);
            common.wake.notify_all();
        }
        common.take(job);
        common.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while common.state.load(Ordering::Acquire) != 0 {
            looks += 1;
            if looks % 1024 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = locked(&common.panic).take();
        drop(_mine);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.common.stop.store(true, Ordering::SeqCst);
        {
            let _awake = locked(&self.common.sleep);
            self.common.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker ends in no other way than by being told.
            let _ = worker.join();
        }
    }
}

impl Common {
    /// A worker's life.
    fn work(&self) {
        let mut seen = 0;
        while let Some(epoch) = self.next_epoch(seen) {
            seen = epoch;
            if self.join() {
                // SAFETY: inside, where the job is there and stays.
                if let Some(job) = unsafe { *self.job.get() } {
                    super::inside(|| self.take(job));
                }
                self.state.fetch_sub(WORKER, Ordering::AcqRel);
            }
        }
    }

    /// Waits until there has been another job than those that were `seen`. `None`: it is all over.
    fn next_epoch(&self, seen: u64) -> Option<u64> {
        let found = || {
            let epoch = self.epoch.load(Ordering::SeqCst);
            (epoch != seen).then_some(epoch)
        };
        let start = Instant::now();
        while start.elapsed() < AWAKE {
            for _ in 0..LOOKS {
                if self.stop.load(Ordering::Relaxed) {
                    return None;
                }
                if let Some(epoch) = found() {
                    return Some(epoch);
                }
                std::hint::spin_loop();
            }
        }
        let mut guard = locked(&self.sleep);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        let epoch = loop {
            if self.stop.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(epoch) = found() {
                break Some(epoch);
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.asleep.fetch_sub(1, Ordering::SeqCst);
        epoch
    }

    /// Enters the job, if there still is one.
    fn join(&self) -> bool {
        let enter = |state: usize| (state & OPEN != 0).then_some(state + WORKER);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Tasks until none is left. A panic ends the job and is kept for the caller.
    fn take(&self, job: Job) {
        let tasks = AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= job.count {
                    break;
                }
                // SAFETY: the caller waits for everybody who is inside.
                unsafe { (*job.body)(task) };
            }
        });
        if let Err(panic) = catch_unwind(tasks) {
            self.next.store(job.count, Ordering::Relaxed);
            *locked(&self.panic) = Some(panic);
        }
    }
}

/// These locks guard nothing that a panic could leave half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
