//! How the C library's allocator is told to keep what it has freed. It knows that events are large and come again and
//! again; it refuses to know what is in them.

/// Keeps freed memory in the process, up to 64 MiB of it.
///
/// glibc takes blocks over 128 KiB from the system and gives them back when they are freed, and a 6 MB event needs several: some
/// 1,400 page faults an invocation, which cost more than reading the event does. Lambda bills the memory a function is
/// configured with, whatever it uses, so there is nothing to be had for giving it back. A service that brings an allocator
/// of its own is not affected.
///
/// <https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html>
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep() {
    /// The most that glibc allows.
    const MMAP_THRESHOLD: i32 = 32 << 20;
    const TRIM_THRESHOLD: i32 = 64 << 20;
    for (parameter, bytes) in [(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD), (libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD)] {
        // SAFETY: mallopt takes two integers and may be called at any time.
        let accepted = unsafe { libc::mallopt(parameter, bytes) };
        debug_assert_eq!(accepted, 1, "glibc refuses parameter {parameter}");
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
