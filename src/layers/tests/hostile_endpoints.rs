//! What hostile readings found in the guards of a store with several endpoints. Each test holds the repair.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::backend::{NameRef, Request, ResolveFuture};
use crate::layers::{
    Breaker, BreakerConfig, Cache, CacheConfig, Limit, LimitConfig, Scope, Scoped,
};
use crate::testing::{Gate, ManualClock, MockBackend, Reply};
use crate::{Clock, Error, ErrorKind, Freshness, Resolver, SecretResolver, SecretResolverExt};

/// A mock for each endpoint.
#[derive(Clone, Debug)]
struct Multi {
    at: Vec<MockBackend>,
    order: Arc<Mutex<Vec<usize>>>,
}

impl Multi {
    fn new(number: usize) -> Self {
        Self {
            at: (0..number).map(|_| MockBackend::new()).collect(),
            order: Arc::default(),
        }
    }

    fn set(&self, name: &str, value: &str, version: u64) {
        for at in &self.at {
            at.set(name, value);
            at.set_version(name, version);
        }
    }
}

impl SecretResolver for Multi {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let endpoint = request.endpoint().unwrap_or(0);
        self.order.lock().unwrap().push(endpoint);
        self.at[endpoint].resolve(request)
    }

    fn endpoints(&self) -> usize {
        self.at.len()
    }
}

/// Always the same error.
#[derive(Debug)]
struct Fails {
    endpoints: usize,
    calls: AtomicUsize,
    error: Error,
}

impl SecretResolver for Fails {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        ResolveFuture::ready(Err(self.error.clone()))
    }

    fn endpoints(&self) -> usize {
        self.endpoints
    }
}

