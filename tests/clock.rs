//! The system clock among callers whose wakers block and panic, and under a subscriber that panics.
//!
//! In its own program, because the subscriber is that of the whole process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use secret_resolver::backend::{Sleep, SystemClock};
use secret_resolver::testing::MockBackend;
use secret_resolver::{Clock, Resolver};
use tracing::{Event, Metadata, Subscriber, span};

const SOON: Duration = Duration::from_millis(100);
/// How late a sleeper may be on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(1);

/// Panics at each event.
struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        panic!("of the test's own making");
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// What panics again when it is dropped: as a payload of a panic, and as a part of a waker.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("of the test's own making");
    }
}

/// A waker that calls a closure.
struct Does<F>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Does<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        (self.0)();
    }
}

/// A sleep of this length that is waited for by a waker which does this. Tried again where it is over
/// before it is waited for, because the machine stood still: such a sleep calls no waker.
fn sleep(clock: &SystemClock, length: Duration, wake: impl Fn() + Send + Sync + 'static) -> Sleep {
    let waker = Waker::from(Arc::new(Does(wake)));
    let mut sleeps = (0..10).map(|_| clock.sleep_until(clock.now() + length));
    let pending = |sleep: &mut Sleep| {
        let polled = Pin::new(sleep).poll(&mut Context::from_waker(&waker));
        polled.is_pending()
    };
    sleeps
        .find_map(|mut sleep| pending(&mut sleep).then_some(sleep))
        .unwrap()
}

/// A sleep of this length, and a channel that reports its end.
fn reported(clock: &SystemClock, length: Duration) -> (Sleep, Receiver<()>) {
    let (end, ended) = channel();
    let sleep = sleep(clock, length, move || {
        let _ = end.send(());
    });
    (sleep, ended)
}

#[test]
fn a_waker_that_blocks_delays_neither_another_sleeper_nor_a_sweep() {
    let clock = SystemClock::shared().unwrap();
    let store = MockBackend::new().with_value("a/b", "value");
    let builder = Resolver::builder(store)
        .with_clock(clock.clone())
        .with_ttl(Duration::from_secs(1));
    let resolver = builder.build().unwrap();
    let get = resolver.get("a/b");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    drop(runtime.block_on(get).unwrap());
    let (release, blocked) = channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let blocking: Vec<_> = (0..8)
        .map(|_| {
            let blocked = Arc::clone(&blocked);
            sleep(&clock, SOON, move || {
                let _ = blocked.lock().unwrap().recv();
            })
        })
        .collect();
    // Due together with them, and after them.
    for length in [SOON, SOON * 2] {
        let (_sleep, ended) = reported(&clock, length);
        ended.recv_timeout(length + SLACK).unwrap();
    }
    let mut waits = 0;
    while resolver.status().entries > 0 {
        std::thread::sleep(Duration::from_millis(10));
        waits += 1;
        assert!(waits < 250, "the value is still there after 2.5 s");
    }
    drop((release, blocking));
}

#[test]
fn wakers_that_panic_under_a_subscriber_that_panics_do_not_stop_the_clock() {
    // The only test here that logs anything.
    let _ = tracing::subscriber::set_global_default(Panics);
    let clock = SystemClock::shared().unwrap();
    // Many at once.
    let _panic: Vec<_> = (0..40)
        .map(|_| sleep(&clock, SOON, || panic!("of the test's own making")))
        .collect();
    let _again = sleep(&clock, SOON, || {
        std::panic::panic_any(PanicsWhenDropped);
    });
    for length in [SOON, SOON * 2, SOON * 5] {
        let (_sleep, ended) = reported(&clock, length);
        ended.recv_timeout(length + SLACK).unwrap();
    }
}

#[test]
fn a_waker_that_panics_when_it_is_called_and_when_it_is_dropped_ends_nothing() {
    let clock = SystemClock::shared().unwrap();
    let owner = PanicsWhenDropped;
    let owned = sleep(&clock, SOON, move || {
        let _owner = &owner;
        panic!("of the test's own making");
    });
    let (_sleep, ended) = reported(&clock, SOON * 2);
    ended.recv_timeout(SOON * 2 + SLACK).unwrap();
    drop(owned);
}

#[test]
fn ten_thousand_sleepers_that_are_due_at_once_are_all_woken() {
    let clock = SystemClock::shared().unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let due = clock.now() + SOON * 5;
    let sleeps: Vec<_> = (0..10_000)
        .map(|_| {
            let woken = Arc::clone(&woken);
            let left = due.since(clock.now());
            sleep(&clock, left.max(SOON), move || {
                woken.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    let mut waits = 0;
    while woken.load(Ordering::Relaxed) < 10_000 {
        std::thread::sleep(Duration::from_millis(10));
        waits += 1;
        assert!(waits < 300, "some still sleep after 3 s");
    }
    drop(sleeps);
}
