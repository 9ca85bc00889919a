//! AdamW (Loshchilov and Hutter 2019) with its state in the open, in float32.

/// Constants of the method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay, per unit of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// Moments of one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Mean of gradients.
    pub first: Vec<f32>,
    /// Mean of their squares.
    pub second: Vec<f32>,
}

impl Moments {
    /// Zeros for `len` values.
    pub fn zeros(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

impl AdamW {
    /// Moves `values` against `gradient` (times `factor`, as clipping asks) at `rate`. `step`
    /// counts from 1.
    ///
    /// # Panics
    /// Where lengths differ: a caller's mistake.
    pub fn update(
        &self,
        (step, rate, factor): (u64, f64, f64),
        values: &mut [f32],
        gradient: &[f32],
        moments: &mut Moments,
    ) {
        assert!(values.len() == gradient.len() && values.len() == moments.first.len(), "lengths");
        let correction1 = 1.0 - self.beta1.powi(step as i32);
        let correction2 = (1.0 - self.beta2.powi(step as i32)).sqrt() as f32;
        let keep = (1.0 - rate * self.weight_decay) as f32;
        let size = (rate / correction1) as f32;
        let (beta1, beta2) = (self.beta1 as f32, self.beta2 as f32);
        let (rest1, rest2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let (epsilon, factor) = (self.epsilon as f32, factor as f32);
        let moments = moments.first.iter_mut().zip(&mut moments.second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * factor;
            *first = beta1 * *first + rest1 * gradient;
            *second = beta2 * *second + rest2 * gradient * gradient;
            *value = *value * keep - size * *first / (second.sqrt() / correction2 + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_moves_each_value_by_the_rate() {
        let method = AdamW { weight_decay: 0.5, ..AdamW::default() };
        let (mut values, mut moments) = (vec![1.0, -2.0, 3.0], Moments::zeros(3));
        method.update((1, 0.1, 1.0), &mut values, &[5.0, -0.01, 0.0], &mut moments);
        let want = [0.95 - 0.1, -1.9 + 0.1, 2.85];
        for (got, want) in values.iter().zip(want) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
    }

    #[test]
    fn a_factor_scales_the_gradient() {
        let run = |factor, gradient| {
            let (mut values, mut moments) = (vec![1.0], Moments::zeros(1));
            for step in 1..4 {
                AdamW::default().update(
                    (step, 0.1, factor),
                    &mut values,
                    &[gradient],
                    &mut moments,
                );
            }
            (values, moments)
        };
        assert_eq!(run(0.5, 2.0), run(1.0, 1.0));
    }
}
