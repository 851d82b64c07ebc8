//! Names of inputs and outputs: what is refused, and that all others work.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use crate::support::site::{Site, both};

#[test]
fn refused_lines_run_nothing_and_write_nothing() {
    // Options before `--`; the value that the message names, and what to write instead.
    let lines: &[(&[&str], &[&str])] = &[
        // Names that climb, are absolute, empty or repeated.
        (
            &["-i", "../x=file"],
            &["\"../x\"", "climbs with `..`", "-i x=SRC"],
        ),
        (
            &["-i", "a/../../x=file"],
            &["\"a/../../x\"", "climbs", "-i x=SRC"],
        ),
        (&["-i", "..=file"], &["\"..\"", "climbs", "-i NAME=SRC"]),
        (&["-i", "/x=file"], &["\"/x\"", "absolute", "-i x=SRC"]),
        (&["-i", "=file"], &["\"\"", "empty", "-i NAME=SRC"]),
        (&["-i", ""], &["\"\"", "empty", "-i NAME=SRC"]),
        (
            &["-i", ".."],
            &["\"..\" gives the input no name", "-i NAME=.."],
        ),
        (&["-i", "/"], &["\"/\" gives the input no name", "-i .=/"]),
        (
            &["-i", "file", "-i", "./file"],
            &["two inputs", "\"file\"", "-i NAME=SRC"],
        ),
        (
            &["-i", "file", "-i", "../work/file"],
            &["two inputs", "\"file\""],
        ),
        (
            &["-i", "file", "--input", "file", "file"],
            &["two inputs", "\"file\""],
        ),
        (
            &["--input", "../x", "file"],
            &["\"../x\"", "climbs", "-i x=SRC"],
        ),
        (&["--input", "/x", "file"], &["\"/x\"", "absolute"]),
        (&["--input", "", "file"], &["\"\"", "empty"]),
        (
            &["-o", "../x"],
            &["output name \"../x\"", "climbs", "-o x=DEST"],
        ),
        (&["-o", "a/../x"], &["output name \"a/../x\"", "climbs"]),
        (
            &["-o", "/x"],
            &["output name \"/x\"", "absolute", "-o x=DEST"],
        ),
        (
            &["-o", "=x"],
            &["output name \"\"", "empty", "-o NAME=DEST"],
        ),
        (&["-o", ""], &["output name \"\"", "empty"]),
        (
            &["-o", "x", "-o", "x=y"],
            &["two outputs", "\"x\"", "-o NAME=DEST"],
        ),
        (
            &["-o", "x", "--output", "./x", "y"],
            &["two outputs", "\"x\""],
        ),
        (
            &["--output", "../x", "y"],
            &["output name \"../x\"", "climbs"],
        ),
        (&["--output", "", "y"], &["output name \"\"", "empty"]),
        // Places that are missing, or taken.
        (&["-i", "x="], &["\"x\" has nothing", "-i x=SRC", "-i x=-"]),
        (&["-o", "x="], &["\"x\" has nothing", "-o x=DEST", "-o x=-"]),
        (&["-i", "-"], &["standard input has no name", "-i NAME=-"]),
        (&["-o", "-"], &["standard output has no name", "-o NAME=-"]),
        (
            &["-i", "a=-", "-i", "b=-"],
            &["\"a\" and \"b\"", "standard input", "/dev/fd/N"],
        ),
        (
            &["-o", "a=-", "-o", "b=-"],
            &["\"a\" and \"b\"", "standard output"],
        ),
        (&["-i", ".=file"], &["\"file\" is a file", "-i NAME=file"]),
        (
            &["-i", ".=-"],
            &["cannot fill the whole mount", "-i NAME=-"],
        ),
        (&["-o", "."], &["\".\"", "-o .=DIRECTORY"]),
        (
            &["-i", "a=file", "-i", "a/b=file"],
            &["\"a\" is a file", "\"a/b\"", "another name"],
        ),
        (
            &["-i", "a=file", "-o", "a/b"],
            &["\"a\" is a file", "output \"a/b\""],
        ),
        // Other values.
        (&["--size", "lots"], &["lots", "512M", "50%"]),
        (&["--size", "0"], &["'0'", "4096"]),
        (&["--size", "101%"], &["101%", "100%"]),
        (&["--inodes", "1"], &["'1'", "at least 2"]),
        (&["--timeout", "soon"], &["soon", "30s"]),
        (&["--mount", "secret"], &["secret", "private", "public"]),
        (&["--then-word", ""], &["empty", "--then-word @@"]),
        (&["-v", "-q"], &["--quiet"]),
        (&["--nonsense"], &["--nonsense"]),
        (&["make"], &["\"make\" stands before the `--`", "-- make"]),
    ];
    both(|site| {
        site.write("file", "f");
        for (options, expected) in lines {
            let ran = site.text("ran");
            let words = [*options, &["--", "touch", &ran, "x"]].concat();
            let told = site.run(&words);
            println!("{options:?}: {}", told.stderr);
            told.ended(2)
                .saying(&["notapipe: ", "--help"])
                .saying(expected)
                .printing("");
            assert_eq!(site.listing(), ["file: f"], "{options:?}");
        }
    });
}

