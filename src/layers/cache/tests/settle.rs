//! Signals that come before the store's commit: an answer right after one is not trusted for long.

use super::*;
use crate::invalidate::Invalidator;

type Signal = fn(&Invalidator) -> Result<usize, Error>;
type Flood = fn(&Invalidator, usize) -> Result<usize, Error>;

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

#[tokio::test]
async fn after_a_signal_for_everything_an_unchanged_answer_is_not_trusted_for_long() {
    let bench = bench();
    bench.backend.set("other/name", "w1");
    bench.text().await;
    bench.cache.invalidator().invalidate_all().unwrap();
    // What was held and what was not: both may still be the value before the signal.
    assert_eq!(bench.text().await, "v1");
    bench.cache.get("other/name").await.unwrap();
    bench.backend.set(NAME, "v2");
    bench.backend.set("other/name", "w2");
    bench.clock.advance(Duration::from_millis(250));
    assert_eq!(bench.text().await, "v2");
    let other = bench.cache.get("other/name").await.unwrap();
    assert_eq!(other.expose_str().unwrap(), "w2");
}

#[tokio::test]
async fn a_signal_for_everything_is_over_with_the_settle_time() {
    let bench = bench();
    bench.cache.invalidator().invalidate_all().unwrap();
    bench.clock.advance(Duration::from_secs(2));
    bench.text().await;
    bench.clock.advance(TTL / 2);
    bench.text().await;
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn after_a_signal_a_refusal_is_not_remembered_for_long() {
    // A signal may be about a secret that is to be created, too.
    for how in ["one", "all"] {
        let bench = bench();
        match how {
            "one" => bench.cache.invalidator().invalidate("new/one"),
            _ => bench.cache.invalidator().invalidate_all(),
        }
        .unwrap();
        assert!(bench.cache.get("new/one").await.is_err());
        bench.backend.set("new/one", "x");
        bench.clock.advance(Duration::from_millis(249));
        assert!(bench.cache.get("new/one").await.is_err(), "{how}");
        bench.clock.advance(Duration::from_millis(1));
        assert!(bench.cache.get("new/one").await.is_ok(), "{how}");
    }
}

#[tokio::test]
async fn a_version_that_is_proved_new_is_trusted_also_after_a_signal_for_everything() {
    for prefix in [Some("prod"), None] {
        let bench = bench();
        bench.text().await;
        bench.backend.set(NAME, "v2");
        match prefix {
            Some(prefix) => bench.cache.invalidator().invalidate_prefix(prefix),
            None => bench.cache.invalidator().invalidate_all(),
        }
        .unwrap();
        for _ in 0..100 {
            assert_eq!(bench.text().await, "v2");
            bench.clock.advance(Duration::from_millis(30));
        }
        assert_eq!(bench.backend.calls(), 2, "{prefix:?}");
    }
}

#[tokio::test]
async fn a_version_that_stays_is_asked_for_a_few_times_and_a_commit_is_seen_soon() {
    for commits_after in [100, 400, 1_000, 1_900] {
        let bench = bench();
        bench.text().await;
        bench.cache.invalidator().invalidate_all().unwrap();
        let mut seen_after = None;
        for millis in (0..4_000).step_by(10) {
            if millis == commits_after {
                bench.backend.set(NAME, "v2");
            }
            let text = bench.text().await;
            if text == "v2" && seen_after.is_none() {
                seen_after = Some(millis - commits_after);
            }
            bench.clock.advance(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
        // Twice as long as the signal was past, with what a refresh takes.
        assert!(
            seen_after.unwrap() <= commits_after.max(300),
            "{seen_after:?}"
        );
        assert!(bench.backend.calls() <= 9, "{}", bench.backend.calls());
    }
}

#[tokio::test]
async fn two_signals_in_a_row_are_settled_by_a_version_as_one_is() {
    let signals: [Signal; 3] = [
        |invalidator| invalidator.invalidate_prefix("prod/db"),
        |invalidator| invalidator.invalidate_prefix("prod"),
        |invalidator| invalidator.invalidate_all(),
    ];
    for first in signals {
        for second in signals {
            let bench = bench();
            bench.text().await;
            bench.backend.set(NAME, "v2");
            first(&bench.cache.invalidator()).unwrap();
            second(&bench.cache.invalidator()).unwrap();
            for _ in 0..100 {
                assert_eq!(bench.text().await, "v2");
                bench.clock.advance(Duration::from_millis(30));
            }
            assert_eq!(bench.backend.calls(), 2);
        }
    }
}

#[tokio::test]
async fn a_flood_of_other_signals_makes_no_old_answer_trusted() {
    let floods: [Flood; 2] = [
        |invalidator, number| invalidator.invalidate_prefix(&format!("x/{number}")),
        |invalidator, number| invalidator.invalidate(&format!("x/{number}")),
    ];
    let firsts: [Signal; 2] = [
        |invalidator| invalidator.invalidate_prefix("prod"),
        |invalidator| invalidator.invalidate(NAME),
    ];
    for (flood, first) in floods
        .iter()
        .flat_map(|flood| firsts.map(|first| (flood, first)))
    {
        for held in [true, false] {
            let bench = bench();
            if held {
                bench.text().await;
            }
            let invalidator = bench.cache.invalidator();
            first(&invalidator).unwrap();
            for number in 0..17_000 {
                flood(&invalidator, number).unwrap();
            }
            // Before the store's commit.
            assert_eq!(bench.text().await, "v1");
            bench.backend.set(NAME, "v2");
            bench.clock.advance(Duration::from_millis(250));
            assert_eq!(bench.text().await, "v2");
        }
    }
}
