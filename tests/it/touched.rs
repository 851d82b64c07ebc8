//! Which files each step of a pipe touched.

use std::path::Path;

use notapipe::run::{InitProgram, Tmp, init};
use notapipe::{Job, Profile, Source, Stdout, Step, Touched};

use crate::support::site::until;

fn names(touched: Option<&Touched>) -> Vec<String> {
    let created = &touched.unwrap().created;
    created.iter().map(ToString::to_string).collect()
}

/// The second step is held in its start, where it opens its standard output, until a process that the first one left
/// behind has made a file.
#[test]
fn an_orphan_is_not_taken_for_the_step_that_is_being_started() {
    let binary = InitProgram::new(env!("CARGO_BIN_EXE_notapipe"), [init::ARGUMENT]);
    for program in [None, Some(binary)] {
        let outside = tempfile::tempdir().unwrap();
        let made = outside.path().join("made");
        // A parent that has ended is no parent any more, collected or not.
        let orphan = "while [ $(cut -d ' ' -f 4 /proc/$$/stat) = $parent ]; do sleep 0.01; done; \
                      echo > late; echo > $made";
        let first = "parent=$$; export parent; setsid sh -c \"$orphan\" & echo x > mine";
        let first = Step::new(["sh", "-c", first])
            .env_var("orphan", orphan)
            .env_var("made", &made);
        let second =
            Step::new(["sh", "-c", "cat; echo > its"]).stdout(Stdout::File("apart/out".into()));
        let held = Source::new(move || {
            until("the orphan makes its file", || Path::new(&made).exists());
            Ok("")
        });
        let mut job = Job::new()
            .tmp(Tmp::Host)
            .profile(Profile::Observed)
            .input_source("apart/out", held)
            .step(first)
            .pipe(second);
        if let Some(program) = program {
            job = job.init(program);
        }
        let outcome = job.run().unwrap();
        let steps = outcome.steps();
        assert_eq!(names(steps[0].touched.as_ref()), ["late", "mine"]);
        assert_eq!(names(steps[1].touched.as_ref()), ["its", "late"]);
    }
}