#[test]
fn long_names_are_refused() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let long = "n".repeat(256);
    for words in [["-i", &format!("{long}=/etc/hostname")], ["-o", &long]] {
        let told = site.run(&[&words[..], &["--", "true"]].concat());
        told.ended(2).saying(&["longer than 255 bytes", "shorter"]);
    }
}

#[test]
fn lines_without_a_step_run_nothing() {
    both(|site| {
        let ran = format!("touch {}", site.text("ran"));
        let lines: &[(&[&str], &[&str])] = &[
            (&[], &["no command to run", "TOOL ARG"]),
            (&["--"], &["no command to run"]),
            (
                &["--", "--then", "sh", "-c", &ran],
                &["before \"--then\"", "--then-word"],
            ),
            (&["--", "sh", "-c", &ran, "--then"], &["after \"--then\""]),
            (
                &["--", "sh", "-c", &ran, "--then", "--then", "true"],
                &["after \"--then\""],
            ),
            (
                &["--", "sh", "-c", &ran, "--then", ""],
                &["an empty word", "shell variable"],
            ),
            (
                &["--", "sh", "-c", &ran, "--then", "-i", "x"],
                &["\"-i\"", "before the first `--`"],
            ),
            (
                &["--input", "x", "--", "sh", "-c", &ran],
                &["--input lacks a value"],
            ),
            (&["-i"], &["-i"]),
        ];
        for (words, expected) in lines {
            let told = site.run(&[&["--tmp", "host"][..], words].concat());
            println!("{words:?}: {}", told.stderr);
            told.ended(2)
                .saying(&["notapipe: ", "--help"])
                .saying(expected)
                .printing("");
            assert!(site.listing().is_empty(), "{words:?}");
        }
    });
}

#[test]
fn a_step_may_take_any_words() {
    both(|site| {
        let words = [
            "--",
            "printf",
            "[%s]",
            "--",
            "-i",
            "--then=x",
            "a --then b",
            "",
            "\n",
            "-o",
        ];
        site.run(&words)
            .ended(0)
            .printing("[--][-i][--then=x][a --then b][][\n][-o]");
        let words = [
            "--then-word",
            "+",
            "--",
            "echo",
            "--then",
            "+",
            "echo",
            "two",
        ];
        site.run(&words).ended(0).printing("--then\ntwo\n");
    });
}

/// Names that tools, shells and parsers stumble over.
const ODD: &[&[u8]] = &[
    b"two words",
    b" leading and trailing ",
    b"line\nbreak",
    b"-dash",
    b"--output",
    b"a=b",
    b"=",
    b"...",
    b".hidden",
    b"*",
    b"'quo\"tes'",
    b"back\\slash",
    b"tab\tand\x1bescape",
    b"\xff\xfe",
    "übergröße €".as_bytes(),
];

#[test]
fn odd_names_come_through() {
    both(|site| {
        for bytes in ODD {
            let name = OsStr::from_bytes(bytes);
            site.write(name, bytes);
            let made = joined(&[name, OsStr::new(" made")]);
            // The literal forms take any name; `cat --` shows that the tool saw it, too.
            #[rustfmt::skip]
            let words = [
                OsStr::new("--input"), name, name, OsStr::new("--output"), &made, &made,
                OsStr::new("--"), OsStr::new("cp"), OsStr::new("--"), name, &made,
            ];
            site.run(&words).ended(0).silently();
            assert_eq!(site.read(&made), *bytes);
        }
        assert_eq!(site.listing().len(), 2 * ODD.len());
    });
}

