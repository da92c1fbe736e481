//! Retries on a manual clock: what is asked again, when, and how often at most.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::layers::{Breaker, BreakerConfig, Deadline, Limit, LimitConfig};
use crate::name::NameRef;
use crate::resolver::SecretResolverExt;
use crate::secret::SecretBuf;
use crate::sync::lock;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{ManualClock, MockBackend, Reply};

const NAME: &str = "prod/db#password";

fn clock() -> (ManualClock, Arc<dyn Clock>) {
    let clock = ManualClock::new();
    (clock.clone(), Arc::new(clock))
}

fn name() -> NameRef<'static> {
    NameRef::parse(NAME).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls to the end; lets time pass only as far as somebody waits for it.
fn drive<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = poll(future.as_mut()) {
            return output;
        }
        let next = clock.next_wake().expect("it waits for nothing");
        clock.advance(next.since(clock.now()));
    }
}

/// A store that fails as told, and notes when it was asked for what.
#[derive(Debug)]
struct Failing {
    clock: ManualClock,
    asked: Mutex<Vec<(Moment, String)>>,
    error: Mutex<Option<Error>>,
}

impl Failing {
    fn with(clock: &ManualClock, error: Error) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            asked: Mutex::default(),
            error: Mutex::new(Some(error)),
        })
    }

    fn asked(&self) -> usize {
        lock(&self.asked).len()
    }
}

impl SecretResolver for Failing {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let name = request.name().as_str().to_owned();
        lock(&self.asked).push((self.clock.now(), name));
        ResolveFuture::ready(match &*lock(&self.error) {
            Some(error) => Err(error.clone()),
            None => SecretBuf::from_slice(b"v").map(|value| Record::single("failing", value)),
        })
    }
}

fn failing(kind: ErrorKind) -> (ManualClock, Arc<Failing>, Retry<Arc<Failing>>) {
    failing_with(Error::new(kind, "told to"), RetryConfig::default())
}

fn failing_with(
    error: Error,
    config: RetryConfig,
) -> (ManualClock, Arc<Failing>, Retry<Arc<Failing>>) {
    let (manual, shared) = clock();
    let store = Failing::with(&manual, error);
    let retry = Retry::new(Arc::clone(&store), shared, config).unwrap();
    (manual, store, retry)
}

#[tokio::test]
async fn it_keeps_all_laws() {
    let backend = MockBackend::new()
        .with_value("a/b#c", "one-canary")
        .with_value("a/d", "two-canary");
    let retry = Retry::new(backend, clock().1, RetryConfig::default()).unwrap();
    let subject = Subject::new(Arc::new(retry), "no/such").unwrap();
    let subject = subject.stores("a/b#c", "one-canary").unwrap();
    let subject = subject.stores("a/d", "two-canary").unwrap();
    all(&subject).await.unwrap();
    after_shutdown_all_is_refused(&subject).await.unwrap();
}

#[test]
fn a_failure_that_passes_is_not_seen() {
    let (manual, shared) = clock();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let passing = [ErrorKind::Unavailable, ErrorKind::Timeout].map(Reply::Error);
    backend.script(NAME, passing);
    let retry = Retry::new(backend.clone(), shared, RetryConfig::default()).unwrap();
    let secret = drive(&manual, retry.get(NAME)).unwrap();
    assert_eq!(secret.expose_str().unwrap(), "v1");
    assert_eq!(backend.calls(), 3);
}

#[test]
fn each_kind_is_retried_as_its_permits_say() {
    for kind in ErrorKind::ALL {
        let (manual, store, retry) = failing(kind);
        let error = drive(&manual, retry.get(NAME)).unwrap_err();
        assert_eq!(error.kind(), kind);
        let attempts = match kind.permits().retry {
            error::Retry::Never => 1,
            error::Retry::Yes | error::Retry::AfterDelay => 3,
        };
        assert_eq!(store.asked(), attempts, "{kind:?}");
    }
}

