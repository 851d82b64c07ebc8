//! Directories and files of the host that another user swaps while results are written, and what the way there and back
//! does to owners, modes, attributes and hard links.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use notapipe::collect::AtomicFile;
use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};

use crate::support::site::{Call, Site, Told, USER, Who, both, until, with_own_mounts};
use crate::support::{host_directory, listing};

/// A directory that nothing may be written to or changed in.
struct Secret<'s>(&'s Site, Vec<String>, (u32, i64));

impl<'s> Secret<'s> {
    fn new(site: &'s Site) -> Self {
        for name in ["secret/x", "secret/y", "secret/pipe"] {
            site.write(name, "secret");
            site.chmod(name, 0o600);
        }
        site.chmod("secret", 0o700);
        let (listing, state) = Self::look(site);
        Self(site, listing, state)
    }

    fn look(site: &Site) -> (Vec<String>, (u32, i64)) {
        let path = site.path("secret");
        let there = fs::metadata(&path).unwrap();
        (listing(&path), (there.mode(), there.mtime_nsec()))
    }

    fn is_untouched(&self) {
        assert_eq!(Self::look(self.0), (self.1.clone(), self.2));
        for name in ["x", "y", "pipe"] {
            assert_eq!(self.0.mode(format!("secret/{name}")), 0o600);
        }
    }

    /// Puts a symlink to it into the place of something.
    fn swap_for(&self, name: &str) {
        fs::rename(self.0.path(name), self.0.path("moved")).unwrap();
        symlink(self.0.path("secret"), self.0.path(name)).unwrap();
    }
}

/// A job whose step waits until `meanwhile` is done, and then ends with this status.
fn job(site: &Site, options: &[&str], status: u8, meanwhile: impl FnOnce()) -> Told {
    site.mkfifo("go");
    let go = site.path("go");
    let step = format!(
        "echo new >x; mkdir d; echo new >d/y; read go <{}; exit {status}",
        go.display()
    );
    // Outside of the job's own /tmp, where a FIFO leads nowhere that only a script names.
    let call = site.start(&[&["--tmp", "host"], options, &["--", "sh", "-c", &step]].concat());
    let mut opened = None;
    until("the step is there", || {
        let mut options = File::options();
        let options = options.write(true).custom_flags(libc::O_NONBLOCK);
        opened = options.open(&go).ok();
        opened.is_some()
    });
    meanwhile();
    drop(opened);
    call.finish()
}

#[test]
fn a_directory_that_is_swapped_while_the_job_runs_gets_nothing_elsewhere() {
    for (options, status) in [
        (&["-o", "x=out/x"][..], 0),
        (&["-o", "x=out/", "-o", "d=out/"], 0),
        (&["-o", "d=out"], 0),
        (&["--changed=out"], 0),
        (&["--collect", "**=out"], 0),
        (&["-o", "x", "--pack", "out/x.tar"], 0),
        (&["--report", "out/x"], 0),
        (&["--keep-on-failure", "out/x.tar"], 7),
        (&["--keep-on-failure", "out/kept/"], 7),
    ] {
        both(|site| {
            site.create_dir("out");
            let secret = Secret::new(site);
            let told = job(site, options, status, || secret.swap_for("out"));
            secret.is_untouched();
            assert!(!told.status.success(), "{options:?}");
            assert!(told.stderr.contains("Not a directory"), "{}", told.stderr);
            assert_eq!(listing(&site.path("moved")), [""; 0], "{options:?}");
            let told = told.ended(if status == 0 { 125 } else { 7 });
            if let Some((_, rescue)) = told.stderr.split_once("everything is in \"") {
                fs::remove_file(rescue.split('"').next().unwrap()).unwrap();
            }
        });
    }
}

#[test]
fn another_directory_in_the_place_of_the_one_that_was_named_is_told() {
    both(|site| {
        site.create_dir("out");
        let secret = Secret::new(site);
        let told = job(site, &["--changed=out"], 0, || {
            fs::rename(site.path("out"), site.path("moved")).unwrap();
            fs::rename(site.path("secret"), site.path("out")).unwrap();
        });
        fs::rename(site.path("out"), site.path("secret")).unwrap();
        secret.is_untouched();
        told.ended(125).saying(&["was moved or replaced"]);
    });
}

