//! A cache that is full, and a process that has no more to give.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Waker};
use std::time::Duration;

use secret_resolver::LimitConfig;
use secret_resolver::testing::{Gate, ManualClock, MockBackend, Reply};
use secret_resolver::{ErrorKind, Resolver};

const NAME: &str = "prod/db#password";

/// A resolver with room for ten records, and a store that has every secret.
fn small() -> (ManualClock, MockBackend, Resolver) {
    let clock = ManualClock::strict();
    let backend = MockBackend::new().with_value(NAME, "v1");
    let builder = Resolver::builder(backend.clone())
        .with_attempts(1)
        .with_max_entries(10)
        .with_clock(clock.clone());
    (clock, backend, builder.build().unwrap())
}

/// Reads made-up names, each twice, so that they look as used as any.
async fn flood(backend: &MockBackend, resolver: &Resolver, round: usize) {
    for number in 0..50 {
        let name = format!("flood/{round}/{number}");
        backend.set(&name, "x");
        resolver.get(&name).await.unwrap();
        resolver.get(&name).await.unwrap();
    }
}

#[tokio::test]
async fn a_handle_keeps_its_record_from_eviction_until_it_is_dropped() {
    let (clock, backend, resolver) = small();
    let handle = resolver.handle(NAME).await.unwrap();
    let other = handle.clone();
    for round in 0..5 {
        flood(&backend, &resolver, round).await;
        clock.advance(Duration::from_secs(1));
        assert!(handle.secret().is_ok());
    }
    assert_eq!(backend.calls_of(NAME), 1);
    drop(handle);
    flood(&backend, &resolver, 5).await;
    assert!(other.secret().is_ok());
    drop(other);
    flood(&backend, &resolver, 6).await;
    assert!(resolver.peek(NAME).is_err());
}

#[tokio::test]
async fn handles_can_fill_half_of_the_cache_and_give_their_places_back() {
    let (_, backend, resolver) = small();
    let mut handles = Vec::new();
    for number in 0..5 {
        let name = format!("handle/{number}");
        backend.set(&name, "x");
        handles.push(resolver.handle(&name).await.unwrap());
    }
    let refused = resolver.handle(NAME).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert!(resolver.require(&[NAME]).await.is_err());
    // One more on a record that has one takes no place.
    handles.push(resolver.handle("handle/0").await.unwrap());
    handles.clear();
    assert!(resolver.handle(NAME).await.is_ok());
}

#[tokio::test]
async fn a_burst_of_cold_names_on_a_full_cache_is_one_fetch_a_name() {
    let backend = MockBackend::new();
    let resolver = Resolver::builder(backend.clone())
        .with_max_entries(100)
        .with_clock(ManualClock::strict())
        .build()
        .unwrap();
    let names = |kind: &str, number| {
        (0..number)
            .map(|n| format!("{kind}/{n}"))
            .collect::<Vec<_>>()
    };
    let (hot, cold) = (names("hot", 100), names("cold", 60));
    let gates: Vec<_> = cold.iter().map(|_| Gate::new()).collect();
    for name in hot.iter().chain(&cold) {
        backend.set(name, "x");
    }
    for (name, gate) in cold.iter().zip(&gates) {
        backend.script(name, [gate.then(Reply::Stored)]);
    }
    for name in &hot {
        resolver.get(name).await.unwrap();
    }
    let mut batch = pin!(resolver.get_many(&cold));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(batch.as_mut().poll(&mut cx).is_pending());
    // All of them land, one after another, before the first waiter looks; everything else in the
    // cache is read between any two.
    for (landed, gate) in gates.iter().enumerate() {
        for name in &hot {
            let _ = resolver.peek(name);
        }
        backend.called(100 + 60).await;
        gate.open();
        while resolver.status().flights > 59 - landed {
            std::thread::yield_now();
        }
    }
    let answers = batch.await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(cold.iter().all(|name| backend.calls_of(name) == 1));
}

/// Run by the test below in its own process, in which no thread of the default size can start.
#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn build_where_no_thread_can_start() {
    let refused = Resolver::builder(MockBackend::new()).build().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
}

#[test]
fn a_thread_that_cannot_start_is_an_error_even_inside_a_runtime() {
    let mut process = Command::new(std::env::current_exe().unwrap());
    process
        .args(["build_where_no_thread_can_start", "--exact", "--ignored"])
        // In the harness's own thread, because it can start none either.
        .arg("--test-threads=1")
        .env("RUST_MIN_STACK", "100000000000000");
    let output = process.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn a_flood_below_a_prefix_with_its_own_limit_takes_no_fetch_of_others() {
    let clock = ManualClock::strict();
    let store = MockBackend::new().with_value("good/one", "x");
    let limit = LimitConfig::default()
        .with_max_concurrent(2)
        .with_max_queued(2);
    let resolver = Resolver::builder(store.clone())
        .with_clock(clock.clone())
        .with_max_flights(4)
        .with_limit_for("flood", limit)
        .build()
        .unwrap();
    for number in 0..20 {
        store.script(&format!("flood/{number}"), [Reply::Hang]);
    }
    let flood = (0..20).map(|number| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.get(&format!("flood/{number}")).await })
    });
    let flood: Vec<_> = flood.collect();
    store.called(2).await;
    assert_eq!(
        resolver
            .get("good/one")
            .await
            .unwrap()
            .expose_str()
            .unwrap(),
        "x"
    );
    for get in flood {
        get.abort();
    }
}
