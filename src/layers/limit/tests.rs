//! The limit by itself: how many at once, which is next, and which leave.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::name::NameRef;
use crate::resolver::SecretResolverExt;
use crate::secret::{Record, Secret};
use crate::sync::lock;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{Gate, ManualClock, MockBackend, Reply};

const NAME: &str = "prod/db#password";

type Get<'a> = Pin<Box<dyn Future<Output = Result<Secret, Error>> + Send + 'a>>;

fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

fn config(max_concurrent: u32, max_queued: u32) -> LimitConfig {
    LimitConfig {
        max_concurrent,
        max_queued,
        ..LimitConfig::default()
    }
}

/// A backend of one value behind a limit, on a clock that the test moves.
fn limited(config: LimitConfig) -> (ManualClock, MockBackend, Limit<MockBackend>) {
    let clock = ManualClock::strict();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let limit = Limit::new(backend.clone(), Arc::new(clock.clone()), config).unwrap();
    (clock, backend, limit)
}

fn get<R: SecretResolver>(resolver: &R) -> Get<'_> {
    Box::pin(resolver.get(NAME))
}

fn kind(answer: Poll<Result<Secret, Error>>) -> ErrorKind {
    match answer {
        Poll::Ready(Err(error)) => error.kind(),
        other => panic!("no error: {other:?}"),
    }
}

#[tokio::test]
async fn it_keeps_all_laws() {
    for config in [LimitConfig::default(), config(1, 1000), config(5, 1000)] {
        let backend = MockBackend::new()
            .with_value("a/b#c", "one-canary")
            .with_value("a/d", "two-canary");
        let limit = Limit::new(backend, Arc::new(ManualClock::strict()), config).unwrap();
        let subject = Subject::new(Arc::new(limit), "no/such").unwrap();
        let subject = subject.stores("a/b#c", "one-canary").unwrap();
        let subject = subject.stores("a/d", "two-canary").unwrap();
        all(&subject).await.unwrap();
        after_shutdown_all_is_refused(&subject).await.unwrap();
    }
}

/// A store that notes how many it is asked for at once, and in which order.
#[derive(Debug, Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    order: Mutex<Vec<String>>,
    /// Held by a test for as long as nothing may be answered.
    shut: tokio::sync::RwLock<()>,
}

struct One<'a>(&'a Busy);

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SecretResolver for Busy {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            lock(&self.order).push(request.name().as_str().to_owned());
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let _one = One(self);
            drop(self.shut.read().await);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            Ok::<_, Error>(Record::single(
                "busy",
                crate::secret::SecretBuf::from_slice(b"v")?,
            ))
        })
    }
}

