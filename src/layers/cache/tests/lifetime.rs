//! How long a value lives: its time to live, its lease, and its end when nobody asks.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::error::ErrorKind;
use crate::testing::{Gate, Reply};

#[tokio::test]
async fn a_value_is_fetched_once_within_its_ttl() {
    let bench = bench();
    assert_eq!(bench.text().await, "v1");
    bench.backend.set(NAME, "v2");
    // The jitter takes up to a tenth of the time to live, and the last fifth is for refreshing.
    bench.clock.advance(TTL * 7 / 10);
    assert_eq!(bench.text().await, "v1");
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn an_expired_entry_is_refetched_once() {
    let bench = bench();
    bench.text().await;
    bench.backend.set(NAME, "v2");
    bench.clock.advance(TTL);
    assert_eq!(bench.text().await, "v2");
    assert_eq!(bench.text().await, "v2");
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn a_lease_that_ends_before_the_ttl_ends_the_value() {
    let bench = bench();
    bench.backend.set_lease(NAME, Duration::from_secs(10));
    let secret = bench.get().await.unwrap();
    let answer = secret.answer();
    let life = answer
        .expires_at()
        .unwrap()
        .since(answer.fetched_at().unwrap());
    assert!(
        life <= Duration::from_secs(10) && life > Duration::from_secs(8),
        "{life:?}"
    );
    bench.clock.advance(Duration::from_secs(10));
    bench.get().await.unwrap();
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn a_lease_that_is_over_on_arrival_is_an_error() {
    let bench = bench();
    bench.backend.set_lease(NAME, Duration::ZERO);
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[test]
fn the_jitter_only_ever_shortens_and_by_a_tenth_at_most() {
    let bench = bench();
    let draws = (0..1000).map(|_| bench.cache.flights.store.shortened(TTL));
    let draws: Vec<_> = draws.collect();
    assert!(draws.iter().all(|&life| life <= TTL && life > TTL * 9 / 10));
    assert!(draws.iter().any(|&life| life < TTL * 92 / 100));
    assert_eq!(bench.cache.flights.epoch(), 0);
}

#[tokio::test]
async fn a_value_is_dropped_at_its_expiry_without_traffic() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    assert!(secret.record().references() > 1);
    bench.clock.advance(TTL);
    assert_eq!(secret.record().references(), 1);
    assert_eq!(bench.cache.flights.values(), 0);
}

#[tokio::test]
async fn a_value_fetched_between_sweeps_is_swept_in_its_turn() {
    let bench = bench();
    let mut held = Vec::new();
    for number in 0..50 {
        let name = format!("a/{number}");
        bench.backend.set(&name, "x");
        held.push(bench.cache.get(&name).await.unwrap());
        bench.clock.advance(Duration::from_secs(10));
    }
    bench.clock.advance(TTL);
    assert!(held.iter().all(|secret| secret.record().references() == 1));
}

#[tokio::test]
async fn a_stale_limit_for_other_names_keeps_nothing_past_its_expiry() {
    let config = CacheConfig::default().serve_stale_up_to_for("legacy", TTL);
    let bench = bench_with(config);
    let secret = bench.get().await.unwrap();
    bench.clock.advance(TTL);
    assert_eq!(secret.record().references(), 1);
}

#[tokio::test]
async fn an_answer_polled_after_its_expiry_is_fetched_again() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let mut waiting = pin!(bench.get());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    gate.open();
    bench.get().await.unwrap();
    bench.backend.set(NAME, "v2");
    bench.clock.advance(TTL);
    assert_eq!(waiting.await.unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn an_abandoned_waiter_does_not_keep_a_value_past_its_expiry() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let mut abandoned = pin!(bench.get());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(abandoned.as_mut().poll(&mut cx).is_pending());
    gate.open();
    let secret = bench.get().await.unwrap();
    bench.clock.advance(TTL);
    assert_eq!(secret.record().references(), 1);
}
