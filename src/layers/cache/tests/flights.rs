//! One fetch for all waiters: which callers share it, what ends it, and what does not.

use super::*;
use crate::error::ErrorKind;
use crate::testing::{Gate, Reply};

#[tokio::test]
async fn ten_thousand_cold_gets_are_one_fetch() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let gets: Vec<_> = (0..10_000).map(|_| bench.spawn_get()).collect();
    bench.waiting(10_000).await;
    gate.open();
    for get in gets {
        assert_eq!(get.await.unwrap().unwrap().expose_str().unwrap(), "v1");
    }
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn the_fields_of_a_record_are_fetched_held_and_dropped_together() {
    const USER: &str = "prod/db#user";
    let bench = bench();
    let rotate = |number: usize| {
        bench.backend.set(NAME, format!("password-{number}"));
        bench.backend.set(USER, format!("user-{number}"));
    };
    // Both fields, by a get each, and that they are of one version.
    let pair = async || {
        let (user, password) = tokio::join!(bench.cache.get(USER), bench.get());
        let (user, password) = (user.unwrap(), password.unwrap());
        assert_eq!(user.version(), password.version());
        let text = |secret: &Secret| secret.expose_str().unwrap().to_owned();
        (text(&user), text(&password), bench.backend.calls())
    };
    let of = |number, calls| {
        (
            format!("user-{number}"),
            format!("password-{number}"),
            calls,
        )
    };
    rotate(1);
    assert_eq!(pair().await, of(1, 1));
    // Neither is fetched for itself while the record is held.
    rotate(2);
    assert_eq!(pair().await, of(1, 1));
    // A signal for one field, and then the end of its life, are the whole record's.
    bench.cache.invalidator().invalidate(USER).unwrap();
    assert_eq!(pair().await, of(2, 2));
    rotate(3);
    bench.clock.advance(TTL);
    assert_eq!(bench.text().await, "password-3");
    assert_eq!(pair().await, of(3, 3));
}

#[tokio::test]
async fn no_get_waits_on_another_names_fetch() {
    let bench = bench();
    bench.backend.set("other/name", "x");
    bench.backend.script(NAME, [Reply::Hang]);
    let hanging = bench.spawn_get();
    bench.backend.called(1).await;
    bench.cache.get("other/name").await.unwrap();
    hanging.abort();
}

#[tokio::test]
async fn an_error_is_shared_by_all_waiters_and_is_not_cached() {
    let bench = bench();
    let gate = Gate::new();
    bench
        .backend
        .script(NAME, [gate.then(Reply::Error(ErrorKind::Unavailable))]);
    let gets: Vec<_> = (0..100).map(|_| bench.spawn_get()).collect();
    bench.waiting(100).await;
    gate.open();
    for get in gets {
        assert_eq!(
            get.await.unwrap().unwrap_err().kind(),
            ErrorKind::Unavailable
        );
    }
    assert_eq!(bench.backend.calls(), 1);
    assert_eq!(bench.text().await, "v1");
}

#[tokio::test]
async fn a_fetch_ends_with_its_budget() {
    let bench = bench();
    bench.backend.script(NAME, [Reply::Hang]);
    let get = bench.spawn_get();
    bench.backend.called(1).await;
    bench.clock.advance(CacheConfig::default().flight_budget);
    assert_eq!(get.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(bench.text().await, "v1");
}

#[tokio::test]
async fn a_backend_that_panics_leaves_nobody_waiting() {
    let bench = bench();
    bench.backend.script(NAME, [Reply::Panic]);
    assert_eq!(
        bench.get().await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(bench.text().await, "v1");
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_end_the_fetch() {
    let bench = bench();
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    for _ in 0..20 {
        // Twenty leaders, cancelled one after another.
        let get = bench.spawn_get();
        bench.waiting(1).await;
        get.abort();
        let _ = get.await;
    }
    let last = bench.spawn_get();
    bench.waiting(1).await;
    gate.open();
    assert_eq!(last.await.unwrap().unwrap().expose_str().unwrap(), "v1");
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn a_stampede_on_one_field_leaves_the_short_way_open_for_the_others() {
    let bench = bench();
    bench.backend.set("prod/db#user", "u");
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    let gets: Vec<_> = (0..100).map(|_| bench.spawn_get()).collect();
    bench.waiting(100).await;
    gate.open();
    for get in gets {
        get.await.unwrap().unwrap();
    }
    bench.cache.get("prod/db#user").await.unwrap();
    assert!(
        bench
            .cache
            .peek(NameRef::parse("prod/db#user").unwrap())
            .is_some()
    );
}
