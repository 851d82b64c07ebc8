//! The library's side of speaking to a live mount.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use notapipe::Scratch;
use notapipe::archive::{Format, Unpack};
use notapipe::control::{ControlError, Description, Server, SocketDirs, Unmounted};
use notapipe::store::{Limits, Timestamp};

use crate::support::{host_directory, owner, read, tree};

struct Live {
    host: crate::support::Host,
    scratch: Option<Scratch>,
    server: Option<Server>,
    socket_dirs: SocketDirs,
}

impl Live {
    fn new() -> Self {
        let host = host_directory();
        for name in ["m", "sockets"] {
            fs::create_dir(host.path().join(name)).unwrap();
        }
        let socket_dirs = host.path().join("sockets");
        fs::set_permissions(&socket_dirs, fs::Permissions::from_mode(0o700)).unwrap();
        let limits = Limits {
            bytes: 16 << 20,
            inodes: 100,
        };
        let scratch = Scratch::builder()
            .limits(limits)
            .public_at(host.path().join("m"))
            .build()
            .unwrap();
        let socket_dirs = SocketDirs::new([socket_dirs]);
        let description = Description {
            name: "test".to_owned(),
            ..Description::default()
        };
        let server = Server::start(&socket_dirs, scratch.handle(), description);
        Self {
            host,
            scratch: Some(scratch),
            server: Some(server.unwrap()),
            socket_dirs,
        }
    }

    fn mount(&self) -> std::path::PathBuf {
        self.host.path().join("m")
    }

    fn scratch(&self) -> &Scratch {
        self.scratch.as_ref().unwrap()
    }

