//! Signals to a job, and processes that try to outlive it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::site::{Call, Site, both, until};
use crate::support::window::Window;

const ENDING: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

#[test]
fn a_signal_during_a_step_ends_the_job() {
    both(|site| {
        for (signal, code) in ENDING {
            site.write("out", "old");
            let work = format!("echo new > out; trap '' INT TERM HUP; {}", site.endless());
            let call = site.start(&[
                "-o",
                "out",
                "--",
                "sh",
                "-c",
                &work,
                "--then",
                "touch",
                &site.text("ran"),
            ]);
            until("the step runs", || site.endless_ones() == 1);
            call.signal(signal);
            call.finish().ended(code).silently();
            assert_eq!(site.listing(), ["out: old"]);
            site.expect_nothing_left();
        }
    });
}

#[test]
fn a_signal_while_standard_input_is_staged_ends_the_job() {
    both(|site| {
        for (signal, code) in ENDING {
            let ran = site.text("ran");
            let words = ["run", "--tmp", "host", "-i", "x=-", "--", "touch", &ran];
            let mut command = site.command(&words);
            command.stdin(Stdio::piped());
            let mut call = Call::start(command);
            let mut stdin = call.stdin();
            // More than the pipe holds: when it is written, staging reads, and more never comes.
            stdin.write_all(&vec![0; 1 << 20]).unwrap();
            call.signal(signal);
            call.finish().ended(code).silently();
            assert!(site.listing().is_empty());
        }
    });
}

#[test]
fn a_signal_while_a_fifo_is_waited_for_ends_the_job() {
    both(|site| {
        site.mkfifo("fifo");
        for (signal, code) in ENDING {
            let call = site.start(&["-i", "x=fifo", "--", "true"]);
            until("it waits", || stages(&call));
            call.signal(signal);
            call.finish().ended(code).silently();
        }
    });
}

/// Whether it has begun to stage, which it does when it listens to signals on a thread.
fn stages(call: &Call) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", call.pid()));
    threads.is_ok_and(|threads| threads.count() == 2)
}

#[test]
fn a_signal_while_outputs_are_delivered_puts_them_back() {
    both(|site| {
        for (signal, code) in ENDING {
            site.write("a", "old");
            let make = "head -c 1M /dev/zero > x; echo new > a; echo new > b";
            let mut command = site.command(&[
                "run", "-o", "a", "-o", "x=-", "-o", "b", "--", "sh", "-c", make,
            ]);
            let (mut reader, writer) = std::io::pipe().unwrap();
            command.stdout(writer);
            let call = Call::start(command);
            // Standard output comes last, and the rest of it does not fit into the pipe.
            reader.read_exact(&mut [0]).unwrap();
            assert_eq!(site.read("a"), b"new\n");
            call.signal(signal);
            let told = call.finish().ended(code);
            assert_eq!(told.stderr, "");
            assert_eq!(site.listing(), ["a: old"]);
        }
    });
}

#[test]
fn a_signal_while_an_output_waits_for_a_reader_puts_back_the_others() {
    both(|site| {
        site.mkfifo("fifo");
        for (signal, code) in ENDING {
            site.write("a", "old");
            let make = "head -c 1M /dev/zero > x; echo new > a";
            let words = ["-o", "a", "-o", "x=fifo", "--", "sh", "-c", make];
            // Nobody opens it.
            let call = site.start(&words);
            until("a is in place", || site.read("a") == b"new\n");
            call.signal(signal);
            call.finish().ended(code).silently();
            assert_eq!(site.listing(), ["a: old", "fifo: special"]);
            // Nobody reads on.
            let call = site.start(&words);
            let mut reader = File::open(site.path("fifo")).unwrap();
            reader.read_exact(&mut [0]).unwrap();
            call.signal(signal);
            call.finish().ended(code).silently();
            assert_eq!(site.listing(), ["a: old", "fifo: special"]);
        }
    });
}

#[test]
fn a_signal_that_our_parent_ignores_does_nothing() {
    both(|site| {
        let program = site.text("../notapipe");
        let wait = "cat > /dev/null; echo done".to_owned();
        let job = format!("trap '' HUP INT; exec {program} run -- sh -c '{wait}'");
        let mut command = site.tool(&["sh", "-c", &job]);
        command.stdin(Stdio::piped());
        let mut call = Call::start(command);
        let stdin = call.stdin();
        until("the step runs", || !children(&call).is_empty());
        call.signal(Signal::HUP);
        call.signal(Signal::INT);
        drop(stdin);
        call.finish().ended(0).printing("done\n");
    });
}