#[test]
fn a_delivered_directory_that_is_swapped_gives_its_mode_to_nothing_else() {
    for swaps_for_a_symlink in [true, false] {
        both(|site| {
            site.create_dir("out");
            site.mkfifo("pipe");
            let secret = Secret::new(site);
            let words = [
                "-o",
                "d=out/",
                "-o",
                "x=pipe",
                "--",
                "sh",
                "-c",
                "echo x >x; mkdir d; echo new >d/z; chmod 755 d",
            ];
            let call = site.start(&words);
            until("it is in its place", || site.exists("out/d/z"));
            fs::rename(site.path("out/d"), site.path("moved")).unwrap();
            match swaps_for_a_symlink {
                true => symlink(site.path("secret"), site.path("out/d")).unwrap(),
                false => fs::rename(site.path("secret"), site.path("out/d")).unwrap(),
            }
            // It waits for a reader before it goes on.
            assert_eq!(site.read("pipe"), b"x\n");
            call.finish().ended(125);
            if !swaps_for_a_symlink {
                fs::rename(site.path("out/d"), site.path("secret")).unwrap();
            }
            secret.is_untouched();
        });
    }
}

#[test]
fn a_fifo_that_is_swapped_for_a_file_is_not_written_into() {
    for is_symlink in [true, false] {
        both(|site| {
            site.create_dir("out");
            site.mkfifo("out/pipe");
            let secret = Secret::new(site);
            let told = job(site, &["-o", "x=out/pipe"], 0, || {
                fs::remove_file(site.path("out/pipe")).unwrap();
                let (target, place) = (site.path("secret/pipe"), site.path("out/pipe"));
                match is_symlink {
                    true => symlink(target, place).unwrap(),
                    false => fs::hard_link(target, place).unwrap(),
                }
            });
            told.ended(125).saying(&["cannot write to it"]);
            fs::remove_file(site.path("out/pipe")).unwrap();
            secret.is_untouched();
        });
    }
}

#[test]
fn a_hard_link_to_another_file_is_replaced_and_not_written_through() {
    both(|site| {
        let secret = Secret::new(site);
        site.create_dir("out");
        fs::hard_link(site.path("secret/x"), site.path("out/x")).unwrap();
        site.run(&[
            "-o",
            "x=out/x",
            "--",
            "sh",
            "-c",
            "echo new >x; chmod 755 x",
        ])
        .ended(0)
        .silently();
        assert_eq!(site.read("out/x"), b"new\n");
        secret.is_untouched();
    });
}

#[test]
fn a_symlink_of_another_users_is_followed_only_where_it_was_named() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let secret = Secret::new(&site);
    site.create_dir("out");
    let plant = |name: &str| {
        symlink(site.path("secret/x"), site.path(name)).unwrap();
        lchown(site.path(name), Some(USER), Some(USER)).unwrap();
    };
    plant("out/x");
    let made = ["--", "sh", "-c", "echo new >x"];
    site.run(&[&["-o", "x=out/"], &made[..]].concat())
        .ended(0)
        .silently();
    assert_eq!(listing(&site.path("out")), ["x: new\\n"]);
    secret.is_untouched();

    // As the kernel has it where all may make symlinks.
    site.create_dir("all");
    site.chmod("all", 0o1777);
    plant("all/x");
    site.run(&[&["-o", "x=all/x"], &made[..]].concat())
        .ended(125)
        .saying(&["a symlink of another user's"]);
    secret.is_untouched();

    site.write("target", "old");
    symlink("target", site.path("named")).unwrap();
    lchown(site.path("named"), Some(USER), Some(USER)).unwrap();
    site.run(&[&["-o", "x=named"], &made[..]].concat())
        .ended(0)
        .silently();
    assert_eq!(site.read("target"), b"new\n");
}

#[test]
fn a_file_that_is_mounted_is_refused_before_the_job_runs() {
    with_own_mounts(|| {
        both(|site| {
            for name in ["file", "bound"] {
                site.write(name, "old");
            }
            rustix::mount::mount_bind(site.path("file"), site.path("bound")).unwrap();
            for place in [["-o", "x=bound"], ["--report", "bound"]] {
                let words = [&place[..], &["--", "sh", "-c", "echo new >x"]].concat();
                site.run(&words)
                    .ended(125)
                    .saying(&["it is a mount point", "mount the directory that holds it"]);
            }
            rustix::mount::unmount(site.path("bound"), rustix::mount::UnmountFlags::empty())
                .unwrap();
            assert_eq!(site.read("file"), b"old");
        });
    });
}

