//! The cache by itself: hits, flights, the fence, bounds and wiping, on a manual clock.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::resolver::SecretResolverExt;
use crate::secret::{Secret, Version};
use crate::testing::{Gate, ManualClock, MockBackend, Reply};

const NAME: &str = "prod/db#password";
const TTL: Duration = Duration::from_secs(300);

struct Bench {
    clock: ManualClock,
    backend: MockBackend,
    cache: Arc<Cache<MockBackend>>,
}

fn bench() -> Bench {
    bench_with(CacheConfig::default())
}

fn bench_with(config: CacheConfig) -> Bench {
    let clock = ManualClock::new();
    let backend = MockBackend::new()
        .with_value(NAME, "v1")
        .with_clock(clock.clone());
    let cache = Cache::new(backend.clone(), Arc::new(clock.clone()), config).unwrap();
    Bench {
        clock,
        backend,
        cache: Arc::new(cache),
    }
}

impl Bench {
    async fn get(&self) -> Result<Secret, Error> {
        self.cache.get(NAME).await
    }

    async fn text(&self) -> String {
        self.get().await.unwrap().expose_str().unwrap().to_owned()
    }

    fn spawn_get(&self) -> tokio::task::JoinHandle<Result<Secret, Error>> {
        let cache = Arc::clone(&self.cache);
        tokio::spawn(async move { cache.get(NAME).await })
    }

