//! Decodes the JSON of a record, and says what does not fit without repeating any of the data.
//!
//! The data is decoded by serde_json alone, at its full speed. Only if that fails, a [second
//! pass](probe) finds the path.

mod mismatch;
mod probe;

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use self::mismatch::Mismatch;
pub(crate) use self::probe::find_mismatch;
use crate::record::{FromRecord, Record};

/// A record whose data is JSON text; derefs to the value in it.
///
/// ```
/// use streambot_runtime::{Error, Json};
///
/// #[derive(serde::Deserialize)]
/// struct Quake { place: String }
///
/// async fn alert(quake: Json<Quake>) -> Result<(), Error> {
///     tracing::info!(place = quake.place, "alert");
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRecord for Json<T> {
    type Rejection = JsonRejection;

    fn from_record(record: Record) -> Result<Self, JsonRejection> {
        decode(record.data()).map(Json)
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Decodes one JSON document.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonRejection> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value =
        T::deserialize(&mut deserializer).map_err(|error| JsonRejection::new::<T>(bytes, error))?;
    deserializer.end().map_err(|error| JsonRejection { problem: Problem::NotTheEnd, error })?;
    Ok(value)
}

/// The record's data is not the JSON that the handler takes: it is not JSON, or it does not fit the
/// type.
///
/// The message names the path, what was expected there and what was found, by their kinds, and the
/// position in the data. It never contains values, nor keys that the type does not declare: those
/// are data of the record, too, and the path shows `*` in their place. Only the
/// [source](std::error::Error::source), serde's own error, contains values; Streambot never logs
/// it.
pub struct JsonRejection {
    problem: Problem,
    error: serde_json::Error,
}

enum Problem {
    Empty,
    ByteOrderMark,
    NotJson,
    NotTheEnd,
    Mismatch(Mismatch),
    /// The type refuses the data, but did not refuse it again in the second pass.
    Unexplained,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl JsonRejection {
    #[cold]
    fn new<T: DeserializeOwned>(bytes: &[u8], error: serde_json::Error) -> Self {
        let is_json = || serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
        let problem = if bytes.is_empty() {
            Problem::Empty
        } else if bytes.starts_with(BYTE_ORDER_MARK) {
            Problem::ByteOrderMark
        } else if error.classify() == Category::Data || is_json() {
            find_mismatch::<T>(&String::from_utf8_lossy(bytes))
                .map_or(Problem::Unexplained, Problem::Mismatch)
        } else {
            Problem::NotJson
        };
        Self { problem, error }
    }

    /// The path of the value that does not fit, such as `location.latitude` or `items[3]`; `.` is
    /// the whole document.
    ///
    /// A name that the type does not declare, such as the key of a map, is shown as `*`.
    pub fn path(&self) -> String {
        match &self.problem {
            Problem::Mismatch(mismatch) => mismatch.path(),
            _ => ".".to_owned(),
        }
    }

    /// The line of the data at which decoding stopped, counted from 1; 0 for data that is empty.
    pub fn line(&self) -> usize {
        self.error.line()
    }

    /// The column at which decoding stopped, in bytes and counted from 1.
    pub fn column(&self) -> usize {
        self.error.column()
    }
}

impl fmt::Display for JsonRejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Empty => return formatter.write_str("the data is empty, and JSON was expected"),
            Problem::ByteOrderMark => formatter.write_str(
                "the data begins with a byte order mark, which JSON must not have; write the JSON without it",
            )?,
            Problem::NotJson => formatter.write_str("the data is not JSON")?,
            Problem::NotTheEnd => formatter
                .write_str("the data goes on after the end of the JSON document; put one document into a record")?,
            Problem::Mismatch(mismatch) => {
                write!(formatter, "the data is not the expected JSON at `{}`: {mismatch}", self.path())?;
            }
            Problem::Unexplained => formatter.write_str("the data is not the expected JSON")?,
        }
        write!(formatter, " ({})", position(&self.error))
    }
}

/// The message; serde's own error would show values.
impl fmt::Debug for JsonRejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "JsonRejection({self})")
    }
}

impl std::error::Error for JsonRejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Where decoding stopped.
pub(crate) fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// An error of serde_json, without its text: that contains values.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io => return "failed to read or write JSON".to_owned(),
        Category::Data => "JSON of another type than expected",
        Category::Syntax => "invalid JSON",
        Category::Eof => "JSON that ends too early",
    };
    // Without a position it comes from a value in memory.
    if error.line() == 0 { what.to_owned() } else { format!("{what} at {}", position(error)) }
}

#[cfg(test)]
mod tests;
