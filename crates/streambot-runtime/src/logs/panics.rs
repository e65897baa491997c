//! The panic hook: a panic is a log line, with the backtrace as a field if `RUST_BACKTRACE` asks
//! for one.
//!
//! A hook that the service set before [`run`](crate::run) is called after the line is written.
//! Rust's default hook is not called: it would write the same message to standard error, which
//! Lambda logs, too.

use std::backtrace::Backtrace;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync + 'static>;

/// How many calls of the closure given to [`run`](crate::run) are running.
static INITIALIZING: AtomicUsize = AtomicUsize::new(0);

/// Runs a future as the initialization: a panic in it says so.
pub(crate) async fn during_init<F: Future>(init: F) -> F::Output {
    INITIALIZING.fetch_add(1, Ordering::Relaxed);
    let output = init.await;
    INITIALIZING.fetch_sub(1, Ordering::Relaxed);
    output
}

/// Sets the hook.
pub(super) fn set() {
    let before = take_hook();
    // This is the default hook now, as the one before was taken.
    let default = take_hook();
    let before = (!is_same(&before, &default)).then_some(before);
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    set_hook(Box::new(move |panic| {
        log(panic, backtrace);
        if let Some(before) = &before {
            before(panic);
        }
    }));
}

fn log(panic: &PanicHookInfo<'_>, with_backtrace: bool) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message =
        crate::failure::without_values(panic.payload_as_str().unwrap_or("no message").to_owned());
    let backtrace = with_backtrace.then(|| Backtrace::force_capture().to_string());
    let backtrace = backtrace.as_deref();
    if INITIALIZING.load(Ordering::Relaxed) > 0 {
        tracing::error!(location, backtrace, "panicked during init: {message}");
    } else {
        tracing::error!(location, backtrace, "panicked: {message}");
    }
}

/// Whether both are the default hook. There is no way to ask for that, but the default hook has an
/// address of its own. If the addresses differ against expectation, the message is written to
/// standard error as well.
#[allow(
    ambiguous_wide_pointer_comparisons,
    reason = "functions without a state differ in the table only"
)]
fn is_same(hook: &Hook, other: &Hook) -> bool {
    std::ptr::eq(&raw const **hook, &raw const **other)
}
