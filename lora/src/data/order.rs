//! The order in which examples are seen: a pure function of seed and epoch.

use minicrit_engine::rng::{Purpose, Rng};

/// Positions that one epoch takes; more examples than that do not fit into memory.
const EPOCH_STRIDE: u64 = 1 << 40;

/// Indices `0..len`, shuffled for `epoch`; the same on every machine and in every run. Nothing has
/// to be saved to continue in the middle of an epoch.
pub fn order(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let rng = Rng::new(seed);
    let mut indices: Vec<usize> = (0..len).collect();
    // Fisher and Yates; the draw at position `at` decides who stands there.
    for at in (1..len).rev() {
        let position = epoch.wrapping_mul(EPOCH_STRIDE).wrapping_add(at as u64);
        let draw = rng.uniform(position, Purpose::Shuffle);
        indices.swap(at, (draw * (at + 1) as f64) as usize);
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_that_seed_and_epoch_decide() {
        let first = order(100, 7, 0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_eq!(first, order(100, 7, 0));
        assert_ne!(first, order(100, 7, 1));
        assert_ne!(first, order(100, 8, 0));
        assert!(order(0, 7, 0).is_empty());
        assert_eq!(order(1, 7, 0), [0]);
    }

    /// Six orders of three: each comes up in a sixth of the epochs.
    #[test]
    fn all_orders_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts.entry(order(3, 1, epoch)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 expected, standard deviation 29.
        assert!(counts.values().all(|it| (850..1150).contains(it)), "{counts:?}");
    }
}
