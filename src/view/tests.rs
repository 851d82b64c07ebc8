//! The view without a mount: what is told, who waits, and what is freed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Demand, Event, Followed, Locked, Opener, Queue, View, Waiter, Waker};
use crate::store::{
    Ino, Kind, Limits, Name, NewInode, NewKind, RenameMode, Source, StoreError, Timestamp, Tree,
    TreePath,
};

pub(crate) const NOW: Timestamp = Timestamp { secs: 1, nanos: 0 };

pub(crate) fn view() -> View {
    let limits = Limits {
        bytes: 1 << 20,
        inodes: 100,
    };
    View::new(Tree::new(limits, 0o755, 0, 0, NOW))
}

pub(crate) fn observed() -> View {
    let view = view();
    view.observe();
    view
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(crate) fn make(view: &mut Locked<'_>, parent: Ino, text: &str, kind: NewKind) -> Ino {
    let new = NewInode {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
    };
    view.create(parent, name(text), new, NOW).unwrap().ino
}

/// A waker that counts.
fn counting() -> (Waker, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let waker = Waker::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (waker, count)
}

fn all(queue: &Queue) -> Vec<Event> {
    std::iter::from_fn(|| queue.take()).collect()
}

#[test]
fn a_waker_is_called_once_until_everything_is_taken_and_never_under_the_lock() {
    let view = Arc::new(observed());
    let (waker, woken) = counting();
    let again = Arc::clone(&view);
    let checking = Waker::new(move || {
        // Would never return under the lock.
        drop(again.lock());
    });
    let _other = view.lock().watch(TreePath::root(), checking).unwrap();
    let queue = view.lock().watch(TreePath::root(), waker).unwrap();
    for _ in 0..2 {
        woken.store(0, Ordering::SeqCst);
        let mut locked = view.lock();
        let file = make(&mut locked, Ino::ROOT, "a", NewKind::File);
        locked.write(file, 0, b"x", NOW).unwrap();
        locked.unlink(Ino::ROOT, b"a", NOW).unwrap();
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        drop(locked);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
        assert_eq!(all(&queue).len(), 3);
    }
}

#[test]
fn a_watcher_that_left_is_told_nothing() {
    let view = observed();
    let queue = view.lock().watch(TreePath::root(), counting().0).unwrap();
    view.lock().unwatch(&queue);
    make(&mut view.lock(), Ino::ROOT, "a", NewKind::File);
    assert_eq!(all(&queue), []);
}

#[test]
fn without_observing_nothing_is_told_and_nothing_is_kept() {
    let view = view();
    let mut locked = view.lock();
    assert!(locked.watch(TreePath::root(), counting().0).is_err());
    let file = make(&mut locked, Ino::ROOT, "a", NewKind::File);
    assert_eq!(
        locked.open(file, Opener::Process(1), true),
        Err(StoreError::NotSupported)
    );
    assert!(locked.state.observed.is_none());
}

#[test]
fn what_is_kept_of_inodes_goes_with_them() {
    let view = observed();
    let mut locked = view.lock();
    for _ in 0..10 {
        let dir = make(&mut locked, Ino::ROOT, "d", NewKind::Directory);
        let file = make(&mut locked, dir, "a", NewKind::File);
        locked.take_reference_by(file, dir, b"a");
        let handle = locked.open(file, Opener::Process(7), true).unwrap();
        locked.unlink(dir, b"a", NOW).unwrap();
        locked.rmdir(Ino::ROOT, b"d", NOW).unwrap();
        locked.write(file, 0, b"still here", NOW).unwrap();
        locked.give_back_references(file, 1);
        assert_eq!(locked.usage().inodes, 2);
        locked.close(handle);
        locked.close(handle);
        assert_eq!(locked.usage().inodes, 1);
    }
    let kept = format!("{:?}", locked.state.observed);
    assert!(
        kept.contains("known: {}") && kept.contains("open: {}"),
        "{kept}"
    );
    assert!(kept.contains("writers: {}"), "{kept}");
}

#[test]
fn exchanged_names_are_told_as_two_renames() {
    let view = observed();
    let mut locked = view.lock();
    make(&mut locked, Ino::ROOT, "a", NewKind::File);
    make(&mut locked, Ino::ROOT, "b", NewKind::Directory);
    let queue = locked.watch(TreePath::root(), counting().0).unwrap();
    let (a, b) = ((Ino::ROOT, &b"a"[..]), (Ino::ROOT, name("b")));
    locked.rename(a, b, RenameMode::Exchange, NOW).unwrap();
    let path = |text: &str| Arc::new(TreePath::parse(text).unwrap());
    let renamed = |from, to| Event::Renamed {
        from: path(from),
        to: path(to),
    };
    assert_eq!(all(&queue), [renamed("a", "b"), renamed("b", "a")]);
    locked.link(Ino(2), Ino::ROOT, name("c"), NOW).unwrap();
    all(&queue);
    let (b, c) = ((Ino::ROOT, &b"b"[..]), (Ino::ROOT, name("c")));
    locked.rename(b, c, RenameMode::Replace, NOW).unwrap();
    assert_eq!(all(&queue), [], "two names of one file stay");
}

#[test]
fn a_follower_is_woken_only_when_it_waits() {
    let view = observed();
    let (waker, woken) = counting();
    let path = TreePath::parse("a").unwrap();
    let id = view.lock().follow(path, waker).unwrap();
    let read = || view.lock().read_followed(id, 100).unwrap();
    assert!(matches!(read(), Followed::Wait));
    let file = make(&mut view.lock(), Ino::ROOT, "a", NewKind::File);
    assert!(matches!(read(), Followed::Wait), "nobody writes yet");
    let handle = view.lock().open(file, Opener::Process(1), true).unwrap();
    woken.store(0, Ordering::SeqCst);
    assert!(matches!(read(), Followed::Wait));
    for n in 0..10 {
        view.lock().write(file, n, b"x", NOW).unwrap();
    }
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    assert!(matches!(read(), Followed::Data(data) if data.len() == 10));
    view.lock().write(file, 3, b"yy", NOW).unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 1, "it was not told to wait");
    assert_eq!(view.lock().rewritten(id).first(), Some(&(3..5)));
    assert!(matches!(read(), Followed::Wait));
    view.lock().close(handle);
    assert_eq!(woken.load(Ordering::SeqCst), 2);
    assert!(matches!(read(), Followed::End));
    view.lock().unlink(Ino::ROOT, b"a", NOW).unwrap();
    assert_eq!(view.lock().usage().inodes, 2);
    view.lock().unfollow(id);
    assert_eq!(view.lock().usage().inodes, 1);
}

