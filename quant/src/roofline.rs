//! The ceilings of this machine: how fast a process can read memory, and how fast it can multiply.
//!
//! Decoding reads every weight once a token, so its ceiling is read bandwidth; prefill reuses what
//! it has read, so its ceiling is arithmetic. Speeds are reported as a share of these figures,
//! measured in the same process. This module knows no weights and no formats.
//!
//! ```no_run
//! let gigabytes_each_second = minicrit_quant::roofline::read_bandwidth(2);
//! let gflops = minicrit_quant::roofline::fma_peak(2);
//! # let _ = (gigabytes_each_second, gflops);
//! ```

mod buffer;
mod fma;
mod read;
mod tile;

use std::{
    sync::Barrier,
    time::{Duration, Instant},
};

use buffer::{Buffer, Pages};

/// Far above any cache's share of one process, and small enough for a machine of 4 GiB.
const READ_BYTES: usize = 512 << 20;

/// The best of so many passes counts: a neighbour can slow a pass down, nothing can speed it up.
const PASSES: usize = 4;

/// About 20 ms of arithmetic for each pass.
const FMA_ROUNDS: usize = 4_000_000;

/// About 20 ms of tile products for each pass.
const TILE_ROUNDS: usize = 1_000_000;

/// Read bandwidth of this process with so many threads, in GB/s (10^9 bytes each second).
///
/// The best over normal and huge pages, one to eight interleaved streams a thread, and several
/// passes. Takes about two seconds and 512 MiB. Zero where the memory can't be had.
pub fn read_bandwidth(threads: usize) -> f64 {
    read_bandwidth_of(READ_BYTES, threads)
}

/// As [`read_bandwidth`], over a buffer of about `bytes`: a small one measures a cache.
pub fn read_bandwidth_of(bytes: usize, threads: usize) -> f64 {
    let threads = threads.max(1);
    let mut best = 0.0_f64;
    for pages in [Pages::Normal, Pages::Huge] {
        let Some(buffer) = Buffer::filled(bytes, pages) else { continue };
        let words = buffer.words();
        let share = words.len() / threads;
        for kernel in read::kernels() {
            for _ in 0..PASSES {
                let time = together(threads, |thread| {
                    std::hint::black_box(kernel(&words[thread * share..][..share]));
                });
                let read = (share * threads * size_of::<u64>()) as f64;
                best = best.max(read / time.as_secs_f64() / 1e9);
            }
        }
    }
    best
}

/// Peak of float32 multiply-adds with so many threads, in GFLOP/s (a multiply-add counts as two).
///
/// The widest vectors this processor has, with enough independent sums to hide their latency.
pub fn fma_peak(threads: usize) -> f64 {
    fma_peak_of(FMA_ROUNDS, threads)
}

/// Peak of bfloat16 tile products with so many threads, in GFLOP/s; zero where there are no tiles.
pub fn tile_peak(threads: usize) -> f64 {
    if !tile::available() {
        return 0.0;
    }
    let threads = threads.max(1);
    let mut best = 0.0_f64;
    for _ in 0..PASSES {
        let time = together(threads, |_| tile::run(TILE_ROUNDS));
        let operations = (TILE_ROUNDS * tile::OPERATIONS_EACH_ROUND * threads) as f64;
        best = best.max(operations / time.as_secs_f64() / 1e9);
    }
    best
}

fn fma_peak_of(rounds: usize, threads: usize) -> f64 {
    let threads = threads.max(1);
    let kernel = fma::kernel();
    let mut best = 0.0_f64;
    for _ in 0..PASSES {
        let time = together(threads, |_| {
            std::hint::black_box((kernel.run)(std::hint::black_box(rounds)));
        });
        let operations = (rounds * kernel.operations_each_round * threads) as f64;
        best = best.max(operations / time.as_secs_f64() / 1e9);
    }
    best
}

/// Time from the first thread's start to the last one's end, all released at once.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let timed = |thread: usize| {
        barrier.wait();
        let start = Instant::now();
        work(thread);
        (start, Instant::now())
    };
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let timed = &timed;
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || timed(thread))).collect();
        running.into_iter().filter_map(|it| it.join().ok()).collect()
    });
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    match (start, end) {
        (Some(start), Some(end)) => end.duration_since(start).max(Duration::from_nanos(1)),
        _ => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_plausible() {
        let read = read_bandwidth_of(8 << 20, 2);
        assert!((0.1..100_000.0).contains(&read), "{read} GB/s");
        let peak = fma_peak_of(20_000, 2);
        assert!((0.01..1_000_000.0).contains(&peak), "{peak} GFLOP/s");
    }

    #[test]
    fn zero_threads_are_one() {
        assert!(read_bandwidth_of(1 << 20, 0) > 0.0);
    }

    #[test]
    fn the_time_spans_all_threads() {
        let time = together(2, |thread| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(5 * thread as u64) {}
        });
        assert!(time >= Duration::from_millis(5), "{time:?}");
    }
}