#[test]
fn odd_names_work_in_the_short_forms() {
    both(|site| {
        for bytes in ODD.iter().filter(|name| !name.contains(&b'=')) {
            let name = OsStr::from_bytes(bytes);
            let source = joined(&[OsStr::new("./"), name]);
            site.write(name, bytes);
            let made = joined(&[name, OsStr::new(" made")]);
            let input = joined(&[OsStr::new("-i"), &source]);
            let output = joined(&[OsStr::new("-o"), &made]);
            #[rustfmt::skip]
            let words = [&input, &output, OsStr::new("--"), OsStr::new("cp"), OsStr::new("--"), name, &made];
            site.run(&words).ended(0).silently();
            assert_eq!(site.read(&made), *bytes);
        }
    });
}

fn joined(parts: &[&OsStr]) -> OsString {
    parts.iter().copied().collect()
}

/// What the mount holds, as `find` in it says.
fn staged(site: &Site, options: &[&str]) -> String {
    let words = [
        options,
        &[
            "--",
            "sh",
            "-c",
            "find . -mindepth 1 -printf '%P=%l%y '|tr ' ' '\n'|sort|xargs",
        ],
    ]
    .concat();
    site.run(&words).ended(0).text()
}

#[test]
fn an_input_stands_where_it_was_named() {
    both(|site| {
        site.write("src/A.asm", "a");
        site.write("src/inc/B.inc", "b");
        site.write("top", "t");
        let absolute = site.text("src/A.asm");
        for (options, expected) in [
            (&["-i", "top"][..], "top=f"),
            (&["-i", "src/A.asm"], "src/A.asm=f src=d"),
            (&["-i", "./src//A.asm"], "src/A.asm=f src=d"),
            (&["-i", "src/../top"], "top=f"),
            (
                &["-i", "src"],
                "src/A.asm=f src/inc/B.inc=f src/inc=d src=d",
            ),
            (
                &["-i", "src/"],
                "src/A.asm=f src/inc/B.inc=f src/inc=d src=d",
            ),
            (&["-i", &absolute], "A.asm=f"),
            (&["-i", "../work/top"], "top=f"),
            (
                &["-i", "../work/src"],
                "src/A.asm=f src/inc/B.inc=f src/inc=d src=d",
            ),
            (
                &["-i", "."],
                "src/A.asm=f src/inc/B.inc=f src/inc=d src=d top=f",
            ),
            (&["-i", ".=src"], "A.asm=f inc/B.inc=f inc=d"),
            (
                &["-i", ".=src", "-i", "deep/er=top"],
                "A.asm=f deep/er=f deep=d inc/B.inc=f inc=d",
            ),
            (&["-i", "x=top"], "x=f"),
            (&["-i", "d/x=src/inc"], "d/x/B.inc=f d/x=d d=d"),
            (&["--input", "a=b", "top"], "a=b=f"),
        ] {
            assert_eq!(staged(site, options).trim_end(), expected, "{options:?}");
        }
    });
}

#[test]
fn directories_above_an_output_stand_before_the_first_step() {
    both(|site| {
        let words = [
            "-o",
            "out/deep/file",
            "--",
            "cp",
            "/etc/hostname",
            "out/deep/file",
        ];
        site.run(&words).ended(0).silently();
        assert_eq!(
            site.read("out/deep/file"),
            fs::read("/etc/hostname").unwrap()
        );
    });
}

#[test]
fn an_output_goes_where_it_was_told() {
    both(|site| {
        site.create_dir("there");
        let made = "mkdir d; echo f > f; echo in > d/in";
        for (output, expected) in [
            ("f", "f: f\\n"),
            ("f=g", "g: f\\n"),
            ("f=there", "there/f: f\\n"),
            ("f=there/g", "there/g: f\\n"),
            ("f=new/", "new/f: f\\n"),
            ("f=new/deep/g", "new/deep/g: f\\n"),
            ("d", "d/in: in\\n"),
            ("d=e", "e/in: in\\n"),
            ("d=there", "there/in: in\\n"),
            ("d=there/", "there/d/in: in\\n"),
            (".=all", "all/d/in: in\\n"),
        ] {
            site.run(&["-o", output, "--", "sh", "-c", made])
                .ended(0)
                .silently();
            let listing = site.listing();
            assert!(
                listing.contains(&expected.to_owned()),
                "{output}: {listing:?}"
            );
            for name in ["f", "g", "new", "d", "e", "all", "there"] {
                let _ = fs::remove_file(site.path(name));
                let _ = fs::remove_dir_all(site.path(name));
            }
            site.create_dir("there");
        }
        let absolute = format!("f={}", site.text("there/abs"));
        site.run(&["-o", &absolute, "--", "sh", "-c", made])
            .ended(0)
            .silently();
        assert_eq!(site.listing(), ["there/", "there/abs: f\\n"]);
    });
}

