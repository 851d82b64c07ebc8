//! What goes in and comes out otherwise than file by file: archives, patterns, changes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::site::{Call, Site, Who, over_each_backing};

const STREAMED: [&str; 6] = ["-o", "out", "--unpack", "-", "--pack", "-"];

/// What `tar` makes of files in the working directory.
fn tar(site: &Site, words: &[&str]) -> Vec<u8> {
    let all = [&["tar"], words].concat();
    let told = Call::start(site.tool(&all)).finish();
    told.ended(0).stdout
}

/// What `tar` finds in an archive, one line a member.
fn listed(site: &Site, archive: &[u8]) -> Vec<String> {
    site.write("listed.tar", archive);
    let text = tar(site, &["-tf", "listed.tar"]);
    fs::remove_file(site.path("listed.tar")).unwrap();
    let text = String::from_utf8(text).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_job_is_a_function_of_bytes() {
    over_each_backing(|site| {
        site.write("in", "pear\napple\n");
        let input = tar(site, &["-c", "in"]);
        fs::remove_file(site.path("in")).unwrap();
        let words = [&STREAMED[..], &["--", "sort", "in", "-o", "out"]].concat();
        let told = site.run_reading(&input, &words).ended(0);
        assert_eq!(told.stderr, "");
        assert_eq!(listed(site, &told.stdout), ["out"]);
        site.write("answer.tar", &told.stdout);
        assert_eq!(tar(site, &["-xOf", "answer.tar", "out"]), b"apple\npear\n");
        fs::remove_file(site.path("answer.tar")).unwrap();
        assert_eq!(site.listing(), [""; 0]);
    });
}

#[test]
fn every_format_goes_in_and_comes_out() {
    over_each_backing(|site| {
        for name in ["a.tar", "a.tar.gz", "a.tar.zst", "a.tar.xz", "a.zip"] {
            let make = "mkdir d; echo deep > d/file; echo x > x; chmod 640 x; touch -d '2001-02-03 04:05:06.789' x";
            let words = ["--pack", name, "-o", "d", "-o", "x", "--", "sh", "-c", make];
            site.run(&words).ended(0).silently();
            assert_eq!(site.mode(name), 0o644, "{name}");
            let look = "cat d/file; stat -c '%a %.Y' x";
            let told = site
                .run(&["--unpack", name, "--", "sh", "-c", look])
                .ended(0);
            let time = told.text();
            let time = time.strip_prefix("deep\n640 ").unwrap().trim_end();
            // In UTC or not: the test's machine decides, and both sides are the same machine.
            let zone = site.tool(&["date", "-d", "2001-02-03 04:05:06.789", "+%s.%N"]);
            let zone = Call::start(zone).finish().text();
            let expected = zone.trim_end();
            if name.ends_with("zip") {
                assert_eq!(time.split('.').next(), expected.split('.').next());
            } else {
                assert_eq!(time, &expected[..time.len()], "{name}");
            }
            // Standard input tells its format by its first bytes.
            let read = ["--unpack", "-", "--", "cat", "d/file"];
            let archive = site.read(name);
            site.run_reading(&archive, &read)
                .ended(0)
                .printing("deep\n");
            fs::remove_file(site.path(name)).unwrap();
        }
    });
}

#[test]
fn inputs_stand_over_archives_and_later_archives_over_earlier() {
    over_each_backing(|site| {
        site.write("a", "first");
        site.write("b", "first");
        site.write("c", "first");
        let first = tar(site, &["-c", "a", "b", "c"]);
        site.write("b", "second");
        site.write("c", "second");
        let second = tar(site, &["-c", "b", "c"]);
        site.write("first.tar", first);
        site.write("second.tar", second);
        site.write("c", "third");
        let words = [
            "-i",
            "c",
            "--unpack",
            "first.tar",
            "--unpack",
            "second.tar",
            "--",
            "cat",
            "a",
            "b",
            "c",
        ];
        site.run(&words).ended(0).printing("firstsecondthird");
    });
}

#[test]
fn an_archive_of_outputs_appears_whole_or_not_at_all() {
    over_each_backing(|site| {
        site.write("all.tar", "old");
        site.chmod("all.tar", 0o600);
        let failing = [
            "--pack",
            "all.tar",
            "-o",
            "x",
            "--",
            "sh",
            "-c",
            "echo > x; false",
        ];
        site.run(&failing).ended(1).silently();
        site.run(&["--pack", "all.tar", "-o", "x", "--", "true"])
            .ended(125)
            .saying(&["no output \"x\""]);
        assert_eq!(site.listing(), ["all.tar: old"]);
        site.run(&["--pack", "all.tar", "-o", "x", "--", "touch", "x"])
            .ended(0)
            .silently();
        assert_eq!(site.mode("all.tar"), 0o600);
        assert_eq!(tar(site, &["-tf", "all.tar"]), b"x\n");
        // Directories above are made.
        site.run(&["--pack", "new/deep/x.zip", "-o", "x", "--", "touch", "x"])
            .ended(0)
            .silently();
        assert!(site.exists("new/deep/x.zip"));
        site.create_dir("dir.tar");
        site.run(&["--pack", "dir.tar", "-o", "x", "--", "touch", "x"])
            .ended(125)
            .saying(&["dir.tar", "directory"]);
    });
    let site = Site::new(Who::User);
    site.create_dir("closed");
    site.chmod("closed", 0o555);
    // Before anything runs.
    let words = [
        "--pack",
        "closed/x.tar",
        "-o",
        "x",
        "--",
        "sh",
        "-c",
        "echo ran >&2",
    ];
    let told = site
        .run(&words)
        .ended(125)
        .saying(&["closed", "Permission denied"]);
    assert!(!told.stderr.contains("ran"));
}

#[test]
fn everything_can_be_packed() {
    over_each_backing(|site| {
        let make = "mkdir d; echo > d/x; ln -s d/x link; ln d/x hard";
        let told = site
            .run(&["--pack", "-", "-o", ".", "--", "sh", "-c", make])
            .ended(0);
        assert_eq!(listed(site, &told.stdout), ["d/", "d/x", "hard", "link"]);
        // Named beside the directory that it is in, a file comes once.
        let words = [
            "--pack", "-", "-o", "d", "-o", "d/x", "--", "sh", "-c", make,
        ];
        let told = site.run(&words).ended(0);
        assert_eq!(listed(site, &told.stdout), ["d/", "d/x"]);
    });
}

/// Whichever way things go out, and whatever the format.
#[test]
fn fifos_and_sockets_stay_behind_with_a_warning_on_every_way_out() {
    over_each_backing(|site| {
        let make = "mkdir -p d; mkfifo d/fifo; python3 -c 'import socket; \
                    socket.socket(socket.AF_UNIX).bind(\"d/socket\")'; echo x > d/x";
        let ways: [&[&str]; 9] = [
            &["-o", "d=out"],
            &["--optional", "d=out"],
            &["--collect", "d/*=out"],
            &["--changed=out"],
            &["--pack", "out.tar", "-o", "d"],
            &["--pack", "out.tar.zst", "--collect", "d/*"],
            &["--pack", "out.zip", "--changed"],
            &["--keep-on-failure", "out"],
            &["--keep-on-failure", "out.tar"],
        ];
        for way in ways {
            let fails = way[0] == "--keep-on-failure";
            let (ends, code) = if fails { ("; exit 3", 3) } else { ("", 0) };
            let script = format!("{make}{ends}");
            let told = site
                .run(&[way, &["--", "sh", "-c", &script]].concat())
                .ended(code);
            let warning =
                "notapipe: warning: \"d/fifo\" is a FIFO: left behind, and so is 1 socket";
            assert_eq!(told.stderr.lines().next(), Some(warning), "{way:?}");
            site.tool(&["sh", "-c", "rm -r out*"]).status().unwrap();
            let script = format!("{make}{ends}");
            site.run(&[&["-q"], way, &["--", "sh", "-c", &script]].concat())
                .ended(code)
                .silently();
            let held = "if [ -d out ]; then find out; elif [ -f out.zip ]; then unzip -Z1 out.zip; \
                        else tar tf out.tar*; fi";
            let held = site.tool(&["sh", "-c", held]).output().unwrap();
            let held = String::from_utf8(held.stdout).unwrap();
            assert!(held.contains("x\n"), "{way:?}: {held}");
            assert!(
                !held.contains("fifo") && !held.contains("socket"),
                "{way:?}: {held}"
            );
            site.tool(&["sh", "-c", "rm -r out*"]).status().unwrap();
        }
        // By its own name it is no output, in an archive as little as in a file.
        for way in [&["-o", "f"][..], &["--pack", "x.tar", "-o", "f"]] {
            site.run(&[way, &["--", "mkfifo", "f"]].concat())
                .ended(125)
                .saying(&["cannot collect \"f\"", "FIFO"]);
        }
        assert_eq!(site.listing(), [""; 0]);
    });
}

/// What is left behind on the way in may be why a tool failed.
#[test]
fn what_is_left_behind_on_the_way_in_is_told_whether_the_job_fails_or_not() {
    over_each_backing(|site| {
        site.create_dir("d");
        site.mkfifo("d/fifo");
        let packed = site.tool(&["tar", "cf", "x.tar", "d"]).status().unwrap();
        assert!(packed.success());
        for input in [["-i", "d"], ["--unpack", "x.tar"]] {
            for (tool, code) in [("true", 0), ("false", 1)] {
                let words = [&input[..], &["--", tool]].concat();
                let told = site.run(&words).ended(code);
                told.saying(&["warning: \"d/fifo\" is a FIFO: left behind"]);
                site.run(&[&["-q"], &words[..]].concat())
                    .ended(code)
                    .silently();
            }
        }
    });
}

#[test]
fn a_packed_stream_stands_alone_on_standard_output() {
    over_each_backing(|site| {
        let make = "echo told; echo x > x";
        let told = site
            .run(&["--pack", "-", "-o", "x", "--", "sh", "-c", make])
            .ended(0);
        assert_eq!(told.stderr, "told\n");
        assert_eq!(listed(site, &told.stdout), ["x"]);
    });
}

#[test]
fn a_reader_that_goes_away_ends_a_packed_stream() {
    over_each_backing(|site| {
        let program = site.text("../notapipe");
        let line = format!(
            "{program} run --pack - -o x -- sh -c 'head -c 10M /dev/zero > x' | head -c 1 | wc -c"
        );
        let told = Call::start(site.tool(&["sh", "-c", &line])).finish();
        told.ended(0).printing("1\n");
    });
}

#[test]
fn patterns_collect_what_matches() {
    over_each_backing(|site| {
        let make = "mkdir -p build/sub build/deep.gb; echo a > build/a.gb; echo b > build/sub/b.gb; \
                    echo o > build/a.o; echo in > build/deep.gb/in; ln -s a.gb build/link.gb";
        let step = ["--", "sh", "-c", make];
        let run = |pattern: &str| site.run(&[&["--collect", pattern], &step[..]].concat());
        run("build/*.gb=out/").ended(0).silently();
        let expected = [
            "out/",
            "out/a.gb: a\\n",
            "out/deep.gb/",
            "out/deep.gb/in: in\\n",
            "out/link.gb -> a.gb",
        ];
        assert_eq!(site.listing(), expected);
        fs::remove_dir_all(site.path("out")).unwrap();
        // Without a place, each keeps its own name; what is below the base keeps its directories.
        run("build/**/*.{gb,o}").ended(0).silently();
        let expected = [
            "build/",
            "build/a.gb: a\\n",
            "build/a.o: o\\n",
            "build/deep.gb/",
            "build/deep.gb/in: in\\n",
            "build/link.gb -> a.gb",
            "build/sub/",
            "build/sub/b.gb: b\\n",
        ];
        assert_eq!(site.listing(), expected);
        fs::remove_dir_all(site.path("build")).unwrap();
        run("build/sub/*").ended(0).silently();
        assert_eq!(
            site.listing(),
            ["build/", "build/sub/", "build/sub/b.gb: b\\n"]
        );
    });
}

#[test]
fn a_pattern_without_a_match_names_the_nearest() {
    over_each_backing(|site| {
        let make = "mkdir out; echo > out/Game.GB";
        let step = ["--", "sh", "-c", make];
        for (pattern, nearest) in [
            ("build/*.gb", "did you mean \"out/Game.GB\"?"),
            ("out/*.gb", "did you mean \"out/Game.GB\"?"),
            ("out/Gane.*", "did you mean \"out/Game.GB\"?"),
            ("*.map", "; the tools made: out/Game.GB"),
        ] {
            let words = [&["--collect", pattern], &step[..]].concat();
            site.run(&words)
                .ended(125)
                .saying(&[&format!("no output matches {pattern:?}"), nearest]);
        }
        assert_eq!(site.listing(), [""; 0]);
    });
}

#[test]
fn an_optional_output_may_be_missing() {
    over_each_backing(|site| {
        site.write("warnings", "old");
        let words = [
            "--optional",
            "warnings",
            "--optional",
            "log=there",
            "-o",
            "x",
        ];
        let make = ["--", "sh", "-c", "echo x > x; echo log > log"];
        site.run(&[&words[..], &make].concat()).ended(0).silently();
        assert_eq!(
            site.listing(),
            ["there: log\\n", "warnings: old", "x: x\\n"]
        );
    });
}

#[test]
fn changes_are_delivered_without_naming_them() {
    over_each_backing(|site| {
        site.write("src/kept", "kept");
        site.write("src/edited", "before");
        site.write("src/touched", "same");
        site.write("src/gone", "gone");
        let make = "echo after > src/edited; chmod 700 src/touched; rm src/gone; mkdir -p new/empty; \
                    echo n > new/file; mv src/kept src/moved; ln -s new/file link";
        site.run(&["-i", "src", "--changed=out", "--", "sh", "-c", make])
            .ended(0)
            .silently();
        let expected = [
            "out/",
            "out/link -> new/file",
            "out/new/",
            "out/new/empty/",
            "out/new/file: n\\n",
            "out/src/",
            "out/src/edited: after\\n",
            "out/src/moved: kept",
            "out/src/touched: same",
        ];
        let listing = site.listing();
        let out: Vec<_> = listing
            .iter()
            .filter(|line| line.starts_with("out"))
            .collect();
        assert_eq!(out, expected);
        assert_eq!(site.mode("out/src/touched"), 0o700);
        // Over the sources themselves.
        site.run(&[
            "-i",
            "src",
            "--changed",
            "--",
            "sh",
            "-c",
            "echo again > src/edited",
        ])
        .ended(0)
        .silently();
        assert_eq!(site.read("src/edited"), b"again\n");
        assert_eq!(site.read("src/gone"), b"gone");
        // Nothing changed is nothing to do.
        site.run(&["-i", "src", "--changed", "--", "true"])
            .ended(0)
            .silently();
        let told = site.run(&[
            "-i",
            "src",
            "--changed",
            "--pack",
            "-",
            "--",
            "touch",
            "new",
        ]);
        assert_eq!(listed(site, &told.ended(0).stdout), ["new"]);
    });
}

#[test]
fn what_is_wanted_twice_goes_to_one_place_once() {
    over_each_backing(|site| {
        let make = "mkdir -p d; echo a > d/a.gb; echo b > d/b.gb";
        let words = [
            "-o",
            "d/a.gb",
            "--collect",
            "d/*.gb",
            "--collect",
            "**/a*",
            "--changed",
        ];
        site.run(&[&words[..], &["--", "sh", "-c", make]].concat())
            .ended(0)
            .silently();
        assert_eq!(site.listing(), ["d/", "d/a.gb: a\\n", "d/b.gb: b\\n"]);
        // Two files for one place are a mistake.
        let words = [
            "--collect",
            "d/*.gb=out",
            "-o",
            "other=out/a.gb",
            "--",
            "sh",
            "-c",
        ];
        let make = format!("{make}; echo > other");
        site.run(&[&words[..], &[&make]].concat())
            .ended(125)
            .saying(&["\"other\"", "\"d/a.gb\"", "would both go to"]);
    });
}

/// Symlinks that an earlier run left on the host lead nowhere.
#[test]
fn patterns_and_changes_go_through_no_symlink_of_the_host() {
    over_each_backing(|site| {
        site.create_dir("elsewhere");
        site.create_dir("out");
        site.symlink("../elsewhere", "out/sub");
        let make = "mkdir -p build/sub; echo x > build/sub/x; ln -s /etc/passwd build/link";
        let step = ["--", "sh", "-c", make];
        site.run(&[&["--collect", "build/**/x=out"], &step[..]].concat())
            .ended(125)
            .saying(&["something else than a directory is in the way", "out/sub"]);
        site.symlink("elsewhere", "build");
        site.run(&[&["--changed"], &step[..]].concat())
            .ended(125)
            .saying(&["something else than a directory is in the way"]);
        assert_eq!(
            site.listing(),
            [
                "build -> elsewhere",
                "elsewhere/",
                "out/",
                "out/sub -> ../elsewhere"
            ]
        );
        // And those of the mount stay links, wherever they lead.
        site.run(&[&["--collect", "build/*=taken"], &step[..]].concat())
            .ended(0)
            .silently();
        assert_eq!(
            fs::read_link(site.path("taken/link")).unwrap().to_str(),
            Some("/etc/passwd")
        );
    });
}

#[test]
fn modes_and_times_survive_both_ways() {
    over_each_backing(|site| {
        site.write("dir/file", "x");
        site.chmod("dir/file", 0o751);
        site.symlink("file", "dir/link");
        let touch = "touch -d '1999-12-31 23:59:59.123456789' dir/file; touch -hd '2000-01-01 00:00:00.000000001' dir/link; \
                     chmod 710 dir; touch -d '2001-01-01 00:00:00.5' dir";
        Call::start(site.tool(&["sh", "-c", touch]))
            .finish()
            .ended(0);
        let times = |name: &str| {
            let there = fs::symlink_metadata(site.path(name)).unwrap();
            (there.mode(), there.mtime(), there.mtime_nsec())
        };
        site.run(&["-i", "dir", "-o", "dir=back", "--", "true"])
            .ended(0)
            .silently();
        site.run(&["-i", "dir", "--pack", "p.tar", "-o", "dir", "--", "true"])
            .ended(0)
            .silently();
        site.run(&["--unpack", "p.tar", "-o", "dir=again", "--", "true"])
            .ended(0)
            .silently();
        for copy in ["back", "again"] {
            for name in ["", "/file", "/link"] {
                let (old, new) = (
                    times(&format!("dir{name}")),
                    times(&format!("{copy}{name}")),
                );
                assert_eq!(old, new, "{copy}{name}");
            }
        }
    });
}

/// A terminal is told how far it is; once it has been, the slow other end goes on.
const ON_A_TERMINAL: &str = r#"
import os, pty, subprocess, sys, threading, time

master, slave = pty.openpty()
job = [sys.argv[1], "run", "-i", "x=-", "-o", "x=-", "--", "true"]
run = subprocess.Popen(job, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=slave)
os.close(slave)
shown = b""

def until(text, meanwhile):
    global shown
    seen = threading.Event()
    def keep_on():
        while not seen.is_set():
            meanwhile()
    thread = threading.Thread(target=keep_on)
    thread.start()
    while text not in shown:
        shown += os.read(master, 4096)
    seen.set()
    thread.join()

def feed():
    run.stdin.write(b"x" * 262144)
    run.stdin.flush()
    time.sleep(0.01)

until(b"staging: 0 files, ", feed)
run.stdin.close()
until(b"delivering: ", lambda: time.sleep(0.01))
size = len(run.stdout.read())
try:
    while part := os.read(master, 4096):
        shown += part
except OSError:
    pass
print(run.wait(), size % 262144, shown.endswith(b"\r\x1b[K"), shown.count(b"\n"))
"#;

#[test]
fn a_terminal_is_told_how_far_long_work_is() {
    over_each_backing(|site| {
        let program = site.program();
        let words = ["python3", "-c", ON_A_TERMINAL, program.to_str().unwrap()];
        let told = Call::start(site.tool(&words)).finish();
        assert_eq!(told.stderr, "");
        told.ended(0).printing("0 0 True 0\n");
    });
}
