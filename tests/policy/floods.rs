//! Floods of names that get nothing useful, and what they leave to all others.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use secret_resolver::backend::{Request, ResolveFuture, SystemClock};
use secret_resolver::{BreakerConfig, BreakerState, LimitConfig};
use secret_resolver::{Clock, Error, Record, SecretBuf, SecretResolver};

use super::*;

/// What the store does with the names of a flood.
#[derive(Clone, Copy, Debug)]
enum Flood {
    Fails(ErrorKind),
    Panics,
    Hangs,
}

/// Answers all names except those below `flood`; those below `flaky` at the second time.
#[derive(Debug)]
struct Flooded(Flood, Mutex<HashSet<String>>);

impl SecretResolver for Flooded {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let path = request.name().path();
        if path.starts_with("flood/") {
            return match self.0 {
                Flood::Fails(kind) => {
                    ResolveFuture::ready(Err(Error::new(kind, "asked for by the test")))
                }
                Flood::Panics => panic!("of the test's own making"),
                Flood::Hangs => ResolveFuture::new(std::future::pending()),
            };
        }
        if path.starts_with("flaky/") && self.1.lock().unwrap().insert(path.to_owned()) {
            let error = Error::new(ErrorKind::Unavailable, "for a moment");
            return ResolveFuture::ready(Err(error));
        }
        let value = SecretBuf::from_slice(b"value");
        ResolveFuture::ready(value.and_then(|value| request.admit(Record::single("f", value))))
    }
}

/// In real time: a flood of ever new names, and a hundred others that were never asked for.
async fn others_notice_nothing_of(flood: Flood) {
    let store = Arc::new(Flooded(flood, Mutex::default()));
    let limit = LimitConfig::default()
        .with_max_concurrent(8)
        .with_max_queued(200);
    let resolver = Resolver::builder(store)
        .with_deadline(Duration::from_secs(2))
        .with_limit_for("flood", limit)
        .build()
        .unwrap();
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let (resolver, next) = (resolver.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let _ = resolver.get(&format!("flood/{number}")).await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    // The store's own, and that of the flood.
    let state = |of: usize| resolver.status().stores[of].endpoints[0].breaker;
    within(async {
        while state(1) == BreakerState::Closed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    for number in 0..100 {
        let name = match number % 20 {
            0 => format!("flaky/{number}"),
            _ => format!("cold/{number}"),
        };
        let answer = resolver.get(&name).await;
        assert!(answer.is_ok(), "{flood:?}, {name}: {answer:?}");
    }
    assert_eq!(state(0), BreakerState::Closed);
    assert_eq!(resolver.status().stores.len(), 2);
    for task in tasks {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_useless_answers_below_its_own_prefix_concerns_no_other() {
    for kind in [ErrorKind::Malformed, ErrorKind::Throttled] {
        others_notice_nothing_of(Flood::Fails(kind)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_outages_below_its_own_prefix_concerns_no_other() {
    others_notice_nothing_of(Flood::Fails(ErrorKind::Unavailable)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_fetches_that_panic_below_its_own_prefix_concerns_no_other() {
    others_notice_nothing_of(Flood::Panics).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_fetches_that_hang_below_its_own_prefix_concerns_no_other() {
    others_notice_nothing_of(Flood::Hangs).await;
}

#[tokio::test]
async fn a_few_names_with_useless_answers_close_a_healthy_store_for_no_other() {
    use ErrorKind::{Malformed, Refused, Throttled, Unauthenticated};
    for kind in [Malformed, Refused, Throttled, Unauthenticated] {
        let (clock, store) = (
            ManualClock::strict(),
            Arc::new(Flooded(Flood::Fails(kind), Mutex::default())),
        );
        let resolver = Resolver::builder(store)
            .with_attempts(1)
            .with_clock(clock.clone())
            .build()
            .unwrap();
        let bad: Vec<_> = (0..6).map(|number| format!("flood/{number}")).collect();
        for number in 0..100 {
            let answers = within(resolver.get_many(&bad)).await;
            assert!(answers.iter().all(Result::is_err));
            let good = within(resolver.get(&format!("good/{number}"))).await;
            assert!(good.is_ok(), "{kind:?}, {number}: {good:?}");
            clock.advance(Duration::from_millis(40));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_waited_for_is_found_by_names_with_their_own_limit_too() {
    let clock = SystemClock::shared().unwrap();
    let store = MockBackend::new().with_clock(clock.clone());
    store.set("own/a", "value");
    store.set("b", "value");
    store.always(Reply::Error(ErrorKind::Unavailable));
    let longest = Duration::from_secs(15);
    let breaker = BreakerConfig::default()
        .with_failures(1)
        .with_open(longest, longest);
    let resolver = Resolver::builder(store.clone())
        .with_breaker(breaker)
        .with_limit_for("own", LimitConfig::default())
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let names = ["own/a", "b"];
    assert!(resolver.get_many(&names).await.iter().all(Result::is_err));
    let open = |endpoint: &secret_resolver::EndpointStatus| {
        matches!(endpoint.breaker, BreakerState::Open { .. })
    };
    assert!(resolver.status().endpoints().all(open));
    store.always(None);
    let began = clock.now();
    let limit = Duration::from_secs(8);
    resolver.require_within(&names, limit).await.unwrap();
    assert!(clock.now().since(began) < limit);
}
