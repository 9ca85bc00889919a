//! Residuals and biases: one sum, in the place of a term that nobody needs any more.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use minicrit_quant::{
    kernels::{Level, vector},
    pool,
};

use super::{PARALLEL_FROM, is_tracked, values, values_mut};

/// `y + x` for `y` of `[t, n]` and `x` of `[t, n]`, or of `[n]` for every row. Where no gradient is
/// wanted the sum takes the place of `y`, which the caller gives up: no other tensor may share its
/// values.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn add(y: Tensor, x: &Tensor) -> Result<Tensor> {
    if is_tracked(&[&y, x]) {
        return reference(&y, x);
    }
    let y = y.contiguous()?;
    y.inplace_op2(&x.contiguous()?, &Add)?;
    Ok(y)
}

/// The same in plain tensor operations.
///
/// # Errors
/// Shapes or types that do not fit.
pub fn reference(y: &Tensor, x: &Tensor) -> Result<Tensor> {
    y.broadcast_add(x)
}

struct Add;

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        y: &mut CpuStorage,
        y_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let y = values_mut(self.name(), y, y_layout)?;
        let x = values(self.name(), x, x_layout)?;
        let Some(&width) = x_layout.dims().last().filter(|it| y_layout.dims().ends_with(&[**it]))
        else {
            bail!("add: {:?} does not fit {:?}", x_layout.shape(), y_layout.shape());
        };
        if x.len() != y.len() && x.len() != width {
            bail!("add: {:?} does not fit {:?}", x_layout.shape(), y_layout.shape());
        }
        if width == 0 {
            return Ok(());
        }
        let level = Level::detected();
        let one = x.len() == width;
        pool::for_each_chunk(y, width, y.len() >= PARALLEL_FROM, |row, y| {
            let row = if one { 0 } else { row };
            vector::add(level, y, &x[row * width..(row + 1) * width]);
        });
        Ok(())
    }
}
