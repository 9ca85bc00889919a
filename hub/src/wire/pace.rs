//! Slowness: a server that drips would hold a pull for ever without any single wait being long.

use std::time::{Duration, Instant};

/// Bytes over a sliding stretch of time.
#[derive(Debug)]
pub struct Pace {
    stretch: Duration,
    least: u64,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// At least so many bytes in each stretch.
    pub fn new(stretch: Duration, least: u64) -> Self {
        Self { stretch, least, since: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that came; `false` where a stretch went by with too few of them.
    pub fn keeps_up(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        if self.since.elapsed() < self.stretch {
            return true;
        }
        let enough = self.bytes >= self.least;
        (self.since, self.bytes) = (Instant::now(), 0);
        enough
    }
}
