//! What distinguishes ggml's integer types: a few constants each.

use super::{GROUP, LINE, SUB, UNIT, UNITS, WIDTH};
use crate::Format;

/// Largest input integer of plain types: 32 products with a byte fit 32 bits, and `256 · high + low`
/// of two signed bytes reaches it.
pub(super) const PLAIN_LIMIT: i32 = 127 * 256 + 127;

/// Largest input integer of K-blocks: a span's products fit 32 bits (see the test below).
pub(super) const K_LIMIT: i32 = 8127;

/// One of ggml's integer types. A weight is `d · s · (q - ZERO)`, and a minimum where it has one.
pub(super) trait Kind {
    /// The type.
    const FORMAT: Format;
    /// Bits of `q`: 4, 5 or 6 without a sign, or 8 with one.
    const BITS: usize;
    /// What is taken off `q`.
    const ZERO: i32;
    /// Whether there is a minimum: added in plain types, taken off in K-blocks.
    const MIN: bool;
    /// Columns with an integer scale `s` of their own; 0 in plain types.
    const SUB: usize;
    /// Columns whose dot product is one integer.
    const SPAN: usize;

    /// Whether blocks have 256 columns and integer scales.
    const K: bool = Self::SUB != 0;
    /// Lines of one unit.
    const UNIT_LINES: usize = Self::BITS;
    /// Largest absolute input integer.
    const LIMIT: i32 = if Self::K { K_LIMIT } else { PLAIN_LIMIT };
}

macro_rules! kinds {
    ($($name:ident: $bits:literal bits, zero $zero:literal, min $min:literal, sub $sub:expr, span $span:expr;)*) => {
        $(
            pub(super) struct $name;

            impl Kind for $name {
                const FORMAT: Format = Format::$name;
                const BITS: usize = $bits;
                const ZERO: i32 = $zero;
                const MIN: bool = $min;
                const SUB: usize = $sub;
                const SPAN: usize = $span;
            }
        )*

        /// The constants of a format; `None` where values are no small integers.
        pub(super) const fn facts(format: Format) -> Option<Facts> {
            match format {
                $(Format::$name => Some(Facts::of::<$name>()),)*
                Format::F32 | Format::F16 | Format::Bf16 => None,
            }
        }
    };
}

kinds! {
    Q8_0: 8 bits, zero 0, min false, sub 0, span UNIT;
    Q4_0: 4 bits, zero 8, min false, sub 0, span UNIT;
    Q4_1: 4 bits, zero 0, min true, sub 0, span UNIT;
    Q5_0: 5 bits, zero 16, min false, sub 0, span UNIT;
    Q5_1: 5 bits, zero 0, min true, sub 0, span UNIT;
    Q4K: 4 bits, zero 0, min true, sub UNIT, span GROUP;
    Q5K: 5 bits, zero 0, min true, sub UNIT, span GROUP / 2;
    Q6K: 6 bits, zero 32, min false, sub SUB, span GROUP / 4;
}

/// Calls a function that is generic over [`Kind`] with the kind of a format.
macro_rules! with_kind {
    ($format:expr, $kind:ident => $call:expr) => {{
        use $crate::interleaved::kind;
        match $format {
            $crate::Format::Q8_0 => {
                type $kind = kind::Q8_0;
                $call
            }
            $crate::Format::Q4_0 => {
                type $kind = kind::Q4_0;
                $call
            }
            $crate::Format::Q4_1 => {
                type $kind = kind::Q4_1;
                $call
            }
            $crate::Format::Q5_0 => {
                type $kind = kind::Q5_0;
                $call
            }
            $crate::Format::Q5_1 => {
                type $kind = kind::Q5_1;
                $call
            }
            $crate::Format::Q4K => {
                type $kind = kind::Q4K;
                $call
            }
            $crate::Format::Q5K => {
                type $kind = kind::Q5K;
                $call
            }
            $crate::Format::Q6K => {
                type $kind = kind::Q6K;
                $call
            }
            $crate::Format::F32 | $crate::Format::F16 | $crate::Format::Bf16 => {
                unreachable!("invariant: a layout is made of integer formats only")
            }
        }
    }};
}

pub(super) use with_kind;

/// The constants of a [`Kind`] as values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) format: Format,
    pub(super) bits: usize,
    pub(super) zero: i32,
    pub(super) min: bool,
    pub(super) sub: usize,
    pub(super) span: usize,
    pub(super) limit: i32,
}

impl Facts {
    const fn of<K: Kind>() -> Self {
        Self {
            format: K::FORMAT,
            bits: K::BITS,
            zero: K::ZERO,
            min: K::MIN,
            sub: K::SUB,
            span: K::SPAN,
            limit: K::LIMIT,
        }
    }

    /// Bytes of one unit of 16 outputs.
    pub(super) const fn unit_bytes(&self) -> usize {
        self.bits * LINE
    }

    /// Bytes of half-precision numbers that stand together: of a unit, in K-blocks of a group.
    pub(super) const fn half_bytes(&self) -> usize {
        2 * WIDTH * if self.min { 2 } else { 1 }
    }

    /// Bytes of the integer scales of a group.
    pub(super) const fn sub_bytes(&self) -> usize {
        match self.sub {
            0 => 0,
            sub => WIDTH * (GROUP / sub + if self.min { UNITS } else { 0 }),
        }
    }

    /// Bytes in front of the units of a group of `units`.
    pub(super) const fn scale_bytes(&self, units: usize) -> usize {
        let halves = self.half_bytes() * if self.sub == 0 { units } else { 1 };
        (halves + self.sub_bytes()).next_multiple_of(LINE)
    }

    /// Bytes of a group of `units`.
    pub(super) const fn group_bytes(&self, units: usize) -> usize {
        self.scale_bytes(units) + units * self.unit_bytes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_dot_product_of_a_span_fits_32_bits() {
        for facts in Format::ALL.into_iter().filter_map(facts) {
            let largest = (1i64 << facts.bits) - 1 - i64::from(facts.zero);
            let q = if facts.bits == 8 { 128 } else { largest.max(i64::from(facts.zero)) };
            let s = match facts.format {
                Format::Q4K | Format::Q5K => 63,
                Format::Q6K => 128,
                _ => 1,
            };
            let most = facts.span as i64 * q * s * i64::from(facts.limit);
            assert!(most <= i64::from(i32::MAX), "{}: {most}", facts.format);
            assert!(facts.limit <= i32::from(i16::MAX));
        }
    }

    #[test]
    fn a_group_takes_little_more_than_its_blocks() {
        for facts in Format::ALL.into_iter().filter_map(facts) {
            let stored = WIDTH * facts.format.row_bytes(GROUP).unwrap();
            let (most, got) = (1.05 * stored as f64, facts.group_bytes(UNITS));
            assert!(got >= stored && got as f64 <= most, "{}: {got} {stored}", facts.format);
        }
    }
}