#[test]
fn the_literal_output_form_takes_the_same_places() {
    both(|site| {
        let words = [
            "--output",
            "a=b",
            "c=d",
            "--output",
            "x",
            "-",
            "--",
            "sh",
            "-c",
            "echo 1 > a=b; echo 2 > x",
        ];
        site.run(&words).ended(0).printing("2\n");
        assert_eq!(site.listing(), ["c=d: 1\\n"]);
    });
}

#[test]
fn a_later_input_takes_the_place_of_what_a_directory_brought() {
    both(|site| {
        site.write("src/A", "from the directory");
        site.write("src/B", "beside it");
        site.write("new", "from the file");
        for words in [
            &["-i", "src", "-i", "src/A=new"][..],
            &["-i", "src", "--input", "src/A", "new"],
            &["--input", "src", "src", "-i", "src/A=new"],
        ] {
            let told = site.run(&[words, &["--", "cat", "src/A", "src/B"]].concat());
            told.ended(0).printing("from the filebeside it");
        }
    });
}

#[test]
fn standard_input_is_an_input() {
    both(|site| {
        let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let words = ["-i", "in/x=-", "-o", "y", "--", "cp", "in/x", "y"];
        site.run_reading(&bytes, &words).ended(0).silently();
        assert!(site.read("y") == bytes);
        let words = ["--input", "x", "-", "--", "stat", "-c", "%s %a", "x"];
        site.run_reading(b"", &words).ended(0).printing("0 644\n");
    });
}

#[test]
fn a_fifo_is_read_to_its_end() {
    both(|site| {
        site.mkfifo("fifo");
        let call = site.start(&["-i", "x=fifo", "--", "cat", "x"]);
        fs::write(site.path("fifo"), "through the FIFO").unwrap();
        call.finish().ended(0).printing("through the FIFO");
    });
}

#[test]
fn a_fifo_is_written_whole_into() {
    both(|site| {
        site.mkfifo("fifo");
        let call = site.start(&["-o", "x=fifo", "--", "sh", "-c", "seq 100000 > x"]);
        let text = fs::read_to_string(site.path("fifo")).unwrap();
        call.finish().ended(0).silently();
        assert_eq!(text.lines().count(), 100_000);
        assert!(text.ends_with("\n99999\n100000\n"));
    });
}

#[test]
fn modes_and_times_go_both_ways() {
    both(|site| {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
        site.script("tool.sh", "#!/bin/sh\n");
        site.chmod("tool.sh", 0o750);
        File::options()
            .write(true)
            .open(site.path("tool.sh"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        let look = "stat -c '%a %y' tool.sh; cp -p tool.sh out; echo > plain; echo > private; chmod 400 private";
        #[rustfmt::skip]
        let words = [
            "-i", "tool.sh", "-o", "out", "-o", "plain", "-o", "private", "-o", "tool.sh=same",
            "--", "env", "TZ=UTC", "sh", "-c", look,
        ];
        site.run(&words)
            .ended(0)
            .printing("750 2009-02-13 23:31:30.123456789 +0000\n");
        assert_eq!(
            (site.mode("out"), site.mode("same"), site.mode("private")),
            (0o750, 0o750, 0o400)
        );
        for name in ["out", "same"] {
            assert_eq!(
                fs::metadata(site.path(name)).unwrap().modified().unwrap(),
                time,
                "{name}"
            );
        }
    });
}

#[test]
fn the_callers_umask_is_the_tools() {
    both(|site| {
        let program = site.text("../notapipe");
        let job = format!("umask 027; exec {program} run -o out -- sh -c 'umask; echo > out'");
        let told = crate::support::site::Call::start(site.tool(&["sh", "-c", &job])).finish();
        told.ended(0).printing("0027\n");
        assert_eq!(site.mode("out"), 0o640);
    });
}
