//! Where each part of a packed tensor lies. Nothing here reads a value but the plain decoder.
//!
//! A tile holds [`WIDTH`] outputs and all columns. It is one stretch of bytes:
//! 1. scales: for each group 16 half-precision numbers, padded to a whole cache line at the end;
//! 2. q4 only, steps: for each slice and output four bytes, one for each 16 columns:
//!    `(s - 1) | z << 4`;
//! 3. values: for each slice, q8: 16 lines of 64 bytes, line `r` holding columns `4r..4r + 4` of
//!    the 16 outputs in turn, which is an AMX tile and a VNNI operand at once; q4: 8 lines, line `p`
//!    holding line `p` of that order in its low nibbles and line `p + 8` in its high ones.

use std::{fmt, ops::Range};

use super::{MAX_GROUP, SLICE, WIDTH};

const LINE: usize = 64;

/// How a packed tensor keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackedKind {
    /// Eight bits and a scale for 256 columns (128 or 64 where a matrix has outliers), multiplied
    /// by an input of 15 bits.
    Q8,
    /// Four bits, a scale for 256 columns, a factor and a zero for 16, multiplied by an input of
    /// eight bits.
    Q4,
}

impl PackedKind {
    /// Both kinds.
    pub const ALL: [PackedKind; 2] = [PackedKind::Q8, PackedKind::Q4];

    /// Lower-case name, as on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            PackedKind::Q8 => "q8",
            PackedKind::Q4 => "q4",
        }
    }

    /// Bits for one weight in groups of 256 columns, without padding.
    pub const fn bits_per_weight(self) -> f64 {
        match self {
            PackedKind::Q8 => 8.0625,
            PackedKind::Q4 => 4.5625,
        }
    }

    /// Columns that may share a scale, fewest first.
    pub const fn groups(self) -> &'static [usize] {
        match self {
            PackedKind::Q8 => &[SLICE, 2 * SLICE, MAX_GROUP],
            PackedKind::Q4 => &[MAX_GROUP],
        }
    }

    /// How many bytes of each input value are multiplied.
    pub(super) const fn planes(self) -> usize {
        match self {
            PackedKind::Q8 => 2,
            PackedKind::Q4 => 1,
        }
    }

    pub(super) const fn value_bytes(self) -> usize {
        match self {
            PackedKind::Q8 => SLICE * WIDTH,
            PackedKind::Q4 => SLICE * WIDTH / 2,
        }
    }

    pub(super) const fn step_bytes(self) -> usize {
        match self {
            PackedKind::Q8 => 0,
            PackedKind::Q4 => LINE,
        }
    }
}

impl fmt::Display for PackedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The sizes of one packed tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) kind: PackedKind,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Slices of columns, the last one padded with zeros.
    pub(super) slices: usize,
    /// Slices of a group: 1, 2 or 4.
    pub(super) group_slices: usize,
    /// Groups of slices, the last one perhaps shorter.
    pub(super) groups: usize,
    /// Tiles of outputs, the last one padded with zeros.
    pub(super) tiles: usize,
    steps_at: usize,
    values_at: usize,
    pub(super) tile_bytes: usize,
}

impl Layout {
    /// `None` where the size overflows. `group` is one of [`PackedKind::groups`].
    pub(super) fn new(kind: PackedKind, rows: usize, cols: usize, group: usize) -> Option<Self> {
        let slices = cols.div_ceil(SLICE);
        let group_slices = group / SLICE;
        let groups = slices.div_ceil(group_slices);
        let steps_at = groups.checked_mul(2 * WIDTH)?.checked_next_multiple_of(LINE)?;
        let values_at = steps_at.checked_add(slices.checked_mul(kind.step_bytes())?)?;
        let tile_bytes = values_at.checked_add(slices.checked_mul(kind.value_bytes())?)?;
        let tiles = rows.div_ceil(WIDTH);
        tiles.checked_mul(tile_bytes).filter(|&it| it <= isize::MAX as usize)?;
        let sizes = Self {
            kind,
            rows,
            cols,
            slices,
            group_slices,
            groups,
            tiles,
            steps_at,
            values_at,
            tile_bytes,
        };
        Some(sizes)
    }

    pub(super) fn byte_len(&self) -> usize {
        self.tiles * self.tile_bytes
    }

    /// The tile that `bytes`, one of `tile_bytes`, holds.
    pub(super) fn tile<'a>(&self, bytes: &'a [u8]) -> Tile<'a> {
        assert_eq!(bytes.len(), self.tile_bytes, "tile bytes");
        Tile {
            kind: self.kind,
            slices: self.slices,
            group_slices: self.group_slices,
            groups: self.groups,
            scales: &bytes[..self.groups * 2 * WIDTH],
            steps: &bytes[self.steps_at..self.values_at],
            values: &bytes[self.values_at..],
        }
    }

    /// Where a group keeps its scales inside a tile.
    pub(super) fn scales_at(&self, group: usize) -> Range<usize> {
        group * 2 * WIDTH..(group + 1) * 2 * WIDTH
    }

    /// Where a slice keeps its steps inside a tile.
    pub(super) fn steps_at(&self, slice: usize) -> Range<usize> {
        let bytes = self.kind.step_bytes();
        self.steps_at + slice * bytes..self.steps_at + (slice + 1) * bytes
    }

    /// Where a slice keeps its values inside a tile.
    pub(super) fn values_at(&self, slice: usize) -> Range<usize> {
        let bytes = self.kind.value_bytes();
        self.values_at + slice * bytes..self.values_at + (slice + 1) * bytes
    }
}

/// One tile: 16 outputs, all columns. The lengths of the parts fit `slices` and `groups`.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) kind: PackedKind,
    pub(super) slices: usize,
    pub(super) group_slices: usize,
    pub(super) groups: usize,
    pub(super) scales: &'a [u8],
    pub(super) steps: &'a [u8],
    pub(super) values: &'a [u8],
}

impl Tile<'_> {
    /// The slices of a group.
    pub(super) fn slices_of(&self, group: usize) -> Range<usize> {
        group * self.group_slices..self.slices.min((group + 1) * self.group_slices)
    }

    /// Scale of one output in one group.
    pub(super) fn scale(&self, group: usize, output: usize) -> f32 {
        let at = 2 * (group * WIDTH + output);
        half::f16::from_le_bytes([self.scales[at], self.scales[at + 1]]).to_f32()
    }

    /// The integer that stands for one weight, -128..=127; `column` counts inside of the slice.
    pub(super) fn integer(&self, slice: usize, output: usize, column: usize) -> i32 {
        let (line, byte) = (column / 4, output * 4 + column % 4);
        match self.kind {
            PackedKind::Q8 => {
                i32::from(self.values[slice * self.kind.value_bytes() + line * LINE + byte] as i8)
            }
            PackedKind::Q4 => {
                let at = slice * self.kind.value_bytes() + line % 8 * LINE + byte;
                let q = self.values[at] >> (line / 8 * 4) & 15;
                let step = self.steps[slice * LINE + output * 4 + column / super::SUB];
                let (s, z) = unpack_step(step);
                s * (i32::from(q) - z)
            }
        }
    }
}

/// Factor and zero of a step byte.
pub(super) fn unpack_step(step: u8) -> (i32, i32) {
    (i32::from(step & 15) + 1, i32::from(step >> 4))
}

/// Whether `s · (q - z)` fits eight bits for every `q`.
pub(super) fn step_is_valid(step: u8) -> bool {
    let (s, z) = unpack_step(step);
    s * z <= 128 && s * (15 - z) <= 127
}
