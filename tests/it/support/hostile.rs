//! Archives that nobody should let in, and one that holds all that an archive may have to keep.

use std::io::{Cursor, Write};

use notapipe::archive::{Format, Pack};
use notapipe::store::{Ino, Name, NewInode, NewKind, SetAttr, Timestamp, Tree};

use super::{add, path, tree};

pub fn pack(tree: &Tree, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    Pack::new(tree, format).write(&mut bytes).unwrap();
    bytes
}

pub fn set(tree: &mut Tree, name: &str, change: SetAttr) {
    let ino = tree.resolve(&path(name)).unwrap();
    tree.set_attr(ino, &change, Timestamp::now()).unwrap();
}

pub fn create(tree: &mut Tree, parent: Ino, name: &[u8], kind: NewKind, mode: u32) -> Ino {
    let new = NewInode {
        kind,
        mode,
        uid: 0,
        gid: 0,
    };
    let made = tree.create(parent, Name::new(name).unwrap(), new, Timestamp::now());
    made.unwrap().ino
}

pub const OLD: Timestamp = Timestamp {
    secs: 1_234_567_890,
    nanos: 123_456_789,
};

/// All that an archive may have to keep.
pub fn rich() -> Tree {
    let mut tree = tree();
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    add(
        &mut tree,
        &[
            ("empty", b""),
            ("src/A.asm", b"nop\n"),
            ("big", &b"0123456789abcdef".repeat(100_000)),
            (&long, b"a long name"),
        ],
    );
    let now = Timestamp::now();
    create(&mut tree, Ino::ROOT, b"bytes \xff\n", NewKind::File, 0o600);
    let link = NewKind::Symlink(b"src/A.asm".to_vec());
    create(&mut tree, Ino::ROOT, b"link", link, 0o777);
    let long = NewKind::Symlink("t/".repeat(150).into_bytes());
    create(&mut tree, Ino::ROOT, b"long link", long, 0o777);
    create(&mut tree, Ino::ROOT, b"void", NewKind::Directory, 0o700);
    create(
        &mut tree,
        Ino::ROOT,
        b"void \xff",
        NewKind::Directory,
        0o700,
    );
    let asm = tree.resolve(&path("src/A.asm")).unwrap();
    tree.link(asm, Ino::ROOT, Name::new(b"z-hard").unwrap(), now)
        .unwrap();
    let old = SetAttr {
        mode: Some(0o754),
        mtime: Some(OLD),
        ..SetAttr::default()
    };
    set(&mut tree, "src/A.asm", old);
    let old = SetAttr {
        mode: Some(0o1750),
        ..old
    };
    set(&mut tree, "src", old);
    // The same archive in every run, so that a turned bit always hits the same.
    let walked = notapipe::collect::walk(&tree, &notapipe::store::TreePath::root()).unwrap();
    for found in walked {
        let time = SetAttr {
            mtime: Some(OLD),
            ..SetAttr::default()
        };
        tree.set_attr(found.attr.ino, &time, now).unwrap();
    }
    tree
}

/// A tar by hand: members of any sort.
#[derive(Default)]
pub struct Hostile(pub Vec<u8>);

impl Hostile {
    pub fn member(mut self, name: &[u8], kind: u8, link: &[u8], content: &[u8]) -> Self {
        self.header(name, kind, link, content.len() as u64);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn header(&mut self, name: &[u8], kind: u8, link: &[u8], size: u64) {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::new(kind));
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
    }

    pub fn pax(self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        let mut record = format!("{length} {key}=").into_bytes();
        record.extend_from_slice(value);
        record.push(b'\n');
        self.member(b"pax", b'x', b"", &record)
    }

