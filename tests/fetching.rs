//! What becomes of one fetch of the assembled resolver: which callers share its error, when it is tried
//! again, how long its answer lives, and what a handle reports about it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use secret_resolver::{Clock, ErrorKind, Resolver, ResolverBuilder};

const NAME: &str = "prod/db#password";

fn setup(
    configure: impl FnOnce(ResolverBuilder) -> ResolverBuilder,
) -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let store = MockBackend::new()
        .with_value(NAME, "v1")
        .with_clock(clock.clone());
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    (clock, store, configure(builder).build().unwrap())
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What hangs fails its test instead of blocking the run.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(10), future).await;
    ended.unwrap_or_else(|_| panic!("it has not ended within 10 s"))
}

#[tokio::test]
async fn ten_thousand_cold_gets_of_a_name_that_fails_are_one_fetch_and_share_its_error() {
    // An error that is remembered for a while, and another that is not.
    for kind in [ErrorKind::Denied, ErrorKind::Unavailable] {
        let (_clock, store, resolver) = setup(|builder| builder.with_attempts(1));
        let gate = Gate::new();
        store.script(NAME, [gate.then(Reply::Error(kind))]);
        let gets = (0..10_000).map(|_| Box::pin(resolver.get(NAME)));
        let mut gets: Vec<_> = gets.collect();
        for get in &mut gets {
            assert!(poll_once(get.as_mut()).is_pending());
        }
        store.called(1).await;
        gate.open();
        for get in gets {
            let error = within(get).await.unwrap_err();
            assert_eq!(error.kind(), kind);
            assert_eq!(error.name().map(ToString::to_string).as_deref(), Some(NAME));
        }
        assert_eq!((store.calls(), resolver.status().fetches), (1, 1));
    }
}

#[tokio::test]
async fn a_store_that_hangs_once_is_tried_again_within_the_same_get() {
    // With the default attempts and deadlines.
    let (clock, store, resolver) = setup(|builder| builder);
    store.script(NAME, [Reply::Hang]);
    let start = clock.now();
    // Lets time pass to the next wake-up once that is no further away than `most`: it is set when
    // the fetch has come that far.
    let pass = async |most| {
        loop {
            let left = clock.next_wake().map(|wake| wake.since(clock.now()));
            match left.filter(|left| *left <= most) {
                Some(left) => return clock.advance(left),
                None if store.calls() > 1 => return,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let pass = async {
        store.called(1).await;
        // One attempt has half of the fetch's four seconds; then it backs off for up to 50 ms.
        pass(Duration::from_secs(2)).await;
        pass(Duration::from_millis(50)).await;
    };
    let (answer, ()) = within(async { tokio::join!(resolver.get(NAME), pass) }).await;
    assert_eq!(answer.unwrap().expose_str().unwrap(), "v1");
    assert_eq!(store.calls(), 2);
    assert!(clock.now() < start + Duration::from_secs(3));
}

#[tokio::test]
async fn a_time_to_live_holds_for_its_prefix_alone() {
    let short = Duration::from_secs(10);
    let (clock, store, resolver) = setup(|builder| builder.with_ttl_for("prod/db", short));
    store.set("prod/dbx", "x");
    let answers = async || {
        let secrets = resolver.get_many(&[NAME, "prod/dbx"]).await.into_iter();
        let texts = secrets.map(|secret| secret.unwrap().expose_str().unwrap().to_owned());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(answers().await, ["v1", "x"]);
    store.set(NAME, "v2");
    store.set("prod/dbx", "y");
    clock.advance(short);
    assert_eq!(answers().await, ["v2", "x"]);
}

#[tokio::test]
async fn a_handle_is_waited_for_until_the_deadline_and_not_longer() {
    let deadline = Duration::from_secs(1);
    let (clock, store, resolver) = setup(|builder| builder.with_deadline(deadline));
    store.always(Reply::Hang);
    let mut handle = Box::pin(resolver.handle(NAME));
    assert!(poll_once(handle.as_mut()).is_pending());
    within(store.called(1)).await;
    // In which nothing runs: that takes nothing from the fetch's own, shorter time, but ends no get later.
    clock.stall(deadline - Duration::from_millis(1));
    assert!(poll_once(handle.as_mut()).is_pending());
    clock.stall(Duration::from_millis(1));
    let Poll::Ready(Err(error)) = poll_once(handle.as_mut()) else {
        panic!("it waits past the deadline");
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_handle_reports_why_its_last_fetch_failed() {
    let (_clock, store, resolver) = setup(|builder| builder.with_attempts(1));
    let handle = resolver.handle(NAME).await.unwrap();
    store.always(Reply::Error(ErrorKind::Denied));
    resolver.invalidator().invalidate(NAME).unwrap();
    let reported = async {
        loop {
            match handle.secret().unwrap_err().kind() {
                // The fetch is under way still.
                ErrorKind::Unavailable => tokio::task::yield_now().await,
                kind => return kind,
            }
        }
    };
    assert_eq!(within(reported).await, ErrorKind::Denied);
}

#[tokio::test]
async fn the_status_counts_as_fetches_only_what_asked_the_store() {
    let store = MockBackend::new();
    store.always(Reply::Error(ErrorKind::Unavailable));
    let resolver = Resolver::builder(store.clone())
        .with_clock(ManualClock::strict())
        .with_attempts(1)
        .build()
        .unwrap();
    for number in 0..50 {
        resolver.get(&format!("n/{number}")).await.unwrap_err();
    }
    assert_eq!(store.calls(), 5);
    assert_eq!(resolver.status().fetches, 5);
}