#[test]
fn a_whole_file_stays_in_the_directory_that_was_looked_at() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    for opened_before in [true, false] {
        fs::create_dir(at("out")).unwrap();
        fs::create_dir(at("secret")).unwrap();
        let mut file = Some(AtomicFile::preflight(&at("out/x")).unwrap());
        let open = || file.take().unwrap().open();
        let swap = || {
            fs::rename(at("out"), at("moved")).unwrap();
            symlink(at("secret"), at("out")).unwrap();
        };
        let open = match opened_before {
            true => {
                let mut open = open;
                let open = open().unwrap();
                swap();
                open
            }
            false => {
                let mut open = open;
                swap();
                open().unwrap()
            }
        };
        let error = open.place().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotADirectory);
        let link = format!("out -> {}", at("secret").display());
        assert_eq!(listing(host.path()), ["moved/", &link, "secret/"]);
        fs::remove_file(at("out")).unwrap();
        fs::remove_dir(at("moved")).unwrap();
        fs::remove_dir(at("secret")).unwrap();
    }
}

fn mounted_and_saved(site: &Site, options: &[&str], meanwhile: impl FnOnce()) -> (Told, Told) {
    if !site.exists("m") {
        site.create_dir("m");
    }
    let mounted = site.call(&[&["mount", "--background"], options, &["m"]].concat());
    let mounted = mounted.ended(0);
    meanwhile();
    (mounted, site.call(&["umount", "m"]))
}

#[test]
fn what_is_saved_goes_where_it_was_to_go_or_is_rescued() {
    with_own_mounts(|| {
        both(|site| {
            for place in ["out/saved/", "out/saved.tar"] {
                site.create_dir("out");
                let secret = Secret::new(site);
                let (_, told) = mounted_and_saved(site, &["--save", place], || {
                    let made = site.tool(&["sh", "-c", "echo x >m/x"]).status();
                    assert!(made.unwrap().success());
                    secret.swap_for("out");
                });
                secret.is_untouched();
                let told = told.ended(125);
                let (_, rescue) = told.stderr.split_once("everything is in \"").unwrap();
                fs::remove_file(rescue.split('"').next().unwrap()).unwrap();
                assert_eq!(listing(&site.path("moved")), [""; 0]);
                fs::remove_file(site.path("out")).unwrap();
                fs::remove_dir(site.path("moved")).unwrap();
            }
        });
    });
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Everything that is to be told apart of what is below a directory.
fn state(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
        let entry = entry.unwrap();
        let (path, there) = (entry.path(), entry.metadata().unwrap());
        let mut value = [0; 64];
        let attributes = ["user.colour", "trusted.t", "security.capability"].map(|name| {
            lgetxattr(path, name, &mut value[..]).map(|length| value[..length].to_vec())
        });
        let (owner, times) = (
            (there.uid(), there.gid()),
            (there.mtime(), there.mtime_nsec()),
        );
        let (mode, links) = (there.mode(), if there.is_dir() { 0 } else { there.nlink() });
        lines.push(format!(
            "{path:?} {owner:?} {mode:o} {links} {times:?} {attributes:?}"
        ));
    }
    lines
}

/// `cap_net_raw+ep`, as setcap(8) writes it.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn what_a_mount_was_filled_from_and_nothing_changed_is_saved_as_it_was() {
    with_own_mounts(|| {
        both(|site| {
            site.write("from/set-id", "s");
            site.write("from/d/one", "1");
            fs::hard_link(site.path("from/d/one"), site.path("from/two")).unwrap();
            site.symlink("two", "from/link");
            set(&site.path("from"), "user.colour", b"white");
            set(&site.path("from/d"), "user.colour", b"blue");
            set(&site.path("from/two"), "user.colour", b"green");
            if site.is_root() {
                chown(site.path("from/set-id"), Some(1234), Some(4321)).unwrap();
                chown(site.path("from/d"), Some(7), Some(8)).unwrap();
                lchown(site.path("from/link"), Some(9), Some(10)).unwrap();
                site.write("from/ping", "p");
                site.chmod("from/ping", 0o755);
                set(&site.path("from/ping"), "security.capability", &CAPABILITY);
                set(&site.path("from/ping"), "trusted.t", b"t");
            }
            site.chmod("from/set-id", 0o6755);
            site.chmod("from/d", 0o3771);
            let before = state(&site.path("from"));
            let words = ["--from", "from", "--save", "from/"];
            let (mounted, told) = mounted_and_saved(site, &words, || {});
            assert_eq!(mounted.stderr, "");
            told.ended(0);
            assert_eq!(state(&site.path("from")), before);
        });
    });
}

