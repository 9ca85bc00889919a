//! Sixteen rows times sixteen outputs times one slice in one AMX instruction.
//!
//! Tile registers work on a [`unit`]: a group of two tiles of weights and either two blocks of input
//! (q4) or the two planes of one block (q8). While they do, the vector units turn the integers of
//! the unit before into floats. q4 weights are expanded to bytes first, once for all rows.

#[cfg(target_arch = "x86_64")]
mod expand;
#[cfg(target_arch = "x86_64")]
mod unit;
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
    use std::{arch::x86_64::*, cell::RefCell, ops::Range};

    use super::{
        expand::expand,
        unit::{Pipeline, Sums, Unit},
    };
    use crate::{
        amx::Configured,
        packed::{
            PackedKind, SLICE, WIDTH,
            activations::{Activations, BLOCK},
            layout::{Layout, Tile},
            matmul::Output,
        },
    };

    /// Slices whose weights stay in the first-level cache while the input passes; whole groups.
    const CHUNK: usize = 8;

    /// Tiles of weights in one unit.
    const STRIP: usize = 2;

    /// Tiles whose sums stay in the second-level cache while the input passes.
    const PANEL: usize = 16;

    /// Up to so many rows, strips are taken one by one over all columns, so that weights stream from
    /// memory in order.
    const FEW_ROWS: usize = 64;

    /// Rows whose sums stay in the second-level cache.
    const ROWS: usize = 512;

    /// How far ahead of their use weights are fetched.
    const AHEAD: usize = 4096;

    /// How many rows ahead of their use outputs are fetched: each row lies in pages of its own.
    const WRITE_AHEAD: usize = 6;

    /// One slice of 16 outputs as bytes: the operand of a tile instruction.
    #[repr(C, align(64))]
    #[derive(Clone)]
    struct Operand([u8; SLICE * WIDTH]);

    /// All rows of `x` times the tiles of one task.
    pub(in crate::packed) fn tiles(
        layout: &Layout,
        bytes: &[u8],
        tiles: Range<usize>,
        x: &Activations,
        output: &Output<'_>,
    ) {
        assert!(layout.slices == x.slices && layout.byte_len() == bytes.len());
        assert!(tiles.end <= layout.tiles && layout.kind.planes() <= x.planes);
        SCRATCH.with_borrow_mut(|scratch| {
            let mut task = Task { layout, bytes, x, scratch, output };
            for first in (0..x.blocks()).step_by(ROWS / BLOCK) {
                let blocks = first..x.blocks().min(first + ROWS / BLOCK);
                // SAFETY: the level was chosen by detection, which asked for tile registers; every
                // thread of the process may use them then.
                unsafe {
                    match layout.kind {
                        PackedKind::Q8 => task.rows::<true>(tiles.clone(), blocks),
                        PackedKind::Q4 => task.rows::<false>(tiles.clone(), blocks),
                    }
                }
            }
        });
    }

    thread_local! {
        /// Kept, because fresh pages would cost a fault each in every product.
        static SCRATCH: RefCell<Scratch> = const {
            RefCell::new(Scratch { sums: Vec::new(), operands: Vec::new(), scales: Vec::new() })
        };
    }

    struct Scratch {
        /// For each tile of a panel, the sums of all rows.
        sums: Vec<Sums>,
        /// For each tile of a strip, the slices of a chunk as bytes.
        operands: Vec<Operand>,
        /// For each of two strips in turn and each tile, the scales of a chunk.
        scales: Vec<Sums>,
    }

    struct Task<'a> {
        layout: &'a Layout,
        bytes: &'a [u8],
        x: &'a Activations,
        scratch: &'a mut Scratch,
        output: &'a Output<'a>,
    }

    impl Task<'_> {
        /// Some blocks of rows times some tiles.
        ///
        /// # Safety
        /// Tile registers are granted and AVX-512 is there.
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn rows<const Q8: bool>(&mut self, tiles: Range<usize>, blocks: Range<usize>) {
            let height = blocks.len() * BLOCK;
            let few = height <= FEW_ROWS;
            let panel = if few { STRIP } else { PANEL };
            let group = self.layout.group_slices;
            let chunk = if few { self.layout.slices.next_multiple_of(group) } else { CHUNK };
            let scratch = &mut self.scratch;
            // One more block of sums for halves of units that do not exist.
            scratch.sums.resize(panel * height + BLOCK, Sums::ZERO);
            scratch.operands.resize(STRIP * chunk, Operand([0; SLICE * WIDTH]));
            scratch.scales.resize(2 * STRIP * (chunk / group), Sums::ZERO);
            let full = blocks.end.min(self.x.rows / BLOCK);
            for panel in tiles.clone().step_by(panel).map(|it| it..tiles.end.min(it + panel)) {
                self.scratch.sums[..panel.len() * height].fill(Sums::ZERO);
                // SAFETY: by the caller's promise.
                unsafe {
                    if full > blocks.start {
                        self.blocks::<Q8>(panel.clone(), chunk, blocks.start..full, height);
                    }
                    if full < blocks.end {
                        // The last block is lower, so it needs registers of another height; its
                        // sums lie behind those of the others.
                        self.blocks::<Q8>(panel.clone(), chunk, full..blocks.end, height);
                    }
                    self.write(panel, blocks.clone(), height);
                }
            }
        }

        /// Blocks of one height times the tiles of one panel. `height` is the distance between the
        /// sums of two tiles.
        ///
        /// # Safety
        /// As [`Task::rows`]; the scratch is large enough.
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn blocks<const Q8: bool>(
            &mut self,
            panel: Range<usize>,
            chunk: usize,
            blocks: Range<usize>,
            height: usize,
        ) {
            let group_slices = self.layout.group_slices;
            let rows = self.x.block(blocks.start).height;
            let first_block = blocks.start / (ROWS / BLOCK) * (ROWS / BLOCK);
            // SAFETY: by the caller's promise; all pointers stay inside of what they point to.
            unsafe {
                let _configured = Configured::with_rows(rows);
                let mut pipeline = Pipeline::<Q8>::new(rows);
                let sums = self.scratch.sums.as_mut_ptr();
                let nowhere = sums.add(self.scratch.sums.len() - BLOCK);
                let mut turn = 0;
                let step = chunk / group_slices;
                for start in (0..self.layout.groups).step_by(step) {
                    let groups = start..self.layout.groups.min(start + step);
                    for first in panel.clone().step_by(STRIP) {
                        let both = first + 1 < panel.end;
                        let weights = self.prepare::<Q8>(first, both, groups.clone(), chunk, turn);
                        turn ^= 1;
                        let pair = if Q8 { 1 } else { 2 };
                        for block in blocks.clone().step_by(pair) {
                            let two_blocks = !Q8 && block + 1 < blocks.end;
                            let x = self.x.block(block);
                            let other = self.x.block(block + usize::from(two_blocks));
                            let place = |tile: usize, block: usize| {
                                let row = (block - first_block) * BLOCK;
                                sums.add((tile - panel.start) * height + row)
                            };
                            let at = |exists: bool, tile: usize, block: usize| {
                                if exists { place(tile, block) } else { nowhere }
                            };
                            let unit_sums = [
                                place(first, block),
                                at(both, first + 1, block),
                                at(two_blocks, first, block + 1),
                                at(two_blocks && both, first + 1, block + 1),
                            ];
                            for group in groups.clone() {
                                let slice = group * group_slices;
                                let count = group_slices.min(self.layout.slices - slice);
                                let line = x.lines.as_ptr().wrapping_add(slice * rows);
                                let second = if Q8 {
                                    line.wrapping_add(self.layout.slices * rows)
                                } else {
                                    other.lines.as_ptr().wrapping_add(slice * rows)
                                };
                                let behind = (group - groups.start) * group_slices * SLICE * WIDTH;
                                let w = weights.operands.map(|it| it.wrapping_add(behind));
                                if Q8 && blocks.len() * BLOCK <= FEW_ROWS && block == blocks.start {
                                    fetch(w, count);
                                }
                                let scales = group - groups.start;
                                pipeline.run(Unit {
                                    x: [line.cast(), second.cast()],
                                    w,
                                    slices: count,
                                    x_scales: [x, other].map(|it| it.scales_of(slice).as_ptr()),
                                    w_scales: weights.scales.map(|it| it.wrapping_add(scales)),
                                    sums: unit_sums,
                                });
                            }
                        }
                    }
                }
                pipeline.finish();
            }
        }

        /// The weights of a strip as operands, and their scales as floats.
        ///
        /// # Safety
        /// As [`Task::blocks`].
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn prepare<const Q8: bool>(
            &mut self,
            first: usize,
            both: bool,
            groups: Range<usize>,
            chunk: usize,
            turn: usize,
        ) -> Weights {
            let scratch = &mut *self.scratch;
            let mut weights =
                Weights { operands: [std::ptr::null(); 2], scales: [std::ptr::null(); 2] };
            for i in 0..STRIP {
                let tile = first + if both { i } else { 0 };
                let at = tile * self.layout.tile_bytes;
                let tile = self.layout.tile(&self.bytes[at..at + self.layout.tile_bytes]);
                let count = chunk / self.layout.group_slices;
                let scales = &mut scratch.scales[(turn * STRIP + i) * count..][..count];
                for (group, scales) in groups.clone().zip(scales.iter_mut()) {
                    let halves = &tile.scales[group * 2 * WIDTH..(group + 1) * 2 * WIDTH];
                    // SAFETY: 32 bytes of halves, 64 of sums.
                    unsafe {
                        let halves = _mm256_loadu_si256(halves.as_ptr().cast());
                        _mm512_store_ps(scales.0.as_mut_ptr(), _mm512_cvtph_ps(halves));
                    }
                }
                weights.scales[i] = scales.as_ptr();
                let slices = tile.slices_of(groups.start).start..tile.slices_of(groups.end - 1).end;
                let bytes = tile.kind.value_bytes();
                weights.operands[i] = if Q8 {
                    tile.values[slices.start * bytes..].as_ptr()
                } else if i == 1 && !both {
                    weights.operands[0]
                } else {
                    let operands = &mut scratch.operands[i * chunk..][..chunk];
                    // SAFETY: the slices lie inside of the tile.
                    unsafe { expand_slices(&tile, slices, operands) };
                    operands.as_ptr().cast()
                };
            }
            weights
        }

        /// Scaled sums become outputs.
        ///
        /// # Safety
        /// This task owns the tiles of the panel.
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        unsafe fn write(&mut self, panel: Range<usize>, blocks: Range<usize>, height: usize) {
            let rows = blocks.start * BLOCK..self.x.rows.min(blocks.end * BLOCK);
            for (i, row) in rows.enumerate() {
                self.output.prefetch(row + WRITE_AHEAD, panel.clone());
                let sums = &self.scratch.sums;
                let sums = sums[i..].iter().step_by(height).take(panel.len()).map(|it| &it.0);
                // SAFETY: by the caller's promise.
                unsafe { self.output.write(row, panel.start, sums) };
            }
        }
    }

    /// Two tiles of weights: the groups of one chunk.
    struct Weights {
        operands: [*const u8; STRIP],
        scales: [*const Sums; STRIP],
    }

    /// # Safety
    /// `slices` lie inside of the tile, which is q4.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn expand_slices(tile: &Tile<'_>, slices: Range<usize>, operands: &mut [Operand]) {
        let bytes = tile.kind.value_bytes();
        for (slice, operand) in slices.zip(operands) {
            let values = &tile.values[slice * bytes..(slice + 1) * bytes];
            let steps = &tile.steps[slice * 64..(slice + 1) * 64];
            // SAFETY: lengths as sliced.
            unsafe { expand::<AHEAD>(values.as_ptr(), steps.as_ptr(), operand.0.as_mut_ptr()) };
        }
    }

    /// Fetches weights that will be needed soon.
    fn fetch(weights: [*const u8; STRIP], slices: usize) {
        for tile in weights {
            for line in 0..slices * WIDTH {
                // SAFETY: prefetching reads nothing that a program could see.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(tile.wrapping_add(AHEAD + 64 * line).cast()) };
            }
        }
    }
}
