//! Text of others in what is told: a terminal obeys nothing of it, a person is not misled, and it is never long.

use std::process::Command;

use serde_json::Value;

use crate::support::site::{Site, Told, both};
use crate::support::window::Window;

/// Turns what follows round, clears a screen, hides, looks like a message of ours.
const HOSTILE: &str =
    "\u{202e}bg\u{1b}[2J\u{9b}31m\u{200b}\u{2028}\u{7f}\u{2066}\nnotapipe: forged";

fn is_plain(c: char) -> bool {
    c == '\n' || c.escape_debug().len() == 1 || matches!(c, '"' | '\'' | '\\')
}

/// All of what was told can be seen, and no line of it begins as if we had said what a name says.
#[track_caller]
fn expect_plain(told: &Told) {
    let all = told.text() + &told.stderr;
    assert!(all.chars().all(is_plain), "{all:?}");
    assert!(!all.contains("\nnotapipe: forged"), "{all}");
    assert!(told.stderr.lines().all(|line| line.len() < 9000));
}

#[test]
fn a_name_is_shown_by_every_command_and_obeyed_by_no_terminal() {
    both(|site| {
        let name = HOSTILE;
        let option = format!("--{name}");
        let equal = format!("{name}=1");
        let script = format!("printf x > '{name}'");
        let lines: &[&[&str]] = &[
            &[name],
            &["run", name],
            &["run", &option, "--", "true"],
            &["run", "-i", name, "--", "true"],
            &["run", "-i", name, "a", "--", "true"],
            &["run", "-i", name, name, "--", "true"],
            &["run", "-o", name, "--", "true"],
            &["run", "-o", &equal, "--", "sh", "-c", &script],
            &["run", "--collect", name, "--", "touch", name],
            &["run", "--changed=/dev/null", "--", "touch", name],
            &["run", "--size", name, "--", "true"],
            &["run", "--limit", &equal, "--", "true"],
            &["run", "--cpus", name, "--", "true"],
            &["run", "--at", name, "--", "true"],
            &["run", "--job", name],
            &["run", "--unpack", name, "--", "true"],
            &["run", "--report", &format!("gone/{name}"), "--", "true"],
            &["run", "--input-from", name, "false", "--", "true"],
            &[
                "run",
                "--input-from",
                "a",
                &format!("false {name}"),
                "--",
                "true",
            ],
            &["run", "--follow", name, "--", "true"],
            &[
                "run", "-v", "--", "true", name, "--then", "false", "--then", "echo", name,
            ],
            &["run", "--", name],
            &["run", "--", name, "--", "--then"],
            &["run", "--", &option, "true"],
            &["run", "--", "--stdin", name, "true"],
            &["run", "--", "--env", name, "true"],
            &["run", "--print-job", "-i", name, "--", "echo", name],
            &["mount", name],
            &["mount", "-o", &equal, "."],
            &["mount", "--from", name, "."],
            &["umount", name],
            &["status", name],
            &["resize", "--size", "1M", name],
            &["snapshot", name, "-o", name],
            &["snapshot", name, "-o", "a.tar"],
            &["completions", name],
            &["man", name],
            &["doctor", name],
            &["list", &option],
        ];
        for line in lines {
            println!("{line:?}");
            expect_plain(&site.call(line));
        }
    });
}

#[test]
fn a_mount_with_such_a_name_is_told_of() {
    both(|site| {
        site.create_dir(HOSTILE);
        let save = format!("{HOSTILE}.tar");
        let mount = site.call(&["mount", "--background", "-v", "--save", &save, HOSTILE]);
        expect_plain(&mount.ended(0));
        let (list, status) = (site.call(&["list"]), site.call(&["status", HOSTILE]));
        for told in [list, status] {
            expect_plain(&told);
            assert!(
                told.text().contains(r"\u{202e}bg\u{1b}[2J"),
                "{}",
                told.text()
            );
        }
        // For programs it is exact.
        let path = site.text(HOSTILE);
        let (list, status) = (
            site.call(&["list", "--json"]),
            site.call(&["status", "--json", HOSTILE]),
        );
        for told in [list, status] {
            expect_plain(&told);
            let json: Value = serde_json::from_slice(&told.stdout).unwrap();
            let mounts = json.as_array().cloned().unwrap_or_else(|| vec![json]);
            assert!(mounts.iter().any(|mount| mount["path"] == path));
        }
        expect_plain(
            &site
                .call(&["snapshot", "-v", "-o", "a.tar", HOSTILE])
                .ended(0),
        );
        expect_plain(&site.call(&["umount", "-v", HOSTILE]).ended(0));
    });
}

