//! Retries among the other layers: the laws, a breaker below, and the whole order of the stack.

use super::*;
use crate::layers::{Breaker, BreakerConfig, Deadline, Limit, LimitConfig};
use crate::resolver::SecretResolverExt;
use crate::testing::conformance::{Subject, after_shutdown_all_is_refused, all};
use crate::testing::{MockBackend, Reply};

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
    assert!(error.is_held_back());
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

/// Two endpoints, of which the first asks to be left alone for ten seconds.
#[derive(Debug)]
struct Throttles(Pair, ErrorKind);

impl SecretResolver for Throttles {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let answer = self.0.resolve(request);
        match request.endpoint() {
            Some(1) => answer,
            _ => {
                let error = Error::new(self.1, "asked for by the test").with_retry_after(secs(10));
                ResolveFuture::ready(Err(error))
            }
        }
    }

    fn endpoints(&self) -> usize {
        2
    }
}

#[test]
fn an_endpoint_that_asks_to_be_left_alone_is_not_waited_for_where_there_is_another() {
    for kind in [ErrorKind::Throttled, ErrorKind::Unavailable] {
        let (manual, shared) = clock();
        let pair = [(); 2].map(|()| MockBackend::new().with_value(NAME, "v1"));
        let [asks, answers] = pair.clone();
        let store = Throttles(Pair(pair), kind);
        let stack = Breaker::new(store, Arc::clone(&shared), BreakerConfig::default()).unwrap();
        let stack = Retry::new(stack, shared, RetryConfig::default()).unwrap();
        for _ in 0..100 {
            drive(&manual, stack.get(NAME)).unwrap();
        }
        assert!(manual.now() <= Moment::ZERO + Duration::from_millis(50));
        assert_eq!((asks.calls(), answers.calls()), (1, 100));
        // A request that is directed to it has no other.
        let there = Request::new(name()).with_deadline(manual.now() + secs(4));
        let began = manual.now();
        let refused = drive(&manual, stack.resolve(there.at_endpoint(0))).unwrap_err();
        assert!(refused.is_held_back());
        assert_eq!((manual.now(), asks.calls()), (began, 1));
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
    // Both are away: an outage that the policy may act on, and immediate while others try.
    alive.always(Reply::Hang);
    let ask = || stack.get("never/answered");
    for _ in 0..5 {
        let error = drive(&manual, ask()).unwrap_err();
        assert!(error.kind().permits().stale);
    }
    manual.advance(secs(1));
    let mut trials = [ask(), ask()].map(Box::pin);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        trials
            .iter_mut()
            .all(|trial| trial.as_mut().poll(&mut cx).is_pending())
    );
    // Nobody waits for a trial that takes long.
    manual.advance(Duration::from_millis(500));
    let began = manual.now();
    let error = drive(&manual, ask()).unwrap_err();
    assert!(error.is_held_back());
    assert_eq!(manual.now(), began);
}

#[test]
fn the_latest_version_is_waited_for_where_the_breaker_leaves_the_store_alone() {
    let (manual, shared) = clock();
    let store = MockBackend::new().with_value(NAME, "v1");
    let stack = Breaker::new(store.clone(), Arc::clone(&shared), BreakerConfig::default());
    let stack = Retry::new(stack.unwrap(), shared, RetryConfig::default()).unwrap();
    store.always(Reply::Error(ErrorKind::Unavailable));
    let read = |request: Request<'static>| {
        let began = manual.now();
        let request = request.with_deadline(began + secs(4));
        let answer = drive(&manual, stack.resolve(request));
        (
            answer.map(drop).map_err(|error| error.kind()),
            manual.now().since(began),
        )
    };
    let (answer, took) = read(Request::new(name()).latest());
    assert_eq!(answer, Err(ErrorKind::Unavailable));
    assert!(took > secs(2), "{took:?}");
    // A few tries a second, and the next is answered once the store is back.
    assert!(store.calls() <= 5 + 8, "{}", store.calls());
    store.always(None);
    let (answer, took) = read(Request::new(name()).latest());
    assert!(answer.is_ok() && took < secs(3), "{took:?}");
}
