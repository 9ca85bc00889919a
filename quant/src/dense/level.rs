//! The instruction sets that dense bfloat16 products exist for.

use std::sync::OnceLock;

use crate::{
    amx::{self, TileOps},
    kernels::Level,
};

/// An instruction set for dense products. All of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenseLevel {
    /// Float32 arithmetic of the vector units.
    Vector(Level),
    /// AVX-512 and AMX bfloat16 tiles, which the system must have granted.
    Amx,
}

impl DenseLevel {
    /// The best level that this processor and system have, found once.
    pub fn detected() -> Self {
        static DETECTED: OnceLock<DenseLevel> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let vector = Level::detected();
            if vector >= Level::Avx512 && amx::granted(TileOps::Bf16) {
                DenseLevel::Amx
            } else {
                DenseLevel::Vector(vector)
            }
        })
    }

    /// Every level that can run here, slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels: Vec<Self> = Level::available().into_iter().map(Self::Vector).collect();
        if Self::detected() == Self::Amx {
            levels.push(Self::Amx);
        }
        levels
    }

    /// Lower-case name, as benchmarks print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vector(level) => level.name(),
            Self::Amx => "amx-bf16",
        }
    }

    /// The level of float code that goes with it.
    pub fn float(self) -> Level {
        match self {
            Self::Vector(level) => level,
            Self::Amx => Level::Avx512,
        }
    }
}
