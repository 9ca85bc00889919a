//! Learning rates as a pure function of the step.

/// How the rate falls after the warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Along a line, to the floor.
    Linear,
    /// Along half a cosine, to the floor.
    Cosine,
}

/// The rates of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest rate.
    pub peak: f64,
    /// How it falls.
    pub decay: Decay,
    /// Steps over which it rises.
    pub warmup: u64,
    /// Steps in all.
    pub total: u64,
    /// Share of the peak that is left at the end.
    pub floor: f64,
}

impl Schedule {
    /// The rate of `step`, counted from 0. The first step of a warmup has `peak / warmup`, not 0,
    /// which would waste it.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let rest = self.total.saturating_sub(self.warmup).max(1);
        let progress = ((step - self.warmup) as f64 / rest as f64).min(1.0);
        let share = match self.decay {
            Decay::Constant => return self.peak,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_and_fall() {
        let of = |decay, floor| Schedule { peak: 2.0, decay, warmup: 4, total: 24, floor };
        let cosine = of(Decay::Cosine, 0.1);
        assert_eq!([0, 1, 3].map(|it| cosine.rate(it)), [0.5, 1.0, 2.0]);
        assert_eq!(cosine.rate(4), 2.0);
        assert!((cosine.rate(14) - 1.1).abs() < 1e-12);
        assert!((cosine.rate(24) - 0.2).abs() < 1e-12);
        assert_eq!(cosine.rate(1000), cosine.rate(24));
        assert_eq!(of(Decay::Linear, 0.0).rate(14), 1.0);
        assert_eq!(of(Decay::Constant, 0.0).rate(23), 2.0);
        let none = Schedule { peak: 1.0, decay: Decay::Cosine, warmup: 0, total: 0, floor: 0.0 };
        assert_eq!(none.rate(0), 1.0);
    }
}
