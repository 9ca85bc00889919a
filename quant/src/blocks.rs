//! Stored blocks to float32: the meaning of every [`Format`], in plain loops.
//!
//! This is the reference that kernels are compared with, and the way to read embeddings. Layouts
//! and the order of the float operations are those of ggml (`dequantize_row_*` in `ggml-quants.c`):
//! each value is `scale * integer`, then minus or plus the minimum, each step rounded by itself.
//! It must not know shapes, rows or kernels.

use half::{f16, slice::HalfFloatSliceExt};

use crate::Format;

/// Block bytes of `format` to float32. `out.len()` must be the number of values that `bytes` hold.
///
/// # Panics
/// Where the two lengths don't fit, which is a mistake of the caller: files are checked before.
pub fn dequantize_blocks(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        format.row_bytes(out.len()),
        Some(bytes.len()),
        "invariant: {} values of {format} were asked of bytes that hold another number",
        out.len(),
    );
    match format {
        Format::F32 => each_block(bytes, out, |x, [y]| *y = f32::from_le_bytes(*x)),
        Format::F16 => f16s(bytes, out),
        Format::Bf16 => each_block(bytes, out, |x, [y]| *y = bf16(*x)),
        Format::Q8_0 => each_block(bytes, out, q8_0),
        Format::Q4_0 => each_block(bytes, out, q4_0),
        Format::Q4_1 => each_block(bytes, out, q4_1),
        Format::Q5_0 => each_block(bytes, out, q5_0),
        Format::Q5_1 => each_block(bytes, out, q5_1),
        Format::Q4K => each_block(bytes, out, q4_k),
        Format::Q5K => each_block(bytes, out, q5_k),
        Format::Q6K => each_block(bytes, out, q6_k),
    }
}

/// Calls `decode` for each block; the two constants are the block's bytes and values.
fn each_block<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (outs, _) = out.as_chunks_mut::<LEN>();
    for (block, out) in blocks.iter().zip(outs) {
        decode(block, out);
    }
}

/// Through a small aligned copy, because `half` converts many at once where the CPU can.
fn f16s(bytes: &[u8], out: &mut [f32]) {
    const AT_ONCE: usize = 64;
    for (bytes, out) in bytes.chunks(2 * AT_ONCE).zip(out.chunks_mut(AT_ONCE)) {
        let mut halves = [f16::ZERO; AT_ONCE];
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves[..out.len()].convert_to_f32_slice(out);
    }
}

fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    for (x, &q) in out.iter_mut().zip(&block[2..]) {
        *x = scale * f32::from(q as i8);
    }
}

fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((lo, hi), &q) in low.iter_mut().zip(high).zip(&block[2..]) {
        *lo = scale * f32::from((q & 15) as i8 - 8);
        *hi = scale * f32::from((q >> 4) as i8 - 8);
    }
}

fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, min) = (f16_at(block, 0), f16_at(block, 2));
    let (low, high) = out.split_at_mut(16);
    for ((lo, hi), &q) in low.iter_mut().zip(high).zip(&block[4..]) {
        *lo = scale * f32::from(q & 15) + min;
        *hi = scale * f32::from(q >> 4) + min;
    }
}

fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let scale = f16_at(block, 0);
    let fifth_bits = fifth_bits([block[2], block[3], block[4], block[5]]);
    let (low, high) = out.split_at_mut(16);
    let (low_bits, high_bits) = fifth_bits.split_at(16);
    let halves = low.iter_mut().zip(high).zip(low_bits.iter().zip(high_bits));
    for (((lo, hi), (low_bit, high_bit)), &q) in halves.zip(&block[6..]) {
        *lo = scale * f32::from((q & 15 | low_bit) as i8 - 16);
        *hi = scale * f32::from((q >> 4 | high_bit) as i8 - 16);
    }
}

fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, min) = (f16_at(block, 0), f16_at(block, 2));
    let fifth_bits = fifth_bits([block[4], block[5], block[6], block[7]]);
    let (low, high) = out.split_at_mut(16);
    let (low_bits, high_bits) = fifth_bits.split_at(16);
    let halves = low.iter_mut().zip(high).zip(low_bits.iter().zip(high_bits));
    for (((lo, hi), (low_bit, high_bit)), &q) in halves.zip(&block[8..]) {
        *lo = scale * f32::from(q & 15 | low_bit) + min;
        *hi = scale * f32::from(q >> 4 | high_bit) + min;
    }
}

/// 256 values as 4 runs of 32 bytes; a run's low nibbles are one group of 32, its high nibbles the next.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let groups = six_bit_groups(block);
    for (run, (bytes, out)) in
        block[16..].chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate()
    {
        let (low, high) = out.split_at_mut(32);
        let ((scale_low, min_low), (scale_high, min_high)) = (groups[2 * run], groups[2 * run + 1]);
        for ((lo, hi), &q) in low.iter_mut().zip(high).zip(bytes) {
            *lo = scale_low * f32::from(q & 15) - min_low;
            *hi = scale_high * f32::from(q >> 4) - min_high;
        }
    }
}

