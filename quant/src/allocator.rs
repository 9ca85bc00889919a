//! How the process's allocator treats large buffers.

/// Has the allocator keep what is freed. A forward pass asks for the same buffers layer after layer,
/// and by default each one of some size would come from the system anew, page by page.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The most that the C library takes.
        const OWN_MAPPING_FROM: libc::c_int = 32 << 20;
        // SAFETY: these calls set numbers inside of the allocator. Where one is refused, memory is
        // returned as before.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_FROM);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            // Buffers that one thread frees serve all others.
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
