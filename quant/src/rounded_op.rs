//! A product with a learned matrix in bfloat16 with float32 sums, forwards and backwards.

use candle_core::{CpuStorage, CustomOp2, Device, Layout, Shape, Tensor};

use crate::{
    dense::{BLOCK, DenseLevel, Matrix, Right, Tiles, product_into, round_into, sum_over_rows},
    dense_op::Factors,
};

/// [`crate::dense_matmul`] with both factors rounded to bfloat16 first, as [`crate::dense`] says;
/// the gradients' factors are rounded too. Sums, results and what is learned stay float32.
///
/// # Errors
/// A shape or type that does not fit.
pub fn rounded_matmul(x_ti: &Tensor, w_oi: &Tensor) -> candle_core::Result<Tensor> {
    x_ti.contiguous()?.apply_op2(&w_oi.contiguous()?, RoundedMatmul)
}

struct RoundedMatmul;

impl CustomOp2 for RoundedMatmul {
    fn name(&self) -> &'static str {
        "rounded-matmul"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let Factors { x, w, m, n, k } = Factors::of(self.name(), (x, x_layout), (w, w_layout))?;
        let level = DenseLevel::detected();
        let x = Tiles::from_rows(level.float(), x, k);
        let w = rounded(level, w);
        let mut y = vec![0.0; m * n];
        let right = Right::rows(Matrix::Rounded { cols: k, values: &w });
        product_into(level, &x, 0..k.div_ceil(BLOCK), &right, false, &mut y, n);
        Ok((CpuStorage::F32(y), Shape::from((m, n))))
    }

    /// `dx = g · w`, `dw = gᵀ · x`.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let ((m, k), n) = (x.dims2()?, w.dim(0)?);
        let level = DenseLevel::detected();
        let floats = |it: &Tensor| it.contiguous()?.flatten_all()?.to_vec1::<f32>();
        let g = Tiles::from_rows(level.float(), &floats(grad)?, n);
        let dx = if x.track_op() {
            let w = rounded(level, &floats(w)?);
            let mut dx = vec![0.0; m * k];
            let right = Right::Columns(vec![Matrix::Rounded { cols: k, values: &w }]);
            product_into(level, &g, 0..n.div_ceil(BLOCK), &right, false, &mut dx, k);
            Some(Tensor::from_vec(dx, (m, k), &Device::Cpu)?)
        } else {
            None
        };
        let dw = if w.track_op() {
            let x = Tiles::from_rows(level.float(), &floats(x)?, k);
            let mut dw = vec![0.0; n * k];
            sum_over_rows(level, &g, 0..n, &x, 0..k, &mut dw);
            Some(Tensor::from_vec(dw, (n, k), &Device::Cpu)?)
        } else {
            None
        };
        Ok((dx, dw))
    }
}

fn rounded(level: DenseLevel, values: &[f32]) -> Vec<u16> {
    let mut out = vec![0; values.len()];
    round_into(level.float(), values, &mut out);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::dense_matmul;

    /// A rounded factor is off by at most 2^-8 of itself; sums of some dozen terms of both signs
    /// stay within a few of those of the largest.
    const TOLERANCE: f32 = 0.03;

    #[test]
    fn values_and_gradients_are_those_of_float32_but_for_the_rounding() {
        let value = |i: usize| ((i * 37 % 101) as f32 / 50.5 - 1.0) * 0.7;
        let tensor = |rows: usize, cols: usize, shift: usize| {
            let values: Vec<f32> = (0..rows * cols).map(|it| value(it + shift)).collect();
            Var::from_tensor(&Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap())
                .unwrap()
        };
        // No side is a multiple of a block.
        let (x, w, g) = (tensor(45, 40, 3), tensor(70, 40, 8), tensor(45, 70, 5));
        let all = |product: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>| {
            let y = product(x.as_tensor(), w.as_tensor()).unwrap();
            let loss = (&y * g.as_tensor()).unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            let of = |it: &Var| grads.get(it.as_tensor()).unwrap().clone();
            [y.clone(), of(&x), of(&w)]
                .map(|it| it.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        for (got, want) in std::iter::zip(all(rounded_matmul), all(dense_matmul)) {
            let largest = want.iter().fold(0f32, |most, it| most.max(it.abs()));
            for (a, b) in got.iter().zip(&want) {
                assert!((a - b).abs() <= TOLERANCE * largest, "{a} {b} of {largest}");
            }
            assert_ne!(got, want, "nothing was rounded");
        }
    }
}
