//! Lines over a socket, with a descriptor beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;

/// The longest line: a status with long paths takes some KiB.
const LINE_MAX: usize = 64 << 10;

/// Lines in both directions.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// Received and not given out yet.
    received: Vec<u8>,
    /// Descriptors that came with it. One is the most that a line brings.
    descriptors: Vec<OwnedFd>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            received: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    /// Sends a line. The descriptor, if any, goes with its first byte.
    pub(super) fn send(
        &self,
        line: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut rest = &text[..];
        let mut descriptor = descriptor;
        while !rest.is_empty() {
            let sent = self.send_some(rest, descriptor.take())?;
            rest = &rest[sent..];
        }
        Ok(())
    }

    fn send_some(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            // The space is of exactly this size.
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let slices = [IoSlice::new(bytes)];
        Ok(rustix::io::retry_on_intr(|| {
            sendmsg(&self.socket, &slices, &mut ancillary, SendFlags::NOSIGNAL)
        })?)
    }

    /// The next line, without its end, and the descriptor that came with it; none at the other side's end.
    pub(super) fn receive(&mut self) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.received.drain(..=end).collect();
                line.pop();
                return Ok(Some((line, self.descriptors.pop())));
            }
            if self.received.len() > LINE_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line is too long",
                ));
            }
            if !self.receive_some()? {
                return Ok(None);
            }
        }
    }

    fn receive_some(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let slices = &mut [IoSliceMut::new(&mut bytes)];
            recvmsg(
                &self.socket,
                slices,
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            )
        });
        let count = match received {
            Ok(message) => message.bytes,
            Err(Errno::CONNRESET) => 0,
            Err(error) => return Err(error.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                // Those beyond the last one are closed here.
                self.descriptors = descriptors.collect();
            }
        }
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
