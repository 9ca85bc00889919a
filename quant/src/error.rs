//! What can go wrong with stored weights.

use std::path::PathBuf;

use crate::{Format, PackedKind};

/// Errors of this crate: each names the value that was wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes do not hold the shape.
    #[error("{format} tensor of {rows} x {cols} needs {expected} bytes, got {got}")]
    ByteLen {
        /// Stored format.
        format: Format,
        /// Number of rows (outputs).
        rows: usize,
        /// Number of columns (inputs).
        cols: usize,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// A row does not divide into the format's blocks.
    #[error("{format} stores blocks of {block} values, which do not divide rows of {cols}")]
    RowBlocks {
        /// Stored format.
        format: Format,
        /// Values in one block.
        block: usize,
        /// Length of a row.
        cols: usize,
    },
    /// Rows times columns times block size does not fit in memory's address range.
    #[error("tensor of {rows} x {cols} is too large to address")]
    TooLarge {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
    },
    /// A range of rows, or a row index, lies outside the tensor.
    #[error("row {row} is outside a tensor of {rows} rows")]
    RowRange {
        /// The offending row.
        row: usize,
        /// Rows in the tensor.
        rows: usize,
    },
    /// A matrix without rows or columns can't be packed.
    #[error("a tensor of {rows} x {cols} has no values")]
    Empty {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
    },
    /// A weight is infinite or not a number.
    #[error("row {row} holds a weight that is not finite")]
    NotFinite {
        /// The first such row.
        row: usize,
    },
    /// A value is too large for the half-precision numbers of its format.
    #[error("row {row} holds {value:e}, which {format} can't hold")]
    TooWide {
        /// Stored format.
        format: Format,
        /// The row.
        row: usize,
        /// The value.
        value: f32,
    },
    /// Importance of columns that do not fit, or that are no weights.
    #[error("importance of {got} columns for rows of {cols}{}", bad_column(*bad))]
    Importance {
        /// Columns of the matrix.
        cols: usize,
        /// Numbers that were given.
        got: usize,
        /// The first that is negative or not finite.
        bad: Option<usize>,
    },
    /// Packed bytes do not hold the shape.
    #[error("packed {kind} tensor of {rows} x {cols} needs {expected} bytes, got {got}")]
    PackedLen {
        /// How the values are kept.
        kind: PackedKind,
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
        /// Bytes that the shape needs.
        expected: usize,
        /// Bytes that were given.
        got: usize,
    },
    /// The factor of a packed tensor is not a power of two.
    #[error("packed tensor has a factor of {factor}, which is no power of two")]
    PackedFactor {
        /// The factor.
        factor: f32,
    },
    /// Packed bytes can't have such groups.
    #[error("packed {kind} tensors have no groups of {group} columns")]
    PackedGroup {
        /// How the values are kept.
        kind: PackedKind,
        /// Columns of a group that were asked for.
        group: usize,
    },
    /// A scale of a packed tensor is infinite or not a number.
    #[error("scale of row {row}, group {group} of a packed tensor is not finite")]
    PackedScale {
        /// The row.
        row: usize,
        /// The group of columns.
        group: usize,
    },
    /// A step of a packed q4 tensor stands for integers of more than eight bits.
    #[error("step {step:#04x} of row {row} of a packed tensor is out of range")]
    PackedStep {
        /// The row.
        row: usize,
        /// The byte.
        step: u8,
    },
    /// Only formats of integers can be interleaved.
    #[error("{format} tensors hold no integers to interleave")]
    NotIntegers {
        /// Stored format.
        format: Format,
    },
    /// The system gave no memory for packed weights.
    #[error("no memory for {bytes} bytes of packed weights: {source}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be read or mapped.
    #[error("can't read `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn bad_column(bad: Option<usize>) -> String {
    bad.map_or_else(String::new, |it| format!("; number {it} is negative or not finite"))
}
