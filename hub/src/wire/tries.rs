//! Trying again: what may be tried again, how often, and how long to wait in between.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::{Error, Result, settings::Limits};

/// Why one try did not succeed.
#[derive(Debug)]
pub enum Trouble {
    /// Another try would end the same way.
    Final(Error),
    /// It may be better next time; where the server says when, not before that.
    Passing { error: Error, wait: Option<Duration> },
}

impl Trouble {
    /// Trouble that may pass.
    pub fn passing(error: Error) -> Self {
        Self::Passing { error, wait: None }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Tells all transfers of a pull that one of them failed.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Ends every wait, now and later.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it was called.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn check(&self) -> Result<()> {
        self.wait(Duration::ZERO)
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Error::Stopped`], as soon as it is called.
    pub fn wait(&self, time: Duration) -> Result<()> {
        let guard = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .changed
            .wait_timeout_while(guard, time, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        if *guard { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Counts tries that brought nothing.
#[derive(Debug)]
pub struct Tries<'a> {
    limits: &'a Limits,
    stop: &'a Stop,
    failed: u32,
}

impl<'a> Tries<'a> {
    /// No try so far.
    pub fn new(limits: &'a Limits, stop: &'a Stop) -> Self {
        Self { limits, stop, failed: 0 }
    }

    /// The last try brought a good part of the work: the count begins anew.
    pub fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next try and tells `announce` for how long, or gives up.
    ///
    /// # Errors
    /// The error of the last try.
    pub fn after(
        &mut self,
        trouble: Trouble,
        announce: impl FnOnce(&Error, Duration),
    ) -> Result<()> {
        let (error, wait) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Passing { error, wait } => (error, wait),
        };
        self.stop.check()?;
        self.failed += 1;
        let too_long = wait.is_some_and(|it| it > self.limits.longest_wait);
        if self.failed >= self.limits.tries || too_long {
            return Err(error);
        }
        let doubled = self.limits.backoff.saturating_mul(1 << (self.failed - 1).min(16));
        let wait = wait.unwrap_or(Duration::ZERO).max(doubled.min(self.limits.longest_wait));
        announce(&error, wait);
        self.stop.wait(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { tries: 3, backoff: Duration::from_millis(1), ..Limits::default() }
    }

    fn slow(wait: Option<u64>) -> Trouble {
        let error = Error::RateLimited { host: "h".into(), wait: None };
        Trouble::Passing { error, wait: wait.map(Duration::from_secs) }
    }

    #[test]
    fn tries_end_and_waits_grow() {
        let (limits, stop) = (limits(), Stop::default());
        let mut tries = Tries::new(&limits, &stop);
        let mut waits = Vec::new();
        while tries.after(slow(None), |_, wait| waits.push(wait.as_millis())).is_ok() {}
        assert_eq!(waits, [1, 2]);
    }

    #[test]
    fn a_wait_of_hours_is_not_waited_for() {
        let (limits, stop) = (limits(), Stop::default());
        let mut tries = Tries::new(&limits, &stop);
        assert!(matches!(tries.after(slow(Some(7200)), |_, _| ()), Err(Error::RateLimited { .. })));
    }

    #[test]
    fn a_stop_ends_a_wait() {
        let (limits, stop) = (limits(), Stop::default());
        let result = std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| Tries::new(&limits, &stop).after(slow(Some(100)), |_, _| ()));
            stop.stop();
            waiting.join()
        });
        assert!(matches!(result, Ok(Err(Error::Stopped))));
    }
}
