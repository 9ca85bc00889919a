//! Not yet written.

use crate::Format;

/// Block bytes of `format` to float32. `out.len()` must be the number of values that `bytes` hold.
pub fn dequantize_blocks(_format: Format, _bytes: &[u8], _out: &mut [f32]) {
    unreachable!("not yet written")
}
