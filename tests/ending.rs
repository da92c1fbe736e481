//! What an application does in the destructor of a thread-local, where a panic ends the process. It is its own
//! program because the process is the stake.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::any::Any;
use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use secret_resolver::testing::MockBackend;
use secret_resolver::{ErrorKind, Resolver};

const NAME: &str = "prod/db#password";

/// Does something when it is dropped.
struct Last(Option<Box<dyn FnOnce()>>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

thread_local! {
    static HELD: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

fn resolver() -> (MockBackend, Resolver) {
    let store = MockBackend::new().with_value(NAME, "one");
    store.set("prod/other", "two");
    let resolver = Resolver::builder(store.clone()).build().unwrap();
    resolver.get_blocking(NAME).unwrap();
    (store, resolver)
}

/// What `act` answers in the destructor of a thread-local, on a thread that has used a resolver after the
/// thread-local, so that all on which that stands is gone by then.
fn at_the_end<T: Send + 'static>(
    resolver: &Resolver,
    act: impl FnOnce(&Resolver) -> T + Send + 'static,
) -> T {
    let (done, answer) = mpsc::channel();
    let resolver = resolver.clone();
    let thread = std::thread::spawn(move || {
        // First of all.
        HELD.with(|held| held.borrow_mut().push(Box::new(())));
        resolver.get_blocking(NAME).unwrap();
        let last = move || drop(done.send(act(&resolver)));
        HELD.with(|held| held.borrow_mut().push(Box::new(Last(Some(Box::new(last))))));
    });
    let answer = answer.recv_timeout(Duration::from_secs(30)).unwrap();
    thread.join().unwrap();
    answer
}

#[test]
fn a_thread_that_is_ending_is_answered_from_memory_or_refused_and_panics_nowhere() {
    let (store, resolver) = resolver();
    let kind = |answer: Result<_, secret_resolver::Error>| answer.err().map(|error| error.kind());
    // What is held is answered.
    assert_eq!(
        at_the_end(&resolver, move |r| kind(r.get_blocking(NAME))),
        None
    );
    assert_eq!(at_the_end(&resolver, move |r| kind(r.peek(NAME))), None);
    // What is not would have to be waited for.
    let missed = at_the_end(&resolver, move |r| kind(r.get_blocking("prod/other")));
    assert_eq!(missed, Some(ErrorKind::Refused));
    // Its fetch goes on for others.
    assert_eq!(kind(resolver.get_blocking("prod/other")), None);
    assert_eq!(store.calls(), 2);
    // A signal is one.
    let dropped = at_the_end(&resolver, |r| r.invalidator().invalidate(NAME).unwrap());
    assert_eq!(dropped, 1);
    assert!(resolver.peek(NAME).is_err());
    resolver.get_blocking(NAME).unwrap();
    let dropped = at_the_end(&resolver, |r| r.invalidator().invalidate_all().unwrap());
    assert_eq!(dropped, 2);
    // The short way is there again.
    resolver.get_blocking(NAME).unwrap();
    resolver.peek(NAME).unwrap();
    assert_eq!(at_the_end(&resolver, |r| r.status().entries), 1);
    let report = at_the_end(&resolver, |r| r.shutdown_blocking(Duration::from_secs(5)));
    assert_eq!((report.values_dropped, report.timed_out), (1, false));
    assert_eq!(kind(resolver.get_blocking(NAME)), Some(ErrorKind::Closed));
}

#[test]
fn a_resolver_that_is_dropped_as_its_thread_ends_leaves_nothing() {
    let (store, shared) = resolver();
    let (sent, names) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        HELD.with(|held| held.borrow_mut().push(Box::new(())));
        let (_store, own) = resolver();
        let handle = block_on(own.handle(NAME)).unwrap();
        sent.send(own.invalidator()).unwrap();
        HELD.with(|held| {
            let mut held = held.borrow_mut();
            held.push(Box::new(handle));
            held.push(Box::new(own));
            held.push(Box::new(shared.clone()));
            held.push(Box::new(shared));
        });
    });
    thread.join().unwrap();
    // Its cache is gone: a signal finds nothing to drop.
    assert_eq!(names.recv().unwrap().invalidate_all().unwrap(), 0);
    drop(store);
}

#[test]
fn a_handle_is_read_as_its_thread_ends_and_waits_for_nothing() {
    let (_store, resolver) = resolver();
    let handle = block_on(resolver.handle(NAME)).unwrap();
    let read = handle.clone();
    let value = at_the_end(&resolver, move |_| {
        read.secret().unwrap().expose_str().unwrap().to_owned()
    });
    assert_eq!(value, "one");
    let mut waits = handle.clone();
    let kind = at_the_end(&resolver, move |_| {
        block_on(waits.changed()).unwrap_err().kind()
    });
    assert_eq!(kind, ErrorKind::Refused);
}

/// Without a runtime: that would need thread-locals, too.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
            return answer;
        }
        std::thread::yield_now();
    }
}