/// As [`q4_k`]; bit `g` of the 32 bytes of fifth bits belongs to group `g`.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let groups = six_bit_groups(block);
    let fifth_bits = &block[16..48];
    for (run, (bytes, out)) in
        block[48..].chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate()
    {
        let (low, high) = out.split_at_mut(32);
        let ((scale_low, min_low), (scale_high, min_high)) = (groups[2 * run], groups[2 * run + 1]);
        for (((lo, hi), &q), &bits) in low.iter_mut().zip(high).zip(bytes).zip(fifth_bits) {
            let pair = bits >> (2 * run);
            *lo = scale_low * f32::from(q & 15 | (pair & 1) << 4) - min_low;
            *hi = scale_high * f32::from(q >> 4 | (pair & 2) << 3) - min_high;
        }
    }
}

/// 256 values as 2 halves: 64 bytes of nibbles, 32 bytes of two high bits, 8 scales for 16 values each.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let scale = f16_at(block, 208);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let nibbles = &block[64 * half..][..64];
        let high_bits = &block[128 + 32 * half..][..32];
        let scales = &block[192 + 8 * half..][..8];
        // Four groups of 32: the low nibbles of both runs of 32 bytes, then the high ones.
        for (group, out) in out.chunks_exact_mut(32).enumerate() {
            let nibbles = &nibbles[32 * (group % 2)..][..32];
            let (nibble_shift, bits_shift) = (4 * (group / 2), 2 * group);
            for (sixteen, out) in out.chunks_exact_mut(16).enumerate() {
                let scale = scale * f32::from(scales[2 * group + sixteen] as i8);
                let (nibbles, high_bits) =
                    (&nibbles[16 * sixteen..][..16], &high_bits[16 * sixteen..][..16]);
                for ((x, &nibble), &bits) in out.iter_mut().zip(nibbles).zip(high_bits) {
                    let q = nibble >> nibble_shift & 15 | (bits >> bits_shift & 3) << 4;
                    *x = scale * f32::from(q as i8 - 32);
                }
            }
        }
    }
}

/// The fifth bits of a 32-value block, each moved to bit 4 of its own byte, eight at a time.
fn fifth_bits(packed: [u8; 4]) -> [u8; 32] {
    const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
    const BIT_OF_BYTE: u64 = 0x8040_2010_0804_0201;
    let mut bits = [0; 32];
    for (eight, byte) in bits.chunks_exact_mut(8).zip(packed) {
        let picked = (u64::from(byte) * EACH_BYTE) & BIT_OF_BYTE;
        // Adding 127 carries any bit into bit 7 and no further.
        let in_bit_seven = (picked + EACH_BYTE * 0x7f) & (EACH_BYTE * 0x80);
        eight.copy_from_slice(&(in_bit_seven >> 3).to_le_bytes());
    }
    bits
}

/// Scale and minimum of each group of 32 of a q4_k or q5_k block: f16 factors in bytes 0..4, then
/// 8 + 8 six-bit integers in 12 bytes, the last four of each split into nibble and two high bits.
fn six_bit_groups(block: &[u8]) -> [(f32, f32); 8] {
    let (scale, min) = (f16_at(block, 0), f16_at(block, 2));
    let packed = &block[4..16];
    std::array::from_fn(|group| {
        let (scale_bits, min_bits) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            let nibbles = packed[group + 4];
            (nibbles & 15 | packed[group - 4] >> 6 << 4, nibbles >> 4 | packed[group] >> 6 << 4)
        };
        (scale * f32::from(scale_bits), min * f32::from(min_bits))
    })
}

