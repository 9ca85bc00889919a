//! Random choices as a pure function of a seed, an item and the number of choices before.

use minicrit_engine::rng::{Purpose, Rng};

/// Choices in one item are at most this many.
const STRIDE: u64 = 1 << 16;

/// The choices that make one item.
#[derive(Debug, Clone)]
pub struct Draws {
    rng: Rng,
    position: u64,
}

impl Draws {
    /// The choices of item `index` under `seed`: they do not depend on other items.
    pub fn new(seed: u64, index: u64) -> Self {
        Self { rng: Rng::new(seed), position: index.wrapping_mul(STRIDE) }
    }

    /// A number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        self.position = self.position.wrapping_add(1);
        self.rng.uniform(self.position, Purpose::Sample)
    }

    /// A number in `0..below`.
    ///
    /// # Panics
    /// Where `below` is 0: a caller's mistake.
    pub fn below(&mut self, below: usize) -> usize {
        assert!(below > 0, "nothing to choose from");
        ((self.uniform() * below as f64) as usize).min(below - 1)
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// One of `items`.
    pub fn one<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A random order of `0..len` (Fisher and Yates).
    pub fn order(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_does_not_depend_on_others() {
        let first: Vec<usize> = (0..9).map(|_| 0).collect();
        let mut draws = Draws::new(3, 8);
        let eight: Vec<usize> = first.iter().map(|_| draws.below(1000)).collect();
        let mut again = Draws::new(3, 8);
        assert!(eight.iter().all(|&it| again.below(1000) == it));
        assert_ne!(Draws::new(3, 9).below(1 << 30), Draws::new(3, 8).below(1 << 30));
        let mut order = Draws::new(1, 1).order(50);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
