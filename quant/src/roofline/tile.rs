//! A kernel that does nothing but multiply bfloat16 tiles in registers.

use crate::amx::{TileOps, granted};

/// Multiplications and additions of one round: four products of 16 x 32 by 32 x 16.
pub const OPERATIONS_EACH_ROUND: usize = 4 * 2 * 16 * 16 * 32;

/// Whether this processor and system have such tiles.
pub fn available() -> bool {
    granted(TileOps::Bf16)
}

/// Runs so many rounds on this thread.
///
/// # Panics
/// Where [`available`] says no.
#[cfg(target_arch = "x86_64")]
pub fn run(rounds: usize) {
    assert!(available(), "chosen only where it is there");
    if rounds == 0 {
        return;
    }
    // SAFETY: tiles were granted; nothing else on this thread holds tile registers here.
    let _configured = unsafe { crate::amx::Configured::new() };
    // SAFETY: registers are set up and declared; no memory is touched.
    unsafe {
        std::arch::asm!(
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem)
        );
    }
}

/// Never called: there are no tiles.
#[cfg(not(target_arch = "x86_64"))]
pub fn run(_rounds: usize) {
    unreachable!("invariant: other processors have no tiles")
}
