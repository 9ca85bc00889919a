//! Which examples a step sees: a pure function of its number.

use crate::data;

/// The stream of units: one epoch after the other, each in its own order.
#[derive(Debug, Clone)]
pub struct Order {
    units: Vec<Vec<usize>>,
    shuffle_seed: Option<u64>,
    end: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl Order {
    /// Units of examples (each a single example, or a pack). With `shuffle_seed` each epoch has an
    /// order of its own, else that of the file. The stream ends after `epochs`, or never.
    pub fn new(units: Vec<Vec<usize>>, shuffle_seed: Option<u64>, epochs: Option<u64>) -> Self {
        let end = epochs.map_or(u64::MAX, |it| it.saturating_mul(units.len() as u64));
        Self { units, shuffle_seed, end, epoch: None }
    }

    /// Every example by itself.
    pub fn singles(len: usize, shuffle_seed: Option<u64>, epochs: Option<u64>) -> Self {
        Self::new((0..len).map(|it| vec![it]).collect(), shuffle_seed, epochs)
    }

    /// Units of one epoch.
    pub fn units_per_epoch(&self) -> usize {
        self.units.len()
    }

    /// Up to `count` units from `position` of the stream on.
    pub fn units(&mut self, position: u64, count: usize) -> Vec<Vec<usize>> {
        let len = self.units.len() as u64;
        if len == 0 {
            return Vec::new();
        }
        let end = position.saturating_add(count as u64).min(self.end);
        (position..end)
            .map(|at| {
                let unit = self.in_epoch(at / len, (at % len) as usize);
                self.units[unit].clone()
            })
            .collect()
    }

    fn in_epoch(&mut self, epoch: u64, at: usize) -> usize {
        let Some(seed) = self.shuffle_seed else { return at };
        if self.epoch.as_ref().is_none_or(|it| it.0 != epoch) {
            self.epoch = Some((epoch, data::order(self.units.len(), seed, epoch)));
        }
        self.epoch.as_ref().map_or(at, |it| it.1[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_wraps_and_ends() {
        let mut order = Order::singles(3, None, None);
        assert_eq!(order.units(2, 3).concat(), [2, 0, 1]);
        let mut order = Order::singles(3, None, Some(2));
        assert_eq!(order.units(4, 4).concat(), [1, 2]);
        assert!(order.units(6, 4).is_empty());
    }

    #[test]
    fn every_epoch_has_all_units_in_an_order_of_its_own() {
        let mut order = Order::singles(50, Some(7), None);
        let (first, second) = (order.units(0, 50).concat(), order.units(50, 50).concat());
        assert_ne!(first, second);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(Order::singles(50, Some(7), None).units(45, 10).concat()[..5], first[45..]);
    }
}
