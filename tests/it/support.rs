//! Trees, the host's files, and the program, in few words.

pub mod hostile;
pub mod site;
pub mod window;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use notapipe::stage::{Owner, Stage};
use notapipe::store::{Attr, Cookie, Ino, Limits, Timestamp, Tree, TreePath};

/// A directory of the host, removed at the end also where a test took rights away.
pub struct Host(tempfile::TempDir);

impl Host {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Each directory is opened up before the walk goes into it.
        let open = |entry: &walkdir::DirEntry| {
            if entry.file_type().is_dir() {
                let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o700));
            }
            true
        };
        walkdir::WalkDir::new(self.path())
            .into_iter()
            .filter_entry(open)
            .for_each(drop);
    }
}

/// Notes that this test cannot be done here, or not all of it: in the file that `scripts/test.sh --fast` prints at its
/// end. In every other run that is a failure.
pub fn leave_out(why: &str) {
    let list = std::env::var_os("NOTAPIPE_LEFT_OUT").unwrap_or_else(|| panic!("{why}"));
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or_default());
    let mut list = fs::OpenOptions::new().append(true).open(list).unwrap();
    std::io::Write::write_all(&mut list, line.as_bytes()).unwrap();
}

/// An empty directory of the host.
pub fn host_directory() -> Host {
    Host(tempfile::tempdir().unwrap())
}

/// Whoever runs the tests.
pub fn owner() -> Owner {
    Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    }
}

/// An empty tree with room for 64 MiB.
pub fn tree() -> Tree {
    tree_of(Limits {
        bytes: 64 << 20,
        inodes: 10_000,
    })
}

/// An empty tree with these limits.
pub fn tree_of(limits: Limits) -> Tree {
    Tree::new(limits, 0o755, owner().uid, owner().gid, Timestamp::now())
}

/// A tree of these files.
pub fn tree_with(files: &[(&str, &[u8])]) -> Tree {
    let mut tree = tree();
    add(&mut tree, files);
    tree
}

/// Adds files, as a tool would.
pub fn add(tree: &mut Tree, files: &[(&str, &[u8])]) {
    let mut stage = Stage::new(tree, owner(), Timestamp::now());
    for (name, bytes) in files {
        stage.bytes(&path(name), bytes).unwrap();
    }
}

pub fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// Attributes without following symlinks.
pub fn attr(tree: &Tree, name: &str) -> Attr {
    tree.attr(tree.resolve(&path(name)).unwrap()).unwrap()
}

/// A file's bytes.
pub fn read(tree: &Tree, name: &str) -> Vec<u8> {
    notapipe::collect::read(tree, &path(name)).unwrap().to_vec()
}

/// All that is below a host directory: names with kinds and content, sorted.
pub fn listing(directory: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(directory)
        .min_depth(1)
        .sort_by_file_name();
    let line = |entry: walkdir::DirEntry| {
        let name = entry
            .path()
            .strip_prefix(directory)
            .unwrap()
            .display()
            .to_string();
        if entry.file_type().is_dir() {
            format!("{name}/")
        } else if entry.path_is_symlink() {
            format!(
                "{name} -> {}",
                fs::read_link(entry.path()).unwrap().display()
            )
        } else if entry.file_type().is_file() {
            format!("{name}: {}", fs::read(entry.path()).unwrap().escape_ascii())
        } else {
            format!("{name}: special")
        }
    };
    entries
        .into_iter()
        .map(|entry| line(entry.unwrap()))
        .collect()
}

/// The names in a tree's root.
pub fn names(tree: &Tree) -> Vec<String> {
    let entries = tree.entries(Ino::ROOT, Cookie::default()).unwrap();
    let text = |entry: notapipe::store::Entry<'_>| {
        String::from_utf8_lossy(entry.name.as_bytes()).into_owned()
    };
    let mut names: Vec<_> = entries.map(text).collect();
    names.sort();
    names
}

/// The whole chain of an error as the command line shows it.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Allocated bytes of a host file.
pub fn allocated(file: &Path) -> u64 {
    fs::metadata(file).unwrap().blocks() * 512
}

/// Calls `work` as an ordinary user, on a thread of its own: file system ids belong to threads.
///
/// When the tests are run by an ordinary user, they are that one.
pub fn as_ordinary_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                // SAFETY: the raw system calls change this thread alone, which ends right after.
                let changed = unsafe {
                    libc::syscall(libc::SYS_setresgid, 1, 1, 1)
                        + libc::syscall(libc::SYS_setresuid, 1, 1, 1)
                };
                assert_eq!(changed, 0);
            }
            work()
        });
        thread.join().unwrap()
    })
}
