//! A descriptor as a writer that can be told to stop.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use super::stream::{Sink, Stream};

/// A pipe, a terminal or another descriptor to write to; a wait for its reader can be ended.
///
/// While no reader takes what is written, `go_on` is called every 50 ms; after `Break` writing fails.
/// O_NONBLOCK, which other processes with that pipe would see, is not touched.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// use std::ops::ControlFlow;
///
/// use notapipe::collect::InterruptibleWriter;
///
/// let (mut reader, pipe) = std::io::pipe()?;
/// let mut writer = InterruptibleWriter::new(pipe.into(), || ControlFlow::Break(()))?;
/// writer.write_all(b"this fits")?;
/// assert!(writer.write_all(&[0; 1 << 20]).is_err(), "no reader takes it");
/// # drop(writer);
/// # reader.read_to_end(&mut Vec::new())?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct InterruptibleWriter<'g> {
    sink: Sink,
    go_on: Box<dyn FnMut() -> ControlFlow<()> + Send + 'g>,
}

impl<'g> InterruptibleWriter<'g> {
    /// Takes the descriptor over.
    ///
    /// # Errors
    ///
    /// When it cannot be looked at (fstat(2)).
    pub fn new(
        descriptor: OwnedFd,
        go_on: impl FnMut() -> ControlFlow<()> + Send + 'g,
    ) -> io::Result<Self> {
        let sink = Stream::Descriptor(descriptor).open(|| Ok::<(), io::Error>(()))?;
        let go_on = Box::new(go_on);
        Ok(Self { sink, go_on })
    }
}

impl std::fmt::Debug for InterruptibleWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InterruptibleWriter")
            .finish_non_exhaustive()
    }
}

impl Write for InterruptibleWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let go_on = &mut self.go_on;
        self.sink.write(bytes, || match go_on() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(io::Error::other("writing was interrupted")),
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
