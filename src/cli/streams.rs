//! Our own standard streams: one that was closed is an error, and one that takes or gives nothing at the moment is waited
//! for, also where another process made it non-blocking.

use std::fmt::Write as _;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use notapipe::text::is_seen;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use serde::Serialize;

use super::{exit, report};

/// What was closed when the program began: input, output.
static CLOSED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Looks before Rust's runtime does, which opens `/dev/null` where a standard stream is closed: what is written there
/// would be lost without an error.
extern "C" fn look() {
    for (number, closed) in (0..).zip(&CLOSED) {
        // SAFETY: fcntl(2) with F_GETFD touches no memory, and takes any number.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        closed.store(flags == -1, Ordering::Relaxed);
    }
}

// SAFETY: the C library calls what stands in this section before `main`; `look` needs nothing of Rust's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// A standard stream, read and written without a buffer of its own.
#[derive(Clone, Copy, Debug)]
pub struct Stream(BorrowedFd<'static>);

impl Stream {
    fn wait(self, event: PollFlags) -> io::Result<()> {
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::from_borrowed_fd(self.0, event)], None))?;
        Ok(())
    }

    fn retry<T>(
        self,
        event: PollFlags,
        call: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        loop {
            match call(self.0) {
                Err(Errno::AGAIN) => self.wait(event)?,
                Err(Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let buffer = std::cell::RefCell::new(buffer);
        self.retry(PollFlags::IN, |fd| {
            rustix::io::read(fd, &mut **buffer.borrow_mut())
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.retry(PollFlags::OUT, |fd| rustix::io::write(fd, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unless_closed(number: usize, stream: BorrowedFd<'static>) -> io::Result<Stream> {
    match CLOSED[number].load(Ordering::Relaxed) {
        true => Err(is_closed()),
        false => Ok(Stream(stream)),
    }
}

/// Refuses the path of a stream that was closed; all others may be used.
pub fn unless_closed_one(path: &Path) -> io::Result<()> {
    let names = [
        ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"],
        ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"],
    ];
    let number = names
        .iter()
        .position(|names| names.iter().any(|name| path == Path::new(name)));
    match number.is_some_and(|number| CLOSED[number].load(Ordering::Relaxed)) {
        true => Err(is_closed()),
        false => Ok(()),
    }
}

fn is_closed() -> io::Error {
    io::Error::other("it is closed")
}

/// Standard input.
///
/// # Errors
///
/// When it was closed.
pub fn input() -> io::Result<BufReader<Stream>> {
    Ok(BufReader::new(unless_closed(0, stdin())?))
}

/// Standard output.
///
/// # Errors
///
/// When it was closed.
pub fn output() -> io::Result<Stream> {
    unless_closed(1, stdout())
}

/// A descriptor of standard output.
///
/// # Errors
///
/// When it was closed, and when there is no descriptor left.
pub fn output_descriptor() -> io::Result<OwnedFd> {
    output()?.0.try_clone_to_owned()
}

/// Standard error.
pub fn error() -> Stream {
    Stream(stderr())
}

/// Why nothing of ours came out.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct NotPrinted(#[from] pub io::Error);

/// Writes `text` to standard output. What keeps it from there is told, but for a reader that has seen enough.
pub fn print(text: impl AsRef<[u8]>) -> ExitCode {
    match output().and_then(|mut out| out.write_all(text.as_ref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind() != ErrorKind::BrokenPipe {
                report::failure(&NotPrinted(error));
            }
            ExitCode::from(exit::FAILED)
        }
    }
}

/// `value` as JSON over several lines, which ends in a line break.
///
/// What a terminal would not just print is escaped, which changes nothing for a parser.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let exact = serde_json::to_string_pretty(value)?;
    let mut text = String::with_capacity(exact.len() + 1);
    for c in exact.chars() {
        if c == '\n' || is_seen(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text.push('\n');
    Ok(text)
}

/// Prints a value as JSON on standard output.
pub fn print_json(value: &impl Serialize) -> ExitCode {
    match json(value) {
        Ok(text) => print(text),
        Err(error) => {
            report::failure(&error);
            ExitCode::from(exit::FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_and_says_the_same() {
        let value = [
            "a\n\u{1b}\u{7f}\u{9b}b",
            "\u{202e}c",
            "日本 \"\\",
            "\u{e0001}",
        ];
        let text = json(&value).unwrap();
        assert!(text.chars().all(|c| c == '\n' || is_seen(c)), "{text:?}");
        assert!(text.contains("日本"), "{text:?}");
        assert_eq!(serde_json::from_str::<[String; 4]>(&text).unwrap(), value);
    }
}
