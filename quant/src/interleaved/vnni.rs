//! Sixteen outputs in a 512-bit register, four products of bytes for each in one instruction.
//!
//! The input's integers are multiplied as two planes of signed bytes, `256 · high + low`; weights are
//! unsigned bytes, those of `q8_0` with 128 added. Zeros are taken off by sums of the input.
//!
//! The kernel is written over [`Isa`], the instructions that it needs: those of the processor, or
//! plain loops that mean the same, by which its arithmetic is tested on any machine.

mod isa;
mod kernel;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::portable::tiles;

#[cfg(target_arch = "x86_64")]
pub(super) use x86::tiles;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::ops::Range;

    use super::{isa::Avx512Vnni, kernel};
    use crate::interleaved::{
        input::Input,
        kind::{Kind, with_kind},
        layout::Layout,
        matmul::Output,
    };

    /// As [`super::super::portable::tiles`].
    pub(in crate::interleaved) fn tiles(
        layout: &Layout,
        bytes: &[u8],
        tiles: Range<usize>,
        x: &Input,
        output: &Output<'_>,
    ) {
        assert!(layout.byte_len() == bytes.len() && tiles.end <= layout.tiles);
        assert!(x.cols == layout.cols && x.has_planes(), "columns and planes");
        with_kind!(layout.facts.format, K => {
            // SAFETY: the level was chosen by detection, and lengths were checked.
            unsafe { of_kind::<K>(layout, bytes, tiles, x, output) }
        });
    }

    /// # Safety
    /// AVX-512 with VNNI; as [`kernel::tiles`].
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn of_kind<K: Kind>(
        layout: &Layout,
        bytes: &[u8],
        tiles: Range<usize>,
        x: &Input,
        output: &Output<'_>,
    ) {
        // SAFETY: by the caller's promise.
        unsafe { kernel::tiles::<Avx512Vnni, K>(layout, bytes, tiles, x, output) }
    }
}

#[cfg(test)]
mod tests {
    use super::{isa::Loops, kernel};
    use crate::{
        Bytes, Format, InterleavedTensor, PackedLevel, QuantTensor,
        interleaved::{input::Input, kind::facts, kind::with_kind, matmul::Output},
        kernels::Level,
        pool::Shared,
    };

    fn noise(n: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..n).map(next).collect()
    }

    #[test]
    fn the_kernel_gives_the_bits_of_the_reference_with_plain_loops_for_instructions() {
        for facts in Format::ALL.into_iter().filter_map(facts) {
            let format = facts.format;
            for (m, n, blocks) in [(1, 16, 1), (2, 37, 3), (5, 20, 9), (19, 150, 5), (8, 16, 17)] {
                let k = blocks * format.block_len();
                let mut bytes = noise(n * format.row_bytes(k).unwrap_or(0), (m * n * k) as u64);
                for block in bytes.chunks_exact_mut(format.block_bytes()) {
                    // Small, finite half-precision numbers, wherever the block keeps them.
                    let len = block.len();
                    for at in [1, 3, 209].into_iter().filter(|&it| it < len) {
                        block[at] = block[at] & 0x83 | 0x1c;
                    }
                }
                let stored = QuantTensor::new(format, n, k, Bytes::from(bytes));
                let w = InterleavedTensor::new(&stored.expect("fits")).expect("integers");
                let x: Vec<f32> =
                    noise(m * k, 9).into_iter().map(|it| f32::from(it as i8) / 99.0).collect();
                let mut want = vec![0.0; m * n];
                w.matmul_at(PackedLevel::Portable, &x, &mut want);

                let mut got = vec![0.0; m * n];
                let (layout, bytes) = w.parts();
                let input = Input::round(Level::Portable, &x, k, facts.limit, true);
                let y = Shared::new(&mut got);
                let output = Output::new(&y, n);
                with_kind!(format, K => {
                    // SAFETY: plain loops need no instructions; the lengths fit.
                    unsafe {
                        kernel::tiles::<Loops, K>(layout, bytes, 0..layout.tiles, &input, &output);
                    }
                });
                let bits = |it: &[f32]| it.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(want.iter().all(|it| it.is_finite()));
                assert_eq!(bits(&got), bits(&want), "{format} {m} {n} {k}");
            }
        }
    }
}
