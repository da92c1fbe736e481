//! The fence: once an invalidation has returned, nothing that was fetched before it is answered.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::testing::{Gate, Reply};

#[tokio::test]
async fn a_held_value_is_gone_once_invalidate_returns() {
    let bench = bench();
    bench.text().await;
    bench.backend.set(NAME, "v2");
    // Another name of the same record reaches it, too.
    bench
        .cache
        .invalidator()
        .invalidate("prod/db#user")
        .unwrap();
    assert_eq!(bench.text().await, "v2");
    bench.backend.set(NAME, "v3");
    bench.cache.invalidator().invalidate_all().unwrap();
    assert_eq!(bench.text().await, "v3");
}

#[tokio::test]
async fn a_signal_reaches_an_address_and_a_prefix() {
    let bench = bench();
    bench.backend.set("prod/dbx", "x");
    bench.backend.set("test/db", "x");
    let all = [NAME, "prod/dbx", "test/db"];
    for name in all {
        bench.cache.get(name).await.unwrap();
    }
    let calls = || all.map(|name| bench.backend.calls_of(name));
    assert_eq!(calls(), [1, 1, 1]);
    let invalidator = bench.cache.invalidator();
    invalidator.invalidate_prefix("prod/db").unwrap();
    for name in all {
        bench.cache.get(name).await.unwrap();
    }
    assert_eq!(calls(), [2, 1, 1]);
    invalidator
        .invalidate_address(&crate::Address::from("test/db"))
        .unwrap();
    for name in all {
        bench.cache.get(name).await.unwrap();
    }
    assert_eq!(calls(), [2, 1, 2]);
    assert!(invalidator.invalidate_prefix("a//b").is_err());
}

#[tokio::test]
async fn after_invalidate_no_get_answers_what_was_fetched_before() {
    let bench = bench();
    let gate = Gate::new();
    // The store answers v1, but the answer is on its way while v2 is written.
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let waiting = bench.spawn_get();
    bench.backend.called(1).await;
    bench.waiting(1).await;
    bench.backend.set(NAME, "v2");
    bench.cache.invalidator().invalidate(NAME).unwrap();
    gate.open();
    // The get that waited is given the next fetch's answer, and so is every later one.
    assert_eq!(waiting.await.unwrap().unwrap().expose_str().unwrap(), "v2");
    assert_eq!(bench.text().await, "v2");
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn a_flood_of_invalidations_costs_one_more_fetch() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let waiting = bench.spawn_get();
    bench.backend.called(1).await;
    bench.waiting(1).await;
    for _ in 0..10_000 {
        bench.cache.invalidator().invalidate(NAME).unwrap();
    }
    gate.open();
    assert_eq!(waiting.await.unwrap().unwrap().expose_str().unwrap(), "v1");
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn an_answer_that_a_waiter_has_not_taken_yet_is_fenced_too() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let mut waiting = pin!(bench.get());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    gate.open();
    // Another get sees the landing; the first one has not been polled since.
    let other = bench.get().await.unwrap();
    assert_eq!(other.expose_str().unwrap(), "v1");
    bench.backend.set(NAME, "v2");
    bench.cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(waiting.await.unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn invalidations_without_end_never_let_an_old_value_out_and_cost_one_fetch_at_a_time() {
    let bench = bench();
    let gates: Vec<_> = (0..50).map(|_| Gate::new()).collect();
    bench
        .backend
        .script(NAME, gates.iter().map(|gate| gate.then(Reply::Stored)));
    let get = bench.spawn_get();
    bench.waiting(1).await;
    for (number, gate) in gates.iter().enumerate() {
        bench.backend.called(number + 1).await;
        bench.backend.set(NAME, format!("w{number}"));
        bench.cache.invalidator().invalidate(NAME).unwrap();
        gate.open();
    }
    // The flood is over: the next fetch is answered, and it was the only one after the last.
    assert_eq!(get.await.unwrap().unwrap().expose_str().unwrap(), "w49");
    assert_eq!(bench.backend.calls(), 51);
}
