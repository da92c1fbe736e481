//! The assembled resolver as an application uses it: deadlines, runtimes, batches, failing closed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use secret_resolver::{
    BreakerConfig, Clock, ErrorKind, Freshness, Moment, Resolver, ResolverBuilder, RetryConfig,
    SecretResolver,
};

const NAME: &str = "prod/db#password";
const TTL: Duration = Duration::from_secs(300);

fn setup() -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let backend = MockBackend::new()
        .with_value(NAME, "v1")
        .with_clock(clock.clone());
    let resolver = Resolver::builder(backend.clone())
        .with_attempts(1)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    (clock, backend, resolver)
}

/// Runs a future without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Waits until something is so; if it never is, the test fails.
async fn until(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), wait).await;
    ended.unwrap_or_else(|_| panic!("it was not so within 10 s"));
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn it_is_built_and_asked_without_a_runtime() {
    let (_clock, backend, resolver) = setup();
    let secret = block_on(resolver.get(NAME)).unwrap();
    assert_eq!(secret.expose_str().unwrap(), "v1");
    assert_eq!(secret.answer().freshness(), Freshness::Fresh);
    assert_eq!(secret.answer().backend(), "mock");
    block_on(resolver.get(NAME)).unwrap();
    assert_eq!(backend.calls(), 1);
}

#[test]
fn a_get_outlives_the_runtime_of_the_caller_that_started_its_fetch() {
    let (_clock, backend, resolver) = setup();
    let gate = Gate::new();
    backend.script(NAME, [gate.then(Reply::Stored)]);
    let first = tokio::runtime::Runtime::new().unwrap();
    let leader = resolver.clone();
    drop(first.spawn(async move { leader.get(NAME).await }));
    first.block_on(backend.called(1));
    // The leader's runtime is gone in the middle of the fetch.
    drop(first);
    let second = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let secret = second.block_on(async {
        let mut get = pin!(resolver.get(NAME));
        assert!(poll_once(get.as_mut()).is_pending());
        gate.open();
        get.await.unwrap()
    });
    assert_eq!(secret.expose_str().unwrap(), "v1");
    assert_eq!(backend.calls(), 1);
}

#[test]
fn a_runtime_that_is_blocked_holds_up_no_other() {
    let (_clock, backend, resolver) = setup();
    let gate = Gate::new();
    backend.script(NAME, [gate.then(Reply::Stored)]);
    let blocked = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    blocked.block_on(async {
        let mut get = pin!(resolver.get(NAME));
        assert!(poll_once(get.as_mut()).is_pending());
        gate.open();
        // This thread drives its runtime no further; the fetch it started ends anyway.
        let other = resolver.clone();
        let secret = std::thread::spawn(move || block_on(other.get(NAME)))
            .join()
            .unwrap();
        assert_eq!(secret.unwrap().expose_str().unwrap(), "v1");
        get.await.unwrap();
    });
    assert_eq!(backend.calls(), 1);
}

#[test]
fn dropping_the_last_resolver_inside_a_runtime_does_not_panic() {
    let (_clock, _backend, resolver) = setup();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async move {
        resolver.get(NAME).await.unwrap();
        drop(resolver);
    });
}

