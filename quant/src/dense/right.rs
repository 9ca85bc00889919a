//! The right operand of a product: weights, read where they are stored, in either direction.

use std::{cell::RefCell, ops::Range};

use super::{
    BLOCK, Line,
    panel::{Band, rows_to_columns, zip_rows},
    tiles::round_into,
};
use crate::{Format, Weight, kernels::Level};

/// A row-major matrix whose rows can be had in bfloat16.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// A stored or packed weight.
    Weight(&'a Weight),
    /// Values that were rounded before.
    Rounded {
        /// Columns.
        cols: usize,
        /// Row-major values.
        values: &'a [u16],
    },
}

impl Matrix<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Matrix::Weight(weight) => weight.rows(),
            Matrix::Rounded { cols, values } => values.len() / (*cols).max(1),
        }
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        match self {
            Matrix::Weight(weight) => weight.cols(),
            Matrix::Rounded { cols, .. } => *cols,
        }
    }

    /// Row `row` from column `first` on into `out`; zeros past the matrix. `floats` is scratch.
    fn read(&self, level: Level, row: usize, first: usize, floats: &mut Vec<f32>, out: &mut [u16]) {
        let cols = self.cols();
        if row >= self.rows() || first >= cols {
            return out.fill(0);
        }
        let len = out.len().min(cols - first);
        let (out, rest) = out.split_at_mut(len);
        rest.fill(0);
        match self {
            Matrix::Rounded { values, .. } => {
                out.copy_from_slice(&values[row * cols + first..row * cols + first + len]);
            }
            Matrix::Weight(Weight::Stored(stored)) if stored.format() == Format::Bf16 => {
                let at = 2 * (row * cols + first);
                let bytes = &stored.bytes()[at..at + 2 * len];
                for (value, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = u16::from_le_bytes([pair[0], pair[1]]);
                }
            }
            Matrix::Weight(weight) => {
                floats.resize(cols, 0.0);
                weight
                    .dequantize_row(row, &mut floats[..cols])
                    .expect("invariant: the row was compared with the number of rows");
                round_into(level, &floats[first..first + len], out);
            }
        }
    }
}

/// What the left operand is multiplied by.
#[derive(Debug, Clone)]
pub enum Right<'a> {
    /// Each row of the matrices is a column of the result, as in `x · wᵀ`. A matrix may have a
    /// second one beside it, whose columns continue its rows (padded to blocks of 32).
    Rows {
        /// Matrices of equal widths, one after the other.
        parts: Vec<(Matrix<'a>, Option<Matrix<'a>>)>,
        /// Whether panels of the parts alternate: one of each, again and again.
        alternate: bool,
    },
    /// Columns stay columns and rows are terms, as in `g · w`; matrices continue each other
    /// downwards, each padded to 32 rows.
    Columns(Vec<Matrix<'a>>),
}

impl<'a> Right<'a> {
    /// `x · wᵀ` for one matrix.
    pub fn rows(matrix: Matrix<'a>) -> Self {
        Right::Rows { parts: vec![(matrix, None)], alternate: false }
    }

    /// Panels of 32 columns of the result.
    pub fn panels(&self) -> usize {
        match self {
            Right::Rows { parts, .. } => {
                parts.iter().map(|(matrix, _)| matrix.rows().div_ceil(BLOCK)).sum()
            }
            Right::Columns(parts) => parts.first().map_or(0, |it| it.cols().div_ceil(BLOCK)),
        }
    }

    /// Blocks of 32 terms.
    pub fn steps(&self) -> usize {
        match self {
            Right::Rows { parts, .. } => parts.first().map_or(0, |(main, extra)| {
                let extra = extra.map_or(0, |it| it.cols().div_ceil(BLOCK));
                main.cols().div_ceil(BLOCK) + extra
            }),
            Right::Columns(parts) => parts.iter().map(|it| it.rows().div_ceil(BLOCK)).sum(),
        }
    }

    /// Brings `panels` and `steps` into `out`: panel after panel, 32 lines for each step.
    pub(super) fn pack(
        &self,
        level: Level,
        panels: Range<usize>,
        steps: Range<usize>,
        out: &mut [Line],
    ) {
        assert_eq!(out.len(), panels.len() * steps.len() * BLOCK, "packed lines");
        BAND.with_borrow_mut(|(band, floats)| match self {
            Right::Rows { parts, alternate } => {
                let width = steps.len() * BLOCK;
                band.resize(BLOCK * width, 0);
                for (panel, out) in panels.zip(out.chunks_exact_mut(width)) {
                    let (part, first) = find_panel(parts, *alternate, panel);
                    read_beside(level, part, first, steps.start * BLOCK, width, band, floats);
                    for (step, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                        let band = Band { values: band, stride: width };
                        rows_to_columns(level, band, step * BLOCK, out);
                    }
                }
            }
            Right::Columns(parts) => {
                let width = panels.len() * BLOCK;
                band.resize(BLOCK * width, 0);
                for (index, step) in steps.clone().enumerate() {
                    let (matrix, first) = find_step(parts, step);
                    for (r, row) in band.chunks_exact_mut(width).enumerate() {
                        matrix.read(level, first + r, panels.start * BLOCK, floats, row);
                    }
                    for panel in 0..panels.len() {
                        let at = (panel * steps.len() + index) * BLOCK;
                        let band = Band { values: band, stride: width };
                        zip_rows(level, band, panel * BLOCK, &mut out[at..at + BLOCK]);
                    }
                }
            }
        });
    }
}

thread_local! {
    /// Kept, because fresh pages would cost a fault each in every product.
    static BAND: RefCell<(Vec<u16>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

type Beside<'m, 'a> = &'m (Matrix<'a>, Option<Matrix<'a>>);

/// The part of a panel and its first row there.
fn find_panel<'m, 'a>(
    parts: &'m [(Matrix<'a>, Option<Matrix<'a>>)],
    alternate: bool,
    panel: usize,
) -> (Beside<'m, 'a>, usize) {
    if alternate {
        return (&parts[panel % parts.len()], panel / parts.len() * BLOCK);
    }
    let mut left = panel;
    for part in parts {
        let panels = part.0.rows().div_ceil(BLOCK);
        if left < panels {
            return (part, left * BLOCK);
        }
        left -= panels;
    }
    unreachable!("invariant: panels are below their number");
}

/// The matrix of a step and its first row there.
fn find_step<'m, 'a>(parts: &'m [Matrix<'a>], step: usize) -> (&'m Matrix<'a>, usize) {
    let mut left = step;
    for part in parts {
        let steps = part.rows().div_ceil(BLOCK);
        if left < steps {
            return (part, left * BLOCK);
        }
        left -= steps;
    }
    unreachable!("invariant: steps are below their number");
}

/// Reads 32 rows from `first_row` on, `width` columns from `first_col` on, of a matrix and the one
/// beside it.
fn read_beside(
    level: Level,
    (main, extra): Beside<'_, '_>,
    first_row: usize,
    first_col: usize,
    width: usize,
    band: &mut [u16],
    floats: &mut Vec<f32>,
) {
    let main_width = main.cols().next_multiple_of(BLOCK);
    let split = main_width.saturating_sub(first_col).min(width);
    for (r, row) in band.chunks_exact_mut(width).enumerate() {
        let (left, right) = row.split_at_mut(split);
        main.read(level, first_row + r, first_col, floats, left);
        if let Some(extra) = extra.filter(|_| !right.is_empty()) {
            let first_col = (first_col + split) - main_width;
            extra.read(level, first_row + r, first_col, floats, right);
        }
    }
}
