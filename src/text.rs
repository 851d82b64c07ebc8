//! Text of others in messages: names, command lines, what another program said.
//!
//! Such text may hold all that a name may: sequences that a terminal obeys, marks that turn the direction of what
//! follows, characters without a width, line breaks, bytes that are not UTF-8; and a megabyte of it. Here it becomes
//! one line of bounded length that shows what is there. Every error of this crate shows the names in it so.
//!
//! ```
//! use notapipe::text::{quoted, shown};
//!
//! assert_eq!(quoted("a \u{1b}[2Jb").to_string(), r#""a \u{1b}[2Jb""#);
//! assert_eq!(shown("\u{202e}bg.A").to_string(), r"\u{202e}bg.A");
//! assert!(quoted(&"a".repeat(1 << 20)).to_string().len() < 400);
//! ```

use std::any::Any;
use std::error::Error;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;

/// What is longer, in bytes, is shown with its middle left out.
const MOST_BYTES: usize = 300;
/// More entries of a list are a number.
const MOST_ENTRIES: usize = 10;

/// Text of others on one line, as [`shown`] and [`quoted`] make it.
#[derive(Clone, Copy)]
pub struct Shown<'t> {
    text: &'t [u8],
    in_quotes: bool,
    most_bytes: usize,
}

/// `text` as it is, with everything escaped that cannot be seen, or that a terminal would not just print.
///
/// Of a text of more than 300 bytes the middle is left out; its length is told instead.
///
/// ```
/// assert_eq!(notapipe::text::shown("it's\tone \"line\"").to_string(), "it's\\tone \"line\"");
/// ```
pub fn shown<T: AsRef<OsStr> + ?Sized>(text: &T) -> Shown<'_> {
    Shown::of_bytes(text.as_ref().as_bytes(), false)
}

/// `text` as [`shown`], in double quotes, with those in it and backslashes escaped.
///
/// ```
/// use std::path::Path;
///
/// assert_eq!(notapipe::text::quoted(Path::new("a \"b\"")).to_string(), r#""a \"b\"""#);
/// ```
pub fn quoted<T: AsRef<OsStr> + ?Sized>(text: &T) -> Shown<'_> {
    Shown::of_bytes(text.as_ref().as_bytes(), true)
}

impl<'t> Shown<'t> {
    pub(crate) fn of_bytes(text: &'t [u8], in_quotes: bool) -> Self {
        Self {
            text,
            in_quotes,
            most_bytes: MOST_BYTES,
        }
    }

    /// With another length from which on the middle is left out.
    ///
    /// ```
    /// let line = notapipe::text::shown("0123456789").at_most(4);
    /// assert_eq!(line.to_string(), "01…89 (10 bytes)");
    /// ```
    #[must_use]
    pub fn at_most(self, most_bytes: usize) -> Self {
        Self { most_bytes, ..self }
    }

    /// The beginning and the end of what is too long, without halves of characters.
    fn ends(&self) -> Option<(&'t [u8], &'t [u8])> {
        let continues = |&at: &usize| self.text[at] & 0xc0 == 0x80;
        if self.text.len() <= self.most_bytes {
            return None;
        }
        let half = self.most_bytes / 2;
        let last = self.text.len() - half;
        // A character has at most four bytes; what is no UTF-8 is cut anywhere.
        let from = half.saturating_sub(3)..=half;
        let head = from.rev().find(|at| !continues(at)).unwrap_or(half);
        let to = last..self.text.len().min(last + 4);
        let tail = to.into_iter().find(|at| !continues(at)).unwrap_or(last);
        Some((&self.text[..head], &self.text[tail..]))
    }

