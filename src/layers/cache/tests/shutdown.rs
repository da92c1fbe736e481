//! The end of the cache: its shutdown, and its drop without one.

use super::*;
use crate::error::ErrorKind;
use crate::testing::Reply;

#[tokio::test]
async fn dropping_the_cache_drops_its_values_and_its_sleep() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    drop(bench.cache);
    assert_eq!(secret.record().references(), 1);
    assert_eq!(bench.clock.next_wake(), None);
}

#[tokio::test]
async fn shutdown_refuses_gets_ends_fetches_and_drops_values() {
    let bench = bench();
    let held = bench.get().await.unwrap();
    bench.backend.set("other/name", "x");
    bench.backend.script("other/name", [Reply::Hang]);
    let cache = Arc::clone(&bench.cache);
    let waiting = tokio::spawn(async move { cache.get("other/name").await });
    bench.backend.called(2).await;

    let report = bench.cache.shutdown(bench.clock.now() + TTL).await;

    assert_eq!(report.flights_ended, 1);
    assert_eq!((report.values_dropped, report.values_still_held), (1, 1));
    assert!(!report.timed_out);
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(held.record().references(), 1);
}

#[tokio::test]
async fn after_the_shutdown_nothing_is_swept_and_no_sleep_holds_the_clock() {
    let bench = bench();
    bench.text().await;
    bench.cache.shutdown(bench.clock.now() + TTL).await;
    // A value that landed a moment before the end asks for its sweep after it.
    let sweeper = &bench.cache.core.sweeper;
    sweeper.due_at(bench.clock.now() + TTL);
    assert_eq!(bench.clock.next_wake(), None);
}
