//! Events of a scratch directory, without polling.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
#[cfg(feature = "tokio")]
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::Scratch;
use crate::run::Error;
use crate::sys::event_fd::EventFd;
use crate::sys::poll;
use crate::view::{Event, Queue, Touched, View, Waker};

impl Scratch {
    /// Tells what happens to a file, or in a directory and all below it, from now on; `.` is everything.
    ///
    /// Needs [`Profile::Observed`](crate::fuse::Profile::Observed).
    ///
    /// # Errors
    ///
    /// [`Error::NotObserved`]; [`Error::Name`]; [`Error::Processes`] when the system has no descriptor left.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Event, Scratch, fuse::Profile};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
    /// let mut events = scratch.watch(".")?;
    /// scratch.run(["sh", "-c", "printf abc > word"])?;
    /// let written = events.find(|event| matches!(event, Event::Written { .. })).unwrap();
    /// let Event::Written { path, range } = written else { unreachable!() };
    /// assert_eq!((path.to_string().as_str(), range), ("word", 0..3));
    /// scratch.unmount()
    /// # }
    /// ```
    pub fn watch(&self, path: impl AsRef<Path>) -> Result<Watch, Error> {
        let below = self.name(path.as_ref())?;
        let event = EventFd::new().map_err(no_descriptor)?;
        let queue = self.view.lock().watch(below, waker(&event));
        Ok(Watch {
            queue: queue.map_err(|_| Error::NotObserved { operation: "watch" })?,
            view: Arc::clone(&self.view),
            event,
        })
    }
}

impl Scratch {
    /// Which files were touched since the last call; the first one begins to count.
    ///
    /// Needs [`Profile::Observed`](crate::fuse::Profile::Observed).
    ///
    /// # Errors
    ///
    /// [`Error::NotObserved`].
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Scratch, fuse::Profile};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
    /// scratch.write("in", "b\na\n")?;
    /// scratch.take_touched()?;
    /// scratch.run(["sort", "in", "-o", "out"])?;
    /// let touched = scratch.take_touched()?;
    /// assert_eq!(touched.read[0].to_string(), "in");
    /// assert_eq!(touched.created[0].to_string(), "out");
    /// scratch.unmount()
    /// # }
    /// ```
    pub fn take_touched(&self) -> Result<Touched, Error> {
        let touched = self.view.lock().take_touched();
        touched.map_err(|_| Error::NotObserved {
            operation: "tell which files were touched",
        })
    }
}

/// Sets the event of a watcher or follower when something has come.
pub(super) fn waker(event: &EventFd) -> Waker {
    let event = event.clone();
    Waker::new(move || event.set())
}

pub(super) fn no_descriptor(source: io::Error) -> Error {
    Error::Processes {
        operation: "prepare to watch",
        source,
    }
}

/// Events as they happen: a blocking iterator, or something to wait for in an event loop.
///
/// It ends when the mount is gone. Until it is taken, an event waits here: up to
/// 65,536 of them, and not more than 16 MiB of paths. Writes that continue
/// each other take one place, so that a tool that only writes never fills it. What comes beyond is counted, and
/// told as [`Event::Lost`] in its place. Tools never wait for a watcher.
///
/// In an event loop, wait until the descriptor is readable, then take with [`try_next`](Self::try_next) until it
/// gives nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use notapipe::{Event, Profile, Scratch};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
/// let mut events = scratch.watch(".")?;
/// assert_eq!(events.try_next(), None);
/// scratch.run(["touch", "made"])?;
/// let event = events.next_within(Duration::from_secs(10)).unwrap();
/// assert!(matches!(event, Event::Created { .. }));
/// assert_eq!(event.path().unwrap().to_string(), "made");
///
/// scratch.unmount()?;
/// let rest = events.by_ref().count();
/// assert!(rest > 0 && events.has_ended());
/// # Ok(())
/// # }
/// ```
pub struct Watch {
    view: Arc<View>,
    queue: Arc<Queue>,
    event: EventFd,
}

impl Watch {
    /// The next event, if one waits.
    pub fn try_next(&mut self) -> Option<Event> {
        if let Some(event) = self.queue.take() {
            return Some(event);
        }
        self.event.clear();
        // What came in between may have set it before it was cleared.
        let event = self.queue.take();
        if event.is_some() || self.queue.has_ended() {
            self.event.set();
        }
        event
    }