/// The half-precision number at byte `at`.
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Scale 0.5 and (where there is one) minimum 0.25.
    const HALF: [u8; 2] = 0x3800u16.to_le_bytes();
    const QUARTER: [u8; 2] = 0x3400u16.to_le_bytes();

    fn decode(format: Format, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block_len()];
        dequantize_blocks(format, bytes, &mut out);
        out
    }

    #[test]
    fn every_half_precision_number_reads_as_its_definition_has_it() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (bits, got) in (0..=u16::MAX).zip(decode(Format::F16, &bytes)) {
            let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
            let magnitude = match exponent {
                0 => mantissa * 2f32.powi(-24),
                31 if mantissa == 0.0 => f32::INFINITY,
                31 => f32::NAN,
                _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
            };
            let expected = if bits >> 15 == 1 { -magnitude } else { magnitude };
            let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
            assert!(same, "{bits:#x}: {got} for {expected}");
        }
    }

    #[test]
    fn rows_of_any_length_are_read_to_the_end() {
        for len in [1, 63, 64, 65, 200] {
            let halves = (0..len).flat_map(|i| f16::from_f32(i as f32).to_le_bytes());
            let expected: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(decode(Format::F16, &halves.collect::<Vec<u8>>()), expected);
        }
    }

    #[test]
    fn float_formats_read_their_own_numbers() {
        let values = [0.0, -0.0, 1.5, -2.75, f32::INFINITY];
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let f16s: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let bf16s: Vec<u8> =
            values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(decode(Format::F32, &f32s), values);
        assert_eq!(decode(Format::F16, &f16s), values);
        assert_eq!(decode(Format::Bf16, &bf16s), values);
    }

    #[test]
    fn nibble_blocks_put_low_nibbles_first() {
        let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();
        let ramp = |offset: f32| -> Vec<f32> {
            let up = (0..16).map(|i| 0.5 * i as f32 + offset);
            let down = (0..16).map(|i| 0.5 * (15 - i) as f32 + offset);
            up.chain(down).collect()
        };
        assert_eq!(decode(Format::Q4_0, &[&HALF[..], &nibbles].concat()), ramp(-4.0));
        assert_eq!(decode(Format::Q4_1, &[&HALF[..], &QUARTER, &nibbles].concat()), ramp(0.25));
    }

    #[test]
    fn the_fifth_bit_of_value_i_is_bit_i() {
        for i in 0..32 {
            let bits = (1u32 << i).to_le_bytes();
            let signed = decode(Format::Q5_0, &[&HALF[..], &bits, &[0; 16]].concat());
            let shifted = decode(Format::Q5_1, &[&HALF[..], &QUARTER, &bits, &[0; 16]].concat());
            for j in 0..32 {
                let set = if i == j { 16.0 } else { 0.0 };
                assert_eq!(signed[j], 0.5 * (set - 16.0));
                assert_eq!(shifted[j], 0.5 * set + 0.25);
            }
        }
    }

    #[test]
    fn signed_bytes_keep_their_sign() {
        let bytes: Vec<u8> = (0..32).map(|i| (i * 8) as u8).collect();
        let expected: Vec<f32> = bytes.iter().map(|&b| 0.5 * f32::from(b as i8)).collect();
        assert_eq!(decode(Format::Q8_0, &[&HALF[..], &bytes].concat()), expected);
    }

    #[test]
    fn six_bit_scales_unpack_to_the_numbers_that_were_packed() {
        let scales: [u8; 8] = [1, 2, 3, 63, 17, 34, 51, 62];
        let mins: [u8; 8] = [9, 60, 0, 5, 33, 48, 63, 16];
        let mut block = [0; 16];
        block[..2].copy_from_slice(&HALF);
        block[2..4].copy_from_slice(&QUARTER);
        for i in 0..4 {
            block[4 + i] = scales[i] | scales[i + 4] >> 4 << 6;
            block[8 + i] = mins[i] | mins[i + 4] >> 4 << 6;
            block[12 + i] = scales[i + 4] & 15 | (mins[i + 4] & 15) << 4;
        }
        let groups = six_bit_groups(&block);
        for i in 0..8 {
            assert_eq!(
                groups[i],
                (0.5 * f32::from(scales[i]), 0.25 * f32::from(mins[i])),
                "group {i}"
            );
        }
    }

    #[test]
    fn k_blocks_place_each_bit_in_its_group() {
        // All scales 1, all minima 0: byte 0 of run r holds values 64r (low nibble) and 64r + 32.
        let mut head = [0; 16];
        head[..2].copy_from_slice(&HALF);
        head[4..8].fill(1);
        head[12..16].fill(1);
        for run in 0..4 {
            let mut nibbles = vec![0; 128];
            nibbles[32 * run] = 3 | 5 << 4;
            let four = decode(Format::Q4K, &[&head[..], &nibbles].concat());
            let mut fifth = vec![0; 32];
            fifth[0] = 1 << (2 * run) | 2 << (2 * run);
            let five = decode(Format::Q5K, &[&head[..], &fifth, &nibbles].concat());
            for i in 0..256 {
                let (q, bit) = match i {
                    _ if i == 64 * run => (3.0, 16.0),
                    _ if i == 64 * run + 32 => (5.0, 16.0),
                    _ => (0.0, 0.0),
                };
                assert_eq!(four[i], 0.5 * q);
                assert_eq!(five[i], 0.5 * (q + bit));
            }
        }
    }

    #[test]
    fn six_bit_values_take_nibble_high_bits_and_scale_of_their_group() {
        for i in 0..256 {
            let (half, within) = (i / 128, i % 128);
            let (group, lane) = (within / 32, within % 32);
            let mut block = vec![0; 210];
            block[64 * half + 32 * (group % 2) + lane] = 9 << (4 * (group / 2));
            block[128 + 32 * half + lane] = 2 << (2 * group);
            block[192 + i / 16] = -3i8 as u8;
            block[208..].copy_from_slice(&HALF);
            let out = decode(Format::Q6K, &block);
            assert_eq!(out[i], -1.5 * (9.0 + 32.0 - 32.0), "value {i}");
            let others = out.iter().enumerate().filter(|(j, x)| *j != i && **x != 0.0);
            // The sixteen of the same scale hold 0 - 32, all others have scale zero.
            assert!(others.clone().all(|(j, x)| j / 16 == i / 16 && *x == 48.0), "value {i}");
            assert_eq!(others.count(), 15);
        }
    }

    #[test]
    #[should_panic(expected = "invariant")]
    fn lengths_that_do_not_fit_are_a_callers_mistake() {
        dequantize_blocks(Format::Q8_0, &[0; 34], &mut [0.0; 31]);
    }
}
