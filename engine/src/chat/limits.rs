//! Limits that a process sets on itself.

use std::io;

/// Bounds this process's address space to `extra_bytes` above its present size, its processor time
/// to `seconds`, and forbids core files. There is no way back.
///
/// # Errors
/// What the system says; the limits before the failing one hold.
pub(super) fn bound_this_process(extra_bytes: u64, seconds: u64) -> io::Result<()> {
    set(Limit::Core, 0, 0)?;
    set(Limit::Cpu, seconds, seconds + 1)?;
    let bytes = address_space()?.saturating_add(extra_bytes);
    set(Limit::AddressSpace, bytes, bytes)
}

#[derive(Clone, Copy)]
enum Limit {
    AddressSpace,
    Cpu,
    Core,
}

fn set(limit: Limit, soft: u64, hard: u64) -> io::Result<()> {
    let which = match limit {
        Limit::AddressSpace => libc::RLIMIT_AS,
        Limit::Cpu => libc::RLIMIT_CPU,
        Limit::Core => libc::RLIMIT_CORE,
    };
    let value = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
    // SAFETY: `setrlimit` reads the struct behind the pointer, which lives on this frame.
    let status = unsafe { libc::setrlimit(which, &raw const value) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of address space in use. Where the system does not tell, a generous guess.
fn address_space() -> io::Result<u64> {
    const GUESS: u64 = 1 << 30;
    const PAGE: u64 = 4096;
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else {
        return Ok(GUESS);
    };
    let pages = statm.split(' ').next().and_then(|it| it.parse::<u64>().ok());
    Ok(pages.map_or(GUESS, |pages| pages.saturating_mul(PAGE)))
}
