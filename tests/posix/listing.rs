//! readdir(3), telldir(3), seekdir(3) and getdents64(2).

use std::collections::BTreeMap;
use std::ffi::CStr;

use crate::harness::*;

cases! {
    Anyone: has_the_dots, tells_kinds_and_inodes, five_thousand_entries, positions_can_be_returned_to,
        rewinding_shows_what_is_new, entries_that_come_and_go, removing_while_reading,
        making_while_reading, renaming_while_reading, a_small_buffer, descriptors_have_own_positions,
        needs_a_permission_to_read, of_an_empty_directory, two_readers_and_a_writer, inodes_match_stat;
}

/// A directory stream by libc, which has positions; rustix' has not.
struct Stream(*mut libc::DIR);

impl Stream {
    fn open(path: &CStr) -> Self {
        // SAFETY: a C string.
        let stream = unsafe { libc::opendir(path.as_ptr()) };
        assert!(!stream.is_null(), "opendir");
        Self(stream)
    }

    /// The next entry: its name, kind and inode.
    fn next(&mut self) -> Option<(String, u8, u64)> {
        // SAFETY: the stream is open, and the entry is copied before the next call.
        unsafe {
            let entry = libc::readdir64(self.0);
            if entry.is_null() {
                return None;
            }
            let name = CStr::from_ptr((*entry).d_name.as_ptr())
                .to_string_lossy()
                .into_owned();
            Some((name, (*entry).d_type, (*entry).d_ino))
        }
    }

    fn names(&mut self, count: usize) -> Vec<String> {
        std::iter::from_fn(|| self.next())
            .map(|(name, ..)| name)
            .take(count)
            .collect()
    }

    fn tell(&mut self) -> libc::c_long {
        // SAFETY: the stream is open.
        unsafe { libc::telldir(self.0) }
    }

    fn seek(&mut self, position: libc::c_long) {
        // SAFETY: the stream is open, and the position comes from `tell`.
        unsafe { libc::seekdir(self.0, position) }
    }

