//! Where each part of an interleaved tensor lies.
//!
//! A tile holds 16 outputs and all columns, a group after the other. A group is one stretch of bytes,
//! padded to whole cache lines in front of its units:
//! 1. half-precision numbers, 16 outputs side by side: in plain types for each unit the scales, then
//!    the minima; in K-blocks the scales of the group, then the factors of the minima;
//! 2. K-blocks only, a byte for each output: the integer scales of each sub-block, then the integer
//!    minima of each sub-block;
//! 3. units, each of as many lines of 64 bytes as a value has bits. Byte `4 · output + i` of a line
//!    belongs to one output and, of each *quad* of columns that it holds, to column `i`. Quads are
//!    columns `4r..4r + 4` of the unit. 8 bits: line `r` is quad `r`. Fewer: lines 0 to 3 hold quads
//!    0 to 3 in their low nibbles and 4 to 7 in their high ones; the fifth bits of quad `r` are bit
//!    `r` of line 4; the two high bits of quad `r` of six are bits `2 (r % 4)` of line `4 + r / 4`.

use std::ops::Range;

use super::{
    GROUP, UNIT, UNITS, WIDTH,
    kind::{Facts, facts},
};
use crate::Format;

/// The sizes of one interleaved tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) facts: Facts,
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Groups of columns, the last one perhaps shorter.
    pub(super) groups: usize,
    /// Tiles of outputs, the last one padded with zeros.
    pub(super) tiles: usize,
    pub(super) tile_bytes: usize,
}

impl Layout {
    /// `None` where the format is not one of integers, `cols` is no multiple of its block or the size
    /// overflows.
    pub(super) fn new(format: Format, rows: usize, cols: usize) -> Option<Self> {
        let facts = facts(format)?;
        if cols == 0 || !cols.is_multiple_of(format.block_len()) {
            return None;
        }
        let (groups, tiles) = (cols.div_ceil(GROUP), rows.div_ceil(WIDTH));
        let last_units = (cols - (groups - 1) * GROUP) / UNIT;
        let whole = (groups - 1).checked_mul(facts.group_bytes(UNITS))?;
        let tile_bytes = whole.checked_add(facts.group_bytes(last_units))?;
        tiles.checked_mul(tile_bytes).filter(|&it| it <= isize::MAX as usize)?;
        Some(Self { facts, rows, cols, groups, tiles, tile_bytes })
    }

    pub(super) fn byte_len(&self) -> usize {
        self.tiles * self.tile_bytes
    }

    /// Units of a group.
    pub(super) fn units(&self, group: usize) -> usize {
        UNITS.min(self.cols / UNIT - group * UNITS)
    }

    /// Bytes of a tile in a tensor.
    pub(super) fn tile_at(&self, tile: usize) -> Range<usize> {
        tile * self.tile_bytes..(tile + 1) * self.tile_bytes
    }

    /// Where a group starts in its tile.
    pub(super) fn group_at(&self, group: usize) -> usize {
        group * self.facts.group_bytes(UNITS)
    }

    /// Bytes of a group in its tile.
    pub(super) fn group_range(&self, group: usize) -> Range<usize> {
        let start = self.group_at(group);
        start..start + self.facts.group_bytes(self.units(group))
    }
}