    fn sockets(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.host.path().join("sockets")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn asked_and_answered() {
    let mut live = Live::new();
    live.scratch().write("a/b", "content").unwrap();
    let mut client = live.socket_dirs.find(&live.mount()).unwrap();
    let status = client.status().unwrap();
    assert_eq!(Path::new(&status.path), live.mount());
    assert_eq!((status.used_bytes, status.used_inodes), (4096, 3));
    assert_eq!(status.description.name, "test");
    let status = client.resize(Some(1 << 20), None).unwrap();
    assert_eq!((status.limit_bytes, status.limit_inodes), (1 << 20, 100));
    let refused = client.resize(Some(1 << 20), Some(2)).unwrap_err();
    assert!(matches!(&refused, ControlError::Refused { kind, .. } if kind == "below-used"));
    assert_eq!(live.scratch().usage().limits.inodes, 100);

    let file = tempfile::tempfile().unwrap();
    let packed = client
        .snapshot(&file, Format::TarZst, |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!((packed.files, packed.bytes), (2, 7));
    let mut file = file;
    std::io::Seek::rewind(&mut file).unwrap();
    let mut back = tree();
    Unpack::new(&mut back, owner(), Timestamp::now())
        .read(file)
        .unwrap();
    assert_eq!(read(&back, "a/b"), b"content");

    // While a file is open in it, it stays.
    let open = File::open(live.mount().join("a/b")).unwrap();
    let refused = live
        .socket_dirs
        .find(&live.mount())
        .unwrap()
        .unmount(false, || {});
    let told = refused.unwrap_err();
    assert!(
        matches!(&told, ControlError::Refused { kind, .. } if kind == "busy"),
        "{told}"
    );
    drop(open);

    // The end: who asked for it waits for how it went.
    let client = live.socket_dirs.find(&live.mount()).unwrap();
    let asked = std::thread::spawn(move || client.unmount(false, || {}));
    let scratch = live.scratch.take().unwrap();
    scratch.wait(&notapipe::Interrupt::new().unwrap()).unwrap();
    scratch.unmount().unwrap();
    assert!(!asked.is_finished());
    let saved = Unmounted::saved_to(Some("there".to_owned()));
    live.server.take().unwrap().finish(Ok(saved.clone()));
    assert_eq!(asked.join().unwrap().unwrap(), saved);
    assert_eq!(live.sockets().len(), 0);
    assert!(matches!(
        live.socket_dirs.find(&live.mount()),
        Err(ControlError::NotMounted { .. })
    ));
}

/// As a program in any language would speak.
#[test]
fn lines_of_json() {
    let mut live = Live::new();
    let stream = UnixStream::connect(&live.sockets()[0]).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut ask = |line: &str| {
        (&stream).write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        answer
    };
    for (request, answer) in [
        (
            "{\"version\":1,\"command\":\"status\"}\n",
            "{\"status\":{\"path\":\"",
        ),
        (
            "{\"version\":1,\"command\":\"resize\",\"inodes\":50}\n",
            "\"limit_inodes\":50",
        ),
        (
            "{\"version\":2,\"command\":\"status\"}\n",
            "version 2 is asked for, 1 is spoken",
        ),
        (
            "{\"version\":1,\"command\":\"dance\"}\n",
            "\"kind\":\"request\"",
        ),
        (
            "{\"version\":1,\"command\":\"snapshot\",\"format\":\"tar\"}\n",
            "no descriptor",
        ),
        ("not json\n", "\"kind\":\"request\""),
        ("\n", "\"kind\":\"request\""),
        // It is still there after all that.
        (
            "{\"version\":1,\"command\":\"status\",\"new\":[1,2]}\n",
            "{\"status\":{",
        ),
    ] {
        let told = ask(request);
        assert!(told.contains(answer), "{request}: {told}");
    }
    // A line without an end is not read for ever.
    let stream = UnixStream::connect(&live.sockets()[0]).unwrap();
    let _ = (&stream).write_all(&vec![b'x'; 200 << 10]);
    let mut rest = Vec::new();
    let _ = (&stream).read_to_end(&mut rest);
    assert!(rest.is_empty());
    live.scratch.take().unwrap().unmount().unwrap();
}

#[test]
fn a_leftover_is_removed_and_an_open_room_not_trusted() {
    let live = Live::new();
    let dead = live.host.path().join("sockets/0-99999.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    let found = live.socket_dirs.all();
    assert_eq!(found.len(), 1);
    assert!(!dead.exists());

    let socket_dirs = live.host.path().join("sockets");
    for mode in [0o777, 0o750, 0o701] {
        fs::set_permissions(&socket_dirs, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(live.socket_dirs.all().len(), 0);
        assert!(matches!(
            live.socket_dirs.find(&live.mount()),
            Err(ControlError::NoAnswer { .. })
        ));
        let refused = live.socket_dirs.open().unwrap_err().to_string();
        assert!(
            refused.contains("lets others in; chmod 700 it"),
            "{refused}"
        );
    }
    fs::set_permissions(&socket_dirs, fs::Permissions::from_mode(0o700)).unwrap();
    let link = live.host.path().join("link");
    std::os::unix::fs::symlink(&socket_dirs, &link).unwrap();
    assert!(SocketDirs::new([link]).open().is_err());
    assert!(
        SocketDirs::new([live.host.path().join("absent/deeper")])
            .open()
            .is_err()
    );
    let made = SocketDirs::new([
        live.host.path().join("absent/x"),
        live.host.path().join("made"),
    ]);
    assert_eq!(made.open().unwrap(), live.host.path().join("made"));
    drop(live);
}

#[test]
fn a_snapshot_into_a_closed_pipe_or_by_a_caller_that_went_ends() {
    let live = Live::new();
    live.scratch().write("big", vec![7_u8; 4 << 20]).unwrap();
    let mut client = live.socket_dirs.find(&live.mount()).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let told = client.snapshot(&writer, Format::Tar, |_| ControlFlow::Continue(()));
    let told = told.unwrap_err().to_string();
    assert!(told.contains("Broken pipe"), "{told}");
    // It answers as before.
    assert_eq!(client.status().unwrap().used_inodes, 2);
    drop(live);
}

/// A mount that is gone may have left its number to the next one before its server has ended.
#[test]
fn the_socket_of_a_later_mount_stays() {
    let mut live = Live::new();
    let [socket] = live.sockets().try_into().unwrap();
    fs::remove_file(&socket).unwrap();
    let later = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    live.scratch.take().unwrap().unmount().unwrap();
    let end = Ok(Unmounted::saved_to(None));
    live.server.take().unwrap().finish(end);
    assert_eq!(live.sockets(), [socket]);
    drop(later);
}
