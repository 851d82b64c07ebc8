//! A file system that does not answer, and an init that is stopped: the bounds of a job hold all the same.

use std::fs::File;
use std::io::{self, PipeWriter, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notapipe::mount::{Mount, MountOptions, Session, Visibility};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage;

/// Takes every request, and answers the first alone: whoever asks sleeps uninterruptibly from then on.
struct Silent {
    serving: JoinHandle<io::Result<()>>,
}

impl Silent {
    fn serve(device: OwnedFd) -> io::Result<(Self, PipeWriter)> {
        let (stop, stopped) = io::pipe()?;
        let mut device = File::from(device);
        answer_init(&mut device)?;
        let serving = std::thread::spawn(move || {
            let mut request = vec![0; 1 << 20];
            loop {
                let mut events = [
                    PollFd::new(&stop, PollFlags::IN),
                    PollFd::new(&device, PollFlags::IN),
                ];
                poll(&mut events, None)?;
                if !events[0].revents().is_empty() || device.read(&mut request).is_err() {
                    return Ok(());
                }
            }
        });
        Ok((Self { serving }, stopped))
    }
}

impl Session for Silent {
    fn ends_within(&self, patience: Duration) -> bool {
        let give_up = Instant::now() + patience;
        while !self.serving.is_finished() && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.serving.is_finished()
    }

    fn join(self: Box<Self>) -> io::Result<()> {
        self.serving.join().unwrap()
    }
}

/// A `struct fuse_out_header` and a `struct fuse_init_out` that accepts nothing (include/uapi/linux/fuse.h).
fn answer_init(device: &mut File) -> io::Result<()> {
    const LENGTH: u32 = 16 + 64;
    let mut request = vec![0; 1 << 20];
    let read = device.read(&mut request)?;
    assert!(read >= 40);
    let mut answer = Vec::new();
    answer.extend(LENGTH.to_ne_bytes());
    answer.extend(0_i32.to_ne_bytes());
    answer.extend(&request[8..16]);
    for word in [7_u32, 31, 0, 0, 0, 4096, 1] {
        answer.extend(word.to_ne_bytes());
    }
    answer.resize(LENGTH as usize, 0);
    device.write_all(&answer)
}

/// Runs a job, which ends long before the file system would answer; then that is gone.
fn expect_end(words: &[&str], end: impl Fn(&Child)) -> (Option<i32>, String) {
    let mut stopped = None;
    let options = MountOptions {
        visibility: Visibility::Public,
        source: format!("faults-{}", stage::tag()),
        directory_parent: stage::room(),
        ..MountOptions::default()
    };
    let mount = Mount::new(&options, |device| {
        let (session, stop) = Silent::serve(device)?;
        stopped = Some(stop);
        Ok(session)
    });
    let mount = mount.unwrap();
    let hung = mount.path().join("tool");
    let words = words.iter().map(|&word| match word {
        "HUNG" => hung.to_str().unwrap(),
        word => word,
    });
    let mut command = Command::new(stage::notapipe());
    command.arg("run").args(words);
    // In a file: whoever hangs keeps a pipe open.
    let mut said = tempfile::tempfile().unwrap();
    command.stdin(Stdio::null());
    command.stderr(said.try_clone().unwrap());
    let mut job = command.spawn().unwrap();
    end(&job);
    let status = job.wait().unwrap();
    drop(stopped);
    mount.detach().unwrap();
    let mut text = String::new();
    said.rewind().unwrap();
    said.read_to_string(&mut text).unwrap();
    (status.code(), text)
}

#[test]
fn a_program_that_lies_where_no_one_answers() {
    stage::both("hung::a_program_that_lies_where_no_one_answers", || {
        for words in [
            &["--mount", "private", "--", "true", "--pipe", "HUNG"][..],
            &["--mount", "public", "--", "HUNG"],
            &["--kill-after", "0.1", "--", "cat", "HUNG"],
        ] {
            let (code, said) = expect_end(&[&["--timeout", "0.5"], words].concat(), |_| ());
            assert_eq!(code, Some(124), "{words:?}: {said}");
            assert!(said.contains("longer than 500ms"), "{said}");
            assert!(said.contains("does not answer"), "{said}");
        }
    });
}

#[test]
fn a_signal_ends_a_job_whose_program_is_waited_for() {
    stage::both(
        "hung::a_signal_ends_a_job_whose_program_is_waited_for",
        || {
            let (code, said) = expect_end(&["--", "HUNG"], |job| {
                let pid = job.id();
                stage::eventually("its program is waited for", || {
                    stage::descendants(pid).iter().any(|&pid| is_stuck(pid))
                });
                kill_process(Pid::from_child(job), Signal::TERM).unwrap();
            });
            assert_eq!(code, Some(143), "{said}");
        },
    );
}

#[test]
fn a_stopped_init_does_not_hold_the_job_up() {
    stage::both("hung::a_stopped_init_does_not_hold_the_job_up", || {
        let attach = "import ctypes, time; ctypes.CDLL(None).ptrace(16, 1, 0, 0); time.sleep(1000)";
        let mut command = Command::new(stage::notapipe());
        command.args(["run", "--timeout", "1", "--", "python3", "-c", attach]);
        for _ in 0..100 {
            command.args(["--pipe", "cat"]);
        }
        let told = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(124), "{said}");
    });
}

/// Whether it waits for the answer of a FUSE file system (`fs/fuse/dev.c`).
fn is_stuck(pid: i32) -> bool {
    let waits_in = std::fs::read_to_string(format!("/proc/{pid}/wchan"));
    waits_in.is_ok_and(|it| it == "request_wait_answer")
}
