//! The one error of the binary: what was being done, why it failed, what to do next, and the exit
//! code that says it to a script. It knows nothing of the rooms that make it; each of them writes
//! its own sentence.

use std::fmt::Write as _;

/// What a room of this binary answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, worded for the person at the terminal: a lowercase fragment, its causes, and the next
/// step.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of failure a script can tell apart by the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
    Missing,
    Unconfirmed,
}

impl Error {
    /// Something was tried and did not work. Exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The arguments or settings are wrong; nothing was tried. Exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The stack or function that was asked for is not there. Exit code 3.
    pub(crate) fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::Missing, message)
    }

    /// Something would be destroyed, or a place in a stream lost, and nobody said yes. Exit code 4;
    /// nothing was done.
    pub(crate) fn unconfirmed(message: impl Into<String>) -> Self {
        Self::new(Kind::Unconfirmed, message)
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// Adds the error underneath; its own chain of causes is printed too.
    pub(crate) fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether what was asked for is not there.
    pub(crate) fn is_missing(&self) -> bool {
        self.kind == Kind::Missing
    }

    /// What the process exits with: 1 failed, 2 bad usage or settings, 3 the stack or function is
    /// not there, 4 it would destroy something and was not confirmed.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Missing => 3,
            Kind::Unconfirmed => 4,
        }
    }

    /// The message and every cause, where there is room for a line.
    pub(crate) fn in_one_line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                let _ = write!(line, ": {text}");
            }
            cause = error.source();
        }
        line
    }

    /// The whole story for standard error: the message, every cause on a line of its own, and the
    /// hint.
    pub(crate) fn report(&self) -> String {
        let mut report = format!("error: {self}");
        let mut last = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            // Some libraries repeat their cause in their own text; saying it once is enough.
            if !last.contains(&text) {
                let _ = write!(report, "\n  because: {text}");
            }
            last = text;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            let _ = write!(report, "\n  next: {hint}");
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_exit_code() {
        assert_eq!(Error::failed("x").exit_code(), 1);
        assert_eq!(Error::usage("x").exit_code(), 2);
        assert_eq!(Error::missing("x").exit_code(), 3);
        assert_eq!(Error::unconfirmed("x").exit_code(), 4);
    }

    #[test]
    fn a_report_holds_the_message_every_cause_and_the_next_step() {
        let inner = Error::failed("reading a.toml").because(std::io::Error::other("disk is gone"));
        let error = Error::failed("loading the service").because(inner).hint("buy a disk");
        assert_eq!(
            error.report(),
            "error: loading the service\n  because: reading a.toml\n  because: disk is gone\n  next: buy a disk"
        );
    }

    #[test]
    fn in_one_line_the_causes_follow_the_message() {
        let inner = Error::failed("reading a.toml").because(std::io::Error::other("disk is gone"));
        let error = Error::failed("loading the service").because(inner).hint("buy a disk");
        assert_eq!(error.in_one_line(), "loading the service: reading a.toml: disk is gone");
    }

    #[test]
    fn a_cause_already_told_is_not_repeated() {
        let error =
            Error::failed("parsing: no such key").because(std::io::Error::other("no such key"));
        assert_eq!(error.report(), "error: parsing: no such key");
    }
}
