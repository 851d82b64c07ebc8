//! A private mount: ready, gone, and everything in it ended.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use notapipe::mount::{Mount, MountError, MountOptions, Visibility};
use notapipe::run::process::{Containment, Exit, Interrupt, Processes, SpawnError, Waited};

use crate::stage::{self, both, both_ways, exit, step};
use crate::tiny_fs;

fn private() -> Mount {
    let options = MountOptions {
        visibility: Visibility::Private,
        ..MountOptions::default()
    };
    tiny_fs::mount(&options).unwrap()
}

#[test]
fn a_private_mount_is_ready_and_gone() {
    both("private_mount::a_private_mount_is_ready_and_gone", || {
        for _ in 0..20 {
            let mut mount = private();
            assert_eq!(stage::mounts(), 0, "it shows outside");
            mount.unmount().unwrap();
        }
    });
}

#[test]
fn steps_run_in_the_mount_and_report_their_end() {
    both(
        "private_mount::steps_run_in_the_mount_and_report_their_end",
        || {
            both_ways(private, |mount, processes| {
                let said = step(&processes, &["sh", "-c", "pwd; cat hello; id -u"]).unwrap();
                let user = rustix::process::geteuid().as_raw();
                assert_eq!(
                    said.stdout,
                    format!("{}\nhello from RAM\n{user}\n", mount.path().display())
                );
                assert_eq!(exit(&processes, &["sh", "-c", "exit 7"]), Exit::Code(7));
                assert_eq!(
                    exit(&processes, &["sh", "-c", "kill -TERM $$"]),
                    Exit::Signal(15)
                );
                assert_eq!(
                    exit(&processes, &["./script"]),
                    Exit::Code(9),
                    "no first line"
                );
                assert_eq!(
                    step(&processes, &["no-such-tool"])
                        .err()
                        .unwrap()
                        .exit_code(),
                    127
                );
                assert_eq!(
                    step(&processes, &["./no-such-tool"])
                        .err()
                        .unwrap()
                        .exit_code(),
                    127
                );
                assert_eq!(
                    step(&processes, &["/etc/passwd"])
                        .err()
                        .unwrap()
                        .exit_code(),
                    126
                );
                assert_eq!(
                    step(&processes, &["./hello"]).err().unwrap().exit_code(),
                    126
                );
                let long = "x".repeat(100 * 1024);
                let words = ["sh", "-c", "exit $#", "sh", &long, &long, &long];
                assert_eq!(exit(&processes, &words), Exit::Code(3));
                let too_long = step(&processes, &["echo", &"x".repeat(200 * 1024)]);
                assert_eq!(too_long.err().unwrap().exit_code(), 126);
                processes.end().unwrap();
            });
        },
    );
}

/// With Rust's own SIGPIPE, `yes | head` would complain; with blocked signals, `kill` would do
/// nothing.
#[test]
fn steps_start_with_default_signals() {
    both("private_mount::steps_start_with_default_signals", || {
        let masks = |status: &str, name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let pipe = 1 << (libc::SIGPIPE - 1);
        let ours = masks(
            &std::fs::read_to_string("/proc/self/status").unwrap(),
            "SigIgn:",
        );
        assert_ne!(ours & pipe, 0);
        both_ways(private, |_, processes| {
            let said = step(&processes, &["cat", "/proc/self/status"]).unwrap();
            assert_eq!(masks(&said.stdout, "SigBlk:"), 0);
            assert_eq!(masks(&said.stdout, "SigIgn:"), ours & !pipe);
        });
    });
}

#[test]
fn nothing_of_ours_is_open_in_a_step() {
    both("private_mount::nothing_of_ours_is_open_in_a_step", || {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        both_ways(private, |_, processes| {
            let said = step(&processes, &["ls", "-l", "/proc/self/fd"])
                .unwrap()
                .stdout;
            for ours in [
                "/dev/fuse",
                "socket:",
                "mnt:",
                "user:",
                "anon_inode:",
                "memfd:",
            ] {
                assert!(!said.contains(ours), "{said}");
            }
            processes.end().unwrap();
        });
        assert_eq!(open(), before, "descriptors leak");
    });
}

