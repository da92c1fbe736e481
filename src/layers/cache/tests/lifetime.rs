//! How long a value lives: its time to live, its lease, and its end when no caller asks.

use std::collections::HashSet;
use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::error::ErrorKind;
use crate::secret::Freshness;
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
async fn a_lease_that_is_over_on_arrival_is_an_error_and_no_outage() {
    let bench = bench();
    bench.backend.set_lease(NAME, Duration::ZERO);
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
}

#[test]
fn the_jitter_only_ever_shortens_and_by_a_tenth_at_most() {
    let draws = (0..1000).map(|_| life::shortened(TTL));
    let draws: Vec<_> = draws.collect();
    assert!(draws.iter().all(|&life| life <= TTL && life > TTL * 9 / 10));
    assert!(draws.iter().any(|&life| life < TTL * 92 / 100));
}

/// The lives of a hundred records that were fetched at one moment.
async fn lives_of_a_hundred(bench: &Bench, lease: Option<Duration>) -> Vec<Duration> {
    let mut lives = Vec::new();
    for number in 0..100 {
        let name = format!("a/{number}");
        bench.backend.set(&name, "x");
        if let Some(lease) = lease {
            bench.backend.set_lease(&name, lease);
        }
        let expires = bench.cache.get(&name).await.unwrap().answer().expires_at();
        lives.push(expires.unwrap().since(bench.clock.now()));
    }
    lives
}

/// None lives longer than `most`, none loses a tenth, and they spread between.
fn assert_spread(lives: &[Duration], most: Duration) {
    let possible = |&life: &Duration| life <= most && life > most * 9 / 10;
    assert!(lives.iter().all(possible), "{lives:?}");
    // Of 1024 possible lives a hundred draws meet some twice, but never so many.
    let different: HashSet<_> = lives.iter().collect();
    assert!(different.len() > 50, "{lives:?}");
    assert!(lives.iter().any(|&life| life < most * 97 / 100));
    assert!(lives.iter().any(|&life| life > most * 93 / 100));
}

#[tokio::test]
async fn what_was_fetched_together_does_not_expire_together() {
    let bench = bench();
    assert_spread(&lives_of_a_hundred(&bench, None).await, TTL);
}

#[tokio::test]
async fn what_was_leased_together_does_not_expire_together() {
    let bench = bench();
    let lease = TTL / 3;
    assert_spread(&lives_of_a_hundred(&bench, Some(lease)).await, lease);
}

#[tokio::test]
async fn a_value_is_dropped_at_its_expiry_without_traffic() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    assert!(secret.record().references() > 1);
    bench.clock.advance(TTL);
    assert_eq!(secret.record().references(), 1);
    assert_eq!(bench.cache.core.values(), 0);
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
    let mut config = CacheConfig::default();
    config.stale.set("legacy", TTL);
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
async fn an_answer_polled_after_its_expiry_is_not_fresh_where_it_is_kept_for_outages() {
    for away in [false, true] {
        let bench = bench_with(stale_up_to(TTL));
        let gate = Gate::new();
        bench.backend.script(NAME, [gate.then(Reply::Stored)]);
        let mut waiting = pin!(bench.get());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        gate.open();
        bench.get().await.unwrap();
        bench.backend.set(NAME, "v2");
        bench
            .backend
            .always(away.then_some(Reply::Error(ErrorKind::Unavailable)));
        bench.clock.advance(TTL);
        // The slot still holds the old value, but the store comes first.
        assert_eq!(bench.cache.core.values(), 1);
        let secret = waiting.await.unwrap();
        let stale = matches!(secret.answer().freshness(), Freshness::Stale { .. });
        let text = secret.expose_str().unwrap();
        assert_eq!(
            (text, stale),
            if away { ("v1", true) } else { ("v2", false) }
        );
    }
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

#[tokio::test]
async fn values_that_end_within_a_tenth_of_a_second_are_dropped_together() {
    let bench = bench();
    let names: Vec<_> = (0..30).map(|number| format!("short/{number}")).collect();
    for name in &names {
        bench.backend.set(name, "x");
        bench.backend.set_lease(name, Duration::from_millis(500));
        bench.cache.get(name).await.unwrap();
    }
    let ends = names.iter().map(|name| {
        let slot = bench.cache.core.store.at(name).unwrap();
        slot.life.ends
    });
    let mut ends: Vec<_> = ends.collect();
    ends.sort();
    let together = ends[0] + Duration::from_millis(100);
    assert!(ends[0] < ends[29] && ends[29] < together);
    bench.clock.advance(ends[0].since(bench.clock.now()));
    assert!(bench.cache.core.values() < names.len());
    assert_eq!(bench.clock.next_wake(), Some(together));
    bench.clock.advance(together.since(bench.clock.now()));
    assert_eq!(bench.cache.core.values(), 0);
}

/// Answers a value with a lease and with an end of its own.
#[derive(Debug)]
struct Ending {
    clock: ManualClock,
    lease: Duration,
    end: Duration,
}

impl SecretResolver for Ending {
    fn resolve<'a>(&'a self, _: Request<'a>) -> ResolveFuture<'a> {
        let value = crate::secret::SecretBuf::from_slice(b"v1").unwrap();
        let record = Record::builder("ending").lease(self.lease);
        let record = record.field("password", value).build().unwrap();
        let now = self.clock.now();
        let answer = record.answer().timed(now, now + self.end);
        ResolveFuture::ready(Ok(record.with_answer(answer)))
    }
}

#[tokio::test]
async fn of_a_lease_and_an_end_that_the_backend_has_set_the_earlier_one_counts() {
    let (short, long) = (Duration::from_secs(10), Duration::from_secs(100));
    for (lease, end) in [(short, long), (long, short)] {
        let clock = ManualClock::strict();
        let store = Ending {
            clock: clock.clone(),
            lease,
            end,
        };
        let shared = Arc::new(clock.clone());
        let cache = Cache::new(store, shared, CacheConfig::default()).unwrap();
        let secret = cache.get(NAME).await.unwrap();
        let life = secret.answer().expires_at().unwrap().since(clock.now());
        assert!(life <= short && life > short / 10 * 8, "{life:?}");
    }
}
