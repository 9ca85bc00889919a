//! The gated activation of the feed-forward block: `silu(gate) · up` (Shazeer 2020).

use candle_core::{CpuStorage, CustomOp2, InplaceOp2, Layout, Result, Shape, Tensor, bail};
use minicrit_quant::{
    kernels::{Level, vector},
    pool,
};

use super::{PARALLEL_FROM, is_tracked, values, values_mut};

/// `gate · sigmoid(gate) · up`, element by element. Where no gradient is wanted it takes the place
/// of `gate`, which the caller gives up: no other tensor may share its values.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn swiglu(gate: Tensor, up: &Tensor) -> Result<Tensor> {
    let (gate, up) = (gate.contiguous()?, up.contiguous()?);
    if is_tracked(&[&gate, &up]) {
        return gate.apply_op2(&up, Swiglu);
    }
    gate.inplace_op2(&up, &Swiglu)?;
    Ok(gate)
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

/// Values that a thread takes at a time.
const STRETCH: usize = 1 << 13;

impl InplaceOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &mut CpuStorage,
        gate_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<()> {
        let gate = values_mut("swiglu", gate, gate_layout)?;
        let up = values("swiglu", up, up_layout)?;
        if gate.len() != up.len() {
            bail!("swiglu: {:?} does not fit {:?}", up_layout.shape(), gate_layout.shape());
        }
        let level = Level::detected();
        pool::for_each_chunk(gate, STRETCH, up.len() >= PARALLEL_FROM, |i, gate| {
            let at = i * STRETCH;
            vector::swiglu_in_place(level, gate, &up[at..at + gate.len()]);
        });
        Ok(())
    }
}

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
        let gate = values("swiglu", gate, gate_layout)?;
        let up = values("swiglu", up, up_layout)?;
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
