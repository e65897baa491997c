//! Escaping of what is logged, so that data cannot begin a line, end a JSON string, or control a
//! terminal.

use std::fmt::{self, Write};

/// Whether text is printable ASCII without quotes and backslashes: nearly all of it is, and then
/// there is nothing to escape.
pub(crate) fn is_plain(text: &str) -> bool {
    // Without an early end, so that the compiler looks at many bytes at once.
    let is_plain = |byte: u8| (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\');
    text.bytes().fold(true, |plain, byte| plain & is_plain(byte))
}

/// Writes text, with escapes for characters that a log viewer or a terminal could take as a
/// command.
pub(super) struct TextWriter<'a>(pub(super) &'a mut String);

impl Write for TextWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if is_plain(text) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            if is_control(character) {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

/// Writes the inside of a JSON string.
pub(super) struct JsonWriter<'a>(pub(super) &'a mut String);

impl Write for JsonWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if is_plain(text) {
            self.0.push_str(text);
            return Ok(());
        }
        for character in text.chars() {
            match character {
                '"' => self.0.push_str("\\\""),
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\t' => self.0.push_str("\\t"),
                // All of these are of the Basic Multilingual Plane, so that four digits hold them.
                _ if is_control(character) => write!(self.0, "\\u{:04x}", u32::from(character))?,
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}

/// Writes a JSON string with its quotes.
pub(super) fn json_string(line: &mut String, value: impl fmt::Display) {
    line.push('"');
    // An implementation of `Display` may fail: what it wrote until then is logged.
    let _ = write!(JsonWriter(line), "{value}");
    line.push('"');
}

/// Control characters (C0, DEL, C1), the line and paragraph separators of Unicode, and the marks
/// that change the direction in which text is shown.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "a\nb\r\tc\u{1b}[31m\0\u{7f}\u{85}\u{9b}1m\u{2028}\u{2029}\u{202e}\u{2066}\"\\é🦀";

    #[test]
    fn text_shows_control_characters_by_their_escapes() {
        let mut text = String::new();
        TextWriter(&mut text).write_str(HOSTILE).expect("strings take all text");
        assert_eq!(
            text,
            "a\\nb\\r\\tc\\u{1b}[31m\\u{0}\\u{7f}\\u{85}\\u{9b}1m\\u{2028}\\u{2029}\\u{202e}\\u{2066}\"\\é🦀"
        );
    }

    #[test]
    fn json_strings_are_read_back_and_hold_no_control_character() {
        let mut json = String::new();
        json_string(&mut json, HOSTILE);
        assert_eq!(serde_json::from_str::<String>(&json).expect("a JSON string"), HOSTILE);
        assert!(!json.contains(|character: char| character.is_control()
            || ('\u{2028}'..'\u{2070}').contains(&character)));
    }
}
