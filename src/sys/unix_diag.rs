//! Which sockets are bound in a file system (sock_diag(7)): a bound one keeps its mount busy, and no descriptor of its process
//! leads there.

use std::collections::HashSet;
use std::io;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Of `include/uapi/linux/sock_diag.h`, `netlink.h` and `unix_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_DONE: u16 = 3;
const NLMSG_ERROR: u16 = 2;
const UDIAG_SHOW_VFS: u32 = 0x2;
const UNIX_DIAG_VFS: u16 = 1;
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 16;

/// The inode numbers, in sockfs, of the sockets of our network namespace that are bound in this file system.
pub(crate) fn bound_in(major: u32, minor: u32) -> io::Result<HashSet<u64>> {
    let kernel = SocketAddrNetlink::new(0, 0);
    let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
    let protocol = Some(netlink::SOCK_DIAG);
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, protocol)?;
    rustix::net::sendto(&socket, &request(), SendFlags::empty(), &kernel)?;
    // As the kernel keeps it: 12 bits and 20 (include/linux/kdev_t.h).
    let device = major << 20 | minor;
    let mut found = HashSet::new();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let (_, length) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())
        })?;
        let mut rest = &buffer[..length.min(buffer.len())];
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, message, after)) =
            next(rest, HEADER_BYTES, word(rest, 0), half(rest, 4))
        {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
                _ if bound_to(message) == Some(device) => {
                    found.extend(word(message, 4).map(u64::from));
                }
                _ => {}
            }
            rest = after;
        }
    }
}

/// A `struct nlmsghdr` and a `struct unix_diag_req` that asks for sockets in all states, and where they are bound.
fn request() -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER_BYTES + 24);
    request.extend(40_u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend((libc::AF_UNIX as u32).to_le_bytes());
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(UDIAG_SHOW_VFS.to_ne_bytes());
    request.extend([0; 8]);
    request
}

/// The device in the `struct unix_diag_vfs` among the attributes behind a `struct unix_diag_msg`.
fn bound_to(message: &[u8]) -> Option<u32> {
    let mut rest = message.get(MESSAGE_BYTES..)?;
    while let Some((kind, value, after)) =
        next(rest, 4, half(rest, 0).map(u32::from), half(rest, 2))
    {
        if kind == UNIX_DIAG_VFS {
            return word(value, 4);
        }
        rest = after;
    }
    None
}

/// The kind and the content of a message or an attribute of this length, and what follows it: each begins at a multiple of
/// four.
fn next(
    bytes: &[u8],
    header: usize,
    length: Option<u32>,
    kind: Option<u16>,
) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(length?).ok()?;
    let content = bytes.get(header..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind?, content, after))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
