//! Blocks of sums by AMX bfloat16 tiles.

#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn multiply(
    _a: *const super::Line,
    _b: *const super::Line,
    _steps: usize,
    _add: bool,
    _c: &mut super::Block,
) {
    unreachable!("invariant: this level is never detected on other processors")
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::multiply;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    use crate::dense::{Block, Line};

    /// Fetches eight lines of each operand two steps before they are used: tile loads wait for every
    /// one of their sixteen lines.
    macro_rules! fetch_ahead {
        ($at:literal) => {
            concat!(
                ".irp line, 0, 64, 128, 192, 256, 320, 384, 448\n",
                "prefetcht0 [{a} + 4096 + ",
                $at,
                " + \\line]\n",
                "prefetcht0 [{b} + 4096 + ",
                $at,
                " + \\line]\n",
                ".endr"
            )
        };
    }

    /// Two tiles of rows times two of columns, so that each loaded tile is used twice. The rows pass
    /// by once, so they are loaded with the hint that keeps them from driving the columns, which
    /// all rows share, out of the first-level cache.
    ///
    /// # Safety
    /// `steps` blocks of 32 lines follow `a` and `b`; tile registers are set up.
    #[inline]
    pub(in crate::dense) unsafe fn multiply(
        a: *const Line,
        b: *const Line,
        steps: usize,
        add: bool,
        c: &mut Block,
    ) {
        // SAFETY: by the caller's promise; every register written is declared.
        unsafe {
            asm!(
                "test {add:e}, {add:e}",
                "jz 2f",
                "tileloadd tmm0, [{c} + {row}*1]",
                "tileloadd tmm1, [{c} + {row}*1 + 64]",
                "tileloadd tmm2, [{c} + {row}*1 + 2048]",
                "tileloadd tmm3, [{c} + {row}*1 + 2112]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "tileloaddt1 tmm4, [{a} + {line}*1]",
                "tileloadd tmm6, [{b} + {line}*1]",
                "tileloadd tmm7, [{b} + {line}*1 + 1024]",
                "tileloaddt1 tmm5, [{a} + {line}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                fetch_ahead!(0),
                "tdpbf16ps tmm1, tmm4, tmm7",
                fetch_ahead!(512),
                "tdpbf16ps tmm2, tmm5, tmm6",
                fetch_ahead!(1024),
                "tdpbf16ps tmm3, tmm5, tmm7",
                fetch_ahead!(1536),
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {steps}",
                "jnz 3b",
                "tilestored [{c} + {row}*1], tmm0",
                "tilestored [{c} + {row}*1 + 64], tmm1",
                "tilestored [{c} + {row}*1 + 2048], tmm2",
                "tilestored [{c} + {row}*1 + 2112], tmm3",
                add = in(reg) u32::from(add),
                a = inout(reg) a => _,
                b = inout(reg) b => _,
                steps = inout(reg) steps => _,
                c = in(reg) c as *mut Block,
                row = in(reg) 128usize,
                line = in(reg) 64usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }
}
