//! The reference: the order of arithmetic, spelled out.

use std::ops::Range;

use half::f16;

use super::{GROUP, LINE, SUB, UNIT, UNITS, WIDTH, input::Input, layout::Layout, matmul::Output};

/// All rows of `x` times the tiles of one task.
pub(super) fn tiles(
    layout: &Layout,
    bytes: &[u8],
    tiles: Range<usize>,
    x: &Input,
    output: &Output<'_>,
) {
    for tile in tiles {
        let bytes = &bytes[layout.tile_at(tile)];
        let mut sums = vec![[0.0; WIDTH]; x.rows];
        for group in 0..layout.groups {
            let part = Group::read(layout, &bytes[layout.group_range(group)], layout.units(group));
            for (row, sums) in sums.iter_mut().enumerate() {
                let scale = x.scale(row, group);
                for (sum, t) in sums.iter_mut().zip(part.times(layout, x, row, group)) {
                    *sum = f32::mul_add(t, scale, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: tasks own disjoint ranges of tiles.
            unsafe { output.write(row, tile, sums) };
        }
    }
}

/// One group of 16 outputs.
struct Group {
    /// For each column `s · (q - z)`.
    weights: Vec<[i32; WIDTH]>,
    /// For each unit, in K-blocks for the group.
    scales: Vec<[f32; WIDTH]>,
    /// Where there are minima, as `scales`.
    minima: Vec<[f32; WIDTH]>,
    /// In K-blocks with minima, their integers for each unit.
    integer_minima: [[i32; WIDTH]; UNITS],
}

impl Group {
    fn read(layout: &Layout, bytes: &[u8], units: usize) -> Self {
        let facts = &layout.facts;
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32();
        let halves = |at: usize| std::array::from_fn(|output| half(at + 2 * output));
        let blocks = if facts.sub == 0 { units } else { 1 };
        let starts = (0..blocks).map(|it| it * facts.half_bytes());
        let minima = starts.clone().filter(|_| facts.min).map(|it| halves(it + 2 * WIDTH));
        let subs = &bytes[facts.half_bytes()..];
        let minima_at = GROUP.checked_div(facts.sub).unwrap_or(0) * WIDTH;
        let mut integer_minima = [[0; WIDTH]; UNITS];
        if facts.sub != 0 && facts.min {
            for (unit, minima) in integer_minima.iter_mut().enumerate() {
                let at = minima_at + unit * WIDTH;
                *minima = std::array::from_fn(|output| i32::from(subs[at + output]));
            }
        }
        let values = &bytes[facts.scale_bytes(units)..];
        let weight = |column: usize, output: usize| {
            let unit = &values[column / UNIT * facts.unit_bytes()..][..facts.unit_bytes()];
            let q = integer(facts.bits, unit, column % UNIT, output) - facts.zero;
            match facts.sub {
                0 => q,
                SUB => q * i32::from(subs[column / SUB * WIDTH + output] as i8),
                sub => q * i32::from(subs[column / sub * WIDTH + output]),
            }
        };
        let columns = 0..units * UNIT;
        Self {
            weights: columns.map(|it| std::array::from_fn(|output| weight(it, output))).collect(),
            scales: starts.map(halves).collect(),
            minima: minima.collect(),
            integer_minima,
        }
    }

    /// The group times a row, without the scale of the input.
    fn times(&self, layout: &Layout, x: &Input, row: usize, group: usize) -> [f32; WIDTH] {
        let facts = &layout.facts;
        let plain = facts.sub == 0;
        let first = group * GROUP;
        let mut t = [0.0; WIDTH];
        for (span, weights) in self.weights.chunks(facts.span).enumerate() {
            let mut dot = [0i32; WIDTH];
            for (column, weights) in weights.iter().enumerate() {
                let q = x.integer(row, first + span * facts.span + column);
                for l in 0..WIDTH {
                    dot[l] += q * weights[l];
                }
            }
            let block = if plain { span } else { 0 };
            for l in 0..WIDTH {
                t[l] = (dot[l] as f32).mul_add(self.scales[block][l], t[l]);
                if plain && facts.min {
                    let sum = x.unit_sum(row, group * UNITS + span) as f32;
                    t[l] = sum.mul_add(self.minima[block][l], t[l]);
                }
            }
        }
        if !plain && facts.min {
            for l in 0..WIDTH {
                let minima = self.integer_minima.iter().enumerate();
                let products = minima.map(|(i, it)| it[l] * x.unit_sum(row, group * UNITS + i));
                let sum: i32 = products.sum();
                t[l] = (-(sum as f32)).mul_add(self.minima[0][l], t[l]);
            }
        }
        t
    }
}

/// `q` of one column and output of a unit.
fn integer(bits: usize, unit: &[u8], column: usize, output: usize) -> i32 {
    let (quad, byte) = (column / 4, 4 * output + column % 4);
    let line = |line: usize| unit[line * LINE + byte];
    if bits == 8 {
        return i32::from(line(quad) as i8);
    }
    let nibble = line(quad % 4) >> (quad / 4 * 4) & 15;
    let high = match bits {
        4 => 0,
        5 => line(4) >> quad & 1,
        _ => line(4 + quad / 4) >> (quad % 4 * 2) & 3,
    };
    i32::from(nibble | high << 4)
}