#[test]
fn the_end_of_the_mount_is_the_end_for_everybody() {
    let view = observed();
    let (waker, woken) = counting();
    let queue = view.lock().watch(TreePath::root(), waker.clone()).unwrap();
    let path = TreePath::parse("a").unwrap();
    let id = view.lock().follow(path, waker).unwrap();
    assert!(matches!(
        view.lock().read_followed(id, 9),
        Ok(Followed::Wait)
    ));
    view.end();
    assert_eq!(woken.load(Ordering::SeqCst), 2);
    assert!(queue.is_exhausted());
    assert!(matches!(
        view.lock().read_followed(id, 9),
        Ok(Followed::Gone)
    ));
    let late = view.lock().watch(TreePath::root(), counting().0).unwrap();
    assert!(late.has_ended());
}

#[test]
fn what_processes_had_open_is_closed_when_an_unused_mount_ends() {
    for unused in [true, false] {
        let view = observed();
        let queue = view.lock().watch(TreePath::root(), counting().0).unwrap();
        let path = TreePath::parse("a").unwrap();
        let id = view.lock().follow(path, counting().0).unwrap();
        let mut locked = view.lock();
        let file = make(&mut locked, Ino::ROOT, "a", NewKind::File);
        locked.open(file, Opener::Process(7), true).unwrap();
        locked.unlink(Ino::ROOT, b"a", NOW).unwrap();
        let ours = make(&mut locked, Ino::ROOT, "ours", NewKind::File);
        locked.open(ours, Opener::Own(8), true).unwrap();
        locked.set_unused(unused);
        drop(locked);
        view.end();
        let told = all(&queue);
        let closed = |by| {
            let of_it = |it: &&Event| matches!(it, Event::Closed { by: its, .. } if *its == by);
            told.iter().filter(of_it).count()
        };
        assert_eq!((closed(7), closed(8)), (usize::from(unused), 0), "{told:?}");
        assert_eq!(view.lock().usage().inodes, if unused { 2 } else { 3 });
        let followed = view.lock().read_followed(id, 9).unwrap();
        // It had lost its name before the follower came to it.
        assert!(matches!(followed, Followed::Gone));
    }
}

