//! The operations that candle lacks in the form that we need: exact row by row, with a backward
//! pass, on packed rows.
//!
//! Each file holds a `reference` in plain candle tensor operations (oracle, differentiable, any
//! device), the fast form for the processor, its backward pass, and a gradient check. Legend for
//! dimensions: `t` rows, `d` model width, `h` heads, `e` one head's width, `f` feed-forward width.

pub mod add;
pub mod attend;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 16;

/// The contiguous float32 values behind `storage`.
pub(super) fn values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => bail!("{op} needs contiguous float32 values"),
    }
}

/// The same, to be changed in place.
pub(super) fn values_mut<'a>(
    op: &str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&mut data[start..end]),
        _ => bail!("{op} needs contiguous float32 values"),
    }
}

/// Whether a gradient of one of the tensors may be asked for, so that none may change in place.
pub(super) fn is_tracked(tensors: &[&Tensor]) -> bool {
    tensors.iter().any(|it| it.track_op()) || !tensors.iter().all(|it| it.device().is_cpu())
}

/// Calls `read` with the values of a contiguous float32 tensor on the processor.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => Ok(read(values("a row operation", cpu, layout)?)),
        _ => bail!("a row operation needs a tensor on the processor"),
    }
}
