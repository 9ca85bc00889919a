//! Not yet written.

use half::{bf16, f16};

use crate::Format;

/// Block bytes of `format` to float32. `out.len()` must be the number of values that `bytes` hold.
pub fn dequantize_blocks(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => out.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(o, b)| *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        Format::F16 => out.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(o, b)| *o = f16::from_le_bytes([b[0], b[1]]).to_f32()),
        Format::Bf16 => out.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(o, b)| *o = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        _ => unreachable!("not yet written"),
    }
}
