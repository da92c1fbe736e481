//! Bounds: of entries, bytes, records and fetches, and what has to go when they are reached.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;
use crate::error::ErrorKind;
use crate::secret::Version;
use crate::testing::{MockBackend, Reply};

#[test]
fn bounds_that_make_no_sense_are_refused() {
    let refused = |change: fn(&mut CacheConfig)| {
        let mut config = CacheConfig::default();
        change(&mut config);
        let clock = Arc::new(ManualClock::strict());
        let error = Cache::new(MockBackend::new(), clock, config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    };
    refused(|config| config.ttl.set_all(Duration::ZERO));
    refused(|config| config.ttl.set_all(Duration::MAX));
    refused(|config| config.flight_budget = Duration::ZERO);
    refused(|config| config.max_entries = 0);
    refused(|config| config.max_flights.set_all(0));
    refused(|config| config.max_bytes = 1);
}

#[test]
fn a_time_to_live_is_from_a_second_to_a_day_for_a_prefix_too() {
    let day = Duration::from_secs(24 * 3600);
    let nano = Duration::from_nanos(1);
    for (ttl, good) in [
        (Duration::from_secs(1) - nano, false),
        (Duration::from_secs(1), true),
        (day, true),
        (day + nano, false),
    ] {
        let (mut all, mut prefix) = (CacheConfig::default(), CacheConfig::default());
        all.ttl.set_all(ttl);
        prefix.ttl.set("prod", ttl);
        for config in [all, prefix] {
            let clock = Arc::new(ManualClock::strict());
            let cache = Cache::new(MockBackend::new(), clock, config);
            assert_eq!(cache.is_ok(), good, "{ttl:?}");
        }
    }
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_and_not_held() {
    let bench = bench();
    bench.backend.set("big/one", vec![b'x'; (64 << 10) + 1]);
    let error = bench.cache.get("big/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(bench.cache.core.values(), 0);
}

#[tokio::test]
async fn many_small_fields_are_one_record_that_is_too_large() {
    let bench = bench();
    for number in 0..64 {
        bench
            .backend
            .set(&format!("big/one#{number}"), [b'x'; 1 << 10]);
    }
    // Of 64 KiB without their names.
    let name = NameRef::parse("big/one#0").unwrap();
    let error = bench.cache.get(name.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    let version = Version::number(64);
    let exact = bench
        .cache
        .resolve(Request::new(name).with_version(&version));
    assert_eq!(exact.await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(bench.cache.core.values(), 0);
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
        // The bound is reached and kept: as many as may be are held.
        assert_eq!(bench.cache.core.values(), 10.min(number + 1));
    }
    for number in 0..100 {
        let name = format!("b/{number}");
        bench.backend.set(&name, [b'x'; 4_000]);
        bench.cache.get(&name).await.unwrap();
        assert!(bench.cache.core.values() <= 10);
        assert!(bench.cache.core.bytes() <= 10_000);
    }
    // Two of the large ones fit, and what was read last is one of them.
    assert!(bench.cache.core.bytes() >= 8_000);
    bench.cache.get("b/99").await.unwrap();
    assert_eq!(bench.backend.calls_of("b/99"), 1);
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
    bench.backend.set("pinned/one", [b'x'; 50]);
    exempt(&bench, "pinned/one");
    bench.cache.get("pinned/one").await.unwrap();
    bench.backend.set("other/one", [b'x'; 80]);
    let error = bench.cache.get("other/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    bench.cache.get("pinned/one").await.unwrap();
    assert_eq!(bench.backend.calls_of("pinned/one"), 1);
    let full = bench
        .cache
        .core
        .store
        .pin(&[("pinned/two".into(), 0)])
        .unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
}

fn of_100_kb() -> Bench {
    bench_with(CacheConfig {
        max_bytes: 100_000,
        ..CacheConfig::default()
    })
}

fn exempt(bench: &Bench, name: &str) {
    let name = NameRef::parse(name).unwrap();
    let pin = (name.path().into(), 0);
    bench.cache.core.store.pin(&[pin]).unwrap();
}

#[tokio::test]
async fn a_value_that_finds_no_room_costs_no_other_value_its_place() {
    let bench = of_100_kb();
    exempt(&bench, "pinned/one");
    bench.backend.set("pinned/one", [b'x'; 50_000]);
    bench.cache.get("pinned/one").await.unwrap();
    let names: Vec<_> = (0..100).map(|number| format!("small/{number}")).collect();
    for name in &names {
        bench.backend.set(name, "x");
        bench.cache.get(name).await.unwrap();
    }
    bench.backend.set("large/one", [b'x'; 60_000]);
    let error = bench.cache.get("large/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(bench.cache.core.values(), 101);
    // All are still answered from memory.
    let calls = bench.backend.calls();
    for name in names.iter().map(String::as_str).chain(["pinned/one"]) {
        bench.cache.get(name).await.unwrap();
    }
    assert_eq!(bench.backend.calls(), calls);
}

#[tokio::test]
async fn a_record_that_has_outgrown_its_room_keeps_its_old_value_to_its_end() {
    let bench = of_100_kb();
    exempt(&bench, "pinned/one");
    bench.backend.set("pinned/one", [b'x'; 50_000]);
    bench.text().await;
    bench.clock.advance(TTL * 85 / 100);
    bench.cache.get("pinned/one").await.unwrap();
    bench.backend.set(NAME, [b'x'; 60_000]);
    // The refresh is refused for want of room; what it was to replace is still good.
    assert_eq!(bench.text().await, "v1");
    bench.backend.called(3).await;
    while !bench.cache.core.flying_now().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.text().await, "v1");
    assert_eq!(bench.cache.core.values(), 2);
    bench.clock.advance(TTL * 15 / 100);
    assert_eq!(bench.get().await.unwrap_err().kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn a_record_replaces_its_own_value_where_only_one_of_both_fits() {
    let bench = of_100_kb();
    bench.backend.set(NAME, "a".repeat(60_000));
    bench.text().await;
    bench.clock.advance(TTL * 85 / 100);
    bench.backend.set(NAME, "b".repeat(60_000));
    // It is still held while its refresh lands.
    bench.text().await;
    while bench.text().await != "b".repeat(60_000) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.backend.calls(), 2);
    assert_eq!(bench.cache.core.values(), 1);
}

#[tokio::test]
async fn what_is_pinned_takes_no_room_beside_itself_when_it_is_fetched_again() {
    let bench = of_100_kb();
    exempt(&bench, "pinned/one");
    for (calls, value) in ["a", "b", "c"].into_iter().enumerate() {
        bench.backend.set("pinned/one", value.repeat(40_000));
        let invalidator = bench.cache.invalidator();
        invalidator.invalidate("pinned/one").unwrap();
        let secret = bench.cache.get("pinned/one").await.unwrap();
        assert_eq!(secret.expose_str().unwrap(), value.repeat(40_000));
        assert_eq!(bench.backend.calls(), calls + 1);
        assert!(bench.cache.core.bytes() >= 40_000);
    }
}

#[tokio::test]
async fn no_more_than_sixteen_names_of_a_record_are_linked() {
    let bench = bench();
    for number in 0..20 {
        bench.backend.set(&format!("prod/many#{number}"), [b'x'; 8]);
    }
    for number in 0..20 {
        let name = format!("prod/many#{number}");
        bench.cache.get(&name).await.unwrap();
        let linked = bench.cache.core.store.linked("prod/many");
        assert_eq!(linked, 16.min(number + 1));
    }
    assert_eq!(bench.backend.calls(), 1);
}

#[tokio::test]
async fn a_flood_of_names_does_not_evict_what_is_pinned_or_in_use() {
    let config = CacheConfig {
        max_entries: 100,
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    bench.backend.set("used/often", "u");
    exempt(&bench, NAME);
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
async fn fetches_of_every_kind_share_one_bound() {
    let config = CacheConfig {
        max_flights: ByPrefix::new(2),
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
async fn an_exact_version_obeys_the_same_bounds_and_the_same_end() {
    let clock = ManualClock::strict();
    let cache = Cache::new(Large, Arc::new(clock.clone()), CacheConfig::default()).unwrap();
    let name = NameRef::parse(NAME).unwrap();
    let version = Version::number(1);
    let read = || cache.resolve(Request::new(name).with_version(&version));
    assert_eq!(read().await.unwrap_err().kind(), ErrorKind::Overloaded);
    cache.shutdown(clock.now() + TTL).await;
    assert_eq!(read().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn what_is_pinned_counts_its_bytes_and_leaves_room_for_others() {
    let bench = of_100_kb();
    let names: Vec<_> = (0..9).map(|number| format!("large/{number}")).collect();
    let mut secrets = Vec::new();
    for name in &names {
        bench.backend.set(name, [b'x'; 10_000]);
        secrets.push(bench.cache.get(name).await.unwrap());
    }
    let pinned = |number: usize| {
        let names = names.iter().map(|name| NameRef::parse(name).unwrap());
        let records = secrets.iter().map(Secret::record);
        bench.cache.pin(names.zip(records).take(number))
    };
    let error = pinned(6).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("max_bytes"), "{error}");
    // None of them took a place, so five can have it; and the others have theirs.
    pinned(5).unwrap();
    for number in 0..100 {
        let name = format!("other/{number}");
        bench.backend.set(&name, [b'x'; 10_000]);
        bench.cache.get(&name).await.unwrap();
    }
    let calls = bench.backend.calls();
    for name in &names[..5] {
        bench.cache.get(name).await.unwrap();
    }
    assert_eq!(bench.backend.calls(), calls);
    // One that grows past half of the bytes is refused, and keeps its old value.
    bench.backend.set("large/0", [b'x'; 20_000]);
    bench.cache.invalidator().invalidate("large/0").unwrap();
    let error = bench.cache.get("large/0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
}

#[tokio::test]
async fn a_flood_below_a_prefix_with_a_bound_of_its_own_takes_no_place_of_others() {
    let mut config = CacheConfig::default();
    config.max_flights.set_all(4);
    config.max_flights.set("flood", 2);
    let bench = bench_with(config);
    bench.backend.script("flood/0", [Reply::Hang]);
    bench.backend.script("flood/1", [Reply::Hang]);
    let mut cx = Context::from_waker(Waker::noop());
    let names = ["flood/0", "flood/1", "flood/2"];
    let mut gets = names.map(|name| Box::pin(bench.cache.get(name)));
    assert!(gets[0].as_mut().poll(&mut cx).is_pending());
    assert!(gets[1].as_mut().poll(&mut cx).is_pending());
    let [.., third] = gets;
    let error = third.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("max_flights"), "{error}");
    assert_eq!(bench.text().await, "v1");
}

#[tokio::test]
async fn an_exact_version_gives_its_place_back_whatever_was_answered() {
    let config = CacheConfig {
        max_flights: ByPrefix::new(1),
        ..CacheConfig::default()
    };
    let bench = bench_with(config);
    let failed = Reply::Error(ErrorKind::Unavailable);
    bench.backend.script(NAME, [Reply::Stored, failed]);
    let (name, version) = (NameRef::parse(NAME).unwrap(), Version::number(1));
    let read = || {
        let request = Request::new(name).with_version(&version);
        bench.cache.resolve(request)
    };
    assert!(read().await.is_ok());
    assert_eq!(read().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(read().await.is_ok());
    assert_eq!(bench.text().await, "v1");
}
