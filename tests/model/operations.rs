//! Random operations, drawn so that they meet: few names, offsets near boundaries.

use notapipe::store::{AllocateMode, Kind, RenameMode};
use proptest::prelude::*;

const PAGE: u64 = 4096;
const CHUNK: u64 = 128 * 1024;

/// Something to do to one tree. Numbers pick among what is there when it is done.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        dir: u8,
        name: u8,
        kind: Kind,
        mode: u32,
        target: usize,
    },
    Link {
        ino: u8,
        dir: u8,
        name: u8,
    },
    Unlink {
        dir: u8,
        name: u8,
    },
    Rmdir {
        dir: u8,
        name: u8,
    },
    Rename {
        from: (u8, u8),
        to: (u8, u8),
        mode: RenameMode,
    },
    Free {
        ino: u8,
    },
    Write {
        file: u8,
        offset: u64,
        len: usize,
    },
    Resize {
        file: u8,
        size: u64,
    },
    Chmod {
        ino: u8,
        mode: u32,
        uid: u32,
    },
    Utimes {
        ino: u8,
        atime: i64,
        ctime: Option<i64>,
    },
    Allocate {
        file: u8,
        offset: u64,
        len: u64,
        mode: AllocateMode,
    },
    Copy {
        from: (u8, u64),
        to: (u8, u64),
        len: u64,
    },
    /// Reads and keeps what was read, which must stay as it was.
    Hold {
        file: u8,
        offset: u64,
        len: usize,
    },
    SetXattr {
        ino: u8,
        name: u8,
        len: usize,
        create: bool,
        replace: bool,
    },
    RemoveXattr {
        ino: u8,
        name: u8,
    },
    SetLimits {
        pages: u64,
        inodes: u64,
    },
    Fork,
    /// Goes on with another of the trees.
    Switch {
        tree: u8,
    },
    Drop {
        tree: u8,
    },
}

/// Offsets and lengths near the boundaries of pages and chunks, up to three chunks.
fn position() -> impl Strategy<Value = u64> {
    let base = prop_oneof![
        2 => Just(0),
        3 => (0..80u64).prop_map(|page| page * PAGE),
        3 => (0..4u64).prop_map(|chunk| chunk * CHUNK),
    ];
    let delta = prop_oneof![3 => Just(0i64), 2 => -3..4i64, 1 => -4096..4096i64];
    (base, delta).prop_map(|(base, delta)| base.saturating_add_signed(delta))
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0u64),
        3 => 1..100u64,
        3 => (1..4u64).prop_map(|pages| pages * PAGE),
        2 => position(),
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        6 => Just(Kind::File),
        5 => Just(Kind::Directory),
        2 => Just(Kind::Symlink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::CharDevice),
    ]
}

fn name() -> impl Strategy<Value = u8> {
    0..6u8
}

fn place() -> impl Strategy<Value = (u8, u8)> {
    (any::<u8>(), name())
}

fn rename() -> impl Strategy<Value = Op> {
    let mode = prop_oneof![
        3 => Just(RenameMode::Replace),
        1 => Just(RenameMode::NoReplace),
        2 => Just(RenameMode::Exchange),
        2 => any::<bool>().prop_map(|replace| RenameMode::Whiteout { owner: (7, 8), replace }),
    ];
    (place(), place(), mode).prop_map(|(from, to, mode)| Op::Rename { from, to, mode })
}

fn create() -> impl Strategy<Value = Op> {
    let mode = prop_oneof![Just(0o644), Just(0o755), Just(0o2775), Just(0o177_777)];
    let target = prop_oneof![
        Just(0usize),
        Just(1),
        Just(127),
        Just(128),
        Just(4095),
        Just(4096)
    ];
    (place(), kind(), mode, target).prop_map(|((dir, name), kind, mode, target)| Op::Create {
        dir,
        name,
        kind,
        mode,
        target,
    })
}

fn allocate() -> impl Strategy<Value = Op> {
    let mode = prop_oneof![
        Just(AllocateMode::Extend),
        Just(AllocateMode::KeepSize),
        Just(AllocateMode::PunchHole),
        Just(AllocateMode::ZeroRange),
        Just(AllocateMode::ZeroRangeKeepSize),
    ];
    (any::<u8>(), position(), length(), mode).prop_map(|(file, offset, len, mode)| Op::Allocate {
        file,
        offset,
        len,
        mode,
    })
}

fn write() -> impl Strategy<Value = Op> {
    (any::<u8>(), position(), length()).prop_map(|(file, offset, len)| Op::Write {
        file,
        offset,
        len: len as usize,
    })
}

fn copy() -> impl Strategy<Value = Op> {
    (
        (any::<u8>(), position()),
        (any::<u8>(), position()),
        length(),
    )
        .prop_map(|(from, to, len)| Op::Copy { from, to, len })
}

fn xattr() -> impl Strategy<Value = Op> {
    let len = prop_oneof![0..10usize, Just(4000), Just(65_536), Just(65_537)];
    (any::<u8>(), 0..5u8, len, any::<bool>(), any::<bool>()).prop_map(
        |(ino, name, len, create, replace)| {
            // Both flags at once, and either where it does not fit, are rarer than neither.
            Op::SetXattr {
                ino,
                name,
                len,
                create: create && name % 2 == 0,
                replace,
            }
        },
    )
}

fn limits() -> impl Strategy<Value = Op> {
    (prop_oneof![0..40u64, 40..400u64], 1..60u64)
        .prop_map(|(pages, inodes)| Op::SetLimits { pages, inodes })
}

/// Operations on names.
pub fn name_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => create(),
        3 => (any::<u8>(), place()).prop_map(|(ino, (dir, name))| Op::Link { ino, dir, name }),
        4 => place().prop_map(|(dir, name)| Op::Unlink { dir, name }),
        3 => place().prop_map(|(dir, name)| Op::Rmdir { dir, name }),
        10 => rename(),
        3 => any::<u8>().prop_map(|ino| Op::Free { ino }),
        1 => (any::<u8>(), 0..0o20_000u32, 0..3u32)
            .prop_map(|(ino, mode, uid)| Op::Chmod { ino, mode, uid }),
        1 => (any::<u8>(), any::<i64>(), any::<Option<i64>>())
            .prop_map(|(ino, atime, ctime)| Op::Utimes { ino, atime, ctime }),
        1 => Just(Op::Fork),
        2 => any::<u8>().prop_map(|tree| Op::Switch { tree }),
        1 => any::<u8>().prop_map(|tree| Op::Drop { tree }),
    ]
}

/// Operations on files' bytes.
pub fn content_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => create(),
        10 => write(),
        4 => (any::<u8>(), position()).prop_map(|(file, size)| Op::Resize { file, size }),
        6 => allocate(),
        6 => copy(),
        2 => (any::<u8>(), position(), length())
            .prop_map(|(file, offset, len)| Op::Hold { file, offset, len: len as usize }),
        1 => limits(),
        1 => Just(Op::Fork),
        2 => any::<u8>().prop_map(|tree| Op::Switch { tree }),
    ]
}

/// Anything.
pub fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => name_op(),
        6 => content_op(),
        2 => xattr(),
        1 => (any::<u8>(), 0..5u8).prop_map(|(ino, name)| Op::RemoveXattr { ino, name }),
        1 => limits(),
    ]
}