#[test]
fn processes_that_run_away_are_ended() {
    both("private_mount::processes_that_run_away_are_ended", || {
        both_ways(private, |mount, processes| {
            stage::run_away(&processes);
            assert!(
                processes.remaining().unwrap().len() >= 3,
                "{:?}",
                processes.remaining()
            );
            let busy = mount.unmount();
            assert!(
                matches!(&busy, Err(MountError::Busy { holders, .. }) if !holders.is_empty()),
                "{busy:?}"
            );
            let left = stage::ran_away();
            assert!(!left.is_empty());
            processes.end().unwrap();
            assert_eq!(stage::ran_away(), [0; 0]);
        });
    });
}

/// Its parent is listed and gone when it is looked at, and it came too late for the list.
#[test]
fn a_process_that_is_forked_while_one_looks_is_ended() {
    both(
        "private_mount::a_process_that_is_forked_while_one_looks_is_ended",
        || {
            (0..60).for_each(|_| stage::fork_and_end(private()));
            assert_eq!(stage::ran_away(), [0; 0]);
        },
    );
}

#[test]
fn a_process_that_waits_for_the_mount_is_ended() {
    both(
        "private_mount::a_process_that_waits_for_the_mount_is_ended",
        || {
            both_ways(private, |_, processes| {
                exit(&processes, &["sh", "-c", "cat stuck & sleep 0.2"]);
                processes.end().unwrap();
            });
        },
    );
}

#[test]
fn dropping_ends_everything() {
    both("private_mount::dropping_ends_everything", || {
        both_ways(private, |_, processes| {
            stage::run_away(&processes);
            drop(processes);
            assert_eq!(stage::ran_away(), [0; 0]);
        });
    });
}

#[test]
fn a_mount_made_on_a_thread_that_ended_lives_on() {
    both(
        "private_mount::a_mount_made_on_a_thread_that_ended_lives_on",
        || {
            let make = || {
                let mount = private();
                let processes = Processes::start(mount.point()).unwrap();
                (mount, processes)
            };
            let (mut mount, processes) = std::thread::spawn(make).join().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(
                step(&processes, &["cat", "hello"]).unwrap().stdout,
                "hello from RAM\n"
            );
            processes.end().unwrap();
            mount.unmount().unwrap();
        },
    );
}

#[test]
fn a_step_under_an_init_sees_its_own_proc() {
    both(
        "private_mount::a_step_under_an_init_sees_its_own_proc",
        || {
            let mount = private();
            let processes = Processes::start(mount.point()).unwrap();
            assert_eq!(processes.containment(), Containment::PidNamespace);
            let said = step(
                &processes,
                &[
                    "sh",
                    "-c",
                    "readlink /proc/self; tr '\\0' ' ' </proc/1/cmdline",
                ],
            );
            assert!(said.unwrap().stdout.contains(stage::INIT));
        },
    );
}

/// The kernel marks a process that gained privileges as not to be looked into, and children that
/// share our memory must not do that to us.
#[test]
fn we_stay_open_to_ourselves() {
    both("private_mount::we_stay_open_to_ourselves", || {
        both_ways(private, |_, processes| {
            exit(&processes, &["true"]);
            assert!(std::fs::read_dir("/proc/self/fd").is_ok());
            assert!(std::fs::read("/proc/self/environ").is_ok());
        });
    });
}

