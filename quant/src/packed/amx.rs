//! Sixteen rows times sixteen outputs times one group in one AMX instruction.
//!
//! The tile of 32-bit sums is exact; it goes through a scratch buffer in the first-level cache into
//! sixteen vector registers of float sums, by the same formula as everywhere. q4 weights are
//! expanded to bytes first, once for all rows of a strip.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::tiles;

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn tiles(
    _layout: &super::layout::Layout,
    _bytes: &[u8],
    _tiles: std::ops::Range<usize>,
    _x: &super::activations::Activations,
    _output: &super::matmul::Output<'_>,
) {
    unreachable!("invariant: this level is never detected on other processors")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{
        arch::{asm, x86_64::*},
        cell::RefCell,
        ops::Range,
    };

    use crate::amx::Configured;
    use crate::packed::{
        PackedKind, WIDTH,
        activations::{Activations, BLOCK},
        layout::{Layout, Tile},
        matmul::Output,
    };

    /// Groups whose weights (8 KiB a tile) and input (8 KiB a block) stay in the first-level cache.
    const CHUNK: usize = 8;

    /// Tiles that pass over one block of input while it is in the first-level cache.
    const STRIP: usize = 4;

    /// Tiles whose sums and weights stay in the second-level cache while the input passes.
    const PANEL: usize = 16;

    /// Up to so many rows, tiles are taken one by one, so that weights stream from memory in order.
    const FEW_ROWS: usize = 64;

    /// Rows whose sums stay in the second-level cache.
    const ROWS: usize = 512;

    /// How far ahead of their use weights are fetched.
    const AHEAD: usize = 4096;

    /// How many rows ahead of their use outputs are fetched: each row lies in pages of its own.
    const WRITE_AHEAD: usize = 6;

    /// Sums of 16 outputs.
    #[repr(C, align(64))]
    #[derive(Clone, Copy)]
    struct Sums([f32; WIDTH]);

    /// Four groups of 16 outputs as bytes, each the operand of one tile instruction. Input and
    /// weights of a group lie at the same quarter of a page, the sums in two quarters in turn: a
    /// load whose place in its page is that of a store still on its way waits for it.
    #[repr(C, align(4096))]
    #[derive(Clone)]
    struct Page([[u8; 1024]; 4]);

    /// All rows of `x` times the tiles of one task.
    pub(in crate::packed) fn tiles(
        layout: &Layout,
        bytes: &[u8],
        tiles: Range<usize>,
        x: &Activations,
        output: &Output<'_>,
    ) {
        assert!(layout.groups == x.groups && layout.byte_len() == bytes.len());
        assert!(tiles.end <= layout.tiles && x.padded, "whole blocks");
        let panel = if x.rows <= FEW_ROWS { 1 } else { PANEL };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.grow(panel * x.rows.min(ROWS).next_multiple_of(BLOCK));
            // SAFETY: the level was chosen by detection, which asked for tile registers; every thread
            // of the process may use them then.
            unsafe {
                let _configured = Configured::new();
                for first in (0..x.rows).step_by(ROWS) {
                    let rows = first..x.rows.min(first + ROWS);
                    let mut start = tiles.start;
                    while start < tiles.end {
                        let part = start..tiles.end.min(start + panel);
                        panel_rows(layout, bytes, part, x, rows.clone(), scratch, output);
                        start += panel;
                    }
                }
            }
        });
    }

    thread_local! {
        /// Kept, because fresh pages would cost a fault each in every product.
        static SCRATCH: RefCell<Scratch> = const {
            RefCell::new(Scratch {
                sums: Vec::new(),
                operands: Vec::new(),
                scales: [Sums([0.0; WIDTH]); STRIP * CHUNK],
            })
        };
    }

    struct Scratch {
        /// For each tile of a panel, the sums of all rows.
        sums: Vec<Sums>,
        /// For each tile of a strip, the groups of a chunk as bytes.
        operands: Vec<Page>,
        /// The same of the scales.
        scales: [Sums; STRIP * CHUNK],
    }

    impl Scratch {
        fn grow(&mut self, sums: usize) {
            if self.sums.len() < sums {
                self.sums.resize(sums, Sums([0.0; WIDTH]));
            }
            self.operands.resize(STRIP * (CHUNK / 4), Page([[0; 1024]; 4]));
        }
    }

    /// # Safety
    /// Tile registers are set up; shapes as checked by [`tiles`].
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn panel_rows(
        layout: &Layout,
        bytes: &[u8],
        panel: Range<usize>,
        x: &Activations,
        rows: Range<usize>,
        scratch: &mut Scratch,
        output: &Output<'_>,
    ) {
        let height = rows.len().next_multiple_of(BLOCK);
        scratch.sums[..panel.len() * height].fill(Sums([0.0; WIDTH]));
        for chunk in (0..layout.groups).step_by(CHUNK) {
            let chunk = chunk..layout.groups.min(chunk + CHUNK);
            for strip in panel.clone().step_by(STRIP) {
                let strip = strip..panel.end.min(strip + STRIP);
                let mut weights = [Weights::NONE; STRIP];
                for (i, tile) in strip.clone().enumerate() {
                    let at = tile * layout.tile_bytes;
                    let tile = layout.tile(&bytes[at..at + layout.tile_bytes]);
                    // SAFETY: the chunk lies inside the tile.
                    weights[i] = unsafe { prepare(&tile, chunk.clone(), i, scratch) };
                }
                for first in rows.clone().step_by(BLOCK) {
                    for (i, weights) in weights.iter().enumerate().take(strip.len()) {
                        let place = (strip.start - panel.start + i) * height + first - rows.start;
                        let sums = scratch.sums[place..place + BLOCK].as_mut_ptr();
                        // SAFETY: a block of 16 sums follows; the chunk lies inside `x`.
                        unsafe { block(x, first, chunk.clone(), weights, sums) };
                    }
                }
            }
        }
        for (i, row) in rows.enumerate() {
            output.prefetch(row + WRITE_AHEAD, panel.clone());
            let sums = scratch.sums[i..].iter().step_by(height).take(panel.len()).map(|it| &it.0);
            // SAFETY: the caller owns these tiles.
            unsafe { output.write(row, panel.start, sums) };
        }
    }

    /// A tile's groups of one chunk: operands of 1 KiB and 16 scales each.
    #[derive(Clone, Copy)]
    struct Weights {
        operands: *const u8,
        scales: *const Sums,
    }

    impl Weights {
        const NONE: Weights = Weights { operands: std::ptr::null(), scales: std::ptr::null() };
    }

    /// # Safety
    /// `chunk` lies inside the tile; `place` is below `STRIP`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn prepare(
        tile: &Tile<'_>,
        chunk: Range<usize>,
        place: usize,
        scratch: &mut Scratch,
    ) -> Weights {
        let scales = &mut scratch.scales[place * CHUNK..(place + 1) * CHUNK];
        for (group, scales) in chunk.clone().zip(scales.iter_mut()) {
            let halves = &tile.scales[group * 2 * WIDTH..(group + 1) * 2 * WIDTH];
            // SAFETY: 32 bytes of halves, 64 of sums.
            unsafe {
                let halves = _mm256_loadu_si256(halves.as_ptr().cast());
                _mm512_store_ps(scales.0.as_mut_ptr(), _mm512_cvtph_ps(halves));
            }
        }
        let scales = scales.as_ptr();
        let operands = &mut scratch.operands[place * CHUNK / 4..(place + 1) * CHUNK / 4];
        let places = operands.iter_mut().flat_map(|it| it.0.iter_mut());
        let bytes = tile.kind.value_bytes();
        for (group, operand) in chunk.zip(places) {
            let values = &tile.values[group * bytes..(group + 1) * bytes];
            match tile.kind {
                PackedKind::Q8 => {
                    (0..16).for_each(|line| {
                        _mm_prefetch::<_MM_HINT_T1>(
                            values.as_ptr().wrapping_add(AHEAD + 64 * line).cast(),
                        );
                    });
                    operand.copy_from_slice(values);
                }
                PackedKind::Q4 => {
                    let steps = &tile.steps[group * 64..(group + 1) * 64];
                    // SAFETY: lengths as sliced.
                    unsafe { expand(values.as_ptr(), steps.as_ptr(), operand.as_mut_ptr()) };
                }
            }
        }
        Weights { operands: operands.as_ptr().cast(), scales }
    }

    /// Writes `s · (q - z)` of one group as bytes.
    ///
    /// # Safety
    /// 512 bytes follow `values`, 64 follow `steps`, 1,024 aligned ones follow `out`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn expand(values: *const u8, steps: *const u8, out: *mut u8) {
        let low = _mm512_set1_epi8(15);
        let even = _mm512_set1_epi16(0xff);
        // SAFETY: by the caller's promise.
        unsafe {
            let steps = _mm512_loadu_si512(steps.cast());
            for sub in 0..4 {
                // The step of each output's 16 columns, in all four bytes of its lane.
                let pick = _mm512_add_epi8(
                    _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0),
                    _mm512_set1_epi8(sub as i8),
                );
                let step = _mm512_shuffle_epi8(steps, pick);
                let s = _mm512_add_epi8(
                    _mm512_and_si512(step, _mm512_set1_epi8(7)),
                    _mm512_set1_epi8(1),
                );
                let z = _mm512_and_si512(_mm512_srli_epi16::<4>(step), low);
                let (s_even, s_odd) = (_mm512_and_si512(s, even), _mm512_srli_epi16::<8>(s));
                for t in 0..4 {
                    let at = values.add(64 * (sub % 2 * 4 + t));
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(AHEAD).cast());
                    let both = _mm512_loadu_si512(at.cast());
                    let q = if sub < 2 { both } else { _mm512_srli_epi16::<4>(both) };
                    let centred = _mm512_sub_epi8(_mm512_and_si512(q, low), z);
                    let a = _mm512_and_si512(_mm512_mullo_epi16(centred, s_even), even);
                    let b = _mm512_mullo_epi16(_mm512_srli_epi16::<8>(centred), s_odd);
                    let bytes = _mm512_or_si512(a, _mm512_slli_epi16::<8>(b));
                    _mm512_store_si512(out.add(64 * (4 * sub + t)).cast(), bytes);
                }
            }
        }
    }

    /// Sums of products of an input tile and a weight tile, by way of the named registers, to
    /// memory. `at` points to the input, the weights and the sums, 1 KiB each.
    macro_rules! dot_tiles {
        ($at:expr, $sums:tt, $x:tt, $w:tt) => {
            asm!(
                concat!("tilezero ", $sums),
                concat!("tileloadd ", $x, ", [{x} + {line}*1]"),
                concat!("tileloadd ", $w, ", [{w} + {line}*1]"),
                concat!("tdpbssd ", $sums, ", ", $x, ", ", $w),
                concat!("tilestored [{sums} + {line}*1], ", $sums),
                x = in(reg) $at[0], w = in(reg) $at[1], sums = in(reg) $at[2],
                line = in(reg) 64usize,
                out($sums) _, out($x) _, out($w) _, options(nostack)
            )
        };
    }

    /// `acc = fma(dot · x_scale, w_scale, acc)` for 16 rows of one group.
    macro_rules! add_group {
        ($acc:ident, $dots:ident, $row_groups:ident, $weights:ident, $group:expr) => {
            let group = $group;
            let dot = $dots.add(group % 2 * 1024);
            let row_groups = $row_groups.add(BLOCK * group);
            let scale = _mm512_load_ps($weights.scales.add(group).cast());
            for (i, acc) in $acc.iter_mut().enumerate() {
                let dot = _mm512_cvtepi32_ps(_mm512_load_si512(dot.add(64 * i).cast()));
                let scaled = _mm512_mul_ps(dot, _mm512_set1_ps((*row_groups.add(i)).scale));
                *acc = _mm512_fmadd_ps(scaled, scale, *acc);
            }
        };
    }

    /// The sums of the 16 rows from `first` on plus the groups of `chunk`.
    ///
    /// # Safety
    /// `sums` is followed by 16 rows of sums; `chunk` lies inside `x` and inside `weights`.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn block(
        x: &Activations,
        first: usize,
        chunk: Range<usize>,
        weights: &Weights,
        sums: *mut Sums,
    ) {
        let start = first / BLOCK * x.block_entries;
        let entries = start + chunk.start * BLOCK..start + chunk.end * BLOCK;
        let lines = x.lines()[entries.clone()].as_ptr();
        let row_groups = x.row_groups[entries].as_ptr();
        let groups = chunk.len();
        let mut dots = std::mem::MaybeUninit::<Page>::uninit();
        let dots = dots.as_mut_ptr().cast::<u8>();
        let mut acc = [_mm512_setzero_ps(); BLOCK];
        // SAFETY: by the caller's promise; sums of a group are stored before they are read.
        unsafe {
            for (i, acc) in acc.iter_mut().enumerate() {
                *acc = _mm512_load_ps(sums.add(i).cast());
            }
            let at = |group: usize| {
                [
                    lines.wrapping_add(BLOCK * group).cast(),
                    weights.operands.wrapping_add(1024 * group),
                    dots.wrapping_add(group % 2 * 1024),
                ]
            };
            // Four groups at a time, by tile registers of their own. The float sums follow a group
            // behind the tiles, because a vector that reads what a tile has just stored waits
            // until the store has left the core.
            let mut group = 0;
            while group + 4 <= groups {
                dot_tiles!(at(group), "tmm0", "tmm4", "tmm6");
                dot_tiles!(at(group + 1), "tmm1", "tmm5", "tmm7");
                add_group!(acc, dots, row_groups, weights, group);
                dot_tiles!(at(group + 2), "tmm2", "tmm4", "tmm6");
                add_group!(acc, dots, row_groups, weights, group + 1);
                dot_tiles!(at(group + 3), "tmm3", "tmm5", "tmm7");
                add_group!(acc, dots, row_groups, weights, group + 2);
                add_group!(acc, dots, row_groups, weights, group + 3);
                group += 4;
            }
            for group in group..groups {
                dot_tiles!(at(group), "tmm0", "tmm4", "tmm6");
                add_group!(acc, dots, row_groups, weights, group);
            }
            for (i, acc) in acc.iter().enumerate() {
                _mm512_store_ps(sums.add(i).cast(), *acc);
            }
        }
    }
}