#[tokio::test]
async fn no_get_outlives_its_deadline_when_the_backend_hangs() {
    let (clock, backend, resolver) = setup();
    backend.always(Reply::Hang);
    let mut get = pin!(resolver.get(NAME));
    assert!(poll_once(get.as_mut()).is_pending());
    clock.advance(Duration::from_secs(5));
    assert_eq!(get.await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn what_is_in_memory_is_given_even_to_a_caller_whose_deadline_has_passed() {
    let (clock, backend, resolver) = setup();
    let gate = Gate::new();
    backend.script(NAME, [gate.then(Reply::Stored)]);
    let mut get = pin!(resolver.get(NAME));
    assert!(poll_once(get.as_mut()).is_pending());
    gate.open();
    until(|| resolver.status().flights == 0 && resolver.status().entries == 1).await;
    clock.advance(Duration::from_secs(5));
    assert_eq!(get.await.unwrap().expose_str().unwrap(), "v1");
    assert_eq!(backend.calls(), 1);
    // But not what has to be fetched.
    backend.script("other", [gate.then(Reply::Hang)]);
    let mut get = pin!(resolver.get("other"));
    assert!(poll_once(get.as_mut()).is_pending());
    clock.advance(Duration::from_secs(5));
    assert_eq!(get.await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_short_life_counts_from_the_attempt_that_was_answered() {
    let clock = ManualClock::strict();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let resolver = Resolver::builder(backend.clone())
        .with_clock(clock.clone())
        .with_ttl(Duration::from_secs(1))
        .build()
        .unwrap();
    backend.script(NAME, [Reply::Hang]);
    let mut get = pin!(resolver.get(NAME));
    assert!(poll_once(get.as_mut()).is_pending());
    backend.called(1).await;
    clock.advance(Duration::from_secs(2));
    // The back-off before the second attempt.
    until(|| {
        let left = clock.next_wake().map(|wake| wake.since(clock.now()));
        let back_off = left.filter(|left| *left <= Duration::from_millis(50));
        back_off.into_iter().for_each(|left| clock.advance(left));
        backend.calls() == 2
    })
    .await;
    let answer = get.await.unwrap().answer();
    assert!(answer.fetched_at().unwrap().since(Moment::ZERO) >= Duration::from_secs(2));
}

#[tokio::test]
async fn a_stop_of_the_process_ends_a_get_at_its_deadline_and_takes_no_time_of_its_fetch() {
    let (clock, backend, resolver) = setup();
    let gate = Gate::new();
    backend.script(NAME, [gate.then(Reply::Stored)]);
    let mut get = pin!(resolver.get(NAME));
    assert!(poll_once(get.as_mut()).is_pending());
    backend.called(1).await;
    clock.stall(Duration::from_secs(60));
    assert_eq!(get.await.unwrap_err().kind(), ErrorKind::Timeout);
    let mut next = pin!(resolver.get(NAME));
    assert!(poll_once(next.as_mut()).is_pending());
    gate.open();
    assert_eq!(next.await.unwrap().expose_str().unwrap(), "v1");
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn a_request_may_ask_for_an_earlier_deadline_but_not_for_a_later_one() {
    let (clock, backend, resolver) = setup();
    backend.always(Reply::Hang);
    let name = NameRef::parse(NAME).unwrap();
    for (asked, granted) in [(1, 1), (60, 5)] {
        let deadline = clock.now() + Duration::from_secs(asked);
        let mut answer = pin!(resolver.resolve(Request::new(name).with_deadline(deadline)));
        assert!(poll_once(answer.as_mut()).is_pending());
        clock.advance(Duration::from_millis(granted * 1000 - 1));
        // A flight that ended with its budget has been followed by another.
        let early = poll_once(answer.as_mut());
        if let Poll::Ready(early) = early {
            assert_eq!(early.unwrap_err().kind(), ErrorKind::Timeout);
            assert!(
                granted == 5,
                "only the flight's budget of 4 s may end it before"
            );
            continue;
        }
        clock.advance(Duration::from_millis(1));
        assert_eq!(answer.await.unwrap_err().kind(), ErrorKind::Timeout);
    }
}

#[tokio::test]
async fn a_request_that_asks_for_a_later_deadline_waits_no_longer_where_signals_keep_it_waiting() {
    let (clock, backend, resolver) = setup();
    let gates = [Gate::new(), Gate::new()];
    let stored = gates.iter().map(|gate| gate.then(Reply::Stored));
    backend.script(NAME, stored.chain([Reply::Hang]));
    let later = clock.now() + Duration::from_secs(60);
    let waits = tokio::spawn({
        let resolver = resolver.clone();
        async move {
            let request = Request::new(NameRef::parse(NAME)?).with_deadline(later);
            resolver.resolve(request).await.map(drop)
        }
    });
    // What a fetch brings is older than the signal, so it is asked again.
    let asked = async |fetches| until(|| backend.calls() >= fetches).await;
    for (gate, fetches) in gates.iter().zip(1..) {
        asked(fetches).await;
        clock.advance(Duration::from_millis(1900));
        resolver.invalidator().invalidate(NAME).unwrap();
        gate.open();
    }
    asked(3).await;
    clock.advance(Duration::from_millis(1199));
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    clock.advance(Duration::from_millis(1));
    let ended = tokio::time::timeout(Duration::from_secs(10), waits).await;
    let error = ended.expect("it waits past the deadline").unwrap();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn an_answer_that_is_polled_late_is_not_older_than_its_poll() {
    let (clock, backend, resolver) = setup();
    resolver.get(NAME).await.unwrap();
    let name = NameRef::parse(NAME).unwrap();
    let late = resolver.resolve(Request::new(name));
    let late_get = resolver.get(NAME);
    backend.set(NAME, "v2");
    clock.advance(TTL);
    let record = late.await.unwrap();
    assert_eq!(record.into_secret().unwrap().expose_str().unwrap(), "v2");
    assert_eq!(late_get.await.unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn by_default_every_error_of_the_primary_is_the_answer_even_right_after_expiry() {
    for kind in ErrorKind::ALL {
        let (clock, backend, resolver) = setup();
        resolver.get(NAME).await.unwrap();
        clock.advance(TTL);
        backend.always(Reply::Error(kind));
        let error = resolver.get(NAME).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.name().map(ToString::to_string).as_deref(), Some(NAME));
    }
}

#[tokio::test]
async fn a_batch_asks_for_each_record_once() {
    let (_clock, backend, resolver) = setup();
    backend.set("prod/db#user", "app");
    backend.set("prod/token", "t");
    let names = [
        "prod/token",
        "prod/db#user",
        NAME,
        "prod/token",
        "a//b",
        "none/such",
    ];
    let answers = resolver.get_many(&names).await;
    let texts: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(secret) => secret.expose_str().unwrap().to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        })
        .collect();
    assert_eq!(texts, ["t", "app", "v1", "t", "InvalidName", "NotFound"]);
    assert_eq!(
        (backend.calls_of("prod/db"), backend.calls_of("prod/token")),
        (1, 1)
    );
}

#[tokio::test]
async fn require_answers_all_or_names_each_that_is_missing_and_why() {
    let (_clock, backend, resolver) = setup();
    backend.set("prod/denied", "x");
    backend.script("prod/denied", [Reply::Error(ErrorKind::Denied)]);
    let required = resolver.require(&[NAME]).await.unwrap().into_secrets();
    assert_eq!(required.len(), 1);

    let names = [NAME, "prod/denied", "none/such", "hunter2-canary\n"];
    let error = resolver.require(&names).await.unwrap_err();
    let failures: Vec<_> = error
        .failures()
        .map(|(at, _, why)| (at, why.kind()))
        .collect();
    let expected = [
        ErrorKind::Denied,
        ErrorKind::NotFound,
        ErrorKind::InvalidName,
    ];
    assert_eq!(
        failures,
        [(1, expected[0]), (2, expected[1]), (3, expected[2])]
    );
    let said = error.to_string();
    assert!(
        said.contains("prod/denied") && said.contains("none/such"),
        "{said}"
    );
    assert!(
        !said.contains("hunter2") && !format!("{error:?}").contains("hunter2"),
        "{said}"
    );
}

#[tokio::test]
async fn after_shutdown_clones_are_closed_and_the_cache_is_empty() {
    let (_clock, _backend, resolver) = setup();
    let clone = resolver.clone();
    drop(resolver.get(NAME).await.unwrap());
    let report = resolver.shutdown_within(Duration::from_secs(1)).await;
    assert_eq!((report.values_dropped, report.values_still_held), (1, 0));
    assert!(report.is_complete());
    assert_eq!(clone.get(NAME).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(
        clone.get_many(&[NAME]).await.remove(0).unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test]
async fn an_invalidator_outlives_its_resolver_harmlessly() {
    let (_clock, _backend, resolver) = setup();
    let invalidator = resolver.invalidator();
    drop(resolver);
    invalidator.invalidate(NAME).unwrap();
    invalidator.invalidate_all().unwrap();
    assert_eq!(
        invalidator.invalidate("a//b").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let builder = || Resolver::builder(MockBackend::new());
    for builder in [
        builder().with_ttl(Duration::ZERO),
        builder().with_ttl(Duration::MAX),
        builder().with_deadline(Duration::ZERO),
        builder().with_max_entries(0),
        builder().with_max_bytes(1),
        builder().with_max_record_bytes(0),
        builder().with_max_record_bytes(0).with_max_bytes(0),
        builder().with_max_record_bytes(u32::MAX),
    ] {
        assert_eq!(
            builder.build().unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
    }
}

#[test]
fn what_leaves_no_time_or_no_room_is_refused_by_the_names_of_its_settings() {
    let builder = || Resolver::builder(MockBackend::new());
    let nano = Duration::from_nanos(1);
    for (builder, settings) in [
        (
            builder().with_deadline(nano),
            ["the deadline of a get is too short", "with_deadline"],
        ),
        (
            builder().with_max_bytes(1),
            ["with_max_record_bytes", "with_max_bytes"],
        ),
    ] {
        let refused = builder.build().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        for setting in settings {
            assert!(refused.to_string().contains(setting), "{refused}");
        }
    }
    assert!(
        builder()
            .with_deadline(Duration::from_millis(1))
            .build()
            .is_ok()
    );
}

#[tokio::test]
async fn a_handle_has_the_current_version_and_reports_changes() {
    let (_clock, backend, resolver) = setup();
    let mut handle = resolver.handle(NAME).await.unwrap();
    assert_eq!(handle.secret().unwrap().expose_str().unwrap(), "v1");
    backend.set(NAME, "v2");
    resolver.invalidator().invalidate(NAME).unwrap();
    handle.changed().await.unwrap();
    assert_eq!(handle.secret().unwrap().expose_str().unwrap(), "v2");
    let other = handle.clone();
    assert_eq!(
        other.secret().unwrap().version(),
        handle.secret().unwrap().version()
    );
}

#[tokio::test]
async fn a_handle_never_answers_what_was_invalidated_or_has_expired() {
    let (clock, backend, resolver) = setup();
    let mut handle = resolver.handle(NAME).await.unwrap();
    backend.always(Reply::Error(ErrorKind::Unavailable));
    let calls = backend.calls();
    resolver.invalidator().invalidate(NAME).unwrap();
    assert_eq!(handle.secret().unwrap_err().kind(), ErrorKind::Unavailable);
    backend.called(calls + 1).await;

    backend.always(None);
    backend.set(NAME, "v2");
    // The job tries again once its wait is over; it may not have begun to wait yet.
    let mut value = None;
    while value.is_none() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        value = handle.secret().ok();
    }
    handle.changed().await.unwrap();
    backend.always(Reply::Error(ErrorKind::Timeout));
    clock.advance(TTL);
    assert!(handle.secret().is_err());
}

#[tokio::test]
async fn a_handle_is_refreshed_ahead_of_its_expiry_without_being_read() {
    let (clock, backend, resolver) = setup();
    let handle = resolver.handle(NAME).await.unwrap();
    backend.set(NAME, "v2");
    clock.advance(TTL * 85 / 100);
    while handle.secret().unwrap().expose_str().unwrap() != "v2" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_handle_ends_with_its_resolver_and_its_job_with_the_handle() {
    let (clock, backend, resolver) = setup();
    let handle = resolver.handle(NAME).await.unwrap();
    // The job sleeps until the refresh, in the last fifth at the latest; the sweeper sleeps longer. With
    // metrics a job sleeps for less.
    let refresh = clock.now() + TTL * 4 / 5;
    let sleeps_longer = |longer| {
        let wake = clock.next_wake();
        cfg!(feature = "metrics") || wake.is_some_and(|wake| (wake > refresh) == longer)
    };
    until(|| sleeps_longer(false)).await;
    drop(handle);
    until(|| sleeps_longer(true)).await;
    clock.advance(TTL * 85 / 100);
    assert_eq!(backend.calls(), 1);

    let mut handle = resolver.handle(NAME).await.unwrap();
    resolver.shutdown_within(Duration::from_secs(1)).await;
    assert_eq!(
        handle.changed().await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(handle.secret().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_peek_finds_only_what_is_cached() {
    let (clock, backend, resolver) = setup();
    assert_eq!(resolver.peek(NAME).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        resolver.peek("a//b").unwrap_err().kind(),
        ErrorKind::InvalidName
    );
    resolver.get(NAME).await.unwrap();
    assert_eq!(resolver.peek(NAME).unwrap().expose_str().unwrap(), "v1");
    clock.advance(TTL);
    assert!(resolver.peek(NAME).is_err());
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn require_waits_for_a_store_that_is_still_starting_and_for_nothing_else() {
    let (clock, backend, resolver) = setup();
    backend.script(
        NAME,
        [
            Reply::Error(ErrorKind::Unavailable),
            Reply::Error(ErrorKind::Timeout),
        ],
    );
    let names = [NAME];
    let mut required = pin!(resolver.require_within(&names, Duration::from_secs(10)));
    let required = loop {
        if let Poll::Ready(required) = poll_once(required.as_mut()) {
            break required;
        }
        // Time passes only while it waits between two tries, not while it waits for an answer.
        let pause = Duration::from_millis(250);
        if clock
            .next_wake()
            .is_some_and(|wake| wake.since(clock.now()) <= pause)
        {
            clock.advance(pause);
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(required.unwrap().into_secrets().len(), 1);
    assert_eq!(backend.calls(), 3);

    let names = ["none/such"];
    let error = resolver
        .require_within(&names, Duration::from_secs(10))
        .await
        .unwrap_err();
    assert_eq!(
        error.failures().next().unwrap().2.kind(),
        ErrorKind::NotFound
    );
    assert_eq!(backend.calls(), 4);
}

/// A resolver of one store with these settings, on a clock on which back-offs pass by themselves.
fn with(settings: impl FnOnce(ResolverBuilder) -> ResolverBuilder) -> (MockBackend, Resolver) {
    let store = MockBackend::new().with_value(NAME, "v1");
    let builder = Resolver::builder(store.clone()).with_clock(ManualClock::new());
    (store, settings(builder).build().unwrap())
}

#[tokio::test]
async fn every_setting_of_retries_and_breakers_takes_effect() {
    let asked = async |settings: fn(ResolverBuilder) -> ResolverBuilder| {
        let (store, resolver) = with(settings);
        store.always(Reply::Error(ErrorKind::Unavailable));
        for _ in 0..20 {
            resolver.get(NAME).await.unwrap_err();
        }
        store.calls()
    };
    // With a breaker that never opens here, each get is as many calls as there are attempts.
    let closed = |builder: ResolverBuilder| {
        builder.with_breaker(BreakerConfig::default().with_failures(1_000))
    };
    let once = asked(|builder| {
        let breaker = BreakerConfig::default().with_failures(1_000);
        builder.with_breaker(breaker).with_attempts(1)
    });
    assert_eq!(once.await, 20);
    let retry = asked(|builder| {
        let breaker = BreakerConfig::default().with_failures(1_000);
        let retry = RetryConfig::default().with_max_attempts(1);
        builder.with_breaker(breaker).with_retry(retry)
    });
    assert_eq!(retry.await, 20);
    // By default, there are more attempts, and it opens.
    let (store, resolver) = with(closed);
    store.always(Reply::Error(ErrorKind::Unavailable));
    resolver.get(NAME).await.unwrap_err();
    assert_eq!(store.calls(), 3);
    assert!(asked(|builder| builder.with_attempts(1)).await < 20);
}

#[tokio::test]
async fn every_bound_of_what_is_held_takes_effect() {
    let names = ["a/1", "a/2", "a/3", "a/4"];
    let held = async |settings: fn(ResolverBuilder) -> ResolverBuilder| {
        let (store, resolver) = with(settings);
        for name in names {
            store.set(name, [b'x'; 1_000]);
            resolver.get(name).await.unwrap();
        }
        resolver.status().entries
    };
    assert_eq!(held(|builder| builder).await, 4);
    assert_eq!(held(|builder| builder.with_max_entries(2)).await, 2);
    let bytes =
        |builder: ResolverBuilder| builder.with_max_record_bytes(2_000).with_max_bytes(2_500);
    assert_eq!(held(bytes).await, 2);
    let (_, resolver) = with(|builder| builder.with_max_record_bytes(1));
    let error = resolver.get(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let (store, resolver) = with(|builder| builder.with_max_flights(1));
    store.script("slow/one", [Reply::Hang]);
    let mut slow = pin!(resolver.get("slow/one"));
    assert!(poll_once(slow.as_mut()).is_pending());
    let error = resolver.get(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
}