#[test]
fn many_threads_have_mounts_of_their_own() {
    both(
        "private_mount::many_threads_have_mounts_of_their_own",
        || {
            let started = Instant::now();
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    std::thread::spawn(|| {
                        for _ in 0..5 {
                            both_ways(private, |_, processes| {
                                assert_eq!(exit(&processes, &["cat", "hello"]), Exit::Code(0));
                                processes.end().unwrap();
                            });
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            println!("FIGURE 80 jobs from 8 threads: {:?}", started.elapsed());
        },
    );
}

/// Ctrl-C, Ctrl-Z and a closed terminal go to the steps; the init must outlive them to tell how
/// those ended.
#[test]
fn signals_from_the_terminal_do_not_end_the_init() {
    both(
        "private_mount::signals_from_the_terminal_do_not_end_the_init",
        || {
            let mount = private();
            let processes = Processes::start(mount.point()).unwrap();
            stage::eventually("its command line is set", || stage::inits().len() == 1);
            let [init] = stage::inits().try_into().unwrap();
            let signals = [
                Signal::INT,
                Signal::QUIT,
                Signal::HUP,
                Signal::TERM,
                Signal::TSTP,
                Signal::USR1,
            ];
            for signal in signals {
                rustix::process::kill_process(Pid::from_raw(init).unwrap(), signal).unwrap();
            }
            assert_eq!(
                exit(&processes, &["sh", "-c", "kill -INT $$"]),
                Exit::Signal(2)
            );
        },
    );
}

#[test]
fn a_wait_ends_at_its_deadline_or_when_interrupted() {
    both(
        "private_mount::a_wait_ends_at_its_deadline_or_when_interrupted",
        || {
            both_ways(private, |_, processes| {
                let mut running = stage::spawn(&processes, &stage::sleep_for_long()).unwrap();
                let soon = Instant::now() + Duration::from_millis(10);
                assert_eq!(running.wait(Some(soon), None).unwrap(), Waited::Deadline);
                let interrupt = Interrupt::new().unwrap();
                let raise = interrupt.clone();
                let raiser = std::thread::spawn(move || raise.raise());
                assert_eq!(
                    running.wait(None, Some(&interrupt)).unwrap(),
                    Waited::Interrupted
                );
                raiser.join().unwrap();
                assert!(interrupt.is_raised());
                let pid = running.pid().unwrap();
                assert!(
                    processes
                        .remaining()
                        .unwrap()
                        .iter()
                        .any(|process| process.pid == pid)
                );
                running.signal(Signal::TERM).unwrap();
                let Waited::Ended(status) = running.wait(None, None).unwrap() else {
                    panic!("no end")
                };
                assert_eq!(status.exit, Exit::Signal(15));
                assert!(status.wall_time >= Duration::from_millis(10));
                running.kill().unwrap();
            });
        },
    );
}

#[test]
fn all_processes_can_be_asked_to_end() {
    both("private_mount::all_processes_can_be_asked_to_end", || {
        both_ways(private, |_, processes| {
            let mut first = stage::spawn(&processes, &stage::sleep_for_long()).unwrap();
            let mut second = stage::spawn(&processes, &stage::sleep_for_long()).unwrap();
            processes.signal_all(Signal::TERM).unwrap();
            for running in [&mut first, &mut second] {
                let Waited::Ended(status) = running.wait(None, None).unwrap() else {
                    panic!("no end")
                };
                assert_eq!(status.exit, Exit::Signal(15));
            }
            // Processes that end while somebody waits are told as killed.
            let mut third = stage::spawn(&processes, &stage::sleep_for_long()).unwrap();
            processes.end().unwrap();
            let Waited::Ended(status) = third.wait(None, None).unwrap() else {
                panic!("no end")
            };
            assert_eq!(status.exit, Exit::Signal(9));
        });
    });
}

#[test]
fn nothing_starts_in_an_unmounted_mount() {
    both(
        "private_mount::nothing_starts_in_an_unmounted_mount",
        || {
            both_ways(private, |mount, processes| {
                mount.unmount().unwrap();
                let error = step(&processes, &["true"]).err().unwrap();
                assert!(matches!(error, SpawnError::Unmounted { .. }), "{error}");
            });
        },
    );
}

/// A tool may unshare a mount namespace of its own; it still holds the job's mount.
#[test]
fn a_nested_namespace_does_not_hide() {
    both("private_mount::a_nested_namespace_does_not_hide", || {
        both_ways(private, |mount, processes| {
            let [sleep, time] = stage::sleep_for_long();
            let nested =
                format!("setsid unshare --user --map-root-user --mount {sleep} {time} & sleep 0.2");
            exit(&processes, &["sh", "-c", &nested]);
            assert!(!processes.remaining().unwrap().is_empty());
            processes.end().unwrap();
            assert_eq!(stage::ran_away(), [0; 0]);
            mount.unmount().unwrap();
        });
    });
}

/// The kernel gives the number of a mount that is gone to the next one, whose processes are others'.
#[test]
fn who_is_in_a_later_mount_is_not_taken_for_ours() {
    both(
        "private_mount::who_is_in_a_later_mount_is_not_taken_for_ours",
        || {
            let first = private();
            let ours = Processes::start(first.point()).unwrap();
            first.point().abort().unwrap();
            let second = private();
            let theirs = Processes::start(second.point()).unwrap();
            let [sleep, time] = stage::sleep_for_long();
            let line = format!("exec {sleep} {time}");
            let running = stage::spawn(&theirs, &["sh", "-c", &line]);
            assert!(ours.remaining().unwrap().is_empty());
            ours.end().unwrap();
            assert_eq!(theirs.remaining().unwrap().len(), 1);
            theirs.end().unwrap();
            drop(running);
        },
    );
}

/// As a shell has it; execvp(3) would say "permission denied".
#[test]
fn a_directory_of_path_that_may_not_be_entered_hides_no_tool() {
    both(
        "private_mount::a_directory_of_path_that_may_not_be_entered_hides_no_tool",
        || {
            let closed = tempfile::tempdir().unwrap();
            std::fs::create_dir(closed.path().join("no-such-tool")).unwrap();
            std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o000)).unwrap();
            both_ways(private, |_, processes| {
                let path = format!("{}:/usr/bin", closed.path().display());
                let error =
                    stage::spawn_with_path(&processes, &["no-such-tool"], &path).unwrap_err();
                assert_eq!(error.exit_code(), 127, "{error}");
                assert!(stage::spawn_with_path(&processes, &["true"], &path).is_ok());
            });
            std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
        },
    );
}

/// Several may start steps in one mount, each ending only its own.
#[test]
fn ending_ones_own_leaves_those_of_others() {
    both(
        "private_mount::ending_ones_own_leaves_those_of_others",
        || {
            for start in stage::WAYS {
                let mut mount = private();
                let first = start(mount.point()).unwrap();
                let second = start(mount.point()).unwrap();
                let mut running = stage::spawn(&first, &stage::sleep_for_long()).unwrap();
                let [sleep, time] = stage::sleep_for_long();
                let family = format!("{sleep} {time} & {sleep} {time} & wait");
                let mut family = stage::spawn(&second, &["sh", "-c", &family]).unwrap();
                stage::eventually("all run", || stage::ran_away().len() == 4);
                second.end().unwrap();
                assert!(matches!(family.wait(None, None).unwrap(), Waited::Ended(_)));
                assert_eq!(stage::ran_away(), [running.pid().unwrap()]);
                assert!(matches!(mount.unmount(), Err(MountError::Busy { .. })));
                first.end().unwrap();
                assert!(matches!(
                    running.wait(None, None).unwrap(),
                    Waited::Ended(_)
                ));
                mount.unmount().unwrap();
            }
        },
    );
}

#[test]
fn a_process_whose_first_thread_has_ended_is_ended() {
    both(
        "private_mount::a_process_whose_first_thread_has_ended_is_ended",
        || both_ways(private, |_, processes| stage::end_a_headless_one(processes)),
    );
}