fn busy(config: LimitConfig) -> Arc<Limit<Busy>> {
    Arc::new(Limit::new(Busy::default(), Arc::new(ManualClock::strict()), config).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_more_than_the_limit_are_asked_for_at_once() {
    let limit = busy(LimitConfig::default());
    // Nobody leaves before all have come: a permit on its way to the next in the queue is nobody's,
    // so 64 need never be inside at once when some leave while others still come.
    let shut = limit.inner.shut.write().await;
    let gets: Vec<_> = (0..5_000)
        .map(|_| {
            let limit = Arc::clone(&limit);
            tokio::spawn(async move { limit.get(NAME).await })
        })
        .collect();
    let busy = &limit.inner.now;
    while (busy.load(Ordering::SeqCst), limit.queued()) != (64, 5_000 - 64) {
        tokio::task::yield_now().await;
    }
    drop(shut);
    for get in gets {
        get.await.unwrap().unwrap();
    }
    let most = limit.inner.most.load(Ordering::SeqCst);
    assert_eq!(most, 64);
    assert_eq!(limit.permits.available_permits(), 64);
}

#[tokio::test]
async fn first_come_is_first_served() {
    let limit = busy(config(3, 1000));
    let names: Vec<String> = (0..500).map(|number| format!("n/{number}")).collect();
    let gets = names.iter().map(|name| {
        let name = NameRef::parse(name).unwrap();
        limit.resolve(Request::new(name))
    });
    let answers = crate::resolver::join_all(gets).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(*lock(&limit.inner.order), names);
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_the_limit() {
    let limit = busy(config(8, 1000));
    let names: Vec<String> = (0..301).map(|number| format!("n/{number}")).collect();
    let answers = limit.get_many(&names).await;
    assert_eq!(answers.len(), 301);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(limit.inner.most.load(Ordering::SeqCst), 8);
    assert_eq!(*lock(&limit.inner.order), names);
}

#[test]
fn a_full_queue_refuses_at_once_in_a_way_that_blames_no_store() {
    let (_, backend, limit) = limited(config(2, 3));
    backend.always(Reply::Hang);
    let mut held: Vec<_> = (0..5).map(|_| get(&limit)).collect();
    assert!(held.iter_mut().all(|get| poll(get).is_pending()));
    assert_eq!((backend.calls(), limit.queued()), (2, 3));
    for _ in 0..100 {
        let refused = kind(poll(&mut get(&limit)));
        assert_eq!(refused, ErrorKind::Overloaded);
        let permits = refused.permits();
        assert!(!permits.counts_for_breaker && !permits.fallback && !permits.stale);
    }
    assert_eq!((backend.calls(), limit.queued()), (2, 3));
    // No queue at all.
    let (_, backend, limit) = limited(config(1, 0));
    backend.always(Reply::Hang);
    let mut first = get(&limit);
    assert!(poll(&mut first).is_pending());
    assert_eq!(kind(poll(&mut get(&limit))), ErrorKind::Overloaded);
}

#[test]
fn a_deadline_that_passes_in_the_queue_ends_the_wait_as_our_own_overload() {
    let (clock, backend, limit) = limited(config(1, 10));
    backend.always(Reply::Hang);
    let mut first = get(&limit);
    assert!(poll(&mut first).is_pending());
    let name = NameRef::parse(NAME).unwrap();
    let request = Request::new(name).with_deadline(clock.now() + Duration::from_secs(4));
    let mut waiting = Box::pin(limit.resolve(request));
    assert!(poll(&mut waiting).is_pending());
    clock.advance(Duration::from_millis(3_999));
    assert!(poll(&mut waiting).is_pending());
    clock.advance(Duration::from_millis(1));
    let Poll::Ready(Err(error)) = poll(&mut waiting) else {
        panic!("it outlives its deadline");
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let text = "waited for our own permit until the deadline";
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!((limit.queued(), backend.calls()), (0, 1));
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn a_free_permit_is_taken_whatever_the_time() {
    // The deadline is up to the layers inside; here nobody waits.
    let (clock, _, limit) = limited(config(1, 0));
    clock.advance(Duration::from_secs(9));
    let late = Request::new(NameRef::parse(NAME).unwrap()).with_deadline(Moment::ZERO);
    assert!(poll(&mut Box::pin(limit.resolve(late))).is_ready());
}

#[test]
fn by_default_sixteen_thousand_wait_and_one_more_is_refused() {
    let (_, backend, limit) = limited(LimitConfig::default());
    backend.always(Reply::Hang);
    let mut gets: Vec<_> = (0..64 + 16_384).map(|_| get(&limit)).collect();
    assert!(gets.iter_mut().all(|get| poll(get).is_pending()));
    assert_eq!((backend.calls(), limit.queued()), (64, 16_384));
    assert_eq!(kind(poll(&mut get(&limit))), ErrorKind::Overloaded);
}

#[test]
fn of_ten_thousand_waiters_any_may_leave_and_the_rest_is_served() {
    let (clock, backend, limit) = limited(LimitConfig::default());
    let gate = Gate::new();
    backend.always(gate.then(Reply::Stored));
    let mut gets: Vec<_> = (0..10_064).map(|_| get(&limit)).collect();
    assert!(gets.iter_mut().all(|get| poll(get).is_pending()));
    assert_eq!((limit.queued(), backend.calls()), (10_000, 64));
    // Every other one leaves, of those inside and of the waiters.
    let mut number = 0;
    gets.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    assert_eq!(limit.queued(), 5_000);
    gate.open();
    let mut rounds = 0;
    while !gets.is_empty() {
        gets.retain_mut(|get| poll(get).is_pending());
        rounds += 1;
        assert!(rounds < 1_000, "{} wait for ever", gets.len());
    }
    assert_eq!(limit.queued(), 0);
    assert_eq!(limit.permits.available_permits(), 64);
    assert_eq!(clock.next_wake(), None);
}

#[test]
fn a_permit_given_to_a_waiter_that_leaves_before_taking_it_goes_to_the_next() {
    let (_, backend, limit) = limited(config(1, 10));
    backend.script(NAME, [Reply::Hang]);
    let mut first = get(&limit);
    let (mut second, mut third) = (get(&limit), get(&limit));
    for get in [&mut first, &mut second, &mut third] {
        assert!(poll(get).is_pending());
    }
    drop(first);
    drop(second);
    assert!(poll(&mut third).is_ready());
    assert_eq!(limit.permits.available_permits(), 1);
}

#[test]
fn a_dropped_call_and_a_panicking_one_give_their_permits_back() {
    let (_, backend, limit) = limited(config(1, 0));
    for _ in 0..100 {
        backend.script(NAME, [Reply::Hang, Reply::Panic]);
        let mut hangs = get(&limit);
        assert!(poll(&mut hangs).is_pending());
        drop(hangs);
        let mut panics = get(&limit);
        // The future is kept: the permit must be back before it is dropped.
        assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut panics))).is_err());
        assert!(matches!(poll(&mut get(&limit)), Poll::Ready(Ok(_))));
    }
}

#[test]
fn shutdown_ends_every_wait() {
    let (clock, backend, limit) = limited(config(1, 100));
    backend.always(Reply::Hang);
    let mut gets: Vec<_> = (0..50).map(|_| get(&limit)).collect();
    assert!(gets.iter_mut().all(|get| poll(get).is_pending()));
    assert!(poll(&mut Box::pin(limit.shutdown(clock.now()))).is_ready());
    for get in &mut gets[1..] {
        assert_eq!(kind(poll(get)), ErrorKind::Closed);
    }
    assert_eq!(kind(poll(&mut get(&limit))), ErrorKind::Closed);
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    for wrong in [config(0, 1), config(65_537, 1), config(1, 1_048_577)] {
        let refused = Limit::new(MockBackend::new(), Arc::new(ManualClock::strict()), wrong);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misconfigured);
    }
}

