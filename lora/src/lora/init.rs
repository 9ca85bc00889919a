//! A new adapter, which changes nothing yet.

use candle_core::{DType, Device, Tensor};
use minicrit_engine::{model::Decoder, rng::Rng};

use super::{Dora, Lora, LoraModule, Replaced};
use crate::{LoraError, Result, modules, peft::AdapterConfig};

/// Marks draws for first weights among the counters of a seed.
const FIRST_WEIGHTS: u32 = 0x4c6f_5241;

impl Lora {
    /// An adapter as PEFT makes one: `A` uniform in `±1/sqrt(inputs)` (Kaiming's uniform with
    /// `a = sqrt 5`), `B` zero, DoRA's magnitudes the norms of the base's rows. A draw depends on
    /// the seed, the module's path and the value's place alone.
    ///
    /// # Errors
    /// A choice of modules that is empty or that the model does not have.
    pub fn fresh(config: &AdapterConfig, decoder: &Decoder, seed: u64) -> Result<Self> {
        let all = modules::modules(&decoder.spec);
        let chosen = config.targets.chosen(&all, &config.excluded)?;
        if chosen.is_empty() {
            let what = "no module of this model is chosen".to_string();
            return Err(LoraError::Targets { what });
        }
        let mut fresh = Vec::with_capacity(chosen.len());
        for module in chosen {
            let rank = config.rank_of(&module.path)?;
            let bound = 1.0 / (module.inputs as f32).sqrt();
            let values = uniform(seed, &module.path, rank * module.inputs, bound);
            let a_ri = Tensor::from_vec(values, (rank, module.inputs), &Device::Cpu)?;
            let b_or = Tensor::zeros((module.outputs, rank), DType::F32, &Device::Cpu)?;
            let scale = config.scale_of(&module.path)?;
            let mut it = LoraModule { module: module.clone(), a_ri, b_or, scale, dora: None };
            if config.dora {
                let norms = Tensor::from_vec(it.norms(decoder)?, module.outputs, &Device::Cpu)?;
                it.dora = Some(Dora::new(norms, module, decoder)?);
            }
            fresh.push(it);
        }
        let lora = Self::new(fresh, None, Replaced::default())?;
        lora.refresh(decoder)?;
        Ok(lora)
    }
}

/// `count` values in `±bound`.
fn uniform(seed: u64, path: &str, count: usize, bound: f32) -> Vec<f32> {
    let hash = blake3::hash(path.as_bytes());
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| hash.as_bytes()[at + i]));
    let rng = Rng::new(seed);
    let words = (0..count.div_ceil(4) as u32)
        .flat_map(|block| rng.words([block, FIRST_WEIGHTS, word(0), word(4)]));
    // 24 bits fill a float32's mantissa.
    words.take(count).map(|it| ((it >> 8) as f32 / 8_388_608.0 - 1.0) * bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_fill_their_range_and_depend_on_seed_and_path() {
        let of = |seed, path| uniform(seed, path, 10_001, 0.25);
        let values = of(1, "a");
        assert!(values.iter().all(|it| it.abs() <= 0.25));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|it| it * it).sum::<f32>() / values.len() as f32;
        // Variance of a uniform: bound² / 3.
        assert!(mean.abs() < 0.01 && (square - 0.25 * 0.25 / 3.0).abs() < 1e-3);
        assert_eq!(values, of(1, "a"));
        assert!(values != of(2, "a") && values != of(1, "b"));
    }
}
