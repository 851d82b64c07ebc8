//! `--input-from` and `--output-to`: files that commands make and take.

use std::fs;

use rustix::process::Signal;

use crate::support::site::{Site, Who, over_each_backing, until};

#[test]
fn what_a_command_writes_is_a_file() {
    over_each_backing(|site| {
        site.write("here", "from the caller's directory\n");
        let look = "tail -c 4 a; cat a a | wc -l; stat -c '%F %a' a; cat dir/b";
        let words = [
            "--input-from",
            "a",
            "seq 9998 9999; cat here",
            "--input-from",
            "dir/b",
            "printf -- -n",
            "--",
            "sh",
            "-c",
            look,
        ];
        site.run(&words)
            .ended(0)
            .printing("ory\n6\nregular file 644\n-n");
        assert_eq!(site.listing(), ["here: from the caller\\'s directory\\n"]);
    });
}

#[test]
fn large_and_empty_outputs_of_commands_come_whole() {
    over_each_backing(|site| {
        let words = [
            "--input-from",
            "large",
            "seq 2000000",
            "--input-from",
            "empty",
            ":",
            "-o",
            "sum",
            "--",
            "sh",
            "-c",
            "cksum < large > sum; wc -c < empty >> sum",
        ];
        site.run(&words).ended(0).silently();
        let line = "seq 2000000 | cksum; echo 0";
        let told = crate::support::site::Call::start(site.tool(&["sh", "-c", line])).finish();
        assert_eq!(site.read("sum"), told.stdout);
    });
}

/// Each waits for the other, which can only end when both run.
#[test]
fn commands_run_side_by_side() {
    over_each_backing(|site| {
        site.mkfifo("one");
        site.mkfifo("two");
        let (a, b) = ("echo 1 > one; cat two", "cat one; echo 2 > two");
        let words = [
            "--input-from",
            "a",
            a,
            "--input-from",
            "b",
            b,
            "--",
            "cat",
            "a",
            "b",
        ];
        site.run(&words).ended(0).printing("2\n1\n");
        let (a, b) = ("cat; echo > one; cat < two", "cat; cat < one; echo > two");
        let words = ["--output-to", "x", a, "--output-to", "y", b];
        let make = ["--", "sh", "-c", "echo x > x; echo y > y"];
        let told = site.run(&[&words[..], &make].concat()).ended(0);
        let mut lines: Vec<_> = told.text().lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, ["", "", "x", "y"]);
    });
}

#[test]
fn a_command_that_fails_fails_the_job_and_ends_the_others() {
    over_each_backing(|site| {
        let endless = site.endless();
        let step = ["-o", "x", "--", "sh", "-c", "echo ran >&2; echo > x"];
        for (command, ending) in [
            (
                "echo part; exit 3",
                "ended with status 3: \"echo part; exit 3\"",
            ),
            ("kill -9 $$", "was ended by signal 9"),
            ("no-such-tool", "ended with status 127"),
        ] {
            let words = ["--input-from", "other", &format!("{endless} & {endless}")];
            let failing = ["--input-from", "in", command];
            let told = site.run(&[&words[..], &failing, &step].concat()).ended(125);
            assert!(!told.stderr.contains("ran"), "{}", told.stderr);
            told.saying(&["the command for the input \"in\"", ending]);
            assert_eq!(site.endless_ones(), 0);
        }
        let make = ["-o", "x", "--", "sh", "-c", "echo > x; echo > y"];
        let failing = ["--output-to", "y", "cat; exit 4"];
        site.run(&[&failing[..], &make].concat())
            .ended(125)
            .saying(&["the command for the output \"y\" ended with status 4: \"cat; exit 4\""]);
        assert_eq!(site.listing(), [""; 0]);
    });
}

#[test]
fn what_a_command_writes_has_to_fit() {
    over_each_backing(|site| {
        let words = [
            "--size",
            "1M",
            "--input-from",
            "big",
            "cat /dev/zero",
            "--",
            "true",
        ];
        site.run(&words).ended(125).saying(&[
            "no room for the input for \"big\": the limit of 1 MiB is reached",
            "raise the limit with --size",
        ]);
    });
}

#[test]
fn commands_have_the_time_that_the_job_has() {
    over_each_backing(|site| {
        let endless = format!("({}) | cat", site.endless());
        let words = [
            "--timeout",
            "0.2",
            "--input-from",
            "a",
            &endless,
            "--",
            "true",
        ];
        site.run(&words)
            .ended(124)
            .saying(&["took longer than", "98765"]);
        assert_eq!(site.endless_ones(), 0);
        let words = [
            "--timeout",
            "0.2",
            "--output-to",
            "a",
            &endless,
            "--",
            "touch",
            "a",
        ];
        site.run(&words)
            .ended(124)
            .saying(&["took longer than", "98765"]);
        assert_eq!(site.endless_ones(), 0);
    });
}

