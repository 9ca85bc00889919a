//! The operations that candle lacks in the form that we need: exact row by row, with a backward
//! pass, on packed rows.
//!
//! Each file holds a `reference` in plain candle tensor operations (oracle, differentiable, any
//! device), the fast form for the processor, its backward pass, and a gradient check. Legend for
//! dimensions: `t` rows, `d` model width, `h` heads, `e` one head's width, `f` feed-forward width.

pub mod attend;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The contiguous float32 values behind `storage`.
pub(super) fn values<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&data[start..end]),
        _ => bail!("{op} needs contiguous float32 values"),
    }
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
