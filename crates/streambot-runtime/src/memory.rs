//! Settings of the C library's allocator that suit large events, one after the other.

/// Keeps freed memory in the process, up to 64 MiB of it, if the process still has one thread.
///
/// glibc takes blocks over 128 KiB from the system and returns them as soon as they are freed, and
/// a 6 MB event needs several: some 1,400 page faults an invocation, which cost more than reading
/// the event does. Lambda bills the memory a function is configured with, whatever it uses, so that
/// returning memory saves nothing. A service with an allocator of its own is not affected.
///
/// <https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html>
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep() {
    /// The most that glibc allows.
    const MMAP_THRESHOLD: i32 = 32 << 20;
    const TRIM_THRESHOLD: i32 = 64 << 20;
    if !crate::threads::is_only_thread() {
        return;
    }
    for (parameter, bytes) in
        [(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD), (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD)]
    {
        // SAFETY: mallopt takes two integers. It is not safe if another thread uses the allocator
        // at the same time (man mallopt: MT-Unsafe init const:mallopt), and this thread is the only
        // one of the process.
        let accepted = unsafe { libc::mallopt(parameter, bytes) };
        debug_assert_eq!(accepted, 1, "glibc refuses parameter {parameter}");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
