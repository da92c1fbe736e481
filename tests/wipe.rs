//! What is gone from the cache is gone from memory, read back as an attacker would.
//!
//! The needle is kept masked (`Canary`), so that the search does not find itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::testing::{Canary, ManualClock};
use secret_resolver::{Clock as _, Moment, Record, Resolver, SecretBuf, SecretResolver, Version};

/// A store that keeps the value masked, so that what is found is what the resolver holds.
#[derive(Clone, Debug)]
struct Masked(Arc<Canary>);

impl SecretResolver for Masked {
    fn resolve<'a>(&'a self, _request: Request<'a>) -> ResolveFuture<'a> {
        let record = |value| {
            let record = Record::builder("canary").field("", value);
            record.version(Version::number(1)).build()
        };
        ResolveFuture::ready(self.0.value().and_then(record))
    }
}

/// How often the store's value stands in memory.
fn found(store: &Masked) -> usize {
    store.0.found().unwrap()
}

/// Whether it is soon found so often: the thread of the fetches drops an old copy when the answer is out already.
fn is_found(store: &Masked, times: usize) -> bool {
    (0..20).any(|_| found(store) == times)
}

fn resolver() -> (ManualClock, Masked, Resolver) {
    let (clock, store) = (ManualClock::strict(), Masked(Arc::new(Canary::new())));
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    (clock, store, builder.build().unwrap())
}

#[tokio::test]
async fn a_cached_value_stands_once_in_memory_and_not_at_all_after_expiry() {
    let (clock, store, resolver) = resolver();
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(&store), 1);
    clock.advance(Duration::from_secs(300));
    assert_eq!(found(&store), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_after_invalidation() {
    let (_clock, store, resolver) = resolver();
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(&store), 1);
    resolver.invalidator().invalidate("a/b").unwrap();
    assert_eq!(found(&store), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_after_shutdown() {
    let (_clock, store, resolver) = resolver();
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(&store), 1);
    resolver.shutdown_within(Duration::from_secs(1)).await;
    assert_eq!(found(&store), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_when_another_takes_its_place() {
    let (clock, store) = (ManualClock::strict(), Masked(Arc::new(Canary::new())));
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    let resolver = builder.with_max_entries(3).build().unwrap();
    for number in 0..10 {
        drop(resolver.get(&format!("a/{number}")).await.unwrap());
    }
    assert!(is_found(&store, 3));
    // Ahead of its expiry the same record comes again: the old copy goes.
    clock.advance(Duration::from_secs(300) * 85 / 100);
    let fetched = resolver.status().fetches;
    drop(resolver.get("a/9").await.unwrap());
    while resolver.status().fetches == fetched || resolver.status().flights > 0 {
        tokio::task::yield_now().await;
    }
    assert!(is_found(&store, 3));
}

#[tokio::test]
async fn a_clone_that_the_application_holds_is_wiped_when_it_is_dropped_and_not_before() {
    let (_clock, store, resolver) = resolver();
    let held = resolver.get("a/b").await.unwrap();
    resolver.invalidator().invalidate("a/b").unwrap();
    assert_eq!(found(&store), 1);
    drop(held);
    assert_eq!(found(&store), 0);
}

/// A buffer with the value in it from end to end, many times.
fn filled(store: &Masked) -> SecretBuf {
    let mut buf = SecretBuf::with_capacity(8 * Canary::LENGTH).unwrap();
    for _ in 0..8 {
        buf.push(store.0.value().unwrap().expose()).unwrap();
    }
    assert_eq!(found(store), 8);
    buf
}

#[test]
fn a_buffer_is_wiped_from_end_to_end_when_it_is_dropped() {
    let store = Masked(Arc::new(Canary::new()));
    drop(filled(&store));
    assert_eq!(found(&store), 0);
}

#[test]
fn a_buffer_is_wiped_when_it_is_cleared_and_can_be_used_again() {
    let store = Masked(Arc::new(Canary::new()));
    let mut buf = filled(&store);
    buf.clear();
    assert_eq!(found(&store), 0);
    assert!(buf.is_empty() && buf.capacity() == 8 * Canary::LENGTH);
    buf.push(b"again").unwrap();
    assert_eq!(buf.expose(), b"again");
}

/// Gets ten thousand values of ten thousand records; returns when each expires, the earliest first.
async fn ten_thousand(resolver: &Resolver) -> Vec<Moment> {
    let names: Vec<String> = (0..10_000).map(|number| format!("a/{number}")).collect();
    let mut expiries = Vec::with_capacity(names.len());
    // By hundreds, so that none waits for long on a machine that is busy with something else.
    for names in names.chunks(100) {
        for answer in resolver.get_many(names).await {
            expiries.push(answer.unwrap().answer().expires_at().unwrap());
        }
    }
    expiries.sort();
    expiries
}

/// How many may still be held at `now`: those that have expired less than a second ago, or not yet.
fn may_be_held(expiries: &[Moment], now: Moment) -> usize {
    let gone = |expires: &Moment| now >= *expires + Duration::from_secs(1);
    expiries.len() - expiries.partition_point(gone)
}

#[tokio::test]
async fn of_ten_thousand_values_each_is_gone_within_a_second_of_its_own_expiry() {
    let (clock, store, resolver) = resolver();
    let expiries = ten_thousand(&resolver).await;
    assert_eq!(found(&store), 10_000);
    // Their jitter spreads them over half a minute: some hundreds of them expire in each second.
    clock.advance(expiries[0].since(clock.now()));
    while may_be_held(&expiries, clock.now()) > 0 {
        clock.advance(Duration::from_millis(50));
        let held = resolver.status().entries;
        let allowed = may_be_held(&expiries, clock.now());
        assert!(held <= allowed, "{held} are held of which {allowed} may be");
    }
    assert_eq!(found(&store), 0);
}

/// The same on a real clock, all found in memory before the first of them expires. On a machine
/// that is busy with something else this takes long, so it is tried with a longer life, too.
fn ten_thousand_in_time(store: &Masked) -> (Resolver, Vec<Moment>) {
    for seconds in [5, 20] {
        let builder = Resolver::builder(store.clone()).with_ttl(Duration::from_secs(seconds));
        let resolver = builder.build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let expiries = runtime.block_on(ten_thousand(&resolver));
        let held = found(store);
        if resolver.clock().now() < expiries[0] {
            assert_eq!(held, 10_000);
            return (resolver, expiries);
        }
    }
    panic!("ten thousand values cannot be fetched and searched for on this machine within 18 s");
}

#[test]
fn on_a_real_clock_ten_thousand_values_are_gone_within_a_second_on_an_undriven_runtime() {
    let store = Masked(Arc::new(Canary::new()));
    let (resolver, expiries) = ten_thousand_in_time(&store);
    // From here on nobody drives a runtime, and nobody asks for a value.
    loop {
        // The time before the count: what is dropped in between is not a fault.
        let now = resolver.clock().now();
        let allowed = may_be_held(&expiries, now);
        let held = resolver.status().entries;
        assert!(held <= allowed, "{held} are held of which {allowed} may be");
        if allowed == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(found(&store), 0);
}
