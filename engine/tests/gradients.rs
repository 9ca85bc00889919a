//! Every operation's backward pass, twice: the plain reference in float64 against finite
//! differences, and the fast float32 form against the reference.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor, Var};
use minicrit_engine::{
    ops::{
        add,
        attend::{self, AttendSpec},
        rms_norm,
        rope::RopeTable,
        swiglu,
    },
    pass::{Rows, Span},
    spec::{Heads, RopeScaling, RopeSpec},
};
use minicrit_quant::{Bytes, Format, QuantMatmul, QuantTensor, dense_matmul, dense_reference};

/// Relative error of central differences of step 1e-5 in float64.
const DIFFERENCE_TOLERANCE: f64 = 1e-7;

/// Relative error of float32 gradients.
const FLOAT32_TOLERANCE: f64 = 2e-5;

fn random(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

fn var(shape: &[usize], dtype: DType, seed: u64) -> Var {
    let n = shape.iter().product();
    let values = Tensor::from_vec(random(n, seed), shape, &Device::Cpu).unwrap();
    Var::from_tensor(&values.to_dtype(dtype).unwrap()).unwrap()
}

type Op<'a> = dyn Fn(&[Tensor]) -> Result<Tensor> + 'a;

/// A scalar of the op's output that weighs every element differently.
fn loss(op: &Op<'_>, inputs: &[Tensor]) -> Tensor {
    let y = op(inputs).unwrap();
    let weights = Tensor::from_vec(random(y.elem_count(), 77), y.shape(), &Device::Cpu).unwrap();
    (y.clone() * weights.to_dtype(y.dtype()).unwrap()).unwrap().sum_all().unwrap()
}

fn gradients(op: &Op<'_>, shapes: &[&[usize]], dtype: DType) -> Vec<Vec<f64>> {
    let vars: Vec<Var> =
        shapes.iter().enumerate().map(|(i, shape)| var(shape, dtype, 1 + i as u64)).collect();
    let inputs: Vec<Tensor> = vars.iter().map(|it| it.as_tensor().clone()).collect();
    let store = loss(op, &inputs).backward().unwrap();
    let flat = |it: &Var| {
        let gradient = store.get(it).expect("every input has a gradient");
        gradient.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()
    };
    vars.iter().map(|it| flat(it).unwrap()).collect()
}

fn finite_differences(op: &Op<'_>, shapes: &[&[usize]]) -> Vec<Vec<f64>> {
    const STEP: f64 = 1e-5;
    let values: Vec<Vec<f64>> = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| random(shape.iter().product(), 1 + i as u64))
        .collect();
    let at = |values: &[Vec<f64>]| {
        let inputs: Vec<Tensor> = values
            .iter()
            .zip(shapes)
            .map(|(v, shape)| Tensor::from_vec(v.clone(), *shape, &Device::Cpu).unwrap())
            .collect();
        loss(op, &inputs).to_scalar::<f64>().unwrap()
    };
    let slope = |i: usize, j: usize| {
        let mut moved = values.clone();
        moved[i][j] += STEP;
        let up = at(&moved);
        moved[i][j] -= 2.0 * STEP;
        (up - at(&moved)) / (2.0 * STEP)
    };
    (0..values.len()).map(|i| (0..values[i].len()).map(|j| slope(i, j)).collect()).collect()
}

fn close(name: &str, got: &[Vec<f64>], want: &[Vec<f64>], tolerance: f64) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let size = want.iter().fold(1e-3, |max: f64, it| max.max(it.abs()));
        assert!(want.iter().any(|it| it.abs() > 1e-6), "{name}: gradient {i} is all zero");
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() <= tolerance * size, "{name}: gradient {i}: {g} vs {w}");
        }
    }
}

fn check(name: &str, shapes: &[&[usize]], reference: &Op<'_>, fast: &Op<'_>) {
    let exact = gradients(reference, shapes, DType::F64);
    close(name, &exact, &finite_differences(reference, shapes), DIFFERENCE_TOLERANCE);
    close(name, &gradients(fast, shapes, DType::F32), &exact, FLOAT32_TOLERANCE);
    let inputs = |dtype: DType| -> Vec<Tensor> {
        let of =
            |(i, shape): (usize, &&[usize])| var(shape, dtype, 1 + i as u64).as_tensor().clone();
        shapes.iter().enumerate().map(of).collect()
    };
    let values = |y: Tensor| {
        y.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()
    };
    let got = values(fast(&inputs(DType::F32)).unwrap());
    let want = values(reference(&inputs(DType::F64)).unwrap());
    close(&format!("{name} forward"), &[got], &[want], FLOAT32_TOLERANCE);
}

#[test]
fn rms_norm_gradients() {
    let fast = |x: &[Tensor]| rms_norm::rms_norm(&x[0], &x[1], 1e-5);
    let reference = |x: &[Tensor]| rms_norm::reference(&x[0], &x[1], 1e-5);
    check("rms_norm", &[&[5, 24], &[24]], &reference, &fast);
}

