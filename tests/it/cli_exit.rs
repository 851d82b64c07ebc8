//! `notapipe run`: how it ends, in every way in which it can.

use crate::support::site::{Site, Who, over_each_backing};

#[test]
fn the_failing_steps_own_status_comes_through() {
    over_each_backing(|site| {
        site.run(&["--", "true"]).ended(0).silently();
        for code in [1, 2, 7, 124, 125, 126, 127, 128, 255] {
            let exit = format!("exit {code}");
            let told = site.run(&["--", "sh", "-c", &exit]).ended(code);
            // The tool has said why, or did not want to.
            told.silently();
        }
    });
}

#[test]
fn a_steps_signal_is_added_to_128() {
    over_each_backing(|site| {
        for (signal, code) in [
            ("HUP", 129),
            ("INT", 130),
            ("KILL", 137),
            ("SEGV", 139),
            ("TERM", 143),
        ] {
            let kill = format!("ulimit -c 0; kill -{signal} $$");
            let number = format!("signal {}", code - 128);
            let told = site.run(&["--", "sh", "-c", &kill]).ended(code);
            told.saying(&["notapipe: ", "\"sh\"", &number]);
        }
    });
}

#[test]
fn the_first_step_that_fails_ends_the_job() {
    over_each_backing(|site| {
        site.write("out", "old");
        #[rustfmt::skip]
        let told = site.run(&[
            "-o", "out", "--",
            "sh", "-c", "echo one; echo new > out",
            "--then", "sh", "-c", "echo two; exit 3",
            "--then", "sh", "-c", "echo three",
        ]);
        told.ended(3).printing("one\ntwo\n");
        assert_eq!(site.listing(), ["out: old"]);
    });
}

#[test]
fn a_later_steps_status_counts_as_much() {
    over_each_backing(|site| {
        let told = site.run(&["--", "true", "--then", "sh", "-c", "exit 9"]);
        told.ended(9).silently();
        let told = site.run(&["--", "echo", "ran", "--then", "no-such-tool"]);
        told.ended(127).printing("ran\n");
    });
}

#[test]
fn a_tool_that_is_not_found_ends_in_127() {
    over_each_backing(|site| {
        site.write("file", "");
        for tool in [
            "no-such-tool",
            "./nope",
            "../nope",
            "/no/such/tool",
            "file/nope",
            "two words",
        ] {
            let named = format!("{tool:?} was not found");
            let told = site.run(&["--", tool]).ended(127);
            told.saying(&["notapipe: ", &named]).printing("");
        }
        // Where it was looked for, when nobody wrote a path.
        let told = site.run(&["--", "no-such-tool"]).ended(127);
        told.saying(&["PATH", "/usr/bin"]);
    });
}

#[test]
fn what_only_a_shell_understands_is_told() {
    over_each_backing(|site| {
        for (words, help) in [
            (&["cat a > b"][..], "sh -c 'cat a > b'"),
            (&["cat a"], "sh -c 'cat a'"),
            (&["A=b", "make"], "--env A=b"),
            (&["cd", "d"], "--chdir DIR"),
            (&["export", "A=b"], "sh -c"),
        ] {
            let told = site.run(&[&["--"], words].concat()).ended(127);
            told.saying(&["was not found", "help: ", help]);
        }
        let told = site.run(&["-i", "*.asm", "--", "true"]).ended(125);
        told.saying(&["-i takes names and no patterns"]);
        let told = site.run(&["-i", "a=~/b", "--", "true"]).ended(125);
        told.saying(&["no shell has unfolded the ~"]);
        let told = site.run(&["-o", "*.gb", "--", "touch", "a.gb"]).ended(125);
        told.saying(&["--collect '*.gb'"]);
    });
}

#[test]
fn a_tool_that_cannot_be_executed_ends_in_126() {
    over_each_backing(|site| {
        site.write("plain", "#!/bin/sh\n");
        site.script("lost", "#!/no/such/interpreter\n");
        site.script("windows", "#!/bin/sh\r\necho\r\n");
        site.create_dir("directory");
        for (tool, why) in [
            ("./plain", "Permission denied"),
            ("./directory", "it is a directory"),
            ("/etc", "it is a directory"),
            ("./lost", "names the interpreter \"/no/such/interpreter\""),
            ("./windows", "sed -i 's/\\r$//' "),
        ] {
            let told = site.run(&["--", tool]).ended(126);
            told.saying(&["notapipe: ", "cannot be executed", why])
                .printing("");
        }
    });
}

#[test]
fn errors_of_the_system_are_told_without_their_number() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let told = site.run(&["--", "/etc"]).ended(126);
    assert!(!told.stderr.contains("os error"), "{}", told.stderr);
}

#[test]
fn a_job_that_takes_too_long_ends_in_124() {
    over_each_backing(|site| {
        site.write("out", "old");
        let work = format!("echo new > out; {}", site.endless());
        let words = ["--timeout", "300ms", "-o", "out", "--", "sh", "-c", &work];
        let told = site.run(&words).ended(124);
        told.saying(&["notapipe: ", "\"sh\"", "longer than 300ms"]);
        assert_eq!(site.listing(), ["out: old"]);
        // All steps together have this time, and those that are quick enough know nothing of it.
        site.run(&["--timeout", "50s", "--", "true", "--then", "true"])
            .ended(0)
            .silently();
    });
}

/// Options, the step's script, and what the message must hold.
type Reason = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
);