    pub fn file(self, name: &str) -> Self {
        self.member(name.as_bytes(), b'0', b"", b"content")
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn zip_of(members: &[(&[u8], u32, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in members {
        let options = zip::write::SimpleFileOptions::default()
            .name(name)
            .external_attributes(mode << 16);
        zip.start_file_with_options(options).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zeros(length: usize) -> Vec<u8> {
    vec![0; length]
}

/// A bomb: a short gzip of a tar whose one file is this long.
fn bomb(mebibytes: u64) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = Hostile::default();
    tar.header(b"bomb", b'0', b"", mebibytes << 20);
    encoder.write_all(&tar.0).unwrap();
    let block = zeros(1 << 20);
    for _ in 0..mebibytes {
        encoder.write_all(&block).unwrap();
    }
    encoder.write_all(&zeros(1024)).unwrap();
    encoder.finish().unwrap()
}

pub fn good() -> Hostile {
    Hostile::default().file("good")
}

pub fn cut(mut bytes: Vec<u8>, left: usize) -> Vec<u8> {
    bytes.truncate(left);
    bytes
}

pub fn spoiled(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x55;
    bytes
}

/// Each with a name, and a part of what must be said about it.
pub fn archives() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let rich = rich();
    let tar = pack(&rich, Format::Tar);
    let (tgz, tzst) = (pack(&rich, Format::TarGz), pack(&rich, Format::TarZst));
    let (txz, zip) = (pack(&rich, Format::TarXz), pack(&rich, Format::Zip));
    let half = |bytes: &Vec<u8>| cut(bytes.clone(), bytes.len() / 2);
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    let member = |name: &[u8], kind, link: &[u8]| good().member(name, kind, link, b"").end();
    let huge = {
        let mut tar = good();
        tar.header(b"huge", b'0', b"", (1 << 33) - 1);
        tar.0
    };
    let long_header = {
        let mut tar = good();
        tar.header(b"long", b'L', b"", 1 << 32);
        tar.0.extend_from_slice(&zeros(1 << 20));
        tar.0
    };
    let many: Vec<u8> = (0..20_000)
        .fold(Hostile::default(), |tar, index| {
            tar.member(format!("{index}").as_bytes(), b'0', b"", b"")
        })
        .end();
    vec![
        ("climbs", good().file("../evil").end(), "climbs with `..`"),
        ("climbs inside", good().file("a/../../evil").end(), "climbs"),
        ("absolute", good().file("/etc/evil").end(), "it is absolute"),
        ("no name", member(b"", b'0', b""), "it is empty"),
        ("the root as a file", good().file("./").end(), ""),
        (
            "a dot as a file",
            good().file(".").end(),
            "a directory already",
        ),
        (
            "a NUL in pax",
            good().pax("path", b"a\0b").file("x").end(),
            "NUL",
        ),
        (
            "a climbing pax",
            good().pax("path", b"../x").file("x").end(),
            "climbs",
        ),
        (
            "a long part",
            good().pax("path", long.as_bytes()).file("x").end(),
            "longer than 255",
        ),
        (
            "a long path",
            good().pax("path", deep.as_bytes()).file("x").end(),
            "longer than 4095",
        ),
        (
            "a climbing GNU name",
            good().member(b"l", b'L', b"", b"../../x\0").file("x").end(),
            "climbs",
        ),
        (
            "a character device",
            member(b"tty", b'3', b""),
            "device node",
        ),
        ("a block device", member(b"sda", b'4', b""), "device node"),
        (
            "an unknown type",
            member(b"odd", b'Z', b""),
            "not supported",
        ),
        (
            "a link to nothing",
            member(b"hard", b'1', b"absent"),
            "no file that came before",
        ),
        (
            "a link to itself",
            member(b"good", b'1', b"good"),
            "no file that came before",
        ),
        ("a link out", member(b"hard", b'1', b"../good"), "climbs"),
        (
            "a link to /",
            member(b"hard", b'1', b"/etc/passwd"),
            "absolute",
        ),
        (
            "a link to a directory",
            good()
                .member(b"d", b'5', b"", b"")
                .member(b"h", b'1', b"d", b"")
                .end(),
            "no file",
        ),
        (
            "links in a circle",
            Hostile::default()
                .member(b"a", b'1', b"b", b"")
                .member(b"b", b'1', b"a", b"")
                .end(),
            "no file",
        ),
        (
            "through a symlink",
            good().member(b"l", b'2', b"/tmp", b"").file("l/evil").end(),
            "a symlink already",
        ),
        (
            "a link through a symlink",
            good()
                .member(b"l", b'2', b".", b"")
                .member(b"h", b'1', b"l/good", b"")
                .end(),
            "no file",
        ),
        (
            "through a file",
            good().file("good/below").end(),
            "a file already",
        ),
        (
            "a directory over a file",
            good().member(b"good", b'5', b"", b"").end(),
            "a file already",
        ),
        (
            "a file over a directory",
            good().member(b"d", b'5', b"", b"").file("d").end(),
            "a directory already",
        ),
        ("a symlink to nothing", member(b"l", b'2', b""), "no target"),
        (
            "a symlink with a NUL",
            good()
                .pax("linkpath", b"a\0b")
                .member(b"l", b'2', b"", b"")
                .end(),
            "no target",
        ),
        (
            "a long target",
            good()
                .pax("linkpath", &b"t".repeat(4096))
                .member(b"l", b'2', b"", b"")
                .end(),
            "longer than 4095",
        ),
        ("a wrong sum", spoiled(good().end(), 3), "wrong sum"),
        (
            "a wrong size",
            spoiled(good().pax("size", b"x").file("x").end(), 0),
            "wrong sum",
        ),
        (
            "a size that is no number",
            good().pax("size", b"x").file("x").end(),
            "pax header is malformed",
        ),
        (
            "a pax without length",
            good().member(b"p", b'x', b"", b"path=x\n").file("x").end(),
            "malformed",
        ),
        (
            "an endless pax",
            good()
                .member(b"p", b'x', b"", b"99999999999999999999 a=b\n")
                .file("x")
                .end(),
            "malformed",
        ),
        (
            "extensions and no member",
            good().pax("path", b"x").0,
            "no end mark",
        ),
        ("a huge name", long_header, "longer than 1024 KiB"),
        (
            "a file over the limit",
            huge,
            "the limit of 64 MiB is reached",
        ),
        (
            "too many files",
            many,
            "the limit of 10000 inodes is reached",
        ),
        ("a bomb", bomb(256), "the limit of 64 MiB is reached"),
        (
            "an announced member that is missing",
            good().pax("GNU.sparse.major", b"1").end(),
            "is missing",
        ),
        (
            "a file over the limit, of 8 EiB",
            good().pax("size", b"9223372036854775807").file("x").end(),
            "the limit of 64 MiB",
        ),
        (
            "a file of 16 EiB",
            good().pax("size", b"18446744073709551615").file("x").end(),
            "the limit of 64 MiB",
        ),
        ("no end mark", good().0, "no end mark"),
        (
            "cut in a header",
            cut(good().file("x").end(), 1024 + 100),
            "cut off",
        ),
        ("cut in a file", cut(tar.clone(), 4096), "cut off"),
        ("half a tar", half(&tar), "cut off"),
        ("half a tar.gz", half(&tgz), "incomplete deflate stream"),
        ("half a tar.zst", half(&tzst), "incomplete frame"),
        ("half a tar.xz", half(&txz), "cut off"),
        ("half a zip", half(&zip), "damaged"),
        (
            "a tar.gz without its sum",
            cut(tgz.clone(), tgz.len() - 4),
            "it is cut off",
        ),
        (
            "a tar.gz with a wrong sum",
            spoiled(tgz.clone(), tgz.len() - 6),
            "matching checksum",
        ),
        (
            "a tar.zst with a bit turned",
            spoiled(tzst.clone(), tzst.len() / 2),
            "a header has a wrong sum",
        ),
        (
            "a tar.xz with a bit turned",
            spoiled(txz.clone(), txz.len() / 2),
            "cannot read the input for",
        ),
        (
            "a gzip of no tar",
            gz(&b"just text\n".repeat(200)),
            "wrong sum",
        ),
        ("a gzip of nothing", gz(b""), "no end mark"),
        ("nothing", Vec::new(), "no archive"),
        ("text", b"just text\n".repeat(200), "no archive"),
        (
            "random bytes",
            (0..4096_u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect(),
            "no archive",
        ),
        (
            "a zip that climbs",
            zip_of(&[(b"good", 0o100_644, b"x"), (b"../evil", 0o100_644, b"x")]),
            "climbs",
        ),
        (
            "an absolute zip",
            zip_of(&[(b"/etc/evil", 0o100_644, b"x")]),
            "absolute",
        ),
        (
            "a zip with a NUL",
            zip_of(&[(b"a\0b", 0o100_644, b"x")]),
            "NUL",
        ),
        (
            "a zip with a device",
            zip_of(&[(b"tty", 0o020_644, b"")]),
            "device node",
        ),
        (
            "a zip through a symlink",
            zip_of(&[(b"l", 0o120_777, b"/tmp"), (b"l/evil", 0o100_644, b"x")]),
            "a symlink already",
        ),
        (
            "a zip with an empty link",
            zip_of(&[(b"l", 0o120_777, b"")]),
            "no target",
        ),
        (
            "a zip with a long link",
            zip_of(&[(b"l", 0o120_777, &b"t".repeat(5000))]),
            "longer than 4095",
        ),
        (
            "a zip bomb",
            zip_of(&[
                (b"good", 0o100_644, b"x"),
                (b"bomb", 0o100_644, &zeros(100 << 20)),
            ]),
            "the limit of 64 MiB",
        ),
        (
            "a zip with a bit turned",
            spoiled(zip_of(&[(b"a", 0o100_644, &b"abc".repeat(99))]), 40),
            "cannot read the input for",
        ),
    ]
}
