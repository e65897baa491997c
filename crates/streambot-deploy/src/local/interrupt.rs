//! The signals that ask a run to end: Ctrl-C, a request to terminate, and a terminal that is
//! closed. Function processes are in groups of their own, so these reach `local` alone, which then
//! ends them; a change of a stack takes back what it began. It refuses to know how.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Error, Result};

/// Watches for the signals; while it is there, they no longer end this process by themselves.
#[derive(Debug)]
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// Begins to watch.
    ///
    /// # Errors
    /// When the system does not let signals be watched.
    pub(crate) fn watch() -> Result<Interrupts> {
        let watch = |kind| {
            signal(kind).map_err(|error| Error::failed("watching for Ctrl-C").because(error))
        };
        Ok(Interrupts {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
