//! The file `.env` of a function's bundle. Its values can be secret, so that errors name the file
//! and the line only.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The values of a `.env`. If a name occurs twice, the later value wins.
pub(crate) type Values = BTreeMap<String, String>;

/// A `.env` that cannot be read. To go on without its values would be to work on the wrong
/// resources, or on none.
#[derive(thiserror::Error)]
#[error("failed to read {}{}: {problem}", path.display(), at_line(.line))]
pub(crate) struct DotenvError {
    path: PathBuf,
    line: Option<usize>,
    #[source]
    problem: Problem,
}

/// `main` prints a returned error by `Debug`, and a person reads it.
impl fmt::Debug for DotenvError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn at_line(line: &Option<usize>) -> String {
    line.map(|line| format!(", line {line}")).unwrap_or_default()
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Io(#[source] std::io::Error),
    #[error("it is a link to a file that does not exist")]
    DanglingLink,
    #[error("it is a folder")]
    Folder,
    #[error("not UTF-8 text")]
    NotUtf8,
    #[error("a NUL byte, which the value of an environment variable must not have")]
    Nul,
    #[error("expected NAME=value, with quotes closed")]
    NotAnAssignment,
}

/// Reads a `.env`; a file that does not exist has no values.
pub(crate) fn read(path: &Path) -> Result<Values, DotenvError> {
    let fail = |line, problem| DotenvError { path: path.to_owned(), line, problem };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // The link itself exists if its target does not.
            let is_link = path.symlink_metadata().is_ok();
            return if is_link {
                Err(fail(None, Problem::DanglingLink))
            } else {
                Ok(Values::new())
            };
        }
        Err(_) if path.is_dir() => return Err(fail(None, Problem::Folder)),
        Err(error) => return Err(fail(None, Problem::Io(error))),
    };
    parse(&bytes).map_err(|(line, problem)| fail(Some(line), problem))
}

/// The values, or the line that is wrong, counted from 1.
fn parse(bytes: &[u8]) -> Result<Values, (usize, Problem)> {
    let line_at = |offset| 1 + bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
    let text = std::str::from_utf8(bytes)
        .map_err(|error| (line_at(error.valid_up_to()), Problem::NotUtf8))?;
    if let Some(offset) = text.find('\0') {
        return Err((line_at(offset), Problem::Nul));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines { rest: text.as_bytes(), number: Rc::default(), is_within: false };
    let number = Rc::clone(&lines.number);
    dotenvy::from_read_iter(lines).collect::<Result<_, _>>().map_err(|error| match error {
        // What is wrong ends in the last line that was read, and quotes can hold several lines.
        dotenvy::Error::LineParse(wrong, _) => {
            let lines = wrong.trim_end_matches('\n').matches('\n').count();
            (number.get() - lines, Problem::NotAnAssignment)
        }
        dotenvy::Error::Io(error) => (number.get(), Problem::Io(error)),
        _ => (number.get(), Problem::NotAnAssignment),
    })
}

/// Gives one line at most to each reader's call, and counts them: errors of `dotenvy` do not say
/// where they are.
struct Lines<'a> {
    rest: &'a [u8],
    /// The line that was read last, counted from 1.
    number: Rc<Cell<usize>>,
    /// Whether a part of that line is still to be read.
    is_within: bool,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end_of_line = self
            .rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(self.rest.len(), |index| index + 1);
        let len = end_of_line.min(buffer.len());
        let (part, rest) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(part);
        if !self.is_within && len > 0 {
            self.number.set(self.number.get() + 1);
        }
        self.is_within = len < end_of_line;
        self.rest = rest;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        parse(text.as_bytes()).expect("well-formed").into_iter().collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_later_of_two_values_wins() {
        assert_eq!(values("A=first\nB=\"x y\"\nA=later\n"), [pair("A", "later"), pair("B", "x y")]);
    }

    #[test]
    fn a_byte_order_mark_is_not_a_part_of_the_first_name() {
        assert_eq!(values("\u{feff}StackName=quakes\r\n"), [pair("StackName", "quakes")]);
    }

    #[test]
    fn an_error_names_the_line_and_never_a_value() {
        let long = format!("A={}\nB=\"1\n2\"\nnot one", "x".repeat(20_000));
        let cases: [(&[u8], usize, &str); 8] = [
            (long.as_bytes(), 4, "expected NAME=value"),
            (b"A=1\nB='secret\n'secret secret\nC=2\n", 2, "expected NAME=value"),
            (b"A=1\nno secret here\n", 2, "expected NAME=value"),
            (b"A=1\n# A\n\nB='secret\nC=2\n", 4, "quotes closed"),
            (b"secret\nA=1", 1, "expected NAME=value"),
            (b"A=1\nB=\"secret\" secret\n", 2, "expected NAME=value"),
            (b"A=1\nB=2\nC=sec\0ret\n", 3, "NUL byte"),
            (b"A=1\nB=secret\xff\n", 2, "not UTF-8"),
        ];
        for (text, line, expected) in cases {
            let (found, problem) = parse(text).expect_err("it is wrong");
            assert_eq!(found, line, "{problem}");
            let path = PathBuf::from("/var/task/.env");
            let error = DotenvError { path, line: Some(found), problem };
            let message = crate::failure::Chain(&error).to_string();
            assert!(message.contains(expected), "{message}");
            assert!(
                message.starts_with(&format!("failed to read /var/task/.env, line {line}: ")),
                "{message}"
            );
            assert!(
                !message.contains("secret") && !format!("{error:?}").contains("secret"),
                "{error:?}"
            );
        }
    }

    /// A folder of its own for one test.
    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("streambot-dotenv-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a writable folder");
        folder
    }

    #[test]
    fn a_file_that_does_not_exist_has_no_values() {
        let folder = folder("missing");
        assert_eq!(read(&folder.join(".env")).expect("no error"), Values::new());
        std::fs::remove_dir_all(folder).expect("the folder is there");
    }

    #[cfg(unix)]
    #[test]
    fn a_dangling_link_and_a_folder_are_errors() {
        let folder = folder("odd");
        let (link, inner) = (folder.join(".env"), folder.join("folder"));
        std::os::unix::fs::symlink(folder.join("nothing"), &link).expect("a link");
        std::fs::create_dir(&inner).expect("a folder");
        let message = |path: &Path| read(path).expect_err("an error").to_string();
        assert!(
            message(&link).ends_with(".env: it is a link to a file that does not exist"),
            "{}",
            message(&link)
        );
        assert!(message(&inner).ends_with("folder: it is a folder"), "{}", message(&inner));
        std::fs::remove_dir_all(folder).expect("the folder is there");
    }
}