fn children(call: &Call) -> String {
    let pid = call.pid();
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
}

/// A script that leaves processes behind which left the session, lost their parent, cleared their
/// environment and ignore what can be ignored, and that goes on when all of them run.
fn run_away(site: &Site, then: &str) -> String {
    let endless = site.endless();
    format!(
        "setsid sh -c 'trap \"\" TERM HUP INT; cd /; {endless} & exec {endless}' < /dev/null > /dev/null 2>&1 &
         (env -i setsid {endless} < /dev/null > /dev/null 2>&1 &)
         {then}"
    )
}

/// Three sleeps of [`run_away`].
const RUNAWAYS: usize = 3;

/// Waits in a step, without a limit but the test's own, until the run-aways run.
fn awaiting(site: &Site, then: &str) -> String {
    let time = site.endless().replace("sleep ", "");
    run_away(
        site,
        &format!(
            "while [ $(cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' '\\n' | grep -cx {time}) -lt {RUNAWAYS} ]; do sleep 0.01; done
             {then}"
        ),
    )
}

#[test]
fn run_aways_are_gone_after_a_normal_end() {
    both(|site| {
        let script = awaiting(site, "echo started");
        site.run(&["--", "sh", "-c", &script])
            .ended(0)
            .printing("started\n");
        assert_eq!(site.endless_ones(), 0, "not gone when notapipe is");
    });
}

#[test]
fn run_aways_are_gone_after_a_failure() {
    both(|site| {
        let script = awaiting(site, "exit 5");
        site.run(&["--", "sh", "-c", &script]).ended(5);
        assert_eq!(site.endless_ones(), 0, "not gone when notapipe is");
    });
}

#[test]
fn run_aways_are_gone_after_a_step_that_was_killed() {
    both(|site| {
        let script = awaiting(site, "kill -KILL $$");
        site.run(&["--", "sh", "-c", &script]).ended(137);
        assert_eq!(site.endless_ones(), 0, "not gone when notapipe is");
    });
}

#[test]
fn run_aways_are_gone_after_a_timeout() {
    both(|site| {
        let script = awaiting(site, &site.endless());
        site.run(&["--timeout", "3s", "--", "sh", "-c", &script])
            .ended(124);
        assert_eq!(site.endless_ones(), 0, "not gone when notapipe is");
    });
}

#[test]
fn run_aways_are_gone_after_a_signal() {
    both(|site| {
        for (signal, code) in ENDING {
            let call = site.start(&["--", "sh", "-c", &awaiting(site, &site.endless())]);
            until("all of them run", || site.endless_ones() == RUNAWAYS + 1);
            call.signal(signal);
            call.finish().ended(code).silently();
            assert_eq!(site.endless_ones(), 0, "not gone when notapipe is");
        }
    });
}

#[test]
fn run_aways_are_gone_after_kill_9() {
    both(|site| {
        let call = site.start(&["--", "sh", "-c", &awaiting(site, &site.endless())]);
        until("all of them run", || site.endless_ones() == RUNAWAYS + 1);
        call.signal(Signal::KILL);
        drop(call);
        site.expect_nothing_left();
    });
}

#[test]
fn run_aways_do_not_keep_our_streams() {
    both(|site| {
        let endless = site.endless();
        let script = format!("setsid {endless} & echo done");
        // The end of our output is seen only when every process that holds it is gone.
        site.run(&["--", "sh", "-c", &script])
            .ended(0)
            .printing("done\n");
    });
}

#[test]
fn a_daemon_of_one_step_serves_the_next() {
    both(|site| {
        let serve =
            "mkfifo in out; setsid sh -c 'read word < in; echo \"you said $word\" > out' & :";
        let ask = "echo hello > in; cat out";
        let words = ["--", "sh", "-c", serve, "--then", "sh", "-c", ask];
        site.run(&words).ended(0).printing("you said hello\n");
    });
}

#[test]
fn ctrl_c_on_a_terminal_ends_a_job() {
    both(|site| {
        let window =
            Window::open(site.command(&["run", "-o", "x", "--", "sh", "-c", &site.endless()]));
        until("the step runs", || site.endless_ones() == 1);
        let told = window.type_and_finish(b"\x03").ended(130);
        assert_eq!(
            told.text().trim_end(),
            "^C",
            "nothing is told that the person knows"
        );
        site.expect_nothing_left();
    });
}