    fn escape(&self, bytes: &[u8], out: &mut String) {
        for chunk in bytes.utf8_chunks() {
            // A mark that joins a letter before it is seen, and escaped where nothing is before it.
            for piece in chunk.valid().split_inclusive(['"', '\'', '\\']) {
                let text = piece.trim_end_matches(['"', '\'', '\\']);
                out.extend(text.escape_debug());
                for mark in piece[text.len()..].chars() {
                    if self.in_quotes && mark != '\'' {
                        out.push('\\');
                    }
                    out.push(mark);
                }
            }
            for byte in chunk.invalid() {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

/// As it is displayed.
impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.in_quotes { "\"" } else { "" };
        let mut out = String::from(quote);
        match self.ends() {
            None => self.escape(self.text, &mut out),
            Some((head, tail)) => {
                self.escape(head, &mut out);
                out.push('…');
                self.escape(tail, &mut out);
            }
        }
        out.push_str(quote);
        if self.text.len() > self.most_bytes {
            let _ = write!(out, " ({} bytes)", self.text.len());
        }
        f.pad(&out)
    }
}

/// Whether a terminal just prints `c`, so that it can be seen.
///
/// ```
/// assert!(notapipe::text::is_seen('é') && !notapipe::text::is_seen('\u{200b}'));
/// ```
pub fn is_seen(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}

/// The words of an error and of its causes, joined by `: `; those of the operating system without their number.
///
/// ```
/// let error = std::io::Error::from_raw_os_error(13);
/// assert_eq!(notapipe::text::error_chain(&error), "Permission denied");
/// ```
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut message = String::new();
    let mut last = String::new();
    for error in std::iter::successors(Some(error), |&error| error.source()) {
        let text = without_numbers(error.to_string());
        // An error that shows its cause already, as transparent ones do.
        if text.is_empty() || last.ends_with(&text) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&text);
        last = text;
    }
    message
}

/// Without the numbers of the operating system's errors, also where an error shows them in the middle of its own words.
fn without_numbers(mut text: String) -> String {
    const BEFORE: &str = " (os error ";
    let mut from = 0;
    while let Some(found) = text[from..].find(BEFORE) {
        let start = from + found;
        let number = &text[start + BEFORE.len()..];
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && number[digits..].starts_with(')') {
            text.replace_range(start..start + BEFORE.len() + digits + 1, "");
            from = start;
        } else {
            from = start + BEFORE.len();
        }
    }
    text
}

/// What a panic said; empty where its payload is no text.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// The first entries of a list, joined by commas, and how many there are besides.
pub(crate) fn list<D: fmt::Display>(entries: impl IntoIterator<Item = D>) -> String {
    let mut entries = entries.into_iter();
    let first: Vec<String> = entries
        .by_ref()
        .take(MOST_ENTRIES)
        .map(|it| it.to_string())
        .collect();
    let list = first.join(", ");
    match entries.count() {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What terminals obey, what changes how the rest of a line is read, and what is not seen.
    #[test]
    fn nothing_that_a_terminal_obeys_or_a_person_cannot_see_is_left() {
        let ranges = [
            0..=0x1f,
            0x7f..=0x9f,
            0xad..=0xad,
            0x61c..=0x61c,
            0x180e..=0x180e,
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x206f,
            0xfeff..=0xfeff,
            0xfff9..=0xfffb,
            0xe0000..=0xe007f,
        ];
        for c in ranges.into_iter().flatten().filter_map(char::from_u32) {
            let text = format!("a{c}b");
            for told in [shown(&text).to_string(), quoted(&text).to_string()] {
                assert!(!told.contains(c), "{:x}: {told}", u32::from(c));
            }
        }
        assert_eq!(
            Shown::of_bytes(b"a\xff\xc3", false).to_string(),
            r"a\xff\xc3"
        );
    }

    #[test]
    fn what_can_be_read_stays() {
        for text in ["é ü", "e\u{301}", "日本語", "#!$&*()[]{};<>?|~`", "it's"] {
            assert_eq!(shown(text).to_string(), text);
            assert_eq!(quoted(text).to_string(), format!("\"{text}\""));
        }
        assert_eq!(shown(r#"a\"b""#).to_string(), r#"a\"b""#);
        assert_eq!(quoted(r#"a\"b""#).to_string(), r#""a\\\"b\"""#);
        // What was escaped before is not escaped again.
        let once = shown("\u{1b}").to_string();
        assert_eq!(shown(&once).to_string(), once);
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        for text in [
            "a".repeat(1 << 20),
            "é".repeat(1 << 19),
            "日".repeat(1 << 19),
        ] {
            let told = quoted(&text).to_string();
            assert!(!told.contains("\\x"), "{told}");
            assert!(told.len() < 400, "{}", told.len());
            assert!(
                told.ends_with(&format!("\" ({} bytes)", text.len())),
                "{told}"
            );
        }
        for bytes in [vec![0x80; 1000], vec![0xff; 1000], vec![0xf0; 1000]] {
            let told = Shown::of_bytes(&bytes, false).to_string();
            assert!(told.len() < 4 * 300 + 40, "{told}");
        }
        assert_eq!(shown("abc").at_most(0).to_string(), "… (3 bytes)");
    }

    #[test]
    fn a_long_list_is_told_by_its_number() {
        assert_eq!(list(["a", "b"]), "a, b");
        assert_eq!(
            list(1..=3000),
            "1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2990 more"
        );
    }
}
