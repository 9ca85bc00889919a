//! Feed-forward blocks: one gated block, or a mixture of them.

use candle_core::{D, Tensor};

use super::Linear;
use crate::{Result, ops::swiglu, pass::Pass};

/// The feed-forward half of a layer.
#[derive(Debug, Clone)]
pub enum Ffn {
    /// One block for every token.
    Dense(Gated),
    /// Some of many blocks.
    Moe(Moe),
}

impl Ffn {
    /// `[T, D]` to `[T, D]`.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn forward(&self, x_td: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        match self {
            Ffn::Dense(it) => it.forward(x_td, pass),
            Ffn::Moe(it) => it.forward(x_td, pass),
        }
    }

    /// Bytes of the matrices.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Ffn::Dense(it) => it.weight_bytes(),
            Ffn::Moe(it) => {
                let experts: usize = it.experts.iter().map(Gated::weight_bytes).sum();
                experts + it.router.weight_bytes()
            }
        }
    }
}

/// `down(silu(gate(x)) · up(x))`
#[derive(Debug, Clone)]
pub struct Gated {
    /// Gate projection.
    pub gate: Linear,
    /// Up projection.
    pub up: Linear,
    /// Down projection.
    pub down: Linear,
}

impl Gated {
    /// `[T, D]` to `[T, D]`.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn forward(&self, x_td: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let [gate_tf, up_tf] = Linear::forward_all([&self.gate, &self.up], x_td, pass)?;
        self.down.forward(&swiglu::swiglu(gate_tf, &up_tf)?, pass)
    }

    fn weight_bytes(&self) -> usize {
        [&self.gate, &self.up, &self.down].map(Linear::weight_bytes).iter().sum()
    }
}

/// A router and its experts (Mixtral, Jiang et al. 2024; Qwen3-MoE).
#[derive(Debug, Clone)]
pub struct Moe {
    /// Scores of the experts, `[E, D]`.
    pub router: Linear,
    /// Experts in order.
    pub experts: Vec<Gated>,
    /// Experts that a token visits.
    pub per_token: usize,
    /// Whether the chosen weights are scaled to sum to one.
    pub normalize: bool,
}

impl Moe {
    /// `[T, D]` to `[T, D]`. A row's experts are added in rising order of their index, so its bits
    /// do not depend on the rows beside it.
    ///
    /// # Errors
    /// What the arithmetic gives.
    pub fn forward(&self, x_td: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let scores_te = self.router.forward(x_td, pass)?;
        let weights_te = candle_nn::ops::softmax(&scores_te, D::Minus1)?;
        let chosen = self.choose(&weights_te)?;
        let flat: Vec<u32> = chosen.iter().flatten().copied().collect();
        let index_tk = Tensor::from_vec(flat, (chosen.len(), self.per_token), x_td.device())?;
        let mut weights_tk = weights_te.gather(&index_tk, 1)?;
        if self.normalize {
            weights_tk = weights_tk.broadcast_div(&weights_tk.sum_keepdim(1)?)?;
        }
        let weights_n = weights_tk.flatten_all()?;

        let mut out_td = x_td.zeros_like()?;
        for (e, expert) in self.experts.iter().enumerate() {
            let visits = chosen.iter().enumerate().flat_map(|(t, experts)| {
                experts.iter().enumerate().map(move |(slot, &it)| (t, slot, it as usize))
            });
            let (rows, slots): (Vec<u32>, Vec<u32>) = visits
                .filter(|&(_, _, it)| it == e)
                .map(|(t, slot, _)| (t as u32, (t * self.per_token + slot) as u32))
                .unzip();
            if rows.is_empty() {
                continue;
            }
            let count = rows.len();
            let rows = Tensor::from_vec(rows, count, x_td.device())?;
            let slots = Tensor::from_vec(slots, count, x_td.device())?;
            let y_nd = expert.forward(&x_td.index_select(&rows, 0)?, pass)?;
            let weight_n1 = weights_n.index_select(&slots, 0)?.unsqueeze(1)?;
            out_td = out_td.index_add(&rows, &y_nd.broadcast_mul(&weight_n1)?, 0)?;
        }
        Ok(out_td)
    }

    /// The most probable experts of each row; of equals, the one with the lower index.
    fn choose(&self, weights_te: &Tensor) -> Result<Vec<Vec<u32>>> {
        let rows = weights_te.to_vec2::<f32>()?;
        let best = |row: &Vec<f32>| {
            let mut order: Vec<u32> = (0..row.len() as u32).collect();
            order.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
            order.truncate(self.per_token);
            order
        };
        Ok(rows.iter().map(best).collect())
    }
}
