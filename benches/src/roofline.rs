//! The machine's ceilings, measured once in a process, and figures as shares of them.

use std::sync::OnceLock;

pub use minicrit_quant::roofline::{fma_peak, read_bandwidth};

/// Ceilings of this process with a fixed number of threads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roofline {
    /// Threads that took part.
    pub threads: usize,
    /// Read bandwidth in GB/s.
    pub read_gb_s: f64,
    /// Peak of float32 multiply-adds in GFLOP/s.
    pub fma_gflop_s: f64,
}

impl Roofline {
    /// Measures both ceilings: some seconds.
    pub fn measure(threads: usize) -> Self {
        let threads = threads.max(1);
        Self { threads, read_gb_s: read_bandwidth(threads), fma_gflop_s: fma_peak(threads) }
    }

    /// The ceilings with all of this machine's threads, measured at the first call.
    pub fn of_this_machine() -> Self {
        static MEASURED: OnceLock<Roofline> = OnceLock::new();
        let threads = || std::thread::available_parallelism().map_or(1, usize::from);
        *MEASURED.get_or_init(|| Self::measure(threads()))
    }

    /// Share of read bandwidth (0 to about 1) of work that read `bytes` in `seconds`.
    pub fn share_of_bandwidth(&self, bytes: u64, seconds: f64) -> f64 {
        bytes as f64 / 1e9 / seconds / self.read_gb_s
    }

    /// Share of peak arithmetic (0 to about 1) of work of `operations` in `seconds`, a multiply-add
    /// counted as two.
    pub fn share_of_peak(&self, operations: f64, seconds: f64) -> f64 {
        operations / 1e9 / seconds / self.fma_gflop_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_measured_ceilings() {
        let roofline = Roofline { threads: 2, read_gb_s: 20.0, fma_gflop_s: 400.0 };
        assert!((roofline.share_of_bandwidth(10_000_000_000, 1.0) - 0.5).abs() < 1e-12);
        assert!((roofline.share_of_peak(100e9, 0.5) - 0.5).abs() < 1e-12);
    }
}
