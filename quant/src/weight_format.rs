//! Every form that a weight matrix can be brought into.

use std::fmt;

use crate::{Format, PackedHeader, PackedKind, PackedTensor, QuantTensor, Result, Weight};

/// A form to quantize weights to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// One of this crate's packed kinds.
    Packed(PackedKind),
    /// One of ggml's types, or floats.
    Stored(Format),
}

impl WeightFormat {
    /// Every form, packed kinds first.
    pub fn all() -> impl Iterator<Item = WeightFormat> {
        let packed = PackedKind::ALL.into_iter().map(WeightFormat::Packed);
        packed.chain(Format::ALL.into_iter().map(WeightFormat::Stored))
    }

    /// The form of a lower-case name such as `q4` or `q4_k`.
    pub fn named(name: &str) -> Option<WeightFormat> {
        WeightFormat::all().find(|it| it.name() == name)
    }

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            WeightFormat::Packed(kind) => kind.name(),
            WeightFormat::Stored(format) => format.name(),
        }
    }

    /// Bytes of a matrix in this form, or `None` where there can be no such matrix; of packed kinds
    /// with their longest group.
    pub fn byte_len(self, rows: usize, cols: usize) -> Option<usize> {
        match self {
            WeightFormat::Packed(kind) => PackedHeader::usual_byte_len(kind, rows, cols),
            WeightFormat::Stored(format) => format.row_bytes(cols)?.checked_mul(rows),
        }
    }

    /// This form, or the nearest one that rows of `cols` values can have.
    pub const fn fitting(self, cols: usize) -> WeightFormat {
        match self {
            WeightFormat::Packed(_) => self,
            WeightFormat::Stored(format) => WeightFormat::Stored(format.fitting(cols)),
        }
    }

    /// Rounds `weight` to this form; one that has it already is shared. `importance` is that of
    /// [`QuantTensor::quantize`].
    ///
    /// # Errors
    /// Those of [`QuantTensor::quantize`] and [`PackedTensor::quantize`].
    pub fn quantize(self, weight: &QuantTensor, importance: Option<&[f32]>) -> Result<Weight> {
        match self {
            WeightFormat::Packed(kind) => {
                Ok(PackedTensor::quantize_weighted(kind, weight, importance)?.into())
            }
            WeightFormat::Stored(format) if format == weight.format() => Ok(weight.clone().into()),
            WeightFormat::Stored(format) => {
                Ok(QuantTensor::quantize(format, weight, importance)?.into())
            }
        }
    }
}

impl fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<PackedKind> for WeightFormat {
    fn from(kind: PackedKind) -> Self {
        WeightFormat::Packed(kind)
    }
}

impl From<Format> for WeightFormat {
    fn from(format: Format) -> Self {
        WeightFormat::Stored(format)
    }
}
