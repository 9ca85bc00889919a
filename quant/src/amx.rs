//! Permission and set-up for AMX tile registers, shared by every kernel that uses them.
//!
//! Registers hold rows of 64 bytes: 16 of them, or fewer where a block of input rows is not full.

/// What a processor may do with tiles: bits of EDX in leaf 7 of CPUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TileOps {
    /// Products of 8-bit integers.
    Int8,
    /// Products of bfloat16.
    Bf16,
}

/// Whether the processor has tiles for `ops` and the system lets this process use them. Asks for
/// permission, which holds for all threads of the process from then on.
pub(crate) fn granted(ops: TileOps) -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILE_DATA: libc::c_long = 18;
        const TILE: u32 = 1 << 24;
        let bits = TILE
            | match ops {
                TileOps::Int8 => 1 << 25,
                TileOps::Bf16 => 1 << 22,
            };
        if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & bits != bits {
            return false;
        }
        // SAFETY: the call only asks for permission to use tile registers; where the kernel does
        // not know it, it fails.
        let refused = unsafe {
            libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA)
        };
        refused == 0
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        let _ = ops;
        false
    }
}

/// Tile registers of this thread, set up; released when dropped.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Configured(());

#[cfg(target_arch = "x86_64")]
impl Configured {
    /// Makes all tile registers of this thread 16 rows of 64 bytes.
    ///
    /// # Safety
    /// [`granted`] said yes, and nothing else on this thread holds tile registers.
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: by the caller's promise.
        unsafe { Self::with_rows(16) }
    }

    /// The same with `rows` rows in registers 0 to 5, for sums and input; weights lie in 6 and 7.
    ///
    /// # Safety
    /// As [`Configured::new`]; `rows` is 1 to 16.
    pub(crate) unsafe fn with_rows(rows: usize) -> Self {
        #[repr(C, align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for register in 0..8 {
            config.0[16 + 2 * register] = 64;
            config.0[48 + register] = if register < 6 { rows as u8 } else { 16 };
        }
        // SAFETY: the configuration is one of palette 1. It is read by the instruction, so the
        // memory is not declared untouched.
        unsafe {
            std::arch::asm!("ldtilecfg [{0}]", in(reg) &raw const config, options(nostack));
        }
        Self(())
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: tile registers are there, or this could not have been made.
        unsafe { std::arch::asm!("tilerelease", options(nostack, nomem)) };
    }
}
