//! Values to the text of a `.env` file that dotenvy reads back exactly, and that text to disk,
//! whole or not at all. It refuses to know where the values came from.

use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::error::{Error, Result};

/// The text of a `.env` file, and what could not be in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dotenv {
    /// One `KEY="value"` a line; a value with carriage returns keeps them as they are.
    pub(crate) text: String,
    /// The values left out, in their order.
    pub(crate) skipped: Vec<Skipped>,
}

/// A value a `.env` file cannot hold, and why. It names the key only: a value is never shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    key: String,
    reason: &'static str,
}

impl fmt::Display for Skipped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` is not in .env: {}", self.key, self.reason)
    }
}

/// Writes `values`, each key once, in their order. Every value is double-quoted, because dotenvy
/// would otherwise take a `#`, a space, a quote or a `$` in it as syntax.
pub(crate) fn render<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Dotenv {
    let mut text = String::new();
    let mut skipped = Vec::new();
    for (key, value) in values {
        match refused(key, value) {
            None => {
                text.push_str(key);
                text.push_str("=\"");
                push_escaped(&mut text, value);
                text.push_str("\"\n");
            }
            Some(reason) => skipped.push(Skipped { key: key.to_owned(), reason }),
        }
    }
    Dotenv { text, skipped }
}

fn refused(key: &str, value: &str) -> Option<&'static str> {
    let begins = |first: char| first.is_ascii_alphabetic() || first == '_';
    let continues = |other: char| other.is_ascii_alphanumeric() || other == '_' || other == '.';
    if !key.starts_with(begins) || !key.chars().all(continues) {
        Some("its name must be letters, digits, `_` and `.`, and not begin with a digit")
    } else if value.contains('\0') {
        Some("its value holds a NUL, which no environment variable can")
    } else {
        None
    }
}

/// Escapes what dotenvy 0.15 unescapes between double quotes. It knows no other escapes: a tab or a
/// carriage return stays itself.
fn push_escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' | '"' | '$' => text.extend(['\\', character]),
            '\n' => text.push_str("\\n"),
            _ => text.push(character),
        }
    }
}

/// Puts files in place, each readable by its owner alone and in one step: another process sees the
/// old one or the new one, never a half. None is put in place before all are written, so a disk
/// that is full leaves the old ones, which belong together.
///
/// # Errors
/// Failed, naming the path, when one cannot be written.
pub(crate) fn write_atomically(files: &[(&Path, &[u8])]) -> Result<()> {
    let mut written = Vec::new();
    for (path, contents) in files {
        written
            .push((write_beside(path, contents).map_err(|error| not_written(path, error))?, path));
    }
    for (file, path) in written {
        file.persist(path).map_err(|error| not_written(path, error.error))?;
    }
    Ok(())
}

/// Writes to a temporary file in the folder of `path`. It has mode 0600, which is the mode these
/// files keep.
fn write_beside(path: &Path, contents: &[u8]) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(contents)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn not_written(path: &Path, error: std::io::Error) -> Error {
    let full = matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    );
    let error = Error::failed(format!("writing {}", path.display())).because(error);
    if full {
        error.hint("make room on that disk; what was there before is untouched")
    } else {
        error
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_back(text: &str) -> Vec<(String, String)> {
        dotenvy::from_read_iter(text.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_value_is_quoted_and_on_one_line() {
        let dotenv = render([
            ("StackName", "quakes-staging"),
            ("Empty", ""),
            ("Odd", "a \"b\" $C #d \\e\nf é"),
        ]);
        assert_eq!(
            dotenv.text,
            "StackName=\"quakes-staging\"\nEmpty=\"\"\nOdd=\"a \\\"b\\\" \\$C #d \\\\e\\nf é\"\n"
        );
        assert_eq!(dotenv.skipped, []);
    }

    #[test]
    fn a_key_or_value_no_environment_can_hold_is_left_out_by_name() {
        let dotenv =
            render([("2fast", "x"), ("a-b", "x"), ("", "x"), ("Nul", "a\0b"), ("Fine", "x")]);
        assert_eq!(dotenv.text, "Fine=\"x\"\n");
        let skipped: Vec<_> = dotenv.skipped.iter().map(|skipped| skipped.key.as_str()).collect();
        assert_eq!(skipped, ["2fast", "a-b", "", "Nul"]);
        assert!(!dotenv.skipped[3].to_string().contains('\0'));
    }

    #[test]
    fn a_key_named_export_is_a_key() {
        assert_eq!(
            read_back(&render([("export", "1"), ("Next", "2")]).text),
            [("export".into(), "1".into()), ("Next".into(), "2".into())]
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        std::fs::write(&path, "old, and longer than the new one").unwrap();
        write_atomically(&[(&path, b"new")]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_and_nothing_else_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        let error = write_atomically(&[(&first, b""), (Path::new("/nowhere/at/all/.env"), b"")])
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all/.env"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// Text rich in what a `.env` parser gives a meaning to.
    fn tricky() -> impl Strategy<Value = String> {
        let syntax = prop::sample::select(vec![
            "\"", "'", "\\", "$", "${", "}", "#", " #", "=", "\n", "\r", "\r\n", "\t", " ",
            "\u{a0}", "\u{2028}", "\u{feff}", "export ", "\\n", "A", "é", "🌋",
        ]);
        prop_oneof![
            prop::collection::vec(syntax, 0..24).prop_map(|parts| parts.concat()),
            any::<String>(),
        ]
        .prop_map(|text| text.replace('\0', ""))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn dotenvy_reads_back_what_was_written(values in prop::collection::vec(("[A-Za-z_][A-Za-z0-9_.]{0,12}", tricky()), 0..6)) {
            let borrowed = values.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let dotenv = render(borrowed);
            prop_assert_eq!(&dotenv.skipped, &[]);
            prop_assert_eq!(read_back(&dotenv.text), values);
        }
    }
}
