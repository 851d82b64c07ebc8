//! Step options and pipes.

use crate::support::site::{Site, Who, over_each_backing};

#[test]
fn streams_are_files_in_the_mount() {
    over_each_backing(|site| {
        site.write("in", "b\na\n");
        let line = ["-i", "in", "-o", "out/sorted", "-o", "log", "--"];
        let step = [
            "--stdin",
            "in",
            "--stdout",
            "out/sorted",
            "--stderr=log",
            "sh",
            "-c",
        ];
        site.run(&[&line[..], &step, &["sort; echo seen >&2"]].concat())
            .ended(0)
            .silently();
        assert_eq!(site.read("out/sorted"), b"a\nb\n");
        assert_eq!(site.read("log"), b"seen\n");
    });
}

#[test]
fn one_file_for_both_outputs_holds_them_in_order() {
    over_each_backing(|site| {
        let work = "echo 1; echo 2 >&2; echo 3; seek() { :; }";
        let step = ["--stdout", "log", "--stderr", "log", "sh", "-c", work];
        site.run(&[&["-o", "log=-", "--"][..], &step].concat())
            .ended(0)
            .printing("1\n2\n3\n");
    });
}

#[test]
fn an_output_stream_is_a_real_file() {
    over_each_backing(|site| {
        // A FIFO or pipe in its place would refuse the seek and have no size.
        let work = "import os, sys\n\
            os.lseek(1, 3, 0); os.write(1, b'x'); os.ftruncate(1, 6)\n\
            sys.exit(os.fstat(1).st_size != 6 or os.isatty(0))";
        let words = ["-o", "f=-", "--", "--stdout", "f", "python3", "-c", work];
        site.run(&words).ended(0).printing("\0\0\0x\0\0");
    });
}

#[test]
fn a_step_has_its_own_environment_and_directory() {
    over_each_backing(|site| {
        site.write("d/file", "here\n");
        let show = "cat file; echo $X-$Y $(basename $PWD); pwd";
        let step = [
            "--env", "X=a=b", "--chdir", "d", "--env=Y=", "sh", "-c", show,
        ];
        let words = [
            &["-i", "d", "--at", "/mnt", "--"][..],
            &step,
            &["--then", "pwd"],
        ]
        .concat();
        site.run(&words)
            .ended(0)
            .printing("here\na=b- d\n/mnt/d\n/mnt\n");
    });
}

#[test]
fn a_stream_that_cannot_be_opened_is_told() {
    over_each_backing(|site| {
        site.create_dir("d");
        site.symlink("/etc/hostname", "d/out");
        let line = ["-i", "d", "--"];
        for (step, parts) in [
            (
                &["--stdin", "gone", "cat"][..],
                &["\"gone\" as the standard input of \"cat\"", "No such file"][..],
            ),
            (
                &["--stdin", "d/out", "cat"],
                &["a symlink leads out of the mount"],
            ),
            (&["--stdin", "d", "cat"], &["Is a directory"]),
            (
                &["--stdout", "d", "cat"],
                &["standard output of \"cat\"", "Is a directory"],
            ),
            (
                &["--stderr", "gone/x", "cat"],
                &["standard error of \"cat\"", "No such file"],
            ),
            (&["--chdir", "gone", "cat"], &["gone\" cannot be entered"]),
            (
                &["mkfifo", "f", "--then", "--stdin", "f", "cat"],
                &["it is no regular file"],
            ),
            (
                &["mkfifo", "f", "--then", "--stdout", "f", "cat"],
                &["it is no regular file"],
            ),
        ] {
            let told = site.run(&[&line[..], step].concat());
            told.ended(125).saying(parts).printing("");
        }
    });
}

#[test]
fn a_pipe_runs_its_steps_at_once() {
    over_each_backing(|site| {
        // More than a pipe holds, through four tools, between other steps.
        let words = [
            "-o",
            "count",
            "-o",
            "last",
            "--",
            "touch",
            "ran",
            "--then",
            "seq",
            "100000",
            "--pipe",
            "tac",
            "--pipe",
            "cat",
            "--pipe",
            "--stdout",
            "count",
            "sh",
            "-c",
            "test -e ran && head -n 1 && cat > rest",
            "--then",
            "cp",
            "count",
            "last",
        ];
        site.run(&words).ended(0).silently();
        assert_eq!(site.read("last"), b"100000\n");
    });
}

#[test]
fn any_failure_in_a_pipe_is_the_jobs() {
    over_each_backing(|site| {
        for (step, code) in [
            (&["sh", "-c", "exit 3", "--pipe", "cat"][..], 3),
            (&["cat", "--pipe", "sh", "-c", "exit 4"], 4),
            (
                &["true", "--pipe", "sh", "-c", "exit 5", "--pipe", "cat"],
                5,
            ),
            // What loses its reader is not to blame.
            (&["yes", "--pipe", "sh", "-c", "exit 6"], 6),
            (&["sh", "-c", "kill -9 $$", "--pipe", "cat"], 128 + 9),
            (&["yes", "--pipe", "head", "-n", "1"], 128 + 13),
            (&["true", "--pipe", "/nonexistent/tool"], 127),
            (
                &["true", "--pipe", "true", "--then", "sh", "-c", "exit 7"],
                7,
            ),
        ] {
            let told = site.run(&[&["-o", "x", "--"][..], step].concat());
            told.ended(code);
            assert!(site.listing().is_empty(), "{step:?}");
        }
    });
}

#[test]
fn a_failure_ends_those_that_do_not_look_at_the_pipe() {
    over_each_backing(|site| {
        let endless = format!("exec {}", site.endless());
        let words = [
            "--report", "r", "--", "sh", "-c", &endless, "--pipe", "sh", "-c", "exit 3",
        ];
        site.run(&words).ended(3);
        let report: serde_json::Value = serde_json::from_slice(&site.read("r")).unwrap();
        assert_eq!(report["steps"][0]["exit"]["signal"], 9);
        assert_eq!(report["steps"][1]["exit"]["code"], 3);
    });
}

#[test]
fn a_timeout_asks_first_where_it_is_told_to() {
    over_each_backing(|site| {
        let work = format!("trap 'echo asked; exit 0' TERM; {} & wait", site.endless());
        let line = [
            "--timeout",
            "3",
            "--kill-after",
            "1m",
            "-o",
            "x",
            "--",
            "sh",
            "-c",
            &work,
        ];
        site.run(&line)
            .ended(124)
            .printing("asked\n")
            .saying(&["took longer than 3s"]);
        // Nothing is asked without it, and what does not listen is killed with it.
        site.run(&["--timeout", "0.2", "--", "sh", "-c", &work])
            .ended(124)
            .printing("");
        let deaf = format!("trap '' TERM; setsid {} & wait", site.endless());
        site.run(&[
            "--timeout",
            "0.2",
            "--kill-after",
            "0.1",
            "--",
            "sh",
            "-c",
            &deaf,
        ])
        .ended(124);
        site.expect_nothing_left();
    });
}

#[test]
fn words_of_our_own_are_renamed_for_tools_that_take_them() {
    let site = Site::new(Who::User);
    let words = [
        "--pipe-word",
        "@",
        "--then-word",
        "+",
        "--",
        "echo",
        "--pipe",
        "--then",
        "@",
        "cat",
    ];
    site.run(&words).ended(0).printing("--pipe --then\n");
    site.run(&["--", "--env", "A=1", "--", "sh", "-c", "echo $A"])
        .ended(0)
        .printing("1\n");
}
