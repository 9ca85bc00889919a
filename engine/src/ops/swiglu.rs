//! The gated activation of the feed-forward block: `silu(gate) · up` (Shazeer 2020).

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use minicrit_quant::kernels::{Level, vector};

use super::values;

/// `gate · sigmoid(gate) · up`, element by element.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, Swiglu)
}

/// The same in plain tensor operations.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn reference(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    (gate * sigmoid(gate)?)? * up
}

fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gate = values(self.name(), gate, gate_layout)?;
        let up = values(self.name(), up, up_layout)?;
        let mut out = vec![0.0; gate.len()];
        vector::swiglu(Level::detected(), gate, up, &mut out);
        Ok((CpuStorage::F32(out), gate_layout.shape().clone()))
    }

    /// With `s = sigmoid(gate)`: `dgate = g · up · s · (1 + gate · (1 - s))`, `dup = g · gate · s`.
    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let s = sigmoid(gate)?;
        let silu = (gate * &s)?;
        let slope = ((gate - &silu)? + 1.0)?;
        let dgate = ((grad * up)? * (&s * slope)?)?;
        Ok((Some(dgate), Some((grad * silu)?)))
    }
}
