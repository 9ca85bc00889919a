//! Float rows to the blocks of every [`Format`]: the inverse of `blocks.rs`.
//!
//! Each block's scale (and minimum) is the one with the least weighted squared error out of a few,
//! each improved by least squares; the error is measured with the numbers that the file will hold.
//! The bytes depend on the weights and their importance alone, not on threads or instruction set.
//! This module must not know tensors' names or what a matrix is for.

// Groups of a block are numbered: one index means the same in several arrays.
#![allow(clippy::needless_range_loop)]

mod k_blocks;
mod plain_blocks;
mod search;

use half::{bf16, f16};

use crate::{
    Bytes, Error, Format, QuantTensor, Result,
    kernels::{Level, for_each_level},
    pool,
};

/// Values from which on a second thread pays.
const PARALLEL_FROM: usize = 1 << 14;

/// Share of the mean importance that every column keeps: what a calibration never saw may matter.
const LEAST_IMPORTANCE: f32 = 0.01;

impl QuantTensor {
    /// Rounds `weight` to `format`, in parallel over its rows. `importance` has one number that is
    /// not negative for each column (such as the mean square of the inputs that it meets); errors
    /// in important columns count more.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::RowBlocks`], [`Error::NotFinite`], [`Error::Importance`],
    /// [`Error::TooWide`] where a value leaves the range of the format's half-precision numbers, or
    /// [`Error::TooLarge`].
    pub fn quantize(
        format: Format,
        weight: &QuantTensor,
        importance: Option<&[f32]>,
    ) -> Result<Self> {
        Self::quantize_at(Level::detected(), format, weight, importance)
    }

    /// [`QuantTensor::quantize`] with the code of `level`. All levels give the same bytes.
    ///
    /// # Errors
    /// As [`QuantTensor::quantize`].
    pub fn quantize_at(
        level: Level,
        format: Format,
        weight: &QuantTensor,
        importance: Option<&[f32]>,
    ) -> Result<Self> {
        let (rows, cols) = (weight.rows(), weight.cols());
        if rows == 0 || cols == 0 {
            return Err(Error::Empty { rows, cols });
        }
        let importance = column_importance(importance, cols)?;
        let row_bytes = format.row_bytes(cols).ok_or(Error::RowBlocks {
            format,
            block: format.block_len(),
            cols,
        })?;
        let len = row_bytes.checked_mul(rows).ok_or(Error::TooLarge { rows, cols })?;
        let mut bytes = vec![0; len];
        let failure = std::sync::Mutex::new(None::<(usize, Error)>);
        let parallel = rows * cols >= PARALLEL_FROM;
        pool::for_each_chunk(&mut bytes, row_bytes, parallel, |row, out| {
            let mut values = vec![0.0; cols];
            let encoded = weight.dequantize_row(row, &mut values).and_then(|()| {
                check_row(format, row, &values)?;
                encode_row(level, format, &values, &importance, out);
                Ok(())
            });
            if let Err(error) = encoded
                && let Ok(mut first) = failure.lock()
                && first.as_ref().is_none_or(|(before, _)| row < *before)
            {
                *first = Some((row, error));
            }
        });
        match failure.into_inner() {
            Ok(None) => Self::new(format, rows, cols, Bytes::from(bytes)),
            Ok(Some((_, error))) => Err(error),
            Err(_) => unreachable!("invariant: no holder of the lock panics"),
        }
    }
}

/// Importance of each column with a mean of one; ones where nothing is known.
pub(crate) fn column_importance(importance: Option<&[f32]>, cols: usize) -> Result<Vec<f32>> {
    let Some(importance) = importance else { return Ok(vec![1.0; cols]) };
    let bad = importance.iter().position(|it| !it.is_finite() || *it < 0.0);
    if importance.len() != cols || bad.is_some() {
        return Err(Error::Importance { cols, got: importance.len(), bad });
    }
    let mean = importance.iter().map(|&it| f64::from(it)).sum::<f64>() / cols as f64;
    if mean < f64::from(f32::MIN_POSITIVE) {
        return Ok(vec![1.0; cols]);
    }
    let relative = |&it: &f32| (f64::from(it) / mean) as f32 + LEAST_IMPORTANCE;
    Ok(importance.iter().map(relative).collect())
}

fn check_row(format: Format, row: usize, values: &[f32]) -> Result<()> {
    let largest = match format {
        Format::F32 => f32::MAX,
        // The largest float32 that does not round up to infinity.
        Format::Bf16 => f32::from_bits(0x7f7f_7fff),
        // Scales are at most the largest value, and minima are values.
        _ => f16::MAX.to_f32(),
    };
    for &value in values {
        if !value.is_finite() {
            return Err(Error::NotFinite { row });
        }
        if value.abs() > largest {
            return Err(Error::TooWide { format, row, value });
        }
    }
    Ok(())
}

fn encode_row(level: Level, format: Format, values: &[f32], importance: &[f32], out: &mut [u8]) {
    match format {
        Format::F32 => each(values, out, f32::to_le_bytes),
        Format::F16 => each(values, out, |it| f16::from_f32(it).to_le_bytes()),
        Format::Bf16 => each(values, out, |it| bf16::from_f32(it).to_le_bytes()),
        _ => encode_blocks(level, format, values, importance, out),
    }
}

fn each<const BYTES: usize>(values: &[f32], out: &mut [u8], write: impl Fn(f32) -> [u8; BYTES]) {
    for (value, out) in values.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        *out = write(*value);
    }
}

for_each_level! {
    fn encode_blocks(format: Format, values: &[f32], importance: &[f32], out: &mut [u8])
        = encode_blocks_body
}

#[inline(always)]
fn encode_blocks_body(format: Format, values: &[f32], importance: &[f32], out: &mut [u8]) {
    match format {
        Format::Q8_0 => each_block(values, importance, out, plain_blocks::q8_0),
        Format::Q4_0 => each_block(values, importance, out, plain_blocks::q4_0),
        Format::Q4_1 => each_block(values, importance, out, plain_blocks::q4_1),
        Format::Q5_0 => each_block(values, importance, out, plain_blocks::q5_0),
        Format::Q5_1 => each_block(values, importance, out, plain_blocks::q5_1),
        Format::Q4K => each_block(values, importance, out, k_blocks::q4_k),
        Format::Q5K => each_block(values, importance, out, k_blocks::q5_k),
        Format::Q6K => each_block(values, importance, out, k_blocks::q6_k),
        Format::F32 | Format::F16 | Format::Bf16 => {
            unreachable!("invariant: floats are not blocks")
        }
    }
}

/// Calls `encode` for each block; the two constants are the block's values and bytes.
#[inline(always)]
fn each_block<const LEN: usize, const BYTES: usize>(
    values: &[f32],
    importance: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; LEN], &[f32; LEN], &mut [u8; BYTES]),
) {
    let blocks = values.as_chunks::<LEN>().0.iter().zip(importance.as_chunks::<LEN>().0);
    for ((values, importance), out) in blocks.zip(out.as_chunks_mut::<BYTES>().0) {
        encode(values, importance, out);
    }
}
