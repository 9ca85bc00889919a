//! Blocks of a file to their places in a tile, and back. Words of four bytes move at a time, because
//! files too keep neighbouring columns in neighbouring bytes.

use super::{
    LINE, UNITS, WIDTH,
    kind::{Kind, facts},
    layout::Layout,
};
use crate::Format;

/// The same bits of each byte of a word.
const fn each(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

/// Writes stored rows, at most 16 of them, into their tile.
pub(super) fn write_tile<K: Kind>(layout: &Layout, rows: &[u8], tile: &mut [u8]) {
    let facts = const { facts(K::FORMAT).expect("invariant: every kind has facts") };
    let format = K::FORMAT;
    let block_bytes = format.block_bytes();
    let blocks = layout.cols / format.block_len();
    // A block of all rows after the other: the part of the tile that is written stays in the cache.
    for index in 0..blocks {
        let place = Place::of(layout, index);
        for (output, row) in rows.chunks_exact(blocks * block_bytes).enumerate() {
            let block = &row[index * block_bytes..][..block_bytes];
            for (at, half) in place.halves(layout).zip(halves_at(format)) {
                tile[at + 2 * output..][..2].copy_from_slice(&block[*half..half + 2]);
            }
            if K::K {
                let scales = integer_scales(format, block);
                for (i, byte) in scales.into_iter().enumerate().take(facts.sub_bytes() / WIDTH) {
                    tile[place.subs + i * WIDTH + output] = byte;
                }
            }
            for unit in 0..if K::K { UNITS } else { 1 } {
                let words = words(format, block, unit);
                let at = place.values + unit * facts.unit_bytes();
                let unit = &mut tile[at..at + facts.unit_bytes()];
                for (line, word) in unit.chunks_exact_mut(LINE).zip(words) {
                    line[4 * output..][..4].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// The stored row that [`write_tile`] wrote.
pub(super) fn read_row(layout: &Layout, tile: &[u8], output: usize, row: &mut [u8]) {
    let format = layout.facts.format;
    for (index, block) in row.chunks_exact_mut(format.block_bytes()).enumerate() {
        block.fill(0);
        let place = Place::of(layout, index);
        for (at, half) in place.halves(layout).zip(halves_at(format)) {
            block[*half..half + 2].copy_from_slice(&tile[at + 2 * output..][..2]);
        }
        let mut scales = [0; 16];
        for (i, byte) in scales.iter_mut().enumerate().take(layout.facts.sub_bytes() / WIDTH) {
            *byte = tile[place.subs + i * WIDTH + output];
        }
        set_integer_scales(format, block, &scales);
        for unit in 0..place.units {
            let at = place.values + unit * layout.facts.unit_bytes() + 4 * output;
            let mut words = [0; 8];
            for (line, word) in words.iter_mut().enumerate().take(layout.facts.bits) {
                *word = word_at(tile, at + line * LINE);
            }
            set_words(format, block, unit, &words);
        }
    }
}

/// Where a stored block lies in its tile.
struct Place {
    halves: usize,
    subs: usize,
    values: usize,
    units: usize,
}

impl Place {
    fn of(layout: &Layout, block: usize) -> Self {
        let facts = &layout.facts;
        let (group, unit) =
            if facts.sub == 0 { (block / UNITS, block % UNITS) } else { (block, 0) };
        let start = layout.group_at(group);
        let values = start + facts.scale_bytes(layout.units(group)) + unit * facts.unit_bytes();
        Self {
            halves: start + unit * facts.half_bytes(),
            subs: start + facts.half_bytes(),
            values,
            units: if facts.sub == 0 { 1 } else { UNITS },
        }
    }

    /// The scales and the minima of 16 outputs, where there are any.
    fn halves(&self, layout: &Layout) -> impl Iterator<Item = usize> + use<> {
        (self.halves..self.halves + layout.facts.half_bytes()).step_by(2 * WIDTH)
    }
}

/// Where a block keeps its half-precision numbers.
#[inline(always)]
fn halves_at(format: Format) -> &'static [usize] {
    match format {
        Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K => &[0, 2],
        Format::Q6K => &[208],
        _ => &[0],
    }
}

/// Integer scales, then integer minima.
#[inline(always)]
fn integer_scales(format: Format, block: &[u8]) -> [u8; 16] {
    let mut scales = [0; 16];
    match format {
        Format::Q4K | Format::Q5K => {
            let packed = &block[4..16];
            for i in 0..4 {
                scales[i] = packed[i] & 63;
                scales[8 + i] = packed[4 + i] & 63;
                scales[4 + i] = packed[8 + i] & 15 | packed[i] >> 6 << 4;
                scales[12 + i] = packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4;
            }
        }
        Format::Q6K => scales.copy_from_slice(&block[192..208]),
        _ => {}
    }
    scales
}

/// The inverse of [`integer_scales`].
fn set_integer_scales(format: Format, block: &mut [u8], scales: &[u8; 16]) {
    match format {
        Format::Q4K | Format::Q5K => {
            for i in 0..4 {
                block[4 + i] = scales[i] | scales[4 + i] >> 4 << 6;
                block[8 + i] = scales[8 + i] | scales[12 + i] >> 4 << 6;
                block[12 + i] = scales[4 + i] & 15 | scales[12 + i] << 4;
            }
        }
        Format::Q6K => block[192..208].copy_from_slice(scales),
        _ => {}
    }
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn or_word(bytes: &mut [u8], at: usize, word: u32) {
    let both = word_at(bytes, at) | word;
    bytes[at..at + 4].copy_from_slice(&both.to_le_bytes());
}

/// Where a unit keeps its nibbles, how far these are shifted, and whether those of columns 16 to 31
/// are the high nibbles of the same bytes.
#[inline(always)]
fn nibbles_at(format: Format, unit: usize) -> (usize, usize, bool) {
    match format {
        Format::Q4_0 => (2, 0, true),
        Format::Q4_1 => (4, 0, true),
        Format::Q5_0 => (6, 0, true),
        Format::Q5_1 => (8, 0, true),
        Format::Q4K => (16 + unit / 2 * 32, unit % 2 * 4, false),
        Format::Q5K => (48 + unit / 2 * 32, unit % 2 * 4, false),
        _ => (unit / 4 * 64 + unit % 2 * 32, unit % 4 / 2 * 4, false),
    }
}

/// What the lines of a unit hold of one output.
#[inline(always)]
fn words(format: Format, block: &[u8], unit: usize) -> [u32; 8] {
    if format == Format::Q8_0 {
        return std::array::from_fn(|i| word_at(block, 2 + 4 * i));
    }
    let mut words = [0; 8];
    let (at, shift, paired) = nibbles_at(format, unit);
    for (i, word) in words.iter_mut().enumerate().take(4) {
        *word = if paired {
            word_at(block, at + 4 * i)
        } else {
            let half = |at: usize| word_at(block, at + 4 * i) >> shift & each(15);
            half(at) | half(at + 16) << 4
        };
    }
    match format {
        Format::Q5_0 | Format::Q5_1 => {
            let bits = word_at(block, at - 4);
            // Bit 4r + i goes to bit r of byte i: every fourth bit, moved together.
            let quads = |i: usize| {
                let it = bits >> i & each(0x11);
                let it = (it | it >> 3) & each(0x03);
                let it = (it | it >> 6) & 0x000f_000f;
                (it | it >> 12) & 0xff
            };
            words[4] = (0..4).map(|i| quads(i) << (8 * i)).sum();
        }
        Format::Q5K => {
            let quad = |r: usize| (word_at(block, 16 + 4 * r) >> unit & each(1)) << r;
            words[4] = (0..8).map(quad).sum();
        }
        Format::Q6K => {
            for half in 0..2 {
                let at = 128 + unit / 4 * 32 + half * 16;
                let bits = |i: usize| word_at(block, at + 4 * i) >> (unit % 4 * 2) & each(3);
                words[4 + half] = (0..4).map(|i| bits(i) << (2 * i)).sum();
            }
        }
        _ => {}
    }
    words
}

/// The inverse of [`words`], into a block of zeros.
fn set_words(format: Format, block: &mut [u8], unit: usize, words: &[u32; 8]) {
    if format == Format::Q8_0 {
        (0..8).for_each(|i| or_word(block, 2 + 4 * i, words[i]));
        return;
    }
    let (at, shift, paired) = nibbles_at(format, unit);
    for i in 0..4 {
        if paired {
            or_word(block, at + 4 * i, words[i]);
        } else {
            or_word(block, at + 4 * i, (words[i] & each(15)) << shift);
            or_word(block, at + 16 + 4 * i, (words[i] >> 4 & each(15)) << shift);
        }
    }
    match format {
        Format::Q5_0 | Format::Q5_1 => {
            let bit = |column: usize| {
                let (r, i) = (column / 4, column % 4);
                (words[4] >> (8 * i + r) & 1) << column
            };
            or_word(block, at - 4, (0..32).map(bit).sum());
        }
        Format::Q5K => {
            (0..8).for_each(|r| or_word(block, 16 + 4 * r, (words[4] >> r & each(1)) << unit));
        }
        Format::Q6K => {
            for (half, i) in (0..8).map(|r| (r / 4, r % 4)) {
                let at = 128 + unit / 4 * 32 + half * 16 + 4 * i;
                let bits = words[4 + half] >> (2 * i) & each(3);
                or_word(block, at, bits << (unit % 4 * 2));
            }
        }
        _ => {}
    }
}