#[test]
fn add_gradients() {
    let fast = |x: &[Tensor]| add::add(x[0].clone(), &x[1]);
    let reference = |x: &[Tensor]| add::reference(&x[0], &x[1]);
    check("add", &[&[4, 19], &[4, 19]], &reference, &fast);
    check("add of a bias", &[&[4, 19], &[19]], &reference, &fast);
}

/// Without gradients sums, rotations and activations take the place of their input.
#[test]
fn in_place_is_the_same() {
    let tensor = |shape: &[usize], seed| var(shape, DType::F32, seed).as_detached_tensor();
    let bits = |x: &Tensor| -> Vec<u32> {
        x.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|it| it.to_bits()).collect()
    };
    let rows = Rows::of_one(3, 5);
    let table =
        RopeTable::new(&RopeSpec { dim: 8, theta: 100.0, scaling: RopeScaling::None }, &rows);
    for x in [tensor(&[5, 16], 2), tensor(&[16], 3)] {
        let got = add::add(tensor(&[5, 16], 1), &x).unwrap();
        assert_eq!(bits(&got), bits(&add::reference(&tensor(&[5, 16], 1), &x).unwrap()));
    }
    let tracked = |seed| var(&[5, 16], DType::F32, seed).as_tensor().clone();
    let want = swiglu::swiglu(tracked(1), &tracked(2)).unwrap();
    let got = swiglu::swiglu(tensor(&[5, 16], 1), &tensor(&[5, 16], 2)).unwrap();
    assert_eq!(bits(&got), bits(&want));
    let want = table.rotate(tracked(1), 8).unwrap();
    assert_eq!(bits(&table.rotate(tensor(&[5, 16], 1), 8).unwrap()), bits(&want));
    assert!(add::add(tensor(&[5, 16], 1), &tensor(&[5, 15], 1)).is_err());
    assert!(swiglu::swiglu(tensor(&[5, 16], 1), &tensor(&[4, 16], 1)).is_err());
}

#[test]
fn swiglu_gradients() {
    let fast = |x: &[Tensor]| swiglu::swiglu(x[0].clone(), &x[1]);
    let reference = |x: &[Tensor]| swiglu::reference(&x[0], &x[1]);
    check("swiglu", &[&[4, 19], &[4, 19]], &reference, &fast);
}

#[test]
fn rope_gradients() {
    let rows =
        Rows::new(vec![Span { start: 3, len: 4, total: 7 }, Span { start: 0, len: 2, total: 2 }]);
    for dim in [8, 6] {
        let spec = RopeSpec { dim, theta: 100.0, scaling: RopeScaling::None };
        let table = RopeTable::new(&spec, &rows);
        let fast = |x: &[Tensor]| table.rotate(x[0].clone(), 8);
        let reference = |x: &[Tensor]| table.reference(&x[0], 8);
        check("rope", &[&[6, 16]], &reference, &fast);
    }
}

#[test]
fn attend_gradients() {
    let rows = Rows::whole(&[7, 1, 4]);
    for (kv, window) in [(2, None), (4, None), (1, Some(3))] {
        let spec = AttendSpec { heads: Heads { query: 4, kv, dim: 6 }, window };
        let fast = |x: &[Tensor]| attend::attend_whole(spec, (&x[0], &x[1], &x[2]), &rows);
        let reference = |x: &[Tensor]| attend::reference(spec, (&x[0], &x[1], &x[2]), &rows);
        let kv_shape: &[usize] = &[12, kv * 6];
        check("attend", &[&[12, 24], kv_shape, kv_shape], &reference, &fast);
    }
}

#[test]
fn quant_matmul_gradients() {
    let bytes: Vec<u8> = random(34 * 2 * 5, 3)
        .iter()
        .map(|v| (v * 90.0) as i8 as u8)
        .enumerate()
        // The scale of each block: a small positive half.
        .map(|(i, b)| match i % 34 {
            0 => b & 0x7f,
            1 => 0x2c,
            _ => b,
        })
        .collect();
    let weight = QuantTensor::new(Format::Q8_0, 5, 64, Bytes::from(bytes)).unwrap();
    let op = QuantMatmul::new(weight);
    let fast = |x: &[Tensor]| op.forward(&x[0]);
    let reference = |x: &[Tensor]| op.reference(&x[0]);
    check("quant_matmul", &[&[3, 64]], &reference, &fast);
}

#[test]
fn dense_matmul_gradients() {
    let fast = |x: &[Tensor]| dense_matmul(&x[0], &x[1]);
    let reference = |x: &[Tensor]| dense_reference(&x[0], &x[1]);
    check("dense_matmul", &[&[5, 24], &[7, 24]], &reference, &fast);
}
