//! Whatever changes through the mount is seen through the library, and the other way round, at
//! once, whatever the kernel has cached.
//!
//! The process is one that lives on, so that its open files, mappings and the kernel's caches do.

use notapipe::fuse::Profile;
use notapipe::{Error, Scratch};

use crate::support::site::{Puppet, in_own_process};

/// In a scratch directory with a process in it, once for each profile.
fn with_puppet(test: impl Fn(&Scratch, &mut Puppet)) {
    for profile in [Profile::Fast, Profile::Observed] {
        println!("{profile:?}");
        let dir = tempfile::tempdir().unwrap();
        let builder = Scratch::builder().public_at(dir.path());
        let scratch = builder.profile(profile).build().unwrap();
        let mut puppet = Puppet::start(dir.path());
        test(&scratch, &mut puppet);
        drop(puppet);
        scratch.unmount().unwrap();
    }
}

const READ: &str = "open('x').read()";

#[test]
fn new_content_replaces_what_was_cached() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            // Longer, shorter, of the same length, none.
            for content in ["one", "a longer one", "two", "six", "", "again"] {
                scratch.write("x", content).unwrap();
                assert_eq!(puppet.ask(READ), content);
                assert_eq!(
                    puppet.ask("os.stat('x').st_size"),
                    content.len().to_string()
                );
                assert_eq!(puppet.ask(READ), content);
            }
        });
    });
}

#[test]
fn a_file_that_is_open_shows_new_content() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", "before").unwrap();
            puppet.tell("f = os.open('x', os.O_RDWR)");
            assert_eq!(puppet.ask("os.pread(f, 100, 0)"), "b'before'");
            scratch.write("x", "behind it").unwrap();
            assert_eq!(puppet.ask("os.pread(f, 100, 0)"), "b'behind it'");
            assert_eq!(puppet.ask("os.fstat(f).st_size"), "9");
            assert_eq!(puppet.ask("os.lseek(f, 0, os.SEEK_END)"), "9");
            puppet.ask("os.pwrite(f, b'B', 0)");
            assert_eq!(scratch.read("x").unwrap(), "Behind it");
        });
    });
}

#[test]
fn a_file_that_is_mapped_shows_new_content() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", vec![b'a'; 10_000]).unwrap();
            puppet.tell("f = os.open('x', os.O_RDWR); m = mmap.mmap(f, 10000)");
            assert_eq!(puppet.ask("m[0:2], m[9998:]"), "(b'aa', b'aa')");
            scratch.write("x", vec![b'b'; 10_000]).unwrap();
            assert_eq!(puppet.ask("m[0:2], m[9998:]"), "(b'bb', b'bb')");
        });
    });
}

#[test]
fn a_mapped_store_is_read_at_once() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", vec![b'a'; 10_000]).unwrap();
            puppet.tell("f = os.open('x', os.O_RDWR); m = mmap.mmap(f, 10000)");
            for byte in ["b", "c", "d"] {
                // Neither msync nor munmap nor close.
                puppet.tell(&format!("m[5000] = ord('{byte}')"));
                assert_eq!(scratch.read("x").unwrap()[5000], byte.as_bytes()[0]);
            }
        });
    });
}

#[test]
fn mapped_stores_are_in_what_remains() {
    in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::builder().public_at(dir.path()).build().unwrap();
        let mut puppet = Puppet::start(dir.path());
        puppet.tell("f = os.open('x', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 8192); m = mmap.mmap(f, 8192)");
        puppet.tell("m[0:5] = b'first'; m[8187:8192] = b'final'");
        drop(puppet);
        let bytes = crate::support::read(&scratch.into_remains().unwrap().tree, "x");
        assert_eq!(
            (&bytes[..5], &bytes[8187..]),
            (&b"first"[..], &b"final"[..])
        );
    });
}

