//! Names: how long, and of which bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::harness::*;

cases! {
    Anyone: up_to_255_bytes, paths_up_to_path_max, not_utf_8, every_byte, case_and_composition_count,
        names_that_look_special, slashes_between, many_long_names;
}

fn up_to_255_bytes() {
    for len in [254, 255, 256, 1_000, 4_094] {
        let name = "n".repeat(len);
        see!(len, open(&*name, O::CREATE | O::RDWR, 0o644).err());
        see!(len, facts(&*name));
        see!(len, mkdir(format!("d{}", "n".repeat(len - 1)), 0o755));
        see!(len, symlink("target", format!("l{}", "n".repeat(len - 1))));
        see!(
            len,
            mknod(
                format!("p{}", "n".repeat(len - 1)),
                libc::S_IFIFO | 0o644,
                0
            )
        );
        see!(len, rename(&*name, format!("r{}", "n".repeat(len - 1))));
        see!(
            len,
            link(
                format!("r{}", "n".repeat(len - 1)),
                format!("h{}", "n".repeat(len - 1))
            )
        );
        see!(len, unlink(format!("h{}", "n".repeat(len - 1))));
        see!(len, rmdir(format!("x{}", "n".repeat(len - 1))));
        see!(len, open(format!("{name}/below"), O::RDONLY, 0).err());
    }
    // 255 bytes, not 255 characters.
    see!(open("é".repeat(127), O::CREATE | O::RDWR, 0o644).err());
    see!(open("é".repeat(128), O::CREATE | O::RDWR, 0o644).err());
    see!(names("."));
}

fn paths_up_to_path_max() {
    // "d…d/" is 200 bytes; 20 of them are 4,000.
    let part = format!("{}/", "d".repeat(199));
    let mut path = String::new();
    for _ in 0..20 {
        path += &part;
        mkdir(&*path, 0o755).unwrap();
    }
    for len in [4_094, 4_095, 4_096, 5_000] {
        let file = format!("{path}{}", "f".repeat((len - path.len()).min(255)));
        let file = format!("{}{file}", "./".repeat((len - file.len()) / 2));
        let file = format!("{}{file}", "/".repeat(0));
        let file = if file.len() < len {
            file.replacen("d/", "d//", len - file.len())
        } else {
            file
        };
        assert_eq!(file.len(), len);
        see!(len, open(&*file, O::CREATE | O::RDWR, 0o644).err());
        see!(len, stat_size(&*file));
        see!(len, rename(&*file, &*file));
        see!(len, unlink(&*file));
    }
    // Deeper than a path can say, step by step.
    chdir(&*path).unwrap();
    mkdir(&*path, 0o755).map(drop).unwrap_or_default();
    see!(mkdir(&part[..199], 0o755));
    see!(chdir(&part[..199]));
    make("f", "deep down");
    see!(contents("f"));
    see!(rustix::process::getcwd(Vec::new()).is_ok());
}

fn not_utf_8() {
    for bytes in [
        &b"\xff\xfe"[..],
        b"latin-1 \xe9",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\x80",
    ] {
        let name = OsStr::from_bytes(bytes);
        make(name, "content");
        see!(contents(name));
        see!(mkdir(OsStr::from_bytes(&[bytes, b".d"].concat()), 0o755));
        see!(symlink(name, OsStr::from_bytes(&[bytes, b".l"].concat())));
        see!(readlink(OsStr::from_bytes(&[bytes, b".l"].concat())));
        see!(rename(name, OsStr::from_bytes(&[bytes, b".r"].concat())));
    }
    see!(names("."));
}

fn every_byte() {
    for byte in 1..=255_u8 {
        if byte != b'/' {
            let name = [b'x', byte];
            make(OsStr::from_bytes(&name), [byte]);
        }
    }
    see!(names("."));
    for byte in [b'\n', b'\t', 0x1b, 0x7f, b'\\', b'"', b' '] {
        see!(byte, contents(OsStr::from_bytes(&[b'x', byte])));
        see!(byte, unlink(OsStr::from_bytes(&[b'x', byte])));
    }
    see!(names(".").map(|names| names.len()));
}

fn case_and_composition_count() {
    make("name", "lower");
    make("Name", "upper");
    make("\u{e9}", "composed");
    make("e\u{301}", "decomposed");
    see!(contents("name"));
    see!(contents("Name"));
    see!(contents("\u{e9}"));
    see!(contents("e\u{301}"));
    see!(names("."));
}

fn names_that_look_special() {
    for name in [
        "...",
        "..a",
        ".a",
        "-",
        "-rf",
        "~",
        "a ",
        " a",
        "con",
        "a:b",
        ".fuse_hidden0001",
        "*",
        "$(x)",
        "a\nb",
    ] {
        make(name, name);
        see!(name, contents(name));
    }
    see!(names("."));
}

fn slashes_between() {
    mkdir("d", 0o755).unwrap();
    make("d/f", "content");
    for path in [
        "d//f",
        "d/./f",
        "./d/f",
        "d/../d/f",
        ".//.//d///f",
        "d/f/",
        "d/f/.",
        "d/none/../f",
    ] {
        see!(path, contents(path));
    }
}

fn many_long_names() {
    for number in 0..200 {
        make(format!("{}{number:03}", "long".repeat(63)).as_str(), "");
    }
    see!(names("."));
    see!(facts("."));
}