    fn rewind(&mut self) {
        // SAFETY: the stream is open.
        unsafe { libc::rewinddir(self.0) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream is open and not used again.
        unsafe { libc::closedir(self.0) };
    }
}

/// Everything that a stream still gives, sorted and with how often.
fn counted(names: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn fill(count: usize) {
    mkdir("d", 0o755).unwrap();
    for number in 0..count {
        open(format!("d/{number:05}"), O::CREATE | O::WRONLY, 0o644).unwrap();
    }
}

fn has_the_dots() {
    fill(3);
    let mut stream = Stream::open(c"d");
    let mut all: Vec<_> = std::iter::from_fn(|| stream.next())
        .map(|(name, kind, _)| (name, kind))
        .collect();
    // The dots come first, as programs have come to expect.
    see!(&all[..2]);
    all.sort();
    see!(all);
    see!(stream.next());
    let (dot, dotdot) = (
        facts("d/.").unwrap().inode(),
        facts("d/..").unwrap().inode(),
    );
    stream.rewind();
    see!("inode of .", stream.next().unwrap().2 == dot);
    see!("inode of ..", stream.next().unwrap().2 == dotdot);
}

fn tells_kinds_and_inodes() {
    make("file", "");
    mkdir("directory", 0o755).unwrap();
    symlink("none", "symlink").unwrap();
    mknod("fifo", libc::S_IFIFO | 0o644, 0).unwrap();
    mknod("socket", libc::S_IFSOCK | 0o644, 0).unwrap();
    let mut stream = Stream::open(c".");
    let mut all: Vec<_> = std::iter::from_fn(|| stream.next())
        .map(|(name, kind, _)| (name, kind))
        .collect();
    all.sort();
    see!(all);
}

fn inodes_match_stat() {
    fill(40);
    link("d/00001", "d/again").unwrap();
    let mut stream = Stream::open(c"d");
    let all: Vec<_> = std::iter::from_fn(|| stream.next()).collect();
    let agree = all
        .iter()
        .all(|(name, _, inode)| facts(format!("d/{name}").as_str()).unwrap().inode() == *inode);
    see!("readdir and stat agree", agree);
}

fn five_thousand_entries() {
    fill(5_000);
    see!(facts("d"));
    see!(names("d").map(|names| names.len()));
    let mut stream = Stream::open(c"d");
    let counts = counted(stream.names(usize::MAX));
    see!("each once", counts.values().all(|&count| count == 1));
    see!(counts.len());
    for number in 0..5_000 {
        unlink(format!("d/{number:05}")).unwrap();
    }
    see!(names("d"));
    see!(rmdir("d"));
}

fn positions_can_be_returned_to() {
    fill(500);
    let mut stream = Stream::open(c"d");
    let mut read = Vec::new();
    let mut positions = Vec::new();
    loop {
        positions.push(stream.tell());
        match stream.next() {
            Some((name, ..)) => read.push(name),
            None => break,
        }
    }
    see!(read.len());
    for at in [0, 1, 2, 3, 250, 499, 501, 100, 502] {
        stream.seek(positions[at]);
        see!(
            format!("at {at}, the same again"),
            stream.next().map(|(name, ..)| name) == read.get(at).cloned()
        );
        see!(
            "and all that follow",
            stream.names(usize::MAX) == read[(at + 1).min(read.len())..]
        );
    }
    // A position is that of an entry, also when entries before it go.
    let next = read[300].clone();
    for name in read[2..250].iter() {
        unlink(format!("d/{name}")).unwrap();
    }
    stream.seek(positions[300]);
    see!(
        "after removing entries before",
        stream.next().map(|(name, ..)| name) == Some(next)
    );
}

fn rewinding_shows_what_is_new() {
    fill(3);
    let mut stream = Stream::open(c"d");
    see!(counted(stream.names(usize::MAX)));
    make("d/new", "");
    unlink("d/00001").unwrap();
    stream.rewind();
    see!(counted(stream.names(usize::MAX)));
}

fn entries_that_come_and_go() {
    fill(1_000);
    let mut stream = Stream::open(c"d");
    let mut read = stream.names(100);
    for number in 0..500 {
        // One goes and comes back, one comes and stays, one comes and goes.
        let _ = unlink(format!("d/{:05}", number * 2));
        make(format!("d/{:05}", number * 2).as_str(), "");
        make(format!("d/new{number}").as_str(), "");
        make("d/short", "");
        unlink("d/short").unwrap();
        read.extend(stream.names(1));
    }
    read.extend(stream.names(usize::MAX));
    let counts = counted(read);
    see!(
        "none twice that stayed",
        (0..500).all(|number| counts.get(&format!("{:05}", number * 2 + 1)) == Some(&1))
    );
    see!(
        "no new one twice",
        (0..500).all(|number| counts
            .get(&format!("new{number}"))
            .is_none_or(|&count| count == 1))
    );
}

fn removing_while_reading() {
    fill(3_000);
    // What `rm -r` does: it must see all, although each one goes as soon as it is seen.
    let mut stream = Stream::open(c"d");
    let mut removed = 0;
    while let Some((name, ..)) = stream.next() {
        if name != "." && name != ".." {
            unlink(format!("d/{name}")).unwrap();
            removed += 1;
        }
    }
    see!(removed);
    see!(names("d"));
    see!(rmdir("d"));
}

fn making_while_reading() {
    fill(1_000);
    // It must end, and miss none that was there before.
    let mut stream = Stream::open(c"d");
    let mut read = Vec::new();
    while let Some((name, ..)) = stream.next() {
        if read.len() < 3_000 {
            make(format!("d/made{}", read.len()).as_str(), "");
        }
        read.push(name);
    }
    let counts = counted(read);
    see!(
        "all old ones once",
        (0..1_000).all(|number| counts.get(&format!("{number:05}")) == Some(&1))
    );
    see!("none twice", counts.values().all(|&count| count == 1));
}

fn renaming_while_reading() {
    fill(500);
    let mut stream = Stream::open(c"d");
    let mut read = stream.names(50);
    for number in 0..100 {
        rename(format!("d/{:05}", number * 5), format!("d/renamed{number}")).unwrap();
    }
    read.extend(stream.names(usize::MAX));
    let counts = counted(read);
    let stayed = (0..500).filter(|number| number % 5 != 0);
    see!(
        "all that kept their names once",
        stayed
            .into_iter()
            .all(|number| counts.get(&format!("{number:05}")) == Some(&1))
    );
}

fn a_small_buffer() {
    fill(20);
    let directory = open("d", O::RDONLY | O::DIRECTORY, 0).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    let mut total = 0;
    let mut calls = 0;
    loop {
        // Two to three entries fit.
        let mut buffer = [0_u8; 80];
        // SAFETY: the buffer is as long as said.
        let read = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                number,
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        assert!(read >= 0, "getdents64");
        if read == 0 {
            break;
        }
        total += read;
        calls += 1;
    }
    see!((total, calls));
    let mut buffer = [0_u8; 8];
    see!(seek(&directory, 0, libc::SEEK_SET));
    // SAFETY: as above; not even one entry fits.
    see!("too small", unsafe {
        (
            libc::syscall(
                libc::SYS_getdents64,
                number,
                buffer.as_mut_ptr(),
                buffer.len(),
            ),
            *libc::__errno_location(),
        )
    });
    let file = create("f");
    let number = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: as above.
    see!("not a directory", unsafe {
        (
            libc::syscall(
                libc::SYS_getdents64,
                number,
                buffer.as_mut_ptr(),
                buffer.len(),
            ),
            *libc::__errno_location(),
        )
    });
}

fn descriptors_have_own_positions() {
    fill(100);
    let (mut a, mut b) = (Stream::open(c"d"), Stream::open(c"d"));
    let half = a.names(50);
    let all = b.names(usize::MAX);
    see!(all.len());
    see!("the same order", half == all[..50]);
    see!("and the rest", a.names(usize::MAX) == all[50..]);
}

fn needs_a_permission_to_read() {
    fill(2);
    see!(chmod("d", 0o311));
    see!(names("d"));
    see!(facts("d/00000"));
    see!(chmod("d", 0o644));
    see!(names("d"));
    see!(facts("d/00000"));
    see!(open("d/00000", O::RDONLY, 0).err());
    see!(chdir("d"));
}

fn of_an_empty_directory() {
    mkdir("d", 0o755).unwrap();
    let mut stream = Stream::open(c"d");
    see!(stream.names(usize::MAX));
    make("d/f", "");
    stream.rewind();
    see!(counted(stream.names(usize::MAX)));
}

fn two_readers_and_a_writer() {
    fill(800);
    at_the_same_time(3, |number| {
        for round in 0..5 {
            if number == 0 {
                for entry in 0..200 {
                    let _ = unlink(format!("d/{:05}", entry * 4));
                    make(format!("d/w{round}.{entry}").as_str(), "");
                }
                continue;
            }
            let counts = counted(Stream::open(c"d").names(usize::MAX));
            let stayed = (0..800).filter(|entry| entry % 4 != 0);
            for entry in stayed {
                assert_eq!(counts.get(&format!("{entry:05}")), Some(&1), "{entry}");
            }
        }
    });
    see!(names("d").map(|names| names.len()));
}
