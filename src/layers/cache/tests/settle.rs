//! Signals that come before the store's commit: an answer right after one is not trusted for long.

use super::*;

#[tokio::test]
async fn after_a_signal_an_unchanged_answer_is_not_trusted_for_long() {
    let bench = bench();
    bench.text().await;
    // Conjur's signal comes before its commit: the refetch still reads the old value.
    bench.cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(bench.text().await, "v1");
    bench.backend.set(NAME, "v2");
    bench.clock.advance(Duration::from_millis(250));
    assert_eq!(bench.text().await, "v2");
    // The new one is trusted for its whole time.
    let calls = bench.backend.calls();
    bench.clock.advance(TTL / 2);
    assert_eq!(bench.text().await, "v2");
    assert_eq!(bench.backend.calls(), calls);
}

#[tokio::test]
async fn once_the_settle_time_is_over_an_unchanged_answer_is_trusted() {
    let bench = bench();
    bench.text().await;
    bench.cache.invalidator().invalidate(NAME).unwrap();
    bench.clock.advance(Duration::from_secs(2));
    bench.text().await;
    let calls = bench.backend.calls();
    bench.clock.advance(TTL / 2);
    bench.text().await;
    assert_eq!(bench.backend.calls(), calls);
}

#[tokio::test]
async fn a_signal_for_a_prefix_unsettles_what_was_not_cached_too() {
    let bench = bench();
    bench.cache.invalidator().invalidate_prefix("prod").unwrap();
    // Before the store's commit: the old value, for the first time.
    assert_eq!(bench.text().await, "v1");
    bench.backend.set(NAME, "v2");
    bench.clock.advance(Duration::from_millis(250));
    assert_eq!(bench.text().await, "v2");
}
