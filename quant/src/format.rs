//! The closed set of formats in which a weight matrix can be stored.

use std::fmt;

/// How a weight matrix is stored. Blocks run along a row (the input dimension).
///
/// Layouts of the block formats are those of ggml (`ggml-common.h`), so that a GGUF file's bytes
/// can be used where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 32 values: f16 scale, 32 signed bytes.
    Q8_0,
    /// 32 values: f16 scale, 32 nibbles offset by 8.
    Q4_0,
    /// 32 values: f16 scale, f16 minimum, 32 nibbles.
    Q4_1,
    /// 32 values: f16 scale, 32 high bits, 32 nibbles, offset by 16.
    Q5_0,
    /// 32 values: f16 scale, f16 minimum, 32 high bits, 32 nibbles.
    Q5_1,
    /// 256 values in 8 groups with 6-bit scales and minima.
    Q4K,
    /// As [`Format::Q4K`], with a fifth bit.
    Q5K,
    /// 256 values in 16 groups with 8-bit scales.
    Q6K,
}

impl Format {
    /// Every format, in the order of the enum.
    pub const ALL: [Format; 11] = [
        Format::F32,
        Format::F16,
        Format::Bf16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q4K,
        Format::Q5K,
        Format::Q6K,
    ];

    /// Values in one block (1 for the float formats).
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 => 1,
            Format::Q8_0 | Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 => 32,
            Format::Q4K | Format::Q5K | Format::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
            Format::Q8_0 => 34,
            Format::Q4_0 => 18,
            Format::Q4_1 => 20,
            Format::Q5_0 => 22,
            Format::Q5_1 => 24,
            Format::Q4K => 144,
            Format::Q5K => 176,
            Format::Q6K => 210,
        }
    }

    /// Bytes of a row of `cols` values, or `None` where the blocks do not divide it or the size
    /// overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Average bits for one value.
    pub fn bits_per_weight(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }

    /// This format, or the nearest one whose blocks divide rows of `cols` values. The choice is
    /// that of llama.cpp's quantizer: a K type gives way to one of 32 values, that to f16.
    pub const fn fitting(self, cols: usize) -> Format {
        let narrow = match self {
            _ if cols.is_multiple_of(self.block_len()) => return self,
            Format::Q4K => Format::Q5_0,
            Format::Q5K => Format::Q5_1,
            Format::Q6K => Format::Q8_0,
            _ => Format::F16,
        };
        if cols.is_multiple_of(narrow.block_len()) { narrow } else { Format::F16 }
    }

    /// ggml's number for this type, as GGUF files store it.
    pub const fn ggml_type(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q4K => 12,
            Format::Q5K => 13,
            Format::Q6K => 14,
            Format::Bf16 => 30,
        }
    }

    /// The format of a ggml type number, or `None` for one that we do not run.
    pub fn from_ggml_type(number: u32) -> Option<Format> {
        Format::ALL.into_iter().find(|it| it.ggml_type() == number)
    }

    /// The name that GGUF tools use, in lower case (`q4_k`).
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Bf16 => "bf16",
            Format::Q8_0 => "q8_0",
            Format::Q4_0 => "q4_0",
            Format::Q4_1 => "q4_1",
            Format::Q5_0 => "q5_0",
            Format::Q5_1 => "q5_1",
            Format::Q4K => "q4_k",
            Format::Q5K => "q5_k",
            Format::Q6K => "q6_k",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
