//! Refreshing ahead of the end: which read asks for it, what it may change, and what it may not keep.

use super::*;
use crate::error::ErrorKind;
use crate::secret::Version;
use crate::testing::Reply;

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
async fn a_read_at_the_very_moment_at_which_a_refresh_is_due_asks_for_it() {
    let bench = bench();
    bench.text().await;
    let due = bench.cache.core.store.at("prod/db").unwrap().life.refresh;
    let before = due.since(bench.clock.now()) - Duration::from_nanos(1);
    bench.clock.advance(before);
    assert_eq!(bench.text().await, "v1");
    assert!(bench.cache.core.flying_now().is_empty());
    assert_eq!(bench.backend.calls(), 1);
    bench.clock.advance(Duration::from_nanos(1));
    assert_eq!(bench.text().await, "v1");
    let asked = tokio::time::timeout(Duration::from_secs(10), bench.backend.called(2));
    asked.await.expect("the read asks for no refresh");
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
async fn a_read_under_a_new_name_asks_for_the_refresh_that_is_due() {
    let bench = bench();
    bench.backend.set("prod/db#user", "u");
    bench.text().await;
    bench.clock.advance(TTL * 85 / 100);
    bench.cache.get("prod/db#user").await.unwrap();
    bench.backend.called(2).await;
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
        while bench.cache.core.values() > 0 {
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
    while !bench.cache.core.flying_now().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..1000 {
        assert_eq!(bench.text().await, "v1");
    }
    assert_eq!(bench.backend.calls(), 2);
}

#[tokio::test]
async fn neither_a_hit_nor_a_refresh_that_fails_lengthens_a_life() {
    let bench = bench();
    bench.backend.set_conditional(NAME);
    let expires = bench.get().await.unwrap().answer().expires_at().unwrap();
    let fails = [
        ErrorKind::Unavailable,
        ErrorKind::Throttled,
        ErrorKind::Malformed,
    ];
    // A read every second, from before a refresh is due to the last moment.
    for kind in fails.iter().cycle() {
        bench.backend.always(Reply::Error(*kind));
        bench.clock.advance(Duration::from_secs(1));
        if bench.clock.now() >= expires {
            break;
        }
        let secret = bench.get().await.unwrap();
        assert_eq!(secret.answer().expires_at(), Some(expires));
    }
    bench.backend.called(2).await;
    assert!(bench.get().await.is_err());
    assert_eq!(bench.cache.core.values(), 0);
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

/// Says "unchanged" to every request except the first.
#[derive(Debug)]
struct Unchanged {
    asked: std::sync::Mutex<Vec<Option<Version>>>,
    lease: Option<Duration>,
}

impl SecretResolver for Unchanged {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let mut asked = crate::sync::lock(&self.asked);
        asked.push(request.held());
        let first = asked.len() == 1;
        let value = crate::secret::SecretBuf::from_slice(b"v1").unwrap();
        let record = Record::builder("unchanged").version(Version::number(1));
        ResolveFuture::ready(match (first, self.lease) {
            (true, None) => record.field("password", value).build(),
            (true, Some(lease)) => record.field("password", value).lease(lease).build(),
            (false, _) => Ok(Record::unchanged("unchanged")),
        })
    }
}

fn unchanged(lease: Option<Duration>) -> (ManualClock, Arc<Unchanged>, Cache) {
    let clock = ManualClock::strict();
    let asked = std::sync::Mutex::default();
    let store = Arc::new(Unchanged { asked, lease });
    let shared = Arc::new(clock.clone());
    let cache = Cache::new(Arc::clone(&store), shared, CacheConfig::default()).unwrap();
    (clock, store, cache)
}

#[tokio::test]
async fn unchanged_is_malformed_where_no_version_was_offered() {
    let (_clock, store, cache) = unchanged(None);
    cache.get(NAME).await.unwrap();
    cache.invalidator().invalidate(NAME).unwrap();
    let error = cache.get(NAME).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    let asked = crate::sync::lock(&store.asked);
    assert_eq!(
        *asked.iter().map(Option::is_some).collect::<Vec<_>>(),
        [false, false]
    );
}

#[tokio::test]
async fn what_is_unchanged_has_no_new_lease() {
    let lease = TTL / 3;
    let (clock, store, cache) = unchanged(Some(lease));
    let first = cache.get(NAME).await.unwrap();
    let end = first.answer().expires_at().unwrap();
    clock.advance(end.since(clock.now()) * 85 / 100);
    cache.get(NAME).await.unwrap();
    while crate::sync::lock(&store.asked).len() < 2 || !cache.core.flying_now().is_empty() {
        tokio::task::yield_now().await;
    }
    let again = cache.get(NAME).await.unwrap();
    assert!(again.answer().fetched_at() > first.answer().fetched_at());
    assert!(again.answer().expires_at().unwrap() <= Moment::ZERO + lease);
}

#[tokio::test]
async fn a_conditional_read_that_hangs_keeps_nothing_past_its_end() {
    let bench = bench();
    let secret = bench.get().await.unwrap();
    let left = CacheConfig::default().flight_budget / 2;
    let life = secret.answer().expires_at().unwrap();
    bench
        .clock
        .advance(life.since(bench.clock.now()).checked_sub(left).unwrap());
    bench.backend.script(NAME, [Reply::Hang]);
    bench.get().await.unwrap();
    bench.backend.called(2).await;
    bench.clock.advance(left);
    // The refresh hangs past the value's end, within its own budget, and holds nothing.
    assert_eq!(bench.cache.core.flying_now().len(), 1);
    assert_eq!(secret.record().references(), 1);
}

#[tokio::test]
async fn a_refresh_that_is_due_is_begun_also_by_a_read_of_a_newer_version_that_is_not_awaited() {
    let bench = bench();
    bench.text().await;
    bench.clock.advance(TTL * 89 / 100);
    let (name, newer) = (NameRef::parse(NAME).unwrap(), Version::number(9));
    // The one read that learns that a refresh is due.
    drop(bench.cache.resolve(Request::new(name).at_least(&newer)));
    bench.backend.called(2).await;
}

#[tokio::test]
async fn a_refresh_that_finds_no_place_is_asked_for_again_by_a_read_a_second_later() {
    let config = CacheConfig {
        max_flights: ByPrefix::new(1),
        ..CacheConfig::default()
    };
    let budget = config.flight_budget;
    let bench = bench_with(config);
    bench.text().await;
    bench.backend.set("slow/one", "s");
    bench.backend.script("slow/one", [Reply::Hang]);
    bench.clock.advance(TTL * 82 / 100);
    let mut slow = std::pin::pin!(bench.cache.get("slow/one"));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(slow.as_mut().poll(&mut cx).is_pending());
    bench.backend.called(2).await;
    // It is due, and the one place is taken.
    assert_eq!(bench.text().await, "v1");
    bench.clock.advance(budget);
    assert_eq!(slow.await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(bench.backend.calls_of(NAME), 1);
    assert_eq!(bench.text().await, "v1");
    let again = tokio::time::timeout(Duration::from_secs(10), bench.backend.called(3));
    again.await.expect("no read asks for the refresh again");
    assert_eq!(bench.backend.calls_of(NAME), 2);
}
