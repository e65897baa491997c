//! How many threads the process has: some functions of the C library may be called only while there
//! is one.

/// Whether the calling thread is the only one of the process; false if that is not known, as
/// outside of Linux.
///
/// It stays true until the caller starts a thread, for only a thread of the process can start
/// another one.
pub(crate) fn is_only_thread() -> bool {
    let tasks =
        if cfg!(target_os = "linux") { std::fs::read_dir("/proc/self/task").ok() } else { None };
    tasks.is_some_and(|tasks| tasks.count() == 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_second_thread_is_seen() {
        // The test itself runs beside the harness's own thread.
        assert!(!super::is_only_thread());
    }
}
