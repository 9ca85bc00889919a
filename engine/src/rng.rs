//! Random numbers as a pure function of (seed, position, purpose).
//!
//! There is no state to advance, so a draw does not depend on how many draws came before it: the
//! token at position 40 sees the same number whether the 39 before it were sampled, replayed from
//! a cache, or drafted and rejected. This module knows nothing of models or tokens.
//!
//! ```
//! use minicrit_engine::rng::{Purpose, Rng};
//! let rng = Rng::new(7);
//! assert_eq!(rng.uniform(3, Purpose::Sample), Rng::new(7).uniform(3, Purpose::Sample));
//! assert_ne!(rng.uniform(3, Purpose::Sample), rng.uniform(3, Purpose::Accept));
//! ```

/// What a draw decides. Draws for different purposes are independent at the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// The next token from the target's own distribution.
    Sample = 0,
    /// A draft model's proposal.
    Draft = 1,
    /// Whether a draft is kept.
    Accept = 2,
    /// The replacement of a rejected draft.
    Residual = 3,
    /// The order of training examples.
    Shuffle = 4,
}

/// A keyed generator: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
/// easy as 1, 2, 3" (SC 2011). The seed is the key, position and purpose are the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rng {
    seed: u64,
}

impl Rng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Four independent random words for a counter, for uses that are keyed by more than a position.
    pub fn words(&self, counter: [u32; 4]) -> [u32; 4] {
        philox4x32(counter, split(self.seed))
    }

    /// A number in `[0, 1)` with 53 random bits: the draw for `purpose` at `position`.
    pub fn uniform(&self, position: u64, purpose: Purpose) -> f64 {
        let key = split(self.seed);
        let [position_low, position_high] = split(position);
        let block = philox4x32([position_low, position_high, purpose as u32, 0], key);
        let bits = (u64::from(block[0]) << 32 | u64::from(block[1])) >> 11;
        bits as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Ten rounds of Philox on four 32-bit words; the constants are those of the paper.
fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let [low_a, high_a] = split(u64::from(MULTIPLIERS[0]) * u64::from(counter[0]));
        let [low_b, high_b] = split(u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [high_b ^ counter[1] ^ key[0], low_b, high_a ^ counter[3] ^ key[1], low_a];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the paper's authors publish with Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(
            philox4x32([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn uniform_is_the_top_53_bits() {
        let bits = (0x6627_e8d5_e169_c58d_u64 >> 11) as f64;
        assert_eq!(Rng::new(0).uniform(0, Purpose::Sample), bits / 9_007_199_254_740_992.0);
    }

    #[test]
    fn uniform_is_flat_and_uncorrelated_across_positions_purposes_and_seeds() {
        const DRAWS: u32 = 100_000;
        let purposes =
            [Purpose::Sample, Purpose::Draft, Purpose::Accept, Purpose::Residual, Purpose::Shuffle];
        for purpose in purposes {
            let mut bins = [0u32; 16];
            let mut neighbours = 0.0;
            for position in 0..u64::from(DRAWS) {
                let draw = Rng::new(11).uniform(position, purpose);
                assert!((0.0..1.0).contains(&draw));
                bins[(draw * 16.0) as usize] += 1;
                let next_seed = Rng::new(12).uniform(position, purpose);
                neighbours += (draw - 0.5) * (next_seed - 0.5);
            }
            let expected = f64::from(DRAWS) / 16.0;
            let chi: f64 =
                bins.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
            // 15 degrees of freedom: mean 15, standard deviation 5.5.
            assert!(chi < 40.0, "{purpose:?}: chi-square {chi}");
            // The mean product of independent uniforms has standard deviation 1/12/sqrt(n).
            let correlation = neighbours / f64::from(DRAWS) * 12.0 * f64::from(DRAWS).sqrt();
            assert!(correlation.abs() < 4.0, "{purpose:?}: seeds correlate, z {correlation}");
        }
    }
}
