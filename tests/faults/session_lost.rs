//! The session's own thread panics, outside of everything that answers EIO for it: nobody hangs, and the job fails.

use std::thread;

use log::{LevelFilter, Log, Metadata, Record};
use notapipe::mount::{MountError, MountOptions, Visibility};
use notapipe::run::EndedBy;
use notapipe::{Error, Job, Scratch};

use crate::stage;

/// Looking this name up is the end of the session.
const FATAL: &str = "fatal";

/// fuser logs each request on the thread that serves it, before it is handed to us.
struct PanicsAt;

impl Log for PanicsAt {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let fatal =
            record.target().starts_with("fuser") && record.args().to_string().contains(FATAL);
        assert!(!fatal, "as the scene wants it");
    }

    fn flush(&self) {}
}

fn panic_at_the_fatal_name() {
    log::set_logger(&PanicsAt).unwrap();
    log::set_max_level(LevelFilter::Debug);
}

fn ways() -> [Visibility; 2] {
    [Visibility::Private, Visibility::Public]
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Mount(MountError::SessionLost { .. }))
}

#[test]
fn a_job_fails_and_names_the_cause() {
    stage::both("session_lost::a_job_fails_and_names_the_cause", || {
        panic_at_the_fatal_name();
        // The one that asked hangs on nothing, one that goes on without the mount is ended, and one that succeeds
        // without having noticed does not make the job succeed.
        for script in [
            "cat fatal; exec sleep 1000",
            "cat fatal; exit 0",
            "exec cat fatal",
        ] {
            for visibility in ways() {
                let job = Job::new()
                    .step(["sh", "-c", script])
                    .visibility(visibility)
                    .interrupt(notapipe::Interrupt::new().unwrap());
                let failed = job.run().unwrap_err();
                assert!(
                    is_lost(&failed.error),
                    "{script} {visibility:?}: {failed:?}"
                );
                let steps = failed.outcome.as_deref().unwrap().steps();
                assert_eq!(steps.len(), 1, "{script} {visibility:?}");
                if script.ends_with("1000") {
                    assert_eq!(steps[0].ended_by, Some(EndedBy::SessionLost));
                }
                let said = failed.error.to_string();
                assert!(said.contains("please report"), "{said}");
            }
        }
    });
}

#[test]
fn a_scratch_directory_ends_with_what_was_in_it() {
    stage::both(
        "session_lost::a_scratch_directory_ends_with_what_was_in_it",
        || {
            panic_at_the_fatal_name();
            for visibility in ways() {
                let options = MountOptions {
                    visibility,
                    source: format!("faults-{}", stage::tag()),
                    directory_parent: stage::room(),
                    ..MountOptions::default()
                };
                let scratch = Scratch::builder().mount(options).build().unwrap();
                scratch.write("kept", "content").unwrap();
                let interrupt = notapipe::Interrupt::new().unwrap();
                thread::scope(|scope| {
                    let run =
                        scope.spawn(|| scratch.run(["sh", "-c", "cat fatal; exec sleep 1000"]));
                    // Whoever waits for the end of the mount hears of it.
                    scratch.wait(&interrupt).unwrap();
                    assert!(is_lost(&run.join().unwrap().unwrap_err()));
                });
                assert!(is_lost(&scratch.run(["true"]).unwrap_err()));
                assert_eq!(scratch.read("kept").unwrap(), "content");
                let lost = scratch.unmount().unwrap_err();
                assert!(is_lost(&lost), "{lost}");
            }
        },
    );
}
