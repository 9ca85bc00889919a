//! What TIES (Yadav et al. 2023) and DARE (Yu et al. 2023) do to the values of several adapters.

use minicrit_engine::rng::{Purpose, Rng};

/// Positions between the draws of two tensors.
const STRIDE: u64 = 1 << 32;

/// Keeps the `density` of values that are largest by magnitude and makes the others zero; of equal
/// ones, those in front.
pub(super) fn keep_largest(values: &mut [f32], density: f64) {
    let kept = (density * values.len() as f64) as usize;
    if kept >= values.len() {
        return;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(a.cmp(&b)));
    for &index in &order[kept..] {
        values[index] = 0.0;
    }
}

/// Keeps each value with the probability `density`, multiplied by `1 / density`; a pure function of
/// seed and `tensor`, the number of the tensor.
pub(super) fn drop_at_random(values: &mut [f32], density: f64, seed: u64, tensor: u64) {
    if density >= 1.0 {
        return;
    }
    let rng = Rng::new(seed);
    for (index, value) in values.iter_mut().enumerate() {
        let draw = rng.uniform(tensor * STRIDE + index as u64, Purpose::Sample);
        *value = if draw < density { (f64::from(*value) / density) as f32 } else { 0.0 };
    }
}

/// The weighted sum of several tensors' values.
pub(super) fn sum(all: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let len = all.first().map_or(0, Vec::len);
    let at = |index: usize| {
        let terms = all.iter().zip(weights).map(|(it, weight)| f64::from(it[index]) * weight);
        terms.sum::<f64>() as f32
    };
    (0..len).map(at).collect()
}

/// The mean over those tensors whose value has the sign of the sum of all.
pub(super) fn elect(all: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let len = all.first().map_or(0, Vec::len);
    let at = |index: usize| {
        let total: f64 = all.iter().map(|it| f64::from(it[index])).sum();
        let sign = if total >= 0.0 { 1.0 } else { -1.0 };
        let (mut sum, mut count) = (0.0, 0u32);
        for (values, weight) in all.iter().zip(weights) {
            let value = f64::from(values[index]);
            if value * sign > 0.0 {
                sum += value * weight;
                count += 1;
            }
        }
        (sum / f64::from(count.max(1))) as f32
    };
    (0..len).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stay() {
        let mut values = [0.1, -3.0, 2.0, 0.0, -2.0];
        keep_largest(&mut values, 0.5);
        assert_eq!(values, [0.0, -3.0, 2.0, 0.0, 0.0]);
        keep_largest(&mut values, 1.0);
        assert_eq!(values, [0.0, -3.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn the_sign_of_the_sum_wins() {
        let all = [vec![1.0, -4.0, 0.0], vec![-3.0, 1.0, 2.0], vec![-1.0, 1.0, 0.0]];
        assert_eq!(elect(&all, &[1.0, 1.0, 1.0]), [-2.0, -4.0, 2.0]);
        assert_eq!(elect(&all, &[1.0, 2.0, 2.0]), [-4.0, -4.0, 4.0]);
    }

    #[test]
    fn dropping_keeps_the_mean_and_is_the_same_each_time() {
        let dropped = |seed, tensor| {
            let mut values = vec![1.0f32; 20_000];
            drop_at_random(&mut values, 0.3, seed, tensor);
            values
        };
        let values = dropped(7, 1);
        let mean = values.iter().sum::<f32>() / 20_000.0;
        // Standard deviation of the mean: sqrt(0.7 / 0.3 / 20000) = 0.011.
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert_eq!(values, dropped(7, 1));
        assert_ne!(values, dropped(7, 2));
        assert_ne!(values, dropped(8, 1));
    }
}
