//! How a service starts: its resolver is built inside its runtime, and what it requires is waited
//! for as long as it said, and then stays.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{Clock, ErrorKind, RequireError, Resolver, ResolverBuilder, SecretResolver};

const NAME: &str = "prod/db#password";

fn setup(
    configure: impl FnOnce(ResolverBuilder) -> ResolverBuilder,
) -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let store = MockBackend::new()
        .with_value(NAME, "v1")
        .with_clock(clock.clone());
    let builder = Resolver::builder(store.clone())
        .with_attempts(1)
        .with_clock(clock.clone());
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

/// Lets time pass on the clock, but only to wake-ups that are no further away than `most`, until
/// the future has ended: any longer wait really waits.
async fn pass<T>(clock: &ManualClock, most: Duration, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    within(async {
        loop {
            if let Poll::Ready(answer) = poll_once(future.as_mut()) {
                return answer;
            }
            let left = clock.next_wake().map(|wake| wake.since(clock.now()));
            if let Some(left) = left.filter(|left| *left <= most) {
                clock.advance(left);
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

fn kinds(error: &RequireError) -> Vec<ErrorKind> {
    error.failures().map(|(_, _, why)| why.kind()).collect()
}

/// The runtime of a small service, and that of a large one.
fn runtimes() -> [tokio::runtime::Runtime; 2] {
    let small = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    [small.unwrap(), tokio::runtime::Runtime::new().unwrap()]
}

#[test]
fn a_resolver_is_built_asked_and_dropped_inside_a_runtime_of_either_kind() {
    for runtime in runtimes() {
        let service = async || {
            let store = MockBackend::new().with_value(NAME, "v1");
            // With everything that has its own part to start or to end.
            let resolver = Resolver::builder(store)
                .with_route("legacy", MockBackend::new())
                .dangerous_fallback_to(MockBackend::new())
                .build()
                .unwrap();
            let handle = resolver.handle(NAME).await.unwrap();
            assert_eq!(handle.secret().unwrap().expose_str().unwrap(), "v1");
            drop(resolver);
        };
        runtime.block_on(service());
        // A task runs where a runtime must not be dropped or waited for, either.
        runtime.block_on(async { tokio::spawn(service()).await.unwrap() });
    }
}

#[test]
fn a_build_that_is_refused_inside_a_runtime_of_either_kind_says_why() {
    for runtime in runtimes() {
        runtime.block_on(async {
            let builder = || Resolver::builder(MockBackend::new());
            for builder in [
                builder().with_deadline(Duration::ZERO),
                builder().with_attempts(0),
                builder().with_max_entries(0),
                builder().with_route("a//b", MockBackend::new()),
                builder().dangerous_fallback_to_for("/", MockBackend::new()),
            ] {
                let refused = builder.build().unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Misconfigured);
            }
        });
    }
}

/// A store whose code blocks the thread that it is called on, until the sender goes.
#[derive(Debug)]
struct Blocks(Mutex<Receiver<()>>, MockBackend);

impl SecretResolver for Blocks {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let answer = self.1.resolve(request);
        let _ = self.0.lock().unwrap().recv();
        answer
    }
}

#[test]
fn neither_building_nor_dropping_a_resolver_waits_for_a_store_that_blocks() {
    for runtime in runtimes() {
        let (release, blocked) = channel();
        let store = MockBackend::new();
        runtime.block_on(async {
            let build = || Resolver::builder(Blocks(Mutex::new(blocked), store.clone())).build();
            let resolver = build().unwrap();
            assert!(poll_once(pin!(resolver.get(NAME))).is_pending());
            within(store.called(1)).await;
            drop(resolver);
            drop(Resolver::builder(store.clone()).build().unwrap());
        });
        // Only now the store's code goes on, and its thread ends.
        drop(release);
    }
}

#[tokio::test]
async fn what_is_required_is_not_displaced_by_a_flood_of_other_names() {
    for waits in [false, true] {
        let (_clock, store, resolver) = setup(|builder| builder.with_max_entries(4));
        let names = [NAME];
        let required = match waits {
            false => resolver.require(&names).await,
            true => {
                resolver
                    .require_within(&names, Duration::from_secs(1))
                    .await
            }
        };
        drop(required.unwrap());
        for number in 0..40 {
            let name = format!("cold/{number}");
            store.set(&name, "x");
            resolver.get(&name).await.unwrap();
        }
        assert_eq!(resolver.status().entries, 4);
        resolver.get(NAME).await.unwrap();
        assert_eq!(store.calls_of(NAME), 1, "require_within: {waits}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_waited_for_no_longer_than_the_limit() {
    let (clock, store, resolver) = setup(|builder| builder);
    store.always(Reply::Hang);
    let names = [NAME];
    let limit = Duration::from_millis(200);
    let mut required = pin!(resolver.require_within(&names, limit));
    assert!(poll_once(required.as_mut()).is_pending());
    store.called(1).await;
    clock.advance(limit);
    let error = within(required).await.unwrap_err();
    assert_eq!(kinds(&error), [ErrorKind::Timeout]);
    assert_eq!(error.failures().next().unwrap().1.unwrap().as_str(), NAME);
}

#[tokio::test]
async fn a_store_that_stays_down_is_waited_for_no_longer_than_the_limit() {
    let (clock, store, resolver) = setup(|builder| builder);
    store.always(Reply::Error(ErrorKind::Unavailable));
    let names = [NAME];
    let (start, limit) = (clock.now(), Duration::from_secs(1));
    let required = resolver.require_within(&names, limit);
    let error = pass(&clock, Duration::from_millis(250), required).await;
    // The limit may end the last try before the store has refused it.
    let kinds = kinds(&error.unwrap_err());
    let expected = [[ErrorKind::Unavailable], [ErrorKind::Timeout]];
    assert!(expected.iter().any(|kind| kinds == kind), "{kinds:?}");
    assert!(clock.now() <= start + limit);
    assert!(store.calls() >= 3, "it was asked {} times", store.calls());
}

#[tokio::test]
async fn a_store_that_hangs_at_first_and_then_answers_is_waited_for() {
    let (clock, store, resolver) = setup(|builder| builder);
    store.script(NAME, [Reply::Hang]);
    let names = [NAME];
    let mut required = pin!(resolver.require_within(&names, Duration::from_secs(10)));
    assert!(poll_once(required.as_mut()).is_pending());
    // The attempt that hangs ends after two seconds; the next try comes after a quarter of one.
    store.called(1).await;
    clock.advance(Duration::from_secs(2));
    let required = pass(&clock, Duration::from_millis(250), required).await;
    assert_eq!(required.unwrap().into_secrets().len(), 1);
    assert_eq!(store.calls(), 2);
}

#[tokio::test]
async fn a_store_that_comes_up_late_is_found_although_its_breaker_is_open() {
    let (clock, store, resolver) = setup(|builder| builder);
    store.always(Reply::Error(ErrorKind::Unavailable));
    // In the middle between two trials that the breaker lets through by itself, one a second.
    let (start, up) = (clock.now(), Duration::from_millis(9_300));
    let names = [NAME];
    let mut required = pin!(resolver.require_within(&names, Duration::from_secs(14)));
    let required = within(async {
        loop {
            if let Poll::Ready(answer) = poll_once(required.as_mut()) {
                return answer;
            }
            // Time passes only while it waits between two tries.
            let left = clock.next_wake().map(|wake| wake.since(clock.now()));
            if let Some(left) = left.filter(|left| *left <= Duration::from_millis(250)) {
                clock.advance(left);
            }
            if clock.now().since(start) >= up {
                store.always(None);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(required.unwrap().into_secrets().len(), 1);
    // Left alone, the breaker would have let its next trial through after the limit.
    assert!(clock.now() <= start + up + Duration::from_millis(500));
}

#[tokio::test]
async fn more_names_than_fit_at_once_are_waited_for_too() {
    let names: Vec<_> = (0..300).map(|number| format!("many/{number}")).collect();
    let (clock, store, resolver) = setup(|builder| builder);
    for name in &names {
        store.set(name, "value");
    }
    // Most of them wait for a permit until it is too late: an overload of our own.
    store.always(Reply::Hang);
    let mut required = pin!(resolver.require_within(&names, Duration::from_secs(30)));
    assert!(poll_once(required.as_mut()).is_pending());
    while resolver.status().flights < 256 {
        tokio::task::yield_now().await;
    }
    store.called(64).await;
    store.always(None);
    // No event shows that the waiters have begun.
    tokio::time::sleep(Duration::from_millis(100)).await;
    // The attempts that hang end.
    clock.advance(Duration::from_secs(2));
    let required = pass(&clock, Duration::from_millis(250), required).await;
    assert_eq!(required.unwrap().into_secrets().len(), 300);
}