#[tokio::test]
async fn a_request_that_waited_until_little_time_is_left_is_refused_before_the_store_is_asked() {
    let clock = ManualClock::strict();
    let backend = MockBackend::new()
        .with_value("a/b", "x")
        .with_clock(clock.clone());
    backend.always(Reply::Hang);
    let config = LimitConfig {
        max_concurrent: 1,
        fair_time: Duration::from_secs(1),
        ..LimitConfig::default()
    };
    let limit = Arc::new(Limit::new(backend.clone(), Arc::new(clock.clone()), config).unwrap());
    let name = NameRef::parse("a/b").unwrap();
    let deadline = clock.now() + Duration::from_secs(4);
    let read = || limit.resolve(Request::new(name).with_deadline(deadline));
    let mut first = pin!(read());
    let mut second = pin!(read());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    clock.advance(Duration::from_secs(3));
    let refused = second.await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert_eq!(backend.calls(), 1);
}

#[test]
fn a_stop_in_the_queue_does_not_count_as_waiting_for_those_before() {
    let fair_time = Duration::from_secs(2);
    let (clock, backend, limit) = limited(LimitConfig {
        fair_time,
        ..config(1, 10)
    });
    let gate = Gate::new();
    backend.script(NAME, [gate.then(Reply::Error(ErrorKind::NotFound))]);
    let request = Request::new(NameRef::parse(NAME).unwrap());
    let request = request.with_deadline(clock.now() + fair_time * 2);
    let (mut first, mut second) = (limit.resolve(request), limit.resolve(request));
    let poll =
        |read: &mut ResolveFuture<'_>| Pin::new(read).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    clock.stall(Duration::from_secs(60));
    assert!(poll(&mut second).is_pending());
    gate.open();
    assert!(poll(&mut first).is_ready());
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
}

#[test]
fn a_permit_that_came_in_time_and_is_taken_late_is_given_back() {
    let fair_time = Duration::from_secs(2);
    let (clock, backend, limit) = limited(LimitConfig {
        fair_time,
        ..config(1, 10)
    });
    let gate = Gate::new();
    backend.script(NAME, [gate.then(Reply::Stored)]);
    let request = Request::new(NameRef::parse(NAME).unwrap());
    let request = request.with_deadline(clock.now() + fair_time * 2);
    let (mut first, mut second) = (limit.resolve(request), limit.resolve(request));
    let poll =
        |read: &mut ResolveFuture<'_>| Pin::new(read).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    gate.open();
    assert!(poll(&mut first).is_ready());
    // The thread of the second was busy elsewhere.
    clock.advance(fair_time * 3 / 2);
    let Poll::Ready(Err(error)) = poll(&mut second) else {
        panic!("it was sent with too little time");
    };
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(backend.calls(), 1);
    assert_eq!(limit.permits.available_permits(), 1);
}

#[test]
fn behind_a_store_that_was_silent_for_half_of_a_fair_time_there_is_an_outage() {
    let fair_time = Duration::from_secs(2);
    let (millisecond, name) = (Duration::from_millis(1), NameRef::parse(NAME).unwrap());
    for (waits, kind) in [
        (fair_time - millisecond, ErrorKind::Timeout),
        (fair_time / 2, ErrorKind::Timeout),
        (fair_time / 2 - millisecond, ErrorKind::Overloaded),
    ] {
        let (clock, backend, limit) = limited(LimitConfig {
            fair_time,
            ..config(1, 10)
        });
        backend.always(Reply::Hang);
        clock.advance(fair_time);
        let request = Request::new(name).with_deadline(clock.now() + waits + fair_time);
        let (mut first, mut second) = (limit.resolve(request), limit.resolve(request));
        let poll = |read: &mut ResolveFuture<'_>| {
            Pin::new(read).poll(&mut Context::from_waker(Waker::noop()))
        };
        assert!(poll(&mut first).is_pending());
        assert!(poll(&mut second).is_pending());
        clock.advance(waits);
        let Poll::Ready(Err(error)) = poll(&mut second) else {
            panic!("it waits longer");
        };
        assert_eq!(error.kind(), kind, "{waits:?}");
    }
}
