//! Refusals that are remembered for a while: of what is not there, and of what is denied.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::error::ErrorKind;
use crate::testing::{Gate, Reply};

#[tokio::test]
async fn what_is_not_there_is_asked_for_once_in_five_seconds() {
    let bench = bench();
    for kind in [ErrorKind::NotFound, ErrorKind::Denied] {
        let before = bench.backend.calls();
        bench.backend.always(Reply::Error(kind));
        for _ in 0..100 {
            assert_eq!(bench.cache.get("no/such").await.unwrap_err().kind(), kind);
        }
        assert_eq!(bench.backend.calls(), before + 1);
        bench.clock.advance(Duration::from_millis(4_999));
        assert_eq!(bench.cache.get("no/such").await.unwrap_err().kind(), kind);
        assert_eq!(bench.backend.calls(), before + 1);
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(bench.cache.get("no/such").await.unwrap_err().kind(), kind);
        assert_eq!(bench.backend.calls(), before + 2);
        bench.clock.advance(Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_refusal_is_forgotten_by_invalidation_and_by_a_new_login() {
    let bench = bench();
    assert!(bench.cache.get("new/one").await.is_err());
    bench.backend.set("new/one", "x");
    assert!(bench.cache.get("new/one").await.is_err());
    bench.cache.invalidator().invalidate("new/one").unwrap();
    assert!(bench.cache.get("new/one").await.is_ok());

    assert!(bench.cache.get("new/two").await.is_err());
    bench.backend.set("new/two", "x");
    bench.backend.set_identity(1);
    assert!(bench.cache.get("new/two").await.is_ok());
}

#[tokio::test]
async fn names_that_do_not_exist_displace_nothing_and_are_bounded() {
    let bench = bench();
    bench.text().await;
    for number in 0..10_000 {
        let missing = bench.cache.get(&format!("flood/{number}")).await;
        assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    }
    let calls = bench.backend.calls();
    assert_eq!(bench.text().await, "v1");
    assert_eq!(bench.backend.calls(), calls);
    assert!(bench.cache.core.lock().negatives.len() <= 4096);
}

#[tokio::test]
async fn a_refusal_is_forgotten_by_a_signal_for_a_prefix_and_for_everything() {
    let bench = bench();
    let invalidator = bench.cache.invalidator();
    for how in ["prefix", "all"] {
        let name = format!("new/{how}");
        assert!(bench.cache.get(&name).await.is_err());
        bench.backend.set(&name, "x");
        match how {
            "prefix" => invalidator.invalidate_prefix("new"),
            _ => invalidator.invalidate_all(),
        }
        .unwrap();
        assert!(bench.cache.get(&name).await.is_ok(), "{how}");
    }
}

const KINDS: [ErrorKind; 3] = [
    ErrorKind::NotFound,
    ErrorKind::Denied,
    ErrorKind::Unavailable,
];

#[tokio::test]
async fn a_waiter_is_not_answered_an_error_that_was_fetched_before_an_invalidation() {
    for kind in KINDS {
        let bench = bench();
        let gate = Gate::new();
        bench.backend.script(NAME, [gate.then(Reply::Error(kind))]);
        let waiting = bench.spawn_get();
        bench.backend.called(1).await;
        bench.waiting(1).await;
        bench.cache.invalidator().invalidate(NAME).unwrap();
        gate.open();
        // The secret may have been created since, so the next fetch's answer counts.
        assert_eq!(waiting.await.unwrap().unwrap().expose_str().unwrap(), "v1");
        assert_eq!(bench.backend.calls(), 2);
    }
}

#[tokio::test]
async fn an_error_that_was_fetched_before_an_invalidation_is_not_remembered() {
    for kind in KINDS {
        let bench = bench();
        let gate = Gate::new();
        bench.backend.script(NAME, [gate.then(Reply::Error(kind))]);
        let leaving = bench.spawn_get();
        bench.backend.called(1).await;
        bench.waiting(1).await;
        leaving.abort();
        assert!(leaving.await.unwrap_err().is_cancelled());
        bench.cache.invalidator().invalidate(NAME).unwrap();
        gate.open();
        while !bench.cache.core.flying_now().is_empty() {
            tokio::task::yield_now().await;
        }
        // No caller waited, so the store was not asked again until now.
        assert_eq!(bench.backend.calls(), 1);
        assert_eq!(bench.text().await, "v1");
    }
}

#[tokio::test]
async fn a_refusal_that_a_waiter_has_not_taken_yet_is_fenced_too() {
    for kind in [ErrorKind::NotFound, ErrorKind::Denied] {
        let bench = bench();
        let gate = Gate::new();
        bench.backend.script(NAME, [gate.then(Reply::Error(kind))]);
        let mut waiting = pin!(bench.get());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        gate.open();
        // Another get is answered the refusal; the first one has not been polled since.
        assert_eq!(bench.get().await.unwrap_err().kind(), kind);
        bench.cache.invalidator().invalidate(NAME).unwrap();
        assert_eq!(waiting.await.unwrap().expose_str().unwrap(), "v1");
    }
}

#[tokio::test]
async fn a_waiter_that_is_polled_long_after_is_not_answered_an_old_absence() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script("late/one", [gate.then(Reply::Stored)]);
    let mut waiting = pin!(bench.cache.get("late/one"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    bench.backend.called(1).await;
    gate.open();
    while !bench.cache.core.flying_now().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.backend.set("late/one", "there");
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(waiting.await.unwrap().expose_str().unwrap(), "there");
    // After a stop of this process a caller does not get what was read before it.
    let gate = Gate::new();
    bench.backend.script("late/two", [gate.then(Reply::Stored)]);
    let cache = Arc::clone(&bench.cache);
    let waiting = tokio::spawn(async move { cache.get("late/two").await });
    bench.backend.called(3).await;
    bench.waiting(1).await;
    bench.backend.set("late/two", "there");
    bench.clock.stall(Duration::from_secs(60));
    gate.open();
    assert_eq!(
        waiting.await.unwrap().unwrap().expose_str().unwrap(),
        "there"
    );
}