fn shown(answer: Result<crate::Secret, Error>) -> String {
    match answer {
        Ok(secret) => format!(
            "{}{}",
            secret.expose_str().unwrap(),
            if secret.answer().freshness() == Freshness::Fallback {
                " (fallback)"
            } else {
                ""
            }
        ),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Moves the clock from one back-off to the next until a get is answered. It does not move it to where the
/// get, its fetch or its first attempt ends: a thread that is late in real time has not used up their time.
async fn drive<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    let ends = [5, 4, 2].map(|secs| clock.now() + Duration::from_secs(secs));
    for _ in 0..2_000 {
        if let Ok(answer) = tokio::time::timeout(Duration::from_millis(5), &mut future).await {
            return answer;
        }
        if let Some(wake) = clock.next_wake().filter(|wake| !ends.contains(wake)) {
            clock.advance(wake.since(clock.now()));
        }
    }
    panic!("it hangs");
}

/// A store of one endpoint beside one of three: its rollback is an outage, and the fallback answers.
#[tokio::test]
async fn a_rollback_of_a_store_with_fewer_endpoints_than_another_is_refused() {
    let clock = ManualClock::strict();
    let solo = MockBackend::new().with_value("solo/x", "v");
    solo.set_version("solo/x", 9);
    let fallback = MockBackend::new().with_value("solo/x", "weaker");
    let resolver = Resolver::builder(Multi::new(3))
        .with_route("solo", solo.clone())
        .dangerous_fallback_to(fallback)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    assert_eq!(shown(resolver.get("solo/x").await), "v");
    solo.set_version("solo/x", 3);
    resolver.invalidator().invalidate("solo/x").unwrap();
    assert_eq!(
        shown(drive(&clock, resolver.get("solo/x")).await),
        "Refused"
    );
}

/// Endpoint 1 is away and its breaker open; endpoint 0 answers a lower version.
#[tokio::test]
async fn a_rollback_while_the_other_endpoint_is_left_alone_is_refused() {
    let clock = ManualClock::strict();
    let store = Multi::new(2);
    store.set("a/x", "v", 9);
    let fallback = MockBackend::new().with_value("a/x", "weaker");
    let resolver = Resolver::builder(store.clone())
        .dangerous_fallback_to(fallback)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    assert_eq!(shown(resolver.get("a/x").await), "v");
    store.at[1].always(Reply::Error(ErrorKind::Unavailable));
    store.at[0].set_version("a/x", 3);
    let mut answers = Vec::new();
    for _ in 0..8 {
        resolver.invalidator().invalidate("a/x").unwrap();
        answers.push(shown(drive(&clock, resolver.get("a/x")).await));
    }
    assert!(
        answers.iter().all(|a| a == "Refused"),
        "{answers:?} {:?}",
        resolver.status().stores
    );
}

/// Endpoint 0 is away, endpoint 1 gives nonsense: no exception of the policy may follow.
#[tokio::test]
async fn nonsense_of_one_endpoint_and_an_outage_of_the_other_is_never_an_outage() {
    let clock = ManualClock::strict();
    let store = Multi::new(2);
    store.at[0].always(Reply::Error(ErrorKind::Unavailable));
    store.at[1].always(Reply::Error(ErrorKind::Malformed));
    let fallback = MockBackend::new();
    for number in 0..200 {
        fallback.set(&format!("a/{number}"), "weaker");
    }
    let resolver = Resolver::builder(store.clone())
        .dangerous_fallback_to(fallback)
        .with_attempts(1)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let mut answers = Vec::new();
    for number in 0..100 {
        answers.push(shown(
            drive(&clock, resolver.get(&format!("a/{number}"))).await,
        ));
        if number > 50 {
            clock.advance(Duration::from_millis(400));
        }
    }
    let weaker = answers.iter().filter(|a| *a != "Malformed").count();
    assert_eq!(weaker, 0, "{answers:?}");
}

/// A quota of the whole cluster, 429 without Retry-After.
#[tokio::test]
async fn a_quota_of_a_cluster_that_names_no_delay_is_not_stormed() {
    for endpoints in [1, 3] {
        let clock = ManualClock::strict();
        let error = Error::new(ErrorKind::Throttled, "quota");
        let store = Arc::new(Fails {
            endpoints,
            calls: AtomicUsize::new(0),
            error,
        });
        let resolver = Resolver::builder(Arc::clone(&store) as Arc<dyn SecretResolver>)
            .with_clock(clock.clone())
            .build()
            .unwrap();
        let mut get = Box::pin(resolver.get("a/x"));
        for _ in 0..20 {
            let answer = tokio::time::timeout(Duration::from_millis(15), &mut get).await;
            if answer.is_ok() {
                break;
            }
            clock.advance(Duration::from_millis(10));
        }
        let calls = store.calls.load(Ordering::SeqCst);
        assert!(calls <= endpoints, "{calls} calls at {endpoints} endpoints");
    }
}

/// Asks to be left alone, for the given time.
#[derive(Debug, Default)]
struct Asks(Mutex<Vec<(Gate, u64)>>);
impl SecretResolver for Asks {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let secs: u64 = request.name().field().unwrap().parse().unwrap();
        let gate = Gate::new();
        self.0.lock().unwrap().push((gate.clone(), secs));
        let mock = MockBackend::new();
        mock.script("a/x", [gate.then(Reply::Error(ErrorKind::Throttled))]);
        ResolveFuture::new(async move {
            let _ = mock
                .resolve(Request::new(NameRef::parse("a/x").unwrap()))
                .await;
            Err(Error::new(ErrorKind::Throttled, "leave me alone")
                .with_retry_after(Duration::from_secs(secs)))
        })
    }
}

