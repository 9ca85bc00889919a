//! Dropout on the input of an adapter, as a pure function of where a value stands.

use candle_core::{Device, Tensor};
use minicrit_engine::{
    Result,
    adapter::{Adapter, AdapterId, Proj, Site},
    pass::Rows,
    rng::Rng,
};

use super::Lora;

/// Which values are dropped. The draw for a value depends on the seed, the step, the module, the
/// example and the value's place in it: never on how examples share a pass, so recomputing a layer
/// drops the same values, and a resumed run goes on as if it had not stopped.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Probability that a value becomes zero; the others are divided by `1 - probability`.
    pub probability: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Step of the run.
    pub step: u64,
    /// Number, within the step, of the first example of the pass.
    pub first_example: u64,
}

impl Dropout {
    fn apply(&self, site: Site, rows: &Rows, x_ti: &Tensor) -> Result<Tensor> {
        let width = x_ti.dim(1)?;
        let mut factors = Vec::with_capacity(x_ti.elem_count());
        // The step is mixed into the key, which leaves the counter for places.
        let rng =
            Rng::new(self.seed ^ self.step.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32));
        let expert = site.expert.map_or(0, |it| u32::from(it) + 1);
        let place = u32::from(site.layer) << 16 | expert << 3 & 0xffff | proj_number(site.proj);
        let keep = 1.0 / (1.0 - self.probability);
        let threshold = (f64::from(self.probability) * 4_294_967_296.0) as u64;
        let count = x_ti.dim(0)?;
        let places: Vec<(u64, u32)> = if rows.len() == count {
            let spans = rows.spans().iter().zip(self.first_example..);
            spans.flat_map(|(it, e)| (0..it.len as u32).map(move |at| (e, at))).collect()
        } else {
            // The head and experts see chosen rows only: their order stands for their place.
            (0..count as u32).map(|at| (self.first_example, at)).collect()
        };
        for (example, position) in places {
            for group in 0..width.div_ceil(4) {
                let words = rng.words([group as u32, position, example as u32, place]);
                let left = (width - 4 * group).min(4);
                let factor = |&word: &u32| if u64::from(word) < threshold { 0.0 } else { keep };
                factors.extend(words[..left].iter().map(factor));
            }
        }
        let factors = Tensor::from_vec(factors, x_ti.shape(), &Device::Cpu)?;
        Ok((x_ti * factors)?)
    }
}

fn proj_number(proj: Proj) -> u32 {
    match proj {
        Proj::Q => 0,
        Proj::K => 1,
        Proj::V => 2,
        Proj::O => 3,
        Proj::Gate => 4,
        Proj::Up => 5,
        Proj::Down => 6,
        Proj::Head => 7,
    }
}

/// An adapter in training, with dropout.
#[derive(Debug)]
pub struct WithDropout<'a> {
    /// The adapter.
    pub lora: &'a Lora,
    /// What is dropped.
    pub dropout: Dropout,
}

impl Adapter for WithDropout<'_> {
    fn id(&self) -> AdapterId {
        self.lora.id()
    }

    fn apply(&self, site: Site, rows: &Rows, x_ti: &Tensor, y_to: Tensor) -> Result<Tensor> {
        self.lora.apply_with(site, x_ti, y_to, |x_ti| self.dropout.apply(site, rows, x_ti))
    }

    fn embed(&self, tokens: &[u32], x_td: Tensor) -> Result<Tensor> {
        self.lora.embed(tokens, x_td)
    }
}