#[test]
fn a_write_through_the_library_keeps_mapped_stores_elsewhere() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", "x").unwrap();
            scratch.write("y", vec![0; 4096]).unwrap();
            puppet.tell("f = os.open('y', os.O_RDWR); m = mmap.mmap(f, 4096); m[0:4] = b'mine'");
            scratch.write("x", "another file").unwrap();
            assert_eq!(puppet.ask("m[0:4]"), "b'mine'");
            assert_eq!(&scratch.read("y").unwrap()[..4], b"mine");
        });
    });
}

#[test]
fn a_name_that_was_missing_appears() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            for name in ["x", "d/y", "d/e/z"] {
                let look = format!("os.path.exists('{name}')");
                assert_eq!(puppet.ask(&look), "False");
                assert_eq!(puppet.ask(&look), "False");
                scratch.write(name, "here").unwrap();
                assert_eq!(puppet.ask(&look), "True", "{name}");
                assert_eq!(puppet.ask(&format!("open('{name}').read()")), "here");
            }
            assert_eq!(puppet.ask("os.path.exists('f')"), "False");
            scratch.create_dir("f/g").unwrap();
            assert_eq!(puppet.ask("os.path.isdir('f/g')"), "True");
        });
    });
}

#[test]
fn a_name_that_was_known_disappears() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("d/e/x", "here").unwrap();
            scratch.write("y", "here").unwrap();
            for name in ["d/e/x", "d/e", "d", "y"] {
                assert_eq!(puppet.ask(&format!("os.path.exists('{name}')")), "True");
            }
            scratch.remove("d").unwrap();
            scratch.remove("y").unwrap();
            for name in ["d/e/x", "d/e", "d", "y"] {
                assert_eq!(
                    puppet.ask(&format!("os.path.exists('{name}')")),
                    "False",
                    "{name}"
                );
            }
            // What takes its place may be something else.
            scratch.write("d", "a file now").unwrap();
            scratch.create_dir("y").unwrap();
            assert_eq!(
                puppet.ask("open('d').read(), os.listdir('y')"),
                "('a file now', [])"
            );
        });
    });
}

#[test]
fn a_cached_listing_shows_what_changed() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.create_dir("d").unwrap();
            let names = "sorted(os.listdir('d'))";
            let mut expected = Vec::new();
            for number in 0..20 {
                assert_eq!(puppet.ask(names), format!("{expected:?}").replace('"', "'"));
                let name = format!("{number:02}");
                scratch.write(format!("d/{name}"), "").unwrap();
                expected.push(name);
            }
            scratch.remove("d/07").unwrap();
            expected.remove(7);
            assert_eq!(puppet.ask(names), format!("{expected:?}").replace('"', "'"));
        });
    });
}

#[test]
fn a_file_removed_while_it_is_open_stays_readable() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", "still here").unwrap();
            puppet.tell("f = os.open('x', os.O_RDWR)");
            let before = scratch.usage();
            scratch.remove("x").unwrap();
            assert_eq!(puppet.ask("os.pread(f, 100, 0)"), "b'still here'");
            assert_eq!(
                puppet.ask("os.pwrite(f, b'S', 0), os.fstat(f).st_nlink"),
                "(1, 0)"
            );
            assert_eq!(puppet.ask("os.pread(f, 100, 0)"), "b'Still here'");
            // A new one of that name is another file.
            scratch.write("x", "new").unwrap();
            assert_eq!(
                puppet.ask("os.pread(f, 100, 0), open('x').read()"),
                "(b'Still here', 'new')"
            );
            puppet.tell("os.close(f)");
            crate::support::site::until("it is freed", || scratch.usage() == before);
        });
    });
}

