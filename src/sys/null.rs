//! The null device, for processes that are to read and write nothing.

use std::fs::File;
use std::io;

/// Opens `/dev/null` for reading and writing.
///
/// # Errors
/// What open(2) said; an image without the device is named in the text.
pub(crate) fn open() -> io::Result<File> {
    let opened = File::options().read(true).write(true).open("/dev/null");
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            "there is no /dev/null (mknod -m 666 /dev/null c 1 3)",
        ),
        _ => error,
    })
}