#[test]
fn ctrl_c_on_a_terminal_ends_the_waiting_for_input() {
    both(|site| {
        let window = Window::open(site.command(&["run", "-i", "x=-", "--", "cat", "x"]));
        until("it waits", || stages(&window.call));
        window.type_and_finish(b"some words\n\x03").ended(130);
    });
}

#[test]
fn a_tool_on_a_terminal_reads_and_writes_it() {
    both(|site| {
        let ask = "test -t 0 && test -t 1 && test -t 2 && read word && echo \"<$word>\" && stty size >/dev/null";
        let window = Window::open(site.command(&["run", "--", "sh", "-c", ask]));
        let told = window.type_and_finish(b"word\n").ended(0);
        assert!(told.text().contains("<word>"), "{}", told.text());
    });
}

#[test]
fn a_closed_terminal_ends_a_job() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let window = Window::open(site.command(&["run", "--", "sh", "-c", &site.endless()]));
    until("the step runs", || site.endless_ones() == 1);
    window.close().ended(129);
}

/// Takes up a program with some signals ignored and some held back.
const SURROUNDED: &str = "import os, signal, sys\n\
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD})\n\
    for it in range(1, 65):\n  \
      if it not in (9, 19, 32, 33): signal.signal(it, signal.SIG_DFL)\n\
    for it in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTTOU): signal.signal(it, signal.SIG_IGN)\n\
    os.execvp(sys.argv[1], sys.argv[1:])";

/// A command line under a caller that ignores SIGCHLD and SIGPIPE and holds back others.
fn surrounded(site: &Site, words: &[&str]) -> Call {
    let program = ["python3", "-c", SURROUNDED];
    Call::start(site.tool(&[&program[..], words].concat()))
}

#[test]
fn a_caller_that_ignores_sigchld_gets_every_status() {
    both(|site| {
        let program = site.text("../notapipe");
        for mount in ["private", "public"] {
            let options = ["run", "--mount", mount, "--timeout", "60"];
            let begin = [&[&program[..]], &options[..]].concat();
            let job = |rest: &[&str]| surrounded(site, &[&begin, rest].concat()).finish();
            job(&["--", "sh", "-c", "exit 3"]).ended(3);
            job(&["--", "true", "--then", "sh", "-c", "exit 5"]).ended(5);
            let made = ["--input-from", "x", "echo made", "--", "cat", "x"];
            job(&made).ended(0).printing("made\n");
            let failed = ["--input-from", "x", "exit 4", "--", "cat", "x"];
            job(&failed).ended(125).saying(&["ended with status 4"]);
            let taken = [
                "--output-to",
                "x",
                "cat",
                "--",
                "sh",
                "-c",
                "echo taken > x",
            ];
            job(&taken).ended(0).printing("taken\n");
        }
    });
}

#[test]
fn a_tool_gets_the_signals_as_the_caller_had_them() {
    both(|site| {
        let show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
        let as_it_is = surrounded(site, &show).finish().ended(0).text();
        assert!(as_it_is.contains("211000\n"), "{as_it_is}");
        let program = site.text("../notapipe");
        for mount in ["private", "public"] {
            let begin = [&program[..], "run", "--mount", mount, "--"];
            let told = surrounded(site, &[&begin, &show[..]].concat()).finish();
            told.ended(0).printing(&as_it_is);
        }
        let command = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
        let by_shell = surrounded(site, &["sh", "-c", command]).finish().text();
        let words = ["run", "--input-from", "x", command, "--", "cat", "x"];
        let told = surrounded(site, &[&[&program[..]], &words[..]].concat()).finish();
        told.ended(0).printing(&by_shell);
    });
}

#[test]
fn a_signal_that_the_caller_holds_back_ends_the_job() {
    both(|site| {
        let endless = site.endless();
        let program = site.text("../notapipe");
        let words = [&program[..], "run", "--", "sh", "-c", &endless];
        let call = surrounded(site, &words);
        until("the step runs", || site.endless_ones() == 1);
        call.signal(Signal::TERM);
        call.finish().ended(143);
        site.expect_nothing_left();
    });
}

/// A limit for the size of files holds for files in memory too, which we do not use therefore.
#[test]
fn a_caller_that_may_not_write_files_can_run_a_job() {
    both(|site| {
        let job = format!(
            "ulimit -f 0; {} run -- echo one --pipe cat",
            site.text("../notapipe")
        );
        let told = Call::start(site.tool(&["sh", "-c", &job])).finish();
        told.ended(0).printing("one\n");
    });
}
