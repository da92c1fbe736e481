//! Signals for a prefix: what they concern, asked for or not, and that no other name loses anything.

use super::*;
use crate::address::Address;
use crate::error::ErrorKind;
use crate::testing::{Gate, Reply};

async fn read(cache: &Cache, name: &str) -> String {
    let secret = cache.get(name).await.unwrap();
    secret.expose_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_name_that_was_never_asked_for_is_concerned_too() {
    let (store, cache) = two_names();
    assert_eq!(read(&cache, "a/x").await, "v1");
    store.set("one/record", "v2");
    cache.invalidator().invalidate_prefix("b").unwrap();
    assert!(cache.peek(NameRef::parse("b/y").unwrap()).is_none());
    assert_eq!(read(&cache, "b/y").await, "v2");
    // It is one record: what the one name has fetched the other has, too.
    assert_eq!(read(&cache, "a/x").await, "v2");
    assert_eq!(store.calls(), 2);
}

#[tokio::test]
async fn no_stale_value_is_answered_under_a_name_that_was_signalled_before_it_was_asked_for() {
    let store = MockBackend::new().with_value("one/record", "v1");
    let clock = Arc::new(ManualClock::strict());
    let config = stale_up_to(Duration::from_secs(60));
    let cache = Cache::new(TwoNames(store.clone()), clock.clone(), config).unwrap();
    assert_eq!(read(&cache, "a/x").await, "v1");
    clock.advance(Duration::from_secs(300));
    store.always(Reply::Error(ErrorKind::Unavailable));
    cache.invalidator().invalidate_prefix("b").unwrap();
    assert!(cache.get("b/y").await.is_err());
    // What the signal does not concern, as far as the store says, is served for as long as it may be.
    assert_eq!(read(&cache, "a/x").await, "v1");
}

#[tokio::test]
async fn a_record_is_concerned_under_all_names_that_are_known_and_by_its_address() {
    for prefix in ["b", "one"] {
        let (store, cache) = two_names();
        assert_eq!(read(&cache, "a/x").await, "v1");
        assert_eq!(read(&cache, "b/y").await, "v1");
        store.set("one/record", "v2");
        cache.invalidator().invalidate_prefix(prefix).unwrap();
        assert_eq!(cache.core.values(), 0, "{prefix}");
        assert_eq!(read(&cache, "a/x").await, "v2", "{prefix}");
    }
}

#[tokio::test]
async fn a_waiter_that_is_concerned_gets_the_next_fetch_and_another_this_one() {
    let (store, cache) = two_names();
    let cache = Arc::new(cache);
    let (gate, next) = (Gate::new(), Gate::new());
    let replies = [&gate, &next].map(|gate| gate.then(Reply::Stored));
    store.script("one/record", replies);
    let get = |name: &'static str| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { read(&cache, name).await })
    };
    let other = get("a/x");
    store.called(1).await;
    let concerned = get("b/y");
    while cache.core.flying_now()["one/record"].awaited_by() < 2 {
        tokio::task::yield_now().await;
    }
    store.set("one/record", "v2");
    cache.invalidator().invalidate_prefix("b").unwrap();
    gate.open();
    assert_eq!(other.await.unwrap(), "v1");
    next.open();
    assert_eq!(concerned.await.unwrap(), "v2");
    assert_eq!(store.calls(), 2);
}

#[tokio::test]
async fn a_fetch_for_a_concerned_address_leaves_nothing_behind() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let leaving = bench.spawn_get();
    bench.backend.called(1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    bench.cache.invalidator().invalidate_prefix("prod").unwrap();
    gate.open();
    while !bench.cache.core.flying_now().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.cache.core.values(), 0);
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn a_signal_for_strangers_costs_nothing() {
    let bench = bench_with(stale_up_to(TTL));
    let invalidator = bench.cache.invalidator();
    let strange = |number: usize| {
        let prefix = format!("strange/{number}");
        invalidator.invalidate_prefix(&prefix).unwrap();
    };
    // A value, and what is not there.
    bench.text().await;
    let missing = || async { bench.cache.get("no/such").await.unwrap_err().kind() };
    assert_eq!(missing().await, ErrorKind::NotFound);
    for number in 0..100 {
        strange(number);
        assert_eq!(bench.text().await, "v1");
        assert_eq!(missing().await, ErrorKind::NotFound);
    }
    assert_eq!(bench.backend.calls(), 2);
    // A fetch under way, and an error that a waiter has not taken yet.
    for reply in [Reply::Stored, Reply::Error(ErrorKind::NotFound)] {
        let gate = Gate::new();
        bench.backend.set("cold/one", "x");
        bench.backend.script("cold/one", [gate.then(reply)]);
        let calls = bench.backend.calls();
        let cache = Arc::clone(&bench.cache);
        let cold = tokio::spawn(async move { cache.get("cold/one").await.map(drop) });
        bench.backend.called(calls + 1).await;
        strange(0);
        gate.open();
        let _ = cold.await.unwrap();
        strange(1);
        assert_eq!(bench.backend.calls(), calls + 1);
        invalidator.invalidate("cold/one").unwrap();
    }
    // A value past its time, in an outage.
    bench.clock.advance(TTL);
    bench.backend.always(Reply::Error(ErrorKind::Unavailable));
    strange(0);
    assert_eq!(bench.text().await, "v1");
}

#[tokio::test]
async fn a_prefix_is_heard_by_the_stores_own_addresses_and_through_routes() {
    let store = MockBackend::new().with_value("legacy/x", "v1");
    let route = crate::layers::Route::builder()
        .route("legacy", Arc::new(store.clone()))
        .otherwise(Arc::new(MockBackend::new()))
        .build()
        .unwrap();
    let below = |prefix: &str| {
        let below = route.below(NameRef::parse(prefix).unwrap());
        below
            .iter()
            .map(|address| address.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    // Of a store that has none of the names there is nothing.
    assert_eq!(below("legacy"), ["0:legacy"]);
    assert_eq!(below("legacy/deep"), ["0:legacy/deep"]);
    assert_eq!(below("other"), ["1:other"]);
    let cache = Cache::new(
        route,
        Arc::new(ManualClock::strict()),
        CacheConfig::default(),
    )
    .unwrap();
    cache.get("legacy/x").await.unwrap();
    cache.invalidator().invalidate_prefix("legacy").unwrap();
    assert!(cache.core.store.at("0:legacy/x").is_none());
    cache.get("legacy/x").await.unwrap();
    cache
        .invalidator()
        .invalidate_address(&Address::from("legacy"))
        .unwrap();
    assert!(cache.core.store.at("0:legacy/x").is_some());
}