#[test]
fn what_a_process_does_is_seen_at_once() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            puppet.tell("f = os.open('x', os.O_RDWR | os.O_CREAT, 0o640)");
            assert_eq!(scratch.read("x").unwrap(), "");
            puppet.ask("os.write(f, b'written, not closed')");
            assert_eq!(scratch.read("x").unwrap(), "written, not closed");
            puppet.tell("os.ftruncate(f, 7)");
            assert_eq!(scratch.read("x").unwrap(), "written");
            puppet.tell("os.fchmod(f, 0o600)");
            assert_eq!(scratch.metadata("x").unwrap().mode, 0o600);
            puppet.tell("os.utime('x', ns=(1, 2000000003))");
            let mtime = scratch.metadata("x").unwrap().mtime;
            assert_eq!(
                mtime,
                (std::time::UNIX_EPOCH + std::time::Duration::new(2, 3)).into()
            );
            puppet.tell("os.mkdir('d'); os.rename('x', 'd/y'); os.link('d/y', 'z')");
            assert!(matches!(scratch.read("x"), Err(Error::Scratch { .. })));
            assert_eq!(scratch.read("d/y").unwrap(), "written");
            assert_eq!(scratch.metadata("z").unwrap().nlink, 2);
            puppet.tell("os.unlink('d/y'); os.rmdir('d')");
            assert_eq!(scratch.list(".").unwrap(), [std::path::Path::new("z")]);
        });
    });
}

#[test]
fn appends_of_both_sides_follow_each_other() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            puppet.tell("f = os.open('x', os.O_WRONLY | os.O_APPEND | os.O_CREAT)");
            let mut expected = String::new();
            for number in 0..10 {
                puppet.ask(&format!("os.write(f, b'{number}')"));
                expected.push_str(&number.to_string());
                assert_eq!(scratch.read("x").unwrap(), expected);
                expected.push('-');
                scratch.write("x", &expected).unwrap();
            }
            assert_eq!(puppet.ask(READ), expected);
        });
    });
}

#[test]
fn a_time_that_the_library_set_is_seen() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", "one").unwrap();
            let before: u128 = puppet.ask("os.stat('x').st_mtime_ns").parse().unwrap();
            // make(1) and others tell by it whether a file has changed.
            crate::support::site::until("time passes", || {
                scratch.write("x", "two").unwrap();
                puppet
                    .ask("os.stat('x').st_mtime_ns")
                    .parse::<u128>()
                    .unwrap()
                    > before
            });
            let after: u128 = puppet.ask("os.stat('x').st_mtime_ns").parse().unwrap();
            let ours = std::time::SystemTime::from(scratch.metadata("x").unwrap().mtime);
            let ours = ours.duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(ours.as_nanos(), after);
        });
    });
}

#[test]
fn both_sides_can_hammer_one_file() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            scratch.write("x", "start").unwrap();
            puppet.tell("import threading");
            puppet.tell("stop = False");
            puppet.tell("def look(): [(open('x').read(), os.stat('x'), os.listdir('.'), os.path.exists('new')) for _ in iter(lambda: stop, True)]");
            puppet.tell("threads = [threading.Thread(target=look) for _ in range(3)]");
            puppet.tell("any(t.start() for t in threads) and None or None");
            for number in 0..200 {
                scratch
                    .write("x", number.to_string().repeat(1 + number % 3000))
                    .unwrap();
                scratch.write("new", "").unwrap();
                scratch.remove("new").unwrap();
            }
            scratch.write("x", "the last word").unwrap();
            puppet.tell("stop = True; [t.join() for t in threads]");
            assert_eq!(puppet.ask(READ), "the last word");
            assert_eq!(puppet.ask("os.path.exists('new')"), "False");
        });
    });
}

/// As a log that somebody empties while its daemon goes on writing.
#[test]
fn a_file_emptied_by_the_library_is_appended_to_from_its_new_end() {
    in_own_process(|| {
        with_puppet(|scratch, puppet| {
            puppet.tell("f = os.open('x', os.O_WRONLY | os.O_APPEND | os.O_CREAT)");
            puppet.ask("os.write(f, b'x' * 10000)");
            scratch.write("x", "").unwrap();
            puppet.ask("os.write(f, b'new')");
            assert_eq!(scratch.read("x").unwrap(), "new");
            assert_eq!(puppet.ask(READ), "new");
        });
    });
}
