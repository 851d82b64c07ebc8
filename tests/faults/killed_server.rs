//! kill -9 of a server that runs jobs without an init, under load: no child of it stays between its birth and its program,
//! where it would hold copies of the server's sockets, and of the mount that it waits for.

use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use notapipe::{Interrupt, Job};

use crate::stage::{self, Stage, Who};

const ROUNDS: u64 = 15;
const NAME: &str = "killed_server::no_child_stays_before_its_program";

#[test]
fn no_child_stays_before_its_program() {
    if stage::is_playing(NAME) {
        return serve();
    }
    for who in [Who::Root, Who::User] {
        let stage = Stage::new();
        for round in 0..ROUNDS {
            let mut command = stage.command(NAME, who);
            let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
            let ready = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("READY")));
            ready.unwrap().unwrap();
            // Not on a beat of the jobs.
            thread::sleep(Duration::from_micros(30_000 + 1_370 * round));
            server.kill().unwrap();
            server.wait().unwrap();
            stage::eventually("no child is left", || stage.copies().is_empty());
            let socket = stage.room().join("socket");
            // One that is ending has no program any more, and its descriptors for a moment yet.
            stage::eventually("nothing has a copy of its socket", || {
                let refused = UnixStream::connect(&socket).map_err(|error| error.kind());
                matches!(refused, Err(ErrorKind::ConnectionRefused))
            });
            std::fs::remove_file(socket).unwrap();
        }
        stage::eventually("nothing is left", || stage.is_empty());
    }
}

fn serve() {
    let _listening = UnixListener::bind(stage::room().join("socket")).unwrap();
    let ready = || println!("READY");
    let interrupt = Interrupt::new().unwrap();
    thread::scope(|scope| {
        for index in 0..6 {
            let interrupt = interrupt.clone();
            scope.spawn(move || {
                for round in 0.. {
                    // The tool lies in the mount, or its working directory alone does.
                    let tool = ["./tool", "cat"][index % 2];
                    let mut job = Job::new()
                        .input_host("tool", "/bin/cat")
                        .step([tool, "tool"])
                        .output_optional("none");
                    if index % 3 == 0 {
                        job = job.interrupt(interrupt.clone());
                    }
                    job.run().unwrap();
                    if index == 0 && round == 0 {
                        ready();
                    }
                }
            });
        }
    });
}