#[test]
fn when_notapipe_fails_it_ends_in_125_and_says_why() {
    let reasons: &[Reason] = &[
        // Inputs.
        (
            &["-i", "gone.asm"],
            "",
            &["cannot read \"gone.asm\"", "No such file or directory"],
        ),
        (
            &["-i", "a=gone.asm"],
            "",
            &["\"gone.asm\" for \"a\"", "No such file or directory"],
        ),
        (
            &["-i", "file/below"],
            "",
            &["\"file/below\"", "Not a directory"],
        ),
        (
            &["-i", "loop"],
            "",
            &["\"loop\"", "Too many levels of symbolic links"],
        ),
        (
            &["--size", "4096", "-i", "file"],
            "",
            &[
                "no room",
                "\"file\"",
                "4 KiB",
                "help: raise the limit with --size, to 1M at least",
            ],
        ),
        (
            &["--inodes", "2", "-i", "file", "-i", "other"],
            "",
            &[
                "no room",
                "\"other\"",
                "help: raise the limit with --inodes",
            ],
        ),
        // Outputs.
        (
            &["-o", "gone"],
            "",
            &["no output \"gone\"", "the tools made no files"],
        ),
        (
            &["-o", "A.gb"],
            "echo > a.gb",
            &[
                "no output \"A.gb\"",
                "did you mean \"a.gb\"?",
                "The tools made: a.gb",
            ],
        ),
        (
            &["-o", "a", "-o", "b"],
            "echo > c",
            &["no outputs \"a\"", "\"b\"", "made: c"],
        ),
        (
            &["-o", "x=directory/"],
            "mkfifo x",
            &["cannot collect \"x\"", "FIFO"],
        ),
        (
            &["-o", "x=-"],
            "mkdir x",
            &["cannot collect \"x\"", "directory"],
        ),
        (
            &["-o", "x"],
            "ln -s nowhere x",
            &["\"x\"", "symlink to \"nowhere\""],
        ),
        (
            &["-o", "x=/dev/full"],
            "echo > x",
            &["\"x\"", "/dev/full", "No space left on device"],
        ),
        // Destinations that can be seen to fail: nothing has run.
        (
            &["-o", "x=file/"],
            "touch $RAN",
            &["\"x\"", "file\" is a file"],
        ),
        (&["-o", "x=file/y"], "touch $RAN", &["\"x\"", "\"file/y\""]),
        (
            &["-o", "x=y", "-o", "z=y"],
            "touch $RAN",
            &["\"x\"", "\"z\"", "help: ", "-o NAME=DEST"],
        ),
        (
            &["-o", "x=y", "-o", "z=y/w"],
            "touch $RAN",
            &["\"x\"", "\"z\""],
        ),
        // The mount.
        (
            &["--at", "gone"],
            "touch $RAN",
            &["\"gone\"", "No such file or directory"],
        ),
        (
            &["--at", "file"],
            "touch $RAN",
            &["mount over", "file\"", "not a directory"],
        ),
        // The report.
        (
            &["--report", "file/report"],
            "touch $RAN",
            &["cannot write the report \"file/report\"", "Not a directory"],
        ),
        (
            &["--report", "directory"],
            "touch $RAN",
            &["cannot write the report \"directory\"", "is a directory"],
        ),
    ];
    over_each_backing(|site| {
        site.write("file", "f".repeat(4097));
        site.write("other", "");
        site.create_dir("directory");
        site.symlink("loop", "loop");
        let before = site.listing();
        for (options, script, expected) in reasons {
            let script = script.replace("$RAN", &site.text("ran"));
            let words = [*options, &["--", "sh", "-c", &script]].concat();
            let told = site.run(&words);
            println!("{options:?}: {}", told.stderr);
            told.ended(125)
                .saying(&["notapipe: "])
                .saying(expected)
                .printing("");
            assert_eq!(site.listing(), before, "{options:?}");
        }
    });
}

#[test]
fn what_an_ordinary_user_may_not_touch_ends_in_125() {
    let site = Site::new(Who::User);
    site.write("secret", "s");
    site.chmod("secret", 0);
    site.create_dir("closed");
    site.chmod("closed", 0o555);
    let ran = format!("touch x; touch {}", site.text("ran"));
    for (options, expected) in [
        (["-i", "secret"], ["\"secret\"", "Permission denied"]),
        (["-o", "x=closed/"], ["\"closed/\"", "Permission denied"]),
        (["-o", "x=closed/y"], ["\"closed/y\"", "Permission denied"]),
        (["-o", "x=/etc/hostname"], ["/etc", "Permission denied"]),
        (
            ["--report", "closed/y"],
            ["\"closed/y\"", "Permission denied"],
        ),
    ] {
        let words = [&options[..], &["--tmp", "host", "--", "sh", "-c", &ran]].concat();
        site.run(&words).ended(125).saying(&expected);
        assert!(!site.exists("ran"), "{options:?}");
    }
}

#[test]
fn a_report_that_cannot_be_written_does_not_hide_the_steps_status() {
    let Some(site) = Site::of_root() else {
        return;
    };
    site.create_dir("gone");
    let script = format!("rmdir {0}; touch {0}; exit 3", site.text("gone"));
    let told = site.run(&[
        "--report",
        "gone/report",
        "--tmp",
        "host",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    told.ended(3)
        .saying(&["cannot write the report \"gone/report\""]);
}

#[test]
fn a_report_takes_the_place_of_another_at_once_and_makes_directories() {
    over_each_backing(|site| {
        site.write("old", "old");
        site.chmod("old", 0o640);
        let read = format!("cat {}", site.text("old"));
        let told = site.run(&["--report", "old", "--", "sh", "-c", &read]);
        told.ended(0).printing("old");
        assert_eq!(site.mode("old"), 0o640);
        site.run(&["--report", "new/er/report", "--", "true"])
            .ended(0);
        for report in ["old", "new/er/report"] {
            assert!(site.read(report).starts_with(b"{"), "{report}");
        }
    });
}
