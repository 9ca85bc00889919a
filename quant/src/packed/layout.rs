//! Where each part of a packed tensor lies. Nothing here reads a value.
//!
//! A tile holds [`WIDTH`] outputs and all columns. It is one stretch of bytes:
//! 1. scales: for each group 16 half-precision numbers, padded to a whole cache line at the end;
//! 2. q4 only, steps: for each group and output four bytes, one for each 16 columns:
//!    `(s - 1) | z << 4`;
//! 3. values: for each group, q8: 16 lines of 64 bytes, line `r` holding columns `4r..4r + 4` of
//!    the 16 outputs in turn, which is an AMX tile and a VNNI operand at once; q4: 8 lines, line `p`
//!    holding line `p` of that order in its low nibbles and line `p + 8` in its high ones.

use std::{fmt, ops::Range};

use super::{GROUP, WIDTH};

const LINE: usize = 64;

/// How a packed tensor keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackedKind {
    /// Eight bits and a scale for 64 columns: 8.25 bits a weight.
    Q8,
    /// Four bits, a scale for 64 columns, a factor and a zero for 16: 4.75 bits a weight.
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

    /// Bits for one weight, without padding.
    pub const fn bits_per_weight(self) -> f64 {
        match self {
            PackedKind::Q8 => 8.25,
            PackedKind::Q4 => 4.75,
        }
    }

    pub(super) const fn value_bytes(self) -> usize {
        match self {
            PackedKind::Q8 => GROUP * WIDTH,
            PackedKind::Q4 => GROUP * WIDTH / 2,
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
    /// Groups of columns, the last one padded with zeros.
    pub(super) groups: usize,
    /// Tiles of outputs, the last one padded with zeros.
    pub(super) tiles: usize,
    steps_at: usize,
    values_at: usize,
    pub(super) tile_bytes: usize,
}

impl Layout {
    /// `None` where the size overflows.
    pub(super) fn new(kind: PackedKind, rows: usize, cols: usize) -> Option<Self> {
        let groups = cols.div_ceil(GROUP);
        let steps_at = groups.checked_mul(2 * WIDTH)?.checked_next_multiple_of(LINE)?;
        let values_at = steps_at.checked_add(groups.checked_mul(kind.step_bytes())?)?;
        let tile_bytes = values_at.checked_add(groups.checked_mul(kind.value_bytes())?)?;
        let tiles = rows.div_ceil(WIDTH);
        tiles.checked_mul(tile_bytes).filter(|&it| it <= isize::MAX as usize)?;
        Some(Self { kind, rows, cols, groups, tiles, steps_at, values_at, tile_bytes })
    }

    pub(super) fn byte_len(&self) -> usize {
        self.tiles * self.tile_bytes
    }

    /// The tile that `bytes`, one of `tile_bytes`, holds.
    pub(super) fn tile<'a>(&self, bytes: &'a [u8]) -> Tile<'a> {
        assert_eq!(bytes.len(), self.tile_bytes, "tile bytes");
        Tile {
            kind: self.kind,
            groups: self.groups,
            scales: &bytes[..self.groups * 2 * WIDTH],
            steps: &bytes[self.steps_at..self.values_at],
            values: &bytes[self.values_at..],
        }
    }

    /// Where group `group` keeps its scales, steps and values inside a tile.
    pub(super) fn group_at(&self, group: usize) -> [Range<usize>; 3] {
        let part = |at: usize, bytes: usize| at + group * bytes..at + (group + 1) * bytes;
        [
            part(0, 2 * WIDTH),
            part(self.steps_at, self.kind.step_bytes()),
            part(self.values_at, self.kind.value_bytes()),
        ]
    }
}

/// One tile: 16 outputs, all columns. The lengths of the parts fit `groups`.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) kind: PackedKind,
    pub(super) groups: usize,
    pub(super) scales: &'a [u8],
    pub(super) steps: &'a [u8],
    pub(super) values: &'a [u8],
}

impl Tile<'_> {
    /// Scale of one output in one group.
    pub(super) fn scale(&self, group: usize, output: usize) -> f32 {
        let at = 2 * (group * WIDTH + output);
        half::f16::from_le_bytes([self.scales[at], self.scales[at + 1]]).to_f32()
    }

    /// The integer that stands for one weight, -128..=127.
    pub(super) fn integer(&self, group: usize, output: usize, column: usize) -> i32 {
        let (line, byte) = (column / 4, output * 4 + column % 4);
        match self.kind {
            PackedKind::Q8 => {
                i32::from(self.values[group * self.kind.value_bytes() + line * LINE + byte] as i8)
            }
            PackedKind::Q4 => {
                let at = group * self.kind.value_bytes() + line % 8 * LINE + byte;
                let q = self.values[at] >> (line / 8 * 4) & 15;
                let step = self.steps[group * LINE + output * 4 + column / super::SUB];
                let (s, z) = unpack_step(step);
                s * (i32::from(q) - z)
            }
        }
    }
}

/// Factor and zero of a step byte; every byte is valid.
pub(super) fn unpack_step(step: u8) -> (i32, i32) {
    (i32::from(step & 7) + 1, i32::from(step >> 4))
}