/// Two in flight; the first answer asks for 1 s, the second for 30 s.
#[tokio::test]
async fn a_longer_wish_to_be_left_alone_holds_for_both_sets() {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Waker};
    let clock = ManualClock::strict();
    let store = Arc::new(Asks::default());
    let breaker = Breaker::new(
        Arc::clone(&store) as Arc<dyn SecretResolver>,
        Arc::new(clock.clone()),
        BreakerConfig::default(),
    )
    .unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut one = breaker.resolve(Request::new(NameRef::parse("a/x#1").unwrap()));
    let mut two = breaker.resolve(Request::new(NameRef::parse("a/x#30").unwrap()));
    assert!(Pin::new(&mut one).poll(&mut cx).is_pending());
    assert!(Pin::new(&mut two).poll(&mut cx).is_pending());
    store.0.lock().unwrap()[0].0.open();
    assert!(Pin::new(&mut one).poll(&mut cx).is_ready());
    store.0.lock().unwrap()[1].0.open();
    assert!(Pin::new(&mut two).poll(&mut cx).is_ready());
    clock.advance(Duration::from_secs(5));
    let before = store.0.lock().unwrap().len();
    let mut plain = breaker.resolve(Request::new(NameRef::parse("a/x#1").unwrap()));
    assert!(Pin::new(&mut plain).poll(&mut cx).is_ready(), "refused");
    assert_eq!(store.0.lock().unwrap().len(), before);
    let mut latest = breaker.resolve(Request::new(NameRef::parse("a/x#1").unwrap()).latest());
    let _ = Pin::new(&mut latest).poll(&mut cx);
    assert_eq!(
        store.0.lock().unwrap().len(),
        before,
        "the store has asked for 30 s, 5 s ago, and is asked"
    );
}

/// A stop of this process while a request waits for our own permit.
#[tokio::test]
async fn a_stop_of_the_process_in_the_queue_is_not_an_outage() {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    let clock = ManualClock::strict();
    let store = MockBackend::new().with_value("a/x", "v");
    store.always(Reply::Hang);
    let config = LimitConfig {
        max_concurrent: 1,
        fair_time: Duration::from_secs(2),
        ..LimitConfig::default()
    };
    let limit = Limit::new(store.clone(), Arc::new(clock.clone()), config).unwrap();
    clock.advance(Duration::from_secs(10));
    let mut cx = Context::from_waker(Waker::noop());
    let mut holder = limit.resolve(Request::new(NameRef::parse("a/x").unwrap()));
    assert!(Pin::new(&mut holder).poll(&mut cx).is_pending());
    // It has 2.1 s: so it waits for 100 ms at most.
    let deadline = clock.now() + Duration::from_millis(2_100);
    let mut queued =
        limit.resolve(Request::new(NameRef::parse("a/x").unwrap()).with_deadline(deadline));
    assert!(Pin::new(&mut queued).poll(&mut cx).is_pending());
    clock.stall(Duration::from_secs(60));
    clock.advance(Duration::from_millis(100));
    let Poll::Ready(answer) = Pin::new(&mut queued).poll(&mut cx) else {
        panic!("waits")
    };
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Overloaded);
}

/// Fetches that did ask the store count.
#[tokio::test]
async fn a_fetch_that_asked_the_store_counts_even_where_its_last_attempt_was_refused() {
    let clock = ManualClock::strict();
    let store = MockBackend::new();
    store.always(Reply::Error(ErrorKind::Unavailable));
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let mut asked = 0;
    for number in 0..3 {
        let before = store.calls();
        let name = format!("a/{number}");
        let mut get = Box::pin(resolver.get(&name));
        for _ in 0..50 {
            if tokio::time::timeout(Duration::from_millis(10), &mut get)
                .await
                .is_ok()
            {
                break;
            }
            clock.advance(Duration::from_millis(60));
        }
        drop(get);
        asked += u64::from(store.calls() > before);
    }
    assert_eq!(resolver.status().fetches, asked, "calls: {}", store.calls());
}

/// Cache → Scoped → Breaker.
#[tokio::test]
async fn a_rollback_is_repeated_at_the_other_endpoint_below_a_scope_too() {
    let clock = ManualClock::strict();
    let store = Multi::new(2);
    store.set("t/x", "v", 9);
    let breaker = Breaker::new(
        store.clone(),
        Arc::new(clock.clone()),
        BreakerConfig::default(),
    )
    .unwrap();
    let scoped = Scoped::new(breaker, Scope::new("t").unwrap());
    let cache = Cache::new(scoped, Arc::new(clock.clone()), CacheConfig::default()).unwrap();
    assert_eq!(shown(cache.get("x").await), "v");
    store.at[0].set_version("t/x", 3);
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(
        shown(cache.get("x").await),
        "v",
        "{:?}",
        store.order.lock().unwrap()
    );
}