/// Asks for the content of a file; counts how often its waiter was resumed.
fn demand(view: &View, ino: Ino) -> (Demand, Arc<AtomicUsize>) {
    let resumed = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&resumed);
    let waiter = Waiter::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (view.lock().demand(ino, waiter), resumed)
}

fn lazy_file(view: &View) -> Ino {
    let mut locked = view.lock();
    let file = make(&mut locked, Ino::ROOT, "a", NewKind::File);
    let source = Source::new(|| Ok("hello"));
    locked.set_source(file, source, NOW).unwrap();
    file
}

#[test]
fn the_first_who_reaches_makes_it_and_all_are_resumed() {
    let view = view();
    let file = lazy_file(&view);
    assert_eq!(view.lock().attr(file), Err(StoreError::NotMade));
    let (Demand::Make(source), first) = demand(&view, file) else {
        panic!("nobody was there before")
    };
    let (Demand::Waiting, second) = demand(&view, file) else {
        panic!("it is being made")
    };
    let mut offset = 0;
    let made = source.make(&mut |block| {
        view.lock().fill(file, offset, block)?;
        offset += block.len() as u64;
        Ok(())
    });
    assert!(
        view.lock().read(file, 0, 9).is_err(),
        "not before it is whole"
    );
    view.lock().made(file, made);
    let resumed = [first, second].map(|it| it.load(Ordering::SeqCst));
    assert_eq!(resumed, [1, 1]);
    assert_eq!(&*view.lock().read(file, 0, 9).unwrap(), b"hello");
    assert!(matches!(demand(&view, file).0, Demand::Ready(_)));
    assert_eq!(view.snapshot().usage().inodes, 2);
}

#[test]
fn what_is_made_after_a_cancel_is_dropped() {
    let view = view();
    let file = lazy_file(&view);
    let (Demand::Make(_source), resumed) = demand(&view, file) else {
        panic!("nobody was there before")
    };
    view.lock().cancel_sources();
    assert_eq!(resumed.load(Ordering::SeqCst), 1);
    assert!(view.lock().fill(file, 0, b"late").is_err());
    view.lock().made(file, Ok(()));
    let read = view.lock().read(file, 0, 9);
    assert_eq!(read.err(), Some(StoreError::NotMade));
    assert!(view.failed_sources().is_empty(), "it did not fail");
    assert_eq!(view.snapshot().usage().inodes, 1);
}

#[test]
fn a_failure_leaves_nothing_of_the_content() {
    let view = view();
    let file = lazy_file(&view);
    assert!(matches!(demand(&view, file).0, Demand::Make(_)));
    view.lock().fill(file, 0, &[1; 10_000]).unwrap();
    view.lock().made(file, Err(io::Error::other("broken")));
    assert_eq!(view.lock().usage().bytes, 0);
    let [(path, error)] = view.failed_sources().try_into().unwrap();
    assert_eq!(
        (path.to_string(), error.to_string()),
        ("a".into(), "broken".into())
    );
    let entry = view.lock().attr_unmade(file).unwrap();
    assert_eq!((entry.kind, entry.size), (Kind::File, 0));
}
