//! Unix domain sockets with a name in the file system.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use crate::harness::*;

cases! {
    Anyone: carries_bytes_both_ways, datagrams, refuses_a_taken_name, a_name_without_a_listener,
        has_attributes, permissions_decide_who_connects, can_be_renamed, cannot_be_opened;
}

/// An error as its number: the text of `std` says less.
fn code<T>(result: std::io::Result<T>) -> std::result::Result<T, i32> {
    result.map_err(|error| error.raw_os_error().unwrap_or(0))
}

fn carries_bytes_both_ways() {
    let listener = UnixListener::bind("socket").unwrap();
    see!(facts("socket"));
    let child = fork(|| {
        let mut stream = UnixStream::connect("socket").unwrap();
        stream.write_all(b"question").unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).unwrap();
        see!("the child got", Bytes(answer.to_vec()));
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut question = [0; 8];
    stream.read_exact(&mut question).unwrap();
    stream.write_all(b"answer").unwrap();
    wait_for(child);
    see!(Bytes(question.to_vec()));
}

fn datagrams() {
    let receiver = UnixDatagram::bind("receiver").unwrap();
    let sender = UnixDatagram::bind("sender").unwrap();
    see!(code(sender.send_to(b"a message", "receiver")));
    let mut buffer = [0; 100];
    let (len, from) = receiver.recv_from(&mut buffer).unwrap();
    see!(Bytes(buffer[..len].to_vec()));
    see!(from.as_pathname());
    see!(code(receiver.send_to(b"back", "sender")));
    see!(code(receiver.send_to(b"nowhere", "none")));
}

fn refuses_a_taken_name() {
    let listener = UnixListener::bind("socket").unwrap();
    see!(code(UnixListener::bind("socket").map(drop)));
    drop(listener);
    see!(code(UnixListener::bind("socket").map(drop)));
    make("f", "");
    see!(code(UnixListener::bind("f").map(drop)));
    see!(code(UnixListener::bind("none/socket").map(drop)));
    see!(unlink("socket"));
    see!(code(UnixListener::bind("socket").map(drop)));
}

fn a_name_without_a_listener() {
    drop(UnixListener::bind("socket").unwrap());
    see!(code(UnixStream::connect("socket").map(drop)));
    see!(code(UnixStream::connect("none").map(drop)));
    make("f", "");
    see!(code(UnixStream::connect("f").map(drop)));
    mknod("made", libc::S_IFSOCK | 0o644, 0).unwrap();
    see!(code(UnixStream::connect("made").map(drop)));
}

fn has_attributes() {
    let _listener = UnixListener::bind("socket").unwrap();
    see!(chmod("socket", 0o600));
    see!(facts("socket"));
    see!(utimens(
        "socket",
        &timestamps((1, 2), (3, 4)),
        rustix::fs::AtFlags::empty()
    ));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _other = UnixListener::bind("private").unwrap();
    see!(facts("private"));
}

fn permissions_decide_who_connects() {
    let listener = UnixListener::bind("socket").unwrap();
    for mode in [0o400, 0o200, 0o000, 0o777] {
        see!(chmod("socket", mode));
        see!(mode, code(UnixStream::connect("socket").map(drop)));
    }
    drop(listener);
}

fn can_be_renamed() {
    let _listener = UnixListener::bind("socket").unwrap();
    see!(rename("socket", "renamed"));
    see!(link("renamed", "linked"));
    see!(code(UnixStream::connect("renamed").map(drop)));
    see!(code(UnixStream::connect("linked").map(drop)));
    see!(unlink("renamed"));
    see!(code(UnixStream::connect("linked").map(drop)));
    see!(code(UnixStream::connect("socket").map(drop)));
}

fn cannot_be_opened() {
    let _listener = UnixListener::bind("socket").unwrap();
    see!(open("socket", O::RDWR, 0).err());
    see!(open("socket", O::PATH, 0));
    see!(truncate("socket", 0));
}