#[test]
fn a_report_and_a_job_file_say_exactly_what_was_there() {
    both(|site| {
        let make = ["--", "cp", "/dev/null", HOSTILE];
        let told = site.run(&[&["--report", "-", "-o", HOSTILE][..], &make].concat());
        let told = told.ended(0);
        expect_plain(&told);
        let report: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(report["steps"][0]["command"][2], HOSTILE);
        assert_eq!(report["steps"][0]["files"]["created"][0], HOSTILE);
        assert_eq!(report["outputs"][0]["name"], HOSTILE);
        let job = site.run(&[&["--print-job", "-o", HOSTILE][..], &make].concat());
        let job = job.ended(0);
        expect_plain(&job);
        std::fs::remove_file(site.path(HOSTILE)).unwrap();
        site.run_reading(&job.stdout, &["--job", "-"]).ended(0);
        assert!(site.exists(HOSTILE));
    });
}

#[test]
fn members_of_an_archive_and_what_is_left_behind_are_shown() {
    both(|site| {
        let script = format!(
            "mkdir d && mkfifo 'd/{HOSTILE}' && tar cf fifo.tar d && \
             printf x > '{HOSTILE}' && tar cPf climbs.tar --transform 's,^,../,' '{HOSTILE}'"
        );
        let mut make = Command::new("sh");
        make.args(["-c", &script]).current_dir(site.work());
        assert!(make.status().unwrap().success());
        for line in [
            &["-i", "d", "--", "true"][..],
            &["--unpack", "fifo.tar", "--", "true"],
            &["--unpack", "climbs.tar", "--", "true"],
            &["-o", "e", "--", "sh", "-c", "mkdir e; mkfifo e/\u{202e}x"],
        ] {
            let told = site.run(line);
            expect_plain(&told);
            assert!(
                told.stderr.contains(r"\u{202e}"),
                "{line:?}: {}",
                told.stderr
            );
        }
    });
}

#[test]
fn a_terminal_gets_only_what_can_be_seen() {
    both(|site| {
        let words = ["run", "--keep-on-failure", HOSTILE, "--", "false"];
        let told = Window::open(site.command(&words)).finish().ended(1);
        let screen = told.text().replace("\r\n", "\n");
        assert!(screen.chars().all(is_plain), "{screen:?}");
        assert!(screen.contains(r"\u{202e}bg"), "{screen}");
    });
}

#[test]
fn a_hundred_kilobytes_of_name_do_not_go_into_a_message() {
    both(|site| {
        let long = "n".repeat(100_000);
        let option = format!("--{long}");
        let equal = format!("{long}=1");
        for line in [
            &[&*long][..],
            &["run", &long],
            &["run", &option, "--", "true"],
            &["run", "-i", &long, "--", "true"],
            &["run", "-o", &long, "--", "true"],
            &["run", "-i", "a", &long, "--", "true"],
            &["run", "--size", &long, "--", "true"],
            &["run", "--limit", &equal, "--", "true"],
            &["run", "--", &long],
            &["run", "--", &option, "true"],
            &["run", "--", "--env", &long, "true"],
            &["run", "-v", "--", "true", &long],
            &[
                "run",
                "--input-from",
                "a",
                &format!("false {long}"),
                "--",
                "true",
            ],
            &["run", "--job", &long],
            &["status", &long],
            &["snapshot", &long, "-o", &long],
        ] {
            let told = site.call(line);
            let length = told.stderr.len();
            assert!(length < 2500 && length > 0, "{}: {length}", line[0]);
            assert!(told.stderr.contains("bytes)"), "{}", told.stderr);
        }
        // Nor does a list.
        let outputs: Vec<String> = (0..3000).map(|number| format!("-oname{number}")).collect();
        let mut words: Vec<&str> = outputs.iter().map(String::as_str).collect();
        words.extend(["--", "true"]);
        let told = site.run(&words).ended(125).saying(&["and 2990 more"]);
        assert!(told.stderr.len() < 1000, "{}", told.stderr);
    });
}

/// The words of a step that was ended, whole in the report and short for a person.
#[test]
fn a_long_command_line_is_short_for_people_and_whole_for_programs() {
    let expect = |site: &Site| {
        let long = "w".repeat(100_000);
        let words = ["-v", "--report", "report", "--", "true", &long];
        let told = site.run(&words).ended(0);
        assert!(told.stderr.len() < 2000, "{}", told.stderr);
        let report: Value = serde_json::from_slice(&site.read("report")).unwrap();
        assert_eq!(report["steps"][0]["command"][1], long);
    };
    both(expect);
}