#[test]
fn the_back_off_doubles_up_to_its_longest_and_is_a_random_part_of_it() {
    let config = RetryConfig {
        max_attempts: 8,
        budget: 10_000,
        ..RetryConfig::default()
    };
    let (manual, store, retry) = failing_with(Error::new(ErrorKind::Timeout, "told to"), config);
    let mut waits: Vec<Vec<Duration>> = vec![Vec::new(); 7];
    for _ in 0..300 {
        lock(&store.asked).clear();
        let _ = drive(&manual, retry.get(NAME));
        let asked = lock(&store.asked);
        assert_eq!(asked.len(), 8);
        for (waits, pair) in waits.iter_mut().zip(asked.windows(2)) {
            waits.push(pair[1].0.since(pair[0].0));
        }
    }
    let longest = [50, 100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
    for (waits, longest) in waits.into_iter().zip(longest) {
        assert!(waits.iter().all(|&wait| wait <= longest), "{longest:?}");
        // Full jitter: each quarter has its share of 300 draws.
        for quarter in 0..4 {
            let part = longest / 4 * quarter..longest / 4 * (quarter + 1);
            let drawn = waits.iter().filter(|wait| part.contains(wait)).count();
            assert!(drawn > 35, "{drawn} of 300 in {part:?}");
        }
    }
}

#[test]
fn what_the_store_asks_for_is_waited_for_when_it_fits() {
    for kind in [ErrorKind::Throttled, ErrorKind::Unavailable] {
        let error = Error::new(kind, "told to").with_retry_after(secs(1));
        let (manual, store, retry) = failing_with(error, RetryConfig::default());
        let request = Request::new(name()).with_deadline(manual.now() + secs(4));
        drive(&manual, retry.resolve(request)).unwrap_err();
        let asked = lock(&store.asked);
        assert_eq!(asked.len(), 3);
        for pair in asked.windows(2) {
            assert!(pair[1].0.since(pair[0].0) >= secs(1));
        }
    }
}

#[test]
fn what_the_store_asks_for_in_vain_is_answered_at_once() {
    let too_long = [secs(2), secs(3600), Duration::MAX];
    for asked in too_long {
        let error = Error::new(ErrorKind::Throttled, "told to").with_retry_after(asked);
        let (manual, store, retry) = failing_with(error, RetryConfig::default());
        let request = Request::new(name()).with_deadline(manual.now() + secs(2));
        let mut answer = pin!(retry.resolve(request));
        assert!(poll(answer.as_mut()).is_ready(), "{asked:?}");
        assert_eq!((store.asked(), manual.next_wake()), (1, None));
        // Without a deadline, too, nobody is kept for an hour; two seconds are all right.
        let mut answer = pin!(retry.resolve(Request::new(name())));
        let kept = poll(answer.as_mut()).is_pending();
        assert_eq!(kept, asked == secs(2), "{asked:?}");
    }
}

#[test]
fn nothing_begins_at_or_after_the_deadline() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    manual.advance(secs(10));
    let late = Request::new(name()).with_deadline(manual.now());
    let error = drive(&manual, retry.resolve(late)).unwrap_err();
    assert_eq!((error.kind(), store.asked()), (ErrorKind::Timeout, 0));
    assert_eq!(drive(&manual, retry.resolve_many(&[late])).len(), 1);
    assert_eq!(store.asked(), 0);
    // Every deadline from none of the back-off to all of it: waits end before it, too.
    for millis in 1..200 {
        let (manual, store, retry) = failing(ErrorKind::Unavailable);
        let deadline = manual.now() + Duration::from_millis(millis);
        drive(
            &manual,
            retry.resolve(Request::new(name()).with_deadline(deadline)),
        )
        .unwrap_err();
        assert!(manual.now() < deadline);
        assert!(lock(&store.asked).iter().all(|&(at, _)| at < deadline));
    }
}

#[test]
fn a_wait_that_ends_late_begins_no_attempt_after_the_deadline() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    let request = Request::new(name()).with_deadline(manual.now() + secs(4));
    let mut answer = pin!(retry.resolve(request));
    assert!(poll(answer.as_mut()).is_pending());
    // The process was stopped meanwhile.
    manual.advance(secs(60));
    assert!(poll(answer.as_mut()).is_ready());
    assert_eq!(store.asked(), 1);
}

#[test]
fn a_thousand_failing_requests_are_no_storm() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    for _ in 0..1000 {
        drive(&manual, retry.get(NAME)).unwrap_err();
    }
    let attempts = store.asked();
    assert!(attempts <= 1000 + 200 + 10, "{attempts}");
    // And the budget is used, not just kept.
    assert!(attempts >= 1000 + 200, "{attempts}");
}