    /// The next event, if one comes within this time.
    pub fn next_within(&mut self, timeout: Duration) -> Option<Event> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// Whether the mount is gone and every event was taken.
    pub fn has_ended(&self) -> bool {
        self.queue.is_exhausted()
    }

    /// The events as a stream for tokio.
    ///
    /// # Errors
    ///
    /// Outside of a tokio runtime with I/O enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use std::pin::Pin;
    ///
    /// use futures_core::Stream;
    /// use notapipe::{Event, Profile, Scratch};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    /// # runtime.block_on(async {
    /// let scratch = Scratch::builder().profile(Profile::Observed).build()?;
    /// let mut events = scratch.watch(".")?.into_stream()?;
    /// scratch.run(["touch", "made"])?;
    /// let event = poll_fn(|context| Pin::new(&mut events).poll_next(context)).await;
    /// assert!(matches!(event, Some(Event::Created { .. })));
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[cfg(feature = "tokio")]
    pub fn into_stream(self) -> io::Result<WatchStream> {
        let (descriptor, interest) = (self.event.shared(), tokio::io::Interest::READABLE);
        // SAFETY: the descriptor stays open as long as the registration, which holds a share of it.
        let ready =
            unsafe { tokio::io::unix::AsyncFd::register_with_interest(descriptor, interest) }?;
        Ok(WatchStream { watch: self, ready })
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Event> {
        loop {
            if let Some(event) = self.try_next() {
                return Some(event);
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late || self.has_ended() {
                return None;
            }
            // poll(2) fails for want of kernel memory alone; to try again is all that can be done.
            if let Err(error) = poll::wait_readable([self.event.as_fd()], deadline) {
                log::debug!("cannot wait for events: {error}");
            }
        }
    }
}

impl Iterator for Watch {
    type Item = Event;

    /// Waits for the next event; none when the mount is gone.
    fn next(&mut self) -> Option<Event> {
        self.next_until(None)
    }
}

impl AsFd for Watch {
    /// Readable while events wait, and at the end; never read it. It may be readable once for nothing.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.view.lock().unwatch(&self.queue);
    }
}

/// Events as a stream; see [`Watch::into_stream`].
#[cfg(feature = "tokio")]
#[derive(Debug)]
pub struct WatchStream {
    watch: Watch,
    ready: tokio::io::unix::AsyncFd<Arc<std::os::fd::OwnedFd>>,
}

#[cfg(feature = "tokio")]
impl futures_core::Stream for WatchStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.watch.try_next() {
                return Poll::Ready(Some(event));
            }
            if self.watch.has_ended() {
                return Poll::Ready(None);
            }
            match ready!(self.ready.poll_read_ready(context)) {
                Ok(mut guard) => guard.clear_ready(),
                // The runtime is shutting down.
                Err(_) => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(all(test, shuttle))]
mod interleavings {
    use super::*;
    use crate::store::{Ino, NewKind, TreePath};
    use crate::sync::{interleave, thread};
    use crate::view::tests::{NOW, make, observed};

    #[test]
    fn a_watcher_is_woken_for_every_event_and_at_the_end() {
        interleave(|| {
            let view = Arc::new(observed());
            let event = EventFd::new().unwrap();
            let queue = view.lock().watch(TreePath::root(), waker(&event)).unwrap();
            let tools = ["a", "b"].map(|name| {
                let view = Arc::clone(&view);
                thread::spawn(move || {
                    make(&mut view.lock(), Ino::ROOT, name, NewKind::File);
                    let removed = view.lock().unlink(Ino::ROOT, name.as_bytes(), NOW);
                    removed.unwrap();
                })
            });
            let mut watch = Watch {
                queue,
                view: Arc::clone(&view),
                event,
            };
            // The end would wake it for what it has missed.
            let events: Vec<_> = watch.by_ref().take(4).collect();
            let ending = thread::spawn(move || view.end());
            assert_eq!(watch.next(), None);
            let threads = tools.into_iter().chain([ending]);
            threads.for_each(|it| it.join().unwrap());
            for name in ["a", "b"] {
                let path = TreePath::parse(name).unwrap();
                let of_this = events.iter().filter(|it| it.path() == Some(&path));
                let of_this: Vec<_> = of_this.collect();
                assert!(
                    matches!(*of_this, [Event::Created { .. }, Event::Removed { .. }]),
                    "{of_this:?}"
                );
            }
        });
    }
}
