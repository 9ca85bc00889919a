//! The instruction sets that packed kernels exist for.

use std::sync::OnceLock;

use crate::kernels::Level;

/// An instruction set for packed weights. All of them give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackedLevel {
    /// No assumption: the reference.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512Vnni,
    /// The same with AMX int8 tiles, which the system must have granted.
    Amx,
}

impl PackedLevel {
    /// The best level that this processor and system have, found once.
    pub fn detected() -> Self {
        static DETECTED: OnceLock<PackedLevel> = OnceLock::new();
        *DETECTED.get_or_init(detect)
    }

    /// Every level that can run here, slowest first.
    pub fn available() -> Vec<Self> {
        [Self::Portable, Self::Avx2, Self::Avx512Vnni, Self::Amx]
            .into_iter()
            .filter(|&it| it <= Self::detected())
            .collect()
    }

    /// Lower-case name, as `doctor` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Amx => "amx-int8",
        }
    }

    /// The level of float code that goes with it.
    pub(crate) fn float(self) -> Level {
        match self {
            Self::Portable => Level::Portable,
            Self::Avx2 => Level::Avx2,
            Self::Avx512Vnni | Self::Amx => Level::Avx512,
        }
    }
}

fn detect() -> PackedLevel {
    #[cfg(target_arch = "x86_64")]
    {
        let vnni = Level::detected() >= Level::Avx512 && is_x86_feature_detected!("avx512vnni");
        if vnni && crate::amx::granted(crate::amx::TileOps::Int8) {
            return PackedLevel::Amx;
        }
        if vnni {
            return PackedLevel::Avx512Vnni;
        }
        if Level::detected() >= Level::Avx2 {
            return PackedLevel::Avx2;
        }
    }
    PackedLevel::Portable
}