#[test]
fn signals_end_commands_with_all_that_they_started() {
    over_each_backing(|site| {
        let endless = site.endless();
        let line = format!("{endless} & {endless} & wait");
        for words in [
            ["--input-from", "a", &line, "--", "touch", "a"],
            ["--output-to", "a", &line, "--", "touch", "a"],
        ] {
            for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
                let call = site.start(&words);
                until("they run", || site.endless_ones() == 2);
                call.signal(signal);
                call.finish().ended(128 + signal.as_raw()).silently();
                assert_eq!(site.endless_ones(), 0);
            }
        }
    });
}

#[test]
fn nothing_that_is_no_command_is_executed() {
    over_each_backing(|site| {
        for value in [
            "x=$(touch evil)",
            "x=|touch evil",
            "x=`touch evil`",
            "x=!touch evil",
            "x=<(touch evil)",
        ] {
            site.run(&["-i", value, "--", "true"])
                .ended(125)
                .saying(&["cannot read", "No such file"]);
            site.run(&["-o", &value.replace('/', ""), "--", "touch", "x"])
                .ended(0);
            assert!(!site.exists("evil"), "{value}");
        }
    });
}

#[test]
fn an_output_is_given_to_a_command() {
    over_each_backing(|site| {
        let make = ["--", "sh", "-c", "seq 300000 > n; echo other > other"];
        let words = [
            "-o",
            "n",
            "--output-to",
            "n",
            "cksum; touch seen",
            "--output-to",
            "other",
            "cat > copy",
        ];
        let told = site.run(&[&words[..], &make].concat()).ended(0);
        let n = site.read("n");
        assert!(
            told.text().ends_with(&format!(" {}\n", n.len())),
            "{}",
            told.text()
        );
        assert!(site.exists("seen"));
        assert_eq!(site.read("copy"), b"other\n");
        // One that has seen enough is no failure.
        site.run(&[&["--output-to", "n", "head -n 1"], &make[..]].concat())
            .ended(0)
            .printing("1\n");
        // Standard output stays the archive's.
        let words = ["--pack", "-", "-o", "other", "--output-to", "other", "cat"];
        let told = site.run(&[&words[..], &make].concat()).ended(0);
        assert_eq!(told.stderr, "other\n");
        assert_eq!(told.stdout.len() % 512, 0);
        assert!(told.stdout.windows(6).any(|text| text == b"other\n"));
    });
}

#[test]
fn an_output_for_a_command_must_be_a_file() {
    let site = Site::new(Who::User);
    site.run(&[
        "--output-to",
        "game.gb",
        "touch evil",
        "--",
        "touch",
        "Game.gb",
    ])
    .ended(125)
    .saying(&["no output \"game.gb\"; did you mean \"Game.gb\"?"]);
    site.run(&["--output-to", "d", "touch evil", "--", "mkdir", "d"])
        .ended(125)
        .saying(&["cannot collect \"d\": it is a directory"]);
    assert_eq!(site.listing(), [""; 0]);
}

/// A command must not wait for a terminal that the job's own steps read.
#[test]
fn commands_read_nothing_of_ours() {
    over_each_backing(|site| {
        let words = [
            "--input-from",
            "a",
            "cat",
            "--",
            "sh",
            "-c",
            "wc -c < a; cat",
        ];
        site.run_reading(b"for the step", &words)
            .ended(0)
            .printing("0\nfor the step");
        let tty = "sh -c ': < /dev/tty' 2>/dev/null && echo terminal || echo none";
        site.run(&["--input-from", "a", tty, "--", "cat", "a"])
            .ended(0)
            .printing("none\n");
    });
}

#[test]
fn a_job_file_has_commands_too() {
    over_each_backing(|site| {
        let line = [
            "--input-from",
            "in",
            "echo made",
            "--output-to",
            "out",
            "cat",
            "--optional",
            "x=dir/",
            "--collect",
            "*.gb=roms",
            "--changed=new",
            "--print-job",
            "--",
            "cp",
            "in",
            "out",
        ];
        let text = site.run(&line).ended(0).text();
        site.write("job.toml", &text);
        site.run(&["--job", "job.toml", "--collect", "o*=roms"])
            .ended(125)
            .saying(&["no output matches \"*.gb\""]);
        let text = text.replace("*.gb=roms", "o*=roms");
        site.write("job.toml", text);
        site.run(&["--job", "job.toml"]).ended(0).printing("made\n");
        assert_eq!(fs::read(site.path("roms/out")).unwrap(), b"made\n");
        assert_eq!(fs::read(site.path("new/out")).unwrap(), b"made\n");
    });
}