#[test]
fn a_thousand_requests_at_once_are_no_storm() {
    let (manual, store, retry) = failing(ErrorKind::Timeout);
    let requests = (0..1000).map(|_| retry.resolve(Request::new(name())));
    let answers = drive(&manual, crate::join_all(requests));
    assert_eq!(answers.len(), 1000);
    assert!(store.asked() <= 1000 + 200 + 10, "{}", store.asked());
}

#[test]
fn the_budget_is_kept_from_many_threads_at_once() {
    let budget = Budget::new(10, 20);
    let retries: usize = std::thread::scope(|scope| {
        let count = || {
            let retry = |_: &usize| {
                budget.deposit();
                budget.withdraw()
            };
            (0..10_000).filter(retry).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert!(retries <= 40_000 / 5 + 10, "{retries}");
}

#[test]
fn a_spent_budget_answers_the_error_at_once_and_is_refilled_by_first_attempts() {
    let (manual, store, retry) = failing(ErrorKind::Unavailable);
    for _ in 0..100 {
        let _ = drive(&manual, retry.get(NAME));
    }
    let one = || {
        let before = (store.asked(), manual.now());
        let _ = drive(&manual, retry.get(NAME));
        (store.asked() - before.0, manual.now().since(before.1))
    };
    let attempts: Vec<_> = (0..10).map(|_| one()).collect();
    let once = attempts.iter().filter(|one| **one == (1, Duration::ZERO));
    assert_eq!(once.count(), 8, "{attempts:?}");
    // Success pays in, too, and never more than the bucket holds.
    *lock(&store.error) = None;
    for _ in 0..1000 {
        drive(&manual, retry.get(NAME)).unwrap();
    }
    *lock(&store.error) = Some(Error::new(ErrorKind::Unavailable, "told to"));
    let before = store.asked();
    for _ in 0..100 {
        let _ = drive(&manual, retry.get(NAME));
    }
    assert!(store.asked() - before <= 100 + 20 + 10);
}

#[test]
fn of_a_batch_only_what_failed_is_asked_again() {
    let (manual, shared) = clock();
    let backend = MockBackend::new()
        .with_value("a", "one")
        .with_value("b", "two")
        .with_value("c", "three");
    let fails = || Reply::Error(ErrorKind::Unavailable);
    backend.script("b", [fails()]);
    backend.script("c", [fails(), fails(), fails()]);
    let retry = Retry::new(backend.clone(), shared, RetryConfig::default()).unwrap();
    let answers = drive(&manual, retry.get_many(&["no/such", "a", "b", "c"]));
    let text = |at: usize| answers[at].as_ref().unwrap().expose_str().unwrap();
    assert_eq!((text(1), text(2)), ("one", "two"));
    let kind = |at: usize| answers[at].as_ref().unwrap_err().kind();
    assert_eq!(
        (kind(0), kind(3)),
        (ErrorKind::NotFound, ErrorKind::Unavailable)
    );
    let calls = ["no/such", "a", "b", "c"].map(|name| backend.calls_of(name));
    assert_eq!(calls, [1, 1, 2, 3]);
}

#[test]
fn a_breakers_refusal_is_answered_at_once() {
    let (manual, shared) = clock();
    let backend = MockBackend::new();
    backend.always(Reply::Error(ErrorKind::Unavailable));
    let breaker = Breaker::new(backend, Arc::clone(&shared), BreakerConfig::default()).unwrap();
    let retry = Retry::new(breaker, shared, RetryConfig::default()).unwrap();
    for _ in 0..3 {
        let _ = drive(&manual, retry.get(NAME));
    }
    let mut answer = pin!(retry.get(NAME));
    let Poll::Ready(Err(error)) = poll(answer.as_mut()) else {
        panic!("the caller waits for the breaker's trial");
    };
    assert!(breaker::is_open(&error));
}

#[test]
fn while_the_clock_stands_still_nothing_is_asked_again() {
    let error = Error::new(ErrorKind::Unavailable, "told to").with_retry_after(secs(1));
    let (manual, store, retry) = failing_with(error, RetryConfig::default());
    let mut answer = pin!(retry.get(NAME));
    for _ in 0..1000 {
        assert!(poll(answer.as_mut()).is_pending());
    }
    assert_eq!(store.asked(), 1);
    assert!(manual.next_wake().is_some());
}

#[test]
fn dropped_at_any_await_it_leaves_nothing_behind() {
    let (manual, shared) = clock();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let config = RetryConfig {
        budget: 1000,
        ..RetryConfig::default()
    };
    let retry = Retry::new(backend.clone(), shared, config).unwrap();
    let fails = Reply::Error(ErrorKind::Unavailable);
    for _ in 0..100 {
        // In the first attempt.
        backend.script(NAME, [Reply::Hang]);
        let mut first = Box::pin(retry.get(NAME));
        assert!(poll(first.as_mut()).is_pending());
        drop(first);
        // In the back-off.
        backend.script(NAME, [fails.clone()]);
        let mut waits = Box::pin(retry.get(NAME));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(manual.next_wake().is_some());
        drop(waits);
        assert_eq!(manual.next_wake(), None);
        // In the second attempt.
        backend.script(NAME, [fails.clone(), Reply::Hang]);
        let mut second = Box::pin(retry.get(NAME));
        assert!(poll(second.as_mut()).is_pending());
        manual.advance(secs(1));
        assert!(poll(second.as_mut()).is_pending());
        drop(second);
        assert_eq!(manual.next_wake(), None);
        assert!(drive(&manual, retry.get(NAME)).is_ok());
    }
}

#[test]
fn a_backend_that_panics_takes_nobody_else_with_it() {
    let (manual, shared) = clock();
    let backend = MockBackend::new().with_value(NAME, "v1");
    backend.script(NAME, [Reply::Panic]);
    let retry = Retry::new(backend, shared, RetryConfig::default()).unwrap();
    let first = catch_unwind(AssertUnwindSafe(|| drive(&manual, retry.get(NAME))));
    assert!(first.is_err());
    assert!(drive(&manual, retry.get(NAME)).is_ok());
}

/// A store of two endpoints.
#[derive(Debug)]
struct Pair([MockBackend; 2]);

impl SecretResolver for Pair {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        self.0[request.endpoint().unwrap_or(0)].resolve(request)
    }

    fn endpoints(&self) -> usize {
        2
    }
}

#[test]
fn in_the_stacks_order_an_endpoint_that_hangs_costs_time_and_no_answer() {
    let (manual, shared) = clock();
    let pair = [(); 2].map(|()| MockBackend::new().with_value(NAME, "v1"));
    let [dead, alive] = pair.clone();
    dead.always(Reply::Hang);
    let limit = LimitConfig {
        max_concurrent: 1,
        ..LimitConfig::default()
    };
    let stack = Deadline::new(Pair(pair), Arc::clone(&shared), secs(1));
    let stack = Limit::new(stack, Arc::clone(&shared), limit).unwrap();
    let stack = Breaker::new(stack, Arc::clone(&shared), BreakerConfig::default()).unwrap();
    let monitor = stack.monitor();
    let stack = Retry::new(stack, shared, RetryConfig::default()).unwrap();
    for _ in 0..100 {
        let began = manual.now();
        let request = Request::new(name()).with_deadline(began + secs(4));
        assert!(drive(&manual, stack.resolve(request)).is_ok());
        // One attempt's timeout and one back-off.
        assert!(manual.now().since(began) <= Duration::from_millis(1050));
    }
    assert!(dead.calls() < 10, "{}", dead.calls());
    assert_eq!((alive.calls(), monitor.status()[1].failures), (100, 0));
    // Both are away: an outage that the policy may act on, and soon an immediate one.
    alive.always(Reply::Hang);
    for _ in 0..5 {
        let error = drive(&manual, stack.get(NAME)).unwrap_err();
        assert!(error.kind().permits().stale);
    }
    let began = manual.now();
    let error = drive(&manual, stack.get(NAME)).unwrap_err();
    assert!(breaker::is_open(&error));
    assert_eq!(manual.now(), began);
}

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let wrong: [fn(&mut RetryConfig); 8] = [
        |config| config.max_attempts = 0,
        |config| config.max_attempts = 11,
        |config| config.first_backoff = Duration::ZERO,
        |config| config.first_backoff = secs(2),
        |config| config.longest_backoff = Duration::MAX,
        |config| config.longest_asked = Duration::MAX,
        |config| config.budget = 10_001,
        |config| config.budget_percent = 101,
    ];
    for wrong in wrong {
        let mut config = RetryConfig::default();
        wrong(&mut config);
        let refused = Retry::new(MockBackend::new(), clock().1, config).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misconfigured, "{config:?}");
    }
}
