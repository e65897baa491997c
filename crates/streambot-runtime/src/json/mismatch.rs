//! Which part of a JSON document does not fit its type, in terms that hold no data: names that the
//! type declares, indexes, and kinds of values.

use std::fmt::{self, Write};

use serde::de;

/// The first value that does not fit.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// From the value outward.
    path: Vec<Segment>,
    reason: Reason,
}

/// One step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    /// A field or a variant that the type declares.
    Declared(&'static str),
    /// A name that is data.
    Undeclared,
    Index(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The type refuses the value, for reasons of its own.
    Refused,
    Kinds {
        expected: &'static str,
        found: &'static str,
    },
    Missing(&'static str),
    Repeated(&'static str),
}

impl Mismatch {
    pub(super) fn kinds(expected: &'static str, found: &'static str) -> Self {
        Self { path: Vec::new(), reason: Reason::Kinds { expected, found } }
    }

    /// The same, seen from the value that holds the one at `segment`, which is of the kind `found`.
    pub(super) fn within(mut self, segment: Segment, found: &'static str) -> Self {
        self = self.unless_known("another value", found);
        self.path.push(segment);
        self
    }

    /// Adds the kinds if nothing else is known about this value.
    pub(super) fn unless_known(mut self, expected: &'static str, found: &'static str) -> Self {
        if self.path.is_empty() && self.reason == Reason::Refused {
            self.reason = Reason::Kinds { expected, found };
        }
        self
    }

    /// The path from the whole document to the value, such as `items[3].name`; `.` is the whole
    /// document.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for segment in self.path.iter().rev() {
            let dot = if path.is_empty() { "" } else { "." };
            let _never_fails = match segment {
                Segment::Declared(name) => write!(path, "{dot}{name}"),
                Segment::Undeclared => write!(path, "{dot}*"),
                Segment::Index(index) => write!(path, "[{index}]"),
            };
        }
        if path.is_empty() { ".".to_owned() } else { path }
    }
}

/// The reason, without the path.
impl fmt::Display for Mismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Refused => formatter.write_str("the type does not accept the value"),
            Reason::Kinds { expected, found } => {
                write!(formatter, "expected {expected}, found {found}")
            }
            Reason::Missing(field) => write!(formatter, "missing field `{field}`"),
            Reason::Repeated(field) => write!(formatter, "field `{field}` occurs twice"),
        }
    }
}

impl std::error::Error for Mismatch {}

/// Types hand values of the document to these functions, which drop them.
impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self { path: Vec::new(), reason: Reason::Refused }
    }

    fn unknown_variant(_variant: &str, _expected: &'static [&'static str]) -> Self {
        Self::kinds("a variant of the type", "another name")
    }

    fn unknown_field(_field: &str, _expected: &'static [&'static str]) -> Self {
        Self::kinds("a field of the type", "another field")
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: Vec::new(), reason: Reason::Missing(field) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self { path: Vec::new(), reason: Reason::Repeated(field) }
    }
}