#[test]
fn a_capability_goes_with_the_content_that_it_was_for() {
    with_own_mounts(|| {
        let Some(site) = Site::of_root() else {
            return;
        };
        for name in ["from/written", "from/cut", "from/left"] {
            site.write(name, "program");
            set(&site.path(name), "security.capability", &CAPABILITY);
        }
        let words = ["--from", "from", "--save", "from/"];
        let (_, told) = mounted_and_saved(&site, &words, || {
            let script = "echo other >>m/written; truncate -s 3 m/cut";
            let changed = site.tool(&["sh", "-c", script]).status();
            assert!(changed.unwrap().success());
        });
        told.ended(0);
        let has = |name: &str| {
            lgetxattr(site.path(name), "security.capability", &mut [0; 64][..]).is_ok()
        };
        assert_eq!(
            ["from/written", "from/cut", "from/left"].map(has),
            [false, false, true]
        );
    });
}

#[test]
fn what_a_user_cannot_give_back_is_told() {
    with_own_mounts(|| {
        let site = Site::new(Who::User);
        site.write("from/roots", "r");
        chown(site.path("from/roots"), Some(0), Some(0)).unwrap();
        site.chmod("from/roots", 0o4755);
        let words = ["--from", "from", "--save", "saved/"];
        let (mounted, told) = mounted_and_saved(&site, &words, || {});
        mounted.saying(&["not kept: the owner of 1 file, set-id bits of 1 file"]);
        told.ended(0);
        let saved = fs::metadata(site.path("saved/roots")).unwrap();
        assert_eq!((saved.uid(), saved.mode() & 0o7777), (USER, 0o755));
    });
}

#[test]
fn hard_links_stay_hard_links_and_what_is_lost_is_told_once() {
    let make = "mkdir -p d/e; echo x >d/a; ln d/a d/e/b; ln d/a d/c; echo y >d/single; chmod 4755 d/single";
    let xattr = "python3 -c 'import os; os.setxattr(\"d/a\", \"user.colour\", b\"green\")'";
    for options in [
        &["-o", "d=out"][..],
        &["--changed=out"],
        &["--collect", "d/**=out/d"],
    ] {
        both(|site| {
            let script = format!("{make}; {xattr}");
            let words = [options, &["--xattr", "--", "sh", "-c", &script]].concat();
            let told = site.run(&words).ended(0);
            assert_eq!(
                told.stderr,
                "notapipe: warning: not kept: set-id bits of 1 file, extended attributes of 1 file\n"
            );
            let at = if options[0] == "-o" { "out" } else { "out/d" };
            let of = |name: &str| fs::metadata(site.path(format!("{at}/{name}"))).unwrap();
            let (first, other) = (of("a"), of("e/b"));
            assert_eq!((first.ino(), first.nlink()), (other.ino(), 3));
            assert_eq!((of("c").ino(), of("single").nlink()), (first.ino(), 1));
            assert_eq!(of("single").permissions().mode() & 0o7777, 0o755);
        });
    }
}

#[test]
fn outputs_that_were_named_one_by_one_are_files_of_their_own() {
    both(|site| {
        let words = ["-o", "a", "-o", "b", "--", "sh", "-c", "echo x >a; ln a b"];
        site.run(&words).ended(0).silently();
        assert_eq!(fs::metadata(site.path("a")).unwrap().nlink(), 1);
    });
}

#[test]
fn deep_and_wide_directories_are_delivered_with_few_descriptors() {
    const DEEP: &str = "
import os
os.makedirs('d/wide')
for i in range(300):
    os.mkdir(f'd/wide/{i}')
    open(f'd/wide/{i}/f', 'w').write('x')
at = os.open('d', os.O_RDONLY)
for i in range(3000):
    os.mkdir('deep', dir_fd=at)
    below = os.open('deep', os.O_RDONLY, dir_fd=at)
    os.close(at)
    at = below
os.close(os.open('leaf', os.O_CREAT | os.O_WRONLY, dir_fd=at))
";
    both(|site| {
        let program = site.program();
        let script = format!(
            "ulimit -n 64; exec {} run --size 64M -o d=out -- python3 -c \"$0\"",
            program.display()
        );
        // Twice: into nothing, and into what is there.
        for _ in 0..2 {
            Call::start(site.tool(&["sh", "-c", &script, DEEP]))
                .finish()
                .ended(0)
                .silently();
        }
        let count = "find out -name f | wc -l; find out -name deep | wc -l; find out -name leaf | wc -l; rm -rf out";
        Call::start(site.tool(&["sh", "-c", count]))
            .finish()
            .ended(0)
            .printing("300\n3000\n1\n");
        assert_eq!(site.listing(), [""; 0]);
    });
}
