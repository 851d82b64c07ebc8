//! Bytes from several producers, handled as they come: opened, received, closed. One loop over poll(2), without
//! looking again and again, and without a thread for each file.
//!
//! A named pipe would need one open(2) that waits for each producer, and a thread for each of those; inotify(7)
//! tells that something was written, not what. Here each watch is a descriptor for the event loop that a program
//! has anyway (epoll and io_uring take it as well; with the feature `tokio` it is a `Stream`).
//!
//!     cargo run --release --example events

use notapipe::{Event, Profile, Scratch, Watch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

type Error = Box<dyn std::error::Error + Send + Sync>;

const PRODUCERS: [&str; 3] = ["north", "east", "west"];
/// More than any of this takes: a producer that never comes is an error, not a hang.
const PATIENCE: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

fn main() -> Result<(), Error> {
    let scratch = Scratch::builder().profile(Profile::Observed).build()?;
    // Before the producers start: what happens from here on is told.
    let watches = PRODUCERS.map(|name| scratch.watch(name));
    let mut watches = watches.into_iter().collect::<Result<Vec<_>, _>>()?;

    std::thread::scope(|scope| {
        let producers = scope.spawn(|| produce(&scratch));
        while !watches.is_empty() {
            wait_for_any(&watches)?;
            // What is handled to its end needs no watch any more.
            watches.retain_mut(|watch| !handle_all(&scratch, watch));
        }
        producers.join().expect("it does not panic")
    })?;
    scratch.unmount()?;
    Ok(())
}

/// Three processes that write a line each now and then, side by side.
fn produce(scratch: &Scratch) -> Result<(), Error> {
    let script = "for name; do
            { for n in 1 2 3; do echo $name $n; sleep 0.02; done > $name; } &
        done
        wait";
    let command = ["sh", "-c", script, "sh"].into_iter().chain(PRODUCERS);
    let report = scratch.run(notapipe::Step::new(command))?;
    assert!(report.status.exit.success(), "{}", report.stderr.to_text());
    Ok(())
}

/// Sleeps until one of them has something to tell.
fn wait_for_any(watches: &[Watch]) -> Result<(), Error> {
    let mut events: Vec<_> = watches
        .iter()
        .map(|watch| PollFd::new(watch, PollFlags::IN))
        .collect();
    match poll(&mut events, Some(&PATIENCE))? {
        0 => Err("a producer did not come".into()),
        _ => Ok(()),
    }
}

/// Takes everything that waits, without blocking; true when the producer has closed its file.
fn handle_all(scratch: &Scratch, watch: &mut Watch) -> bool {
    while let Some(event) = watch.try_next() {
        match event {
            Event::Opened { path, by, .. } => println!("{path}: opened by process {by}"),
            Event::Written { path, range } => match scratch.read(path.to_path_buf()) {
                Ok(all) => {
                    let new = &all[range.start as usize..range.end as usize];
                    print!("{path}: received {}", String::from_utf8_lossy(new));
                }
                Err(error) => println!("{error}"),
            },
            Event::Closed { path, writable, .. } if writable => {
                println!("{path}: closed");
                return true;
            }
            // Only for who is slower than 65,536 events.
            Event::Lost { count } => println!("{count} events came too fast"),
            _ => {}
        }
    }
    watch.has_ended()
}