    /// Waits until `number` gets wait for the flight to the one address.
    async fn waiting(&self, number: usize) {
        loop {
            let flight = lock_flights(&self.cache).values().next().cloned();
            if flight.is_some_and(|flight| flight.awaited_by() >= number) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn lock_flights(
    cache: &Cache<MockBackend>,
) -> std::collections::HashMap<Box<str>, Arc<flight::Flight>> {
    cache.flights.flying_now()
}

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
async fn an_error_is_shared_by_all_who_wait_and_is_not_cached() {
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
    bench.cache.invalidator().invalidate_all();
    assert_eq!(bench.text().await, "v3");
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
async fn a_value_is_dropped_at_its_expiry_without_traffic() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    assert!(secret.record().references() > 1);
    bench.clock.advance(TTL);
    assert_eq!(secret.record().references(), 1);
    assert_eq!(bench.cache.flights.values(), 0);
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
async fn entries_and_bytes_are_bounded() {
    let config = CacheConfig {
        max_entries: 10,
        max_bytes: 10_000,
        max_record_bytes: 5_000,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    for number in 0..100 {
        let name = format!("a/{number}");
        bench.backend.set(&name, "x");
        bench.cache.get(&name).await.unwrap();
        assert!(bench.cache.flights.values() <= 10);
    }
    for number in 0..100 {
        let name = format!("b/{number}");
        bench.backend.set(&name, [b'x'; 4_000]);
        bench.cache.get(&name).await.unwrap();
        assert!(bench.cache.flights.values() <= 10);
        assert!(bench.cache.flights.bytes() <= 10_000);
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_and_not_held() {
    let bench = bench();
    bench.backend.set("big/one", vec![b'x'; (64 << 10) + 1]);
    let error = bench.cache.get("big/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(bench.cache.flights.values(), 0);
}

#[tokio::test]
async fn a_higher_version_asked_for_is_fetched_and_a_lower_one_is_not_answered() {
    let bench = bench();
    bench.text().await;
    bench.backend.set(NAME, "v2");
    let name = NameRef::parse(NAME).unwrap();
    let floor = Version::number(2);
    let record = bench
        .cache
        .resolve(Request::new(name).at_least(&floor))
        .await
        .unwrap();
    assert_eq!(record.into_secret().unwrap().expose_str().unwrap(), "v2");
    let floor = Version::number(3);
    let error = bench
        .cache
        .resolve(Request::new(name).at_least(&floor))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
}

#[tokio::test]
async fn one_exact_version_is_read_past_the_cache() {
    let bench = bench();
    bench.text().await;
    let name = NameRef::parse(NAME).unwrap();
    let version = Version::number(1);
    bench
        .cache
        .resolve(Request::new(name).with_version(&version))
        .await
        .unwrap();
    assert_eq!(bench.backend.calls(), 2);
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
async fn dropping_the_cache_drops_its_values_and_its_sleep() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    drop(bench.cache);
    assert_eq!(secret.record().references(), 1);
    assert_eq!(bench.clock.next_wake(), None);
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

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut CacheConfig)| {
        let mut config = CacheConfig::default();
        change(&mut config);
        let clock = Arc::new(ManualClock::new());
        let error = Cache::new(MockBackend::new(), clock, config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    };
    refused(|config| config.ttl = Duration::ZERO);
    refused(|config| config.ttl = Duration::MAX);
    refused(|config| config.flight_budget = Duration::ZERO);
    refused(|config| config.max_entries = 0);
    refused(|config| config.max_flights = 0);
    refused(|config| config.max_bytes = 1);
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
async fn a_value_in_use_is_refreshed_before_anybody_has_to_wait() {
    let bench = bench();
    bench.text().await;
    bench.backend.set(NAME, "v2");
    bench.clock.advance(TTL * 85 / 100);
    // The read that asks for the refresh does not wait for it.
    assert_eq!(bench.text().await, "v1");
    bench.backend.called(2).await;
    while bench.text().await != "v2" {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(TTL / 2);
    assert_eq!(bench.text().await, "v2");
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn a_value_that_nobody_reads_is_not_refreshed() {
    let bench = bench();
    bench.text().await;
    for _ in 0..10 {
        bench.clock.advance(TTL / 10);
    }
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn a_refresh_that_is_refused_drops_the_value_at_once() {
    for kind in [ErrorKind::Denied, ErrorKind::NotFound] {
        let bench = bench();
        bench.text().await;
        bench.clock.advance(TTL * 85 / 100);
        bench.backend.always(Reply::Error(kind));
        bench.text().await;
        bench.backend.called(2).await;
        while bench.cache.flights.values() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.get().await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_refresh_that_fails_is_not_repeated_at_every_read() {
    let bench = bench();
    bench.text().await;
    bench.clock.advance(TTL * 85 / 100);
    bench.backend.always(Reply::Error(ErrorKind::Unavailable));
    bench.text().await;
    bench.backend.called(2).await;
    while !bench.cache.flights.flying_now().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        assert_eq!(bench.text().await, "v1");
    }
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn a_conditional_read_extends_the_life_of_the_same_bytes() {
    let bench = bench();
    bench.backend.set_conditional(NAME);
    let before = bench.get().await.unwrap();
    bench.clock.advance(TTL * 85 / 100);
    bench.get().await.unwrap();
    bench.backend.called(2).await;
    while bench.get().await.unwrap().answer() == before.answer() {
        tokio::task::yield_now().await;
    }
    let after = bench.get().await.unwrap();
    use secrecy::ExposeSecret as _;
    assert!(std::ptr::eq(before.expose_secret(), after.expose_secret()));
    assert!(after.answer().expires_at() > before.answer().expires_at());
}

#[tokio::test]
async fn a_conditional_read_lets_go_of_its_value_when_it_is_invalidated() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    bench.clock.advance(TTL * 82 / 100);
    bench.backend.script(NAME, [Reply::Hang]);
    bench.get().await.unwrap();
    bench.backend.called(2).await;
    bench.cache.invalidator().invalidate(NAME).unwrap();
    // The refresh hangs, but it may not keep what it was offered.
    while secret.record().references() > 1 {
        tokio::task::yield_now().await;
    }
}

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
    assert!(bench.cache.flights.lock().negatives.len() <= 4096);
}

#[tokio::test]
async fn a_flood_of_names_does_not_evict_what_is_pinned_or_in_use() {
    let config = CacheConfig {
        max_entries: 100,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    bench.backend.set("used/often", "u");
    bench.cache.pin(NameRef::parse(NAME).unwrap()).unwrap();
    bench.text().await;
    bench.cache.get("used/often").await.unwrap();
    for number in 0..1000 {
        let name = format!("flood/{number}");
        bench.backend.set(&name, "x");
        bench.cache.get(&name).await.unwrap();
        bench.cache.get("used/often").await.unwrap();
    }
    assert_eq!(bench.backend.calls_of(NAME), 1);
    assert_eq!(bench.backend.calls_of("used/often"), 1);
    bench.text().await;
    assert_eq!(bench.backend.calls_of(NAME), 1);
}

#[tokio::test]
async fn a_value_that_finds_no_room_is_refused_and_the_pinned_ones_stay() {
    let config = CacheConfig {
        max_entries: 2,
        max_bytes: 100,
        max_record_bytes: 100,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    bench.backend.set("pinned/one", [b'x'; 80]);
    bench
        .cache
        .pin(NameRef::parse("pinned/one").unwrap())
        .unwrap();
    bench.cache.get("pinned/one").await.unwrap();
    bench.backend.set("other/one", [b'x'; 80]);
    let error = bench.cache.get("other/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    bench.cache.get("pinned/one").await.unwrap();
    assert_eq!(bench.backend.calls_of("pinned/one"), 1);
    let full = bench
        .cache
        .pin(NameRef::parse("pinned/two").unwrap())
        .unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn a_version_that_was_rolled_back_is_refused_until_it_counts_as_a_new_life() {
    let bench = bench();
    bench.backend.set_version(NAME, 7);
    bench.text().await;
    // The value has long expired and was dropped; the version is still known.
    bench.clock.advance(TTL);
    bench.backend.set_version(NAME, 3);
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.clock.advance(Duration::from_secs(9));
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.get().await.unwrap().version(), &Version::number(3));
}

#[tokio::test]
async fn a_restore_on_purpose_is_told_by_forgetting_the_version() {
    let bench = bench();
    bench.backend.set_version(NAME, 7);
    bench.text().await;
    bench.backend.set_version(NAME, 3);
    let invalidator = bench.cache.invalidator();
    invalidator.invalidate(NAME).unwrap();
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    invalidator.forget_version(NAME).unwrap();
    assert_eq!(bench.get().await.unwrap().version(), &Version::number(3));
}

#[tokio::test]
async fn a_signal_with_a_version_refuses_everything_below_it() {
    let bench = bench();
    bench.text().await;
    let invalidator = bench.cache.invalidator();
    invalidator
        .invalidate_below_version(NAME, &Version::number(2))
        .unwrap();
    // The store has not committed yet.
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Refused);
    bench.backend.set(NAME, "v2");
    assert_eq!(bench.text().await, "v2");
}

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
    invalidator.invalidate_address(&crate::Address::from("test/db"));
    for name in all {
        bench.cache.get(name).await.unwrap();
    }
    assert_eq!(calls(), [2, 1, 2]);
    assert!(invalidator.invalidate_prefix("a//b").is_err());
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
async fn a_peek_answers_what_is_cached_and_asks_nobody() {
    let bench = bench();
    let name = NameRef::parse(NAME).unwrap();
    assert!(bench.cache.peek(name).is_none());
    bench.text().await;
    assert!(bench.cache.peek(name).is_some());
    bench.clock.advance(TTL);
    assert!(bench.cache.peek(name).is_none());
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn the_status_tells_what_is_held_and_what_outlived_its_end() {
    let bench = bench();
    let held = bench.get().await.unwrap();
    let status = bench.cache.status();
    assert_eq!(
        (status.entries, status.flights, status.closed),
        (1, 0, false)
    );
    assert_eq!(status.last_success, Some(crate::Moment::from_nanos(1)));
    bench.clock.advance(TTL);
    let status = bench.cache.status();
    assert_eq!((status.entries, status.bytes, status.outlived), (0, 0, 1));
    drop(held);
}

/// Answers at once, always: a record that is too large.
#[derive(Debug)]
struct Large;

impl SecretResolver for Large {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let value = crate::secret::SecretBuf::with_capacity(200_000).unwrap();
        let record = Record::builder("large")
            .version(Version::number(1))
            .field("password", value);
        ResolveFuture::ready(request.admit(record.build().unwrap()))
    }
}

#[tokio::test]
async fn a_batch_answers_nothing_that_was_invalidated_while_it_waited() {
    let bench = bench();
    bench.text().await;
    let gate = Gate::new();
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [gate.then(Reply::Stored)]);
    let cache = Arc::clone(&bench.cache);
    let batch = tokio::spawn(async move { cache.get_many(&[NAME, "slow/one"]).await });
    bench.backend.called(2).await;
    bench.waiting(1).await;
    bench.backend.set(NAME, "v2");
    bench.cache.invalidator().invalidate(NAME).unwrap();
    gate.open();
    let answers = batch.await.unwrap();
    let texts = answers
        .into_iter()
        .map(|answer| answer.unwrap().expose_str().unwrap().to_owned());
    assert_eq!(texts.collect::<Vec<_>>(), ["v2", "s"]);
}

#[tokio::test]
async fn a_batch_answers_nothing_that_expired_while_it_waited() {
    let bench = bench();
    bench.backend.set_lease(NAME, Duration::from_secs(2));
    bench.text().await;
    let gate = Gate::new();
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [gate.then(Reply::Stored)]);
    let cache = Arc::clone(&bench.cache);
    let batch = tokio::spawn(async move { cache.get_many(&[NAME, "slow/one"]).await });
    bench.backend.called(2).await;
    bench.waiting(1).await;
    bench.backend.set(NAME, "v2");
    bench.clock.advance(Duration::from_secs(2));
    gate.open();
    let answers = batch.await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().expose_str().unwrap(), "v2");
}

#[tokio::test]
async fn a_slow_name_costs_a_batch_only_itself() {
    let bench = bench();
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [Reply::Hang]);
    let deadline = bench.clock.now() + Duration::from_secs(2);
    let cache = Arc::clone(&bench.cache);
    let batch = tokio::spawn(async move {
        let names = [NAME, "slow/one"].map(|name| NameRef::parse(name).unwrap());
        let requests = names.map(|name| Request::new(name).with_deadline(deadline));
        cache.resolve_many(&requests).await
    });
    bench.backend.called(2).await;
    bench.waiting(1).await;
    bench.clock.advance(Duration::from_secs(2));
    let answers = batch.await.unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn an_exact_version_obeys_the_same_bounds_and_the_same_end() {
    let clock = ManualClock::new();
    let cache = Cache::new(Large, Arc::new(clock.clone()), CacheConfig::default()).unwrap();
    let name = NameRef::parse(NAME).unwrap();
    let version = Version::number(1);
    let read = || cache.resolve(Request::new(name).with_version(&version));
    assert_eq!(read().await.unwrap_err().kind(), ErrorKind::Overloaded);
    cache.shutdown(clock.now() + TTL).await;
    assert_eq!(read().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn fetches_of_every_kind_share_one_bound() {
    let config = CacheConfig {
        max_flights: 2,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    bench.backend.always(Reply::Hang);
    let name = NameRef::parse(NAME).unwrap();
    let version = Version::number(1);
    let mut cx = Context::from_waker(Waker::noop());
    let mut exact = pin!(
        bench
            .cache
            .resolve(Request::new(name).with_version(&version))
    );
    let mut flight = pin!(bench.get());
    assert!(exact.as_mut().poll(&mut cx).is_pending());
    assert!(flight.as_mut().poll(&mut cx).is_pending());
    let third = bench
        .cache
        .resolve(Request::new(name).with_version(&version))
        .await;
    assert_eq!(third.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(
        bench.cache.get("third/name").await.unwrap_err().kind(),
        ErrorKind::Overloaded
    );
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
async fn a_read_under_a_new_name_asks_for_the_refresh_that_is_due() {
    let bench = bench();
    bench.backend.set("prod/db#user", "u");
    bench.text().await;
    bench.clock.advance(TTL * 85 / 100);
    bench.cache.get("prod/db#user").await.unwrap();
    bench.backend.called(2).await;
}

#[tokio::test]
async fn a_peek_finds_every_field_of_a_record_however_many_there_are() {
    let bench = bench();
    for number in 0..40 {
        bench.backend.set(&format!("wide/record#f{number}"), "x");
    }
    for number in 0..40 {
        bench
            .cache
            .get(&format!("wide/record#f{number}"))
            .await
            .unwrap();
    }
    for number in 0..40 {
        let name = format!("wide/record#f{number}");
        assert!(
            bench
                .cache
                .peek_any(NameRef::parse(&name).unwrap())
                .is_some(),
            "{name}"
        );
    }
    assert_eq!(bench.backend.calls(), 1);
}

/// Two endpoints, of which one is behind: the versions are answered in this order.
#[derive(Debug)]
struct Behind(std::sync::Mutex<Vec<u64>>);

impl SecretResolver for Behind {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let version = crate::sync::lock(&self.0).remove(0);
        let value = crate::secret::SecretBuf::from_slice(&version.to_be_bytes()).unwrap();
        let record = Record::builder("behind").version(Version::number(version));
        let record = record.field("password", value).build().unwrap();
        ResolveFuture::ready(request.admit(record.select(request.name().field())))
    }

    fn endpoints(&self) -> usize {
        2
    }
}

#[tokio::test]
async fn an_endpoint_that_is_behind_is_passed_over_for_the_next() {
    let store = Behind(std::sync::Mutex::new(vec![7, 3, 8, 5, 6]));
    let clock = Arc::new(ManualClock::new());
    let cache = Cache::new(store, clock, CacheConfig::default()).unwrap();
    assert_eq!(
        cache.get(NAME).await.unwrap().version(),
        &Version::number(7)
    );
    cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(
        cache.get(NAME).await.unwrap().version(),
        &Version::number(8)
    );
    // When all of them are behind, it is refused.
    cache.invalidator().invalidate(NAME).unwrap();
    assert_eq!(
        cache.get(NAME).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
}
