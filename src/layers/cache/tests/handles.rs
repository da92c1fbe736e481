//! Handles: one job for all, woken by each landing and by nothing else.

use super::*;
use crate::error::ErrorKind;
use crate::secret::Version;
use crate::testing::{Gate, Reply};

fn handle(bench: &Bench) -> SecretHandle {
    bench.cache.handle(NameRef::parse(NAME).unwrap()).unwrap()
}

/// Lets the jobs on the driver do what is due: a fetch that is queued behind them is done.
async fn settle(bench: &Bench) {
    for number in 0..3 {
        let name = format!("settle/{}/{number}", bench.backend.calls());
        bench.backend.set(&name, "x");
        bench.cache.get(&name).await.unwrap();
    }
}

#[tokio::test]
async fn every_landing_is_heard_however_it_was_asked_for() {
    let bench = bench();
    bench.text().await;
    let mut handle = handle(&bench).seen().unwrap();
    bench.backend.set(NAME, "v2");
    // A caller who was told of it before the handle was.
    let (name, second) = (NameRef::parse(NAME).unwrap(), Version::number(2));
    let newer = bench.cache.resolve(Request::new(name).at_least(&second));
    newer.await.unwrap();
    handle.changed().await.unwrap();
    assert_eq!(handle.secret().unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn a_thousand_handles_are_one_fetch_a_refresh() {
    let bench = bench();
    bench.text().await;
    let handles: Vec<_> = (0..1000).map(|_| handle(&bench)).collect();
    settle(&bench).await;
    assert_eq!(bench.backend.calls_of(NAME), 1);
    bench.clock.advance(TTL * 85 / 100);
    for handle in &handles {
        handle.secret().unwrap();
    }
    settle(&bench).await;
    assert_eq!(bench.backend.calls_of(NAME), 2);
}

#[tokio::test]
async fn a_handle_may_wait_for_the_value_that_an_invalidation_has_taken() {
    let bench = bench();
    bench.text().await;
    let handle = handle(&bench);
    let gate = Gate::new();
    bench.backend.script(NAME, [gate.then(Reply::Stored)]);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(handle.secret().unwrap_err().kind(), ErrorKind::Unavailable);
    bench.backend.called(2).await;
    let waiting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.current().await }
    });
    tokio::task::yield_now().await;
    gate.open();
    let secret = waiting.await.unwrap().unwrap();
    assert_eq!(secret.expose_str().unwrap(), "v1");
    // It ends, too.
    bench.backend.script(NAME, [Reply::Hang]);
    bench.cache.invalidator().invalidate(NAME).unwrap();
    bench.backend.called(3).await;
    let waiting = tokio::spawn(async move { handle.current().await });
    while bench.clock.next_wake() > Some(bench.clock.now() + Duration::from_secs(5)) {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Timeout
    );
}

#[tokio::test]
async fn in_an_outage_a_handle_asks_less_and_less_often() {
    let bench = bench();
    bench.text().await;
    let handle = handle(&bench);
    bench.backend.always(Reply::Error(ErrorKind::Unavailable));
    bench.cache.invalidator().invalidate(NAME).unwrap();
    let address = NameRef::parse(NAME).unwrap().path();
    let keeper = &bench.cache.flights.keeper;
    for (calls, wait) in [(2, 1), (3, 2), (4, 4), (5, 8), (6, 15), (7, 15), (8, 15)] {
        bench.backend.called(calls).await;
        let wait = Duration::from_secs(wait);
        let failed = || {
            let error = handle.secret().unwrap_err();
            error.backend() == Some("mock") && keeper.due_at(address) == bench.clock.now() + wait
        };
        while !failed() {
            tokio::task::yield_now().await;
        }
        if calls == 8 {
            bench.backend.always(None);
        }
        bench.clock.advance(wait);
    }
    while handle.secret().is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_last_handle_ends_what_its_record_was_kept_for() {
    let bench = bench();
    bench.text().await;
    let (one, other) = (handle(&bench), handle(&bench));
    drop(one);
    bench.clock.advance(TTL * 85 / 100);
    bench.backend.called(2).await;
    drop(other);
    settle(&bench).await;
    let calls = bench.backend.calls_of(NAME);
    bench.clock.advance(TTL * 2);
    settle(&bench).await;
    assert_eq!(bench.backend.calls_of(NAME), calls);
}
