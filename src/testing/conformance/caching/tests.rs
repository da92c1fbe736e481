//! The laws of caching on the caches of this crate, and each on one that breaks it.

use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::layers::{Cache, CacheConfig, Deadline, LimitConfig};
use crate::resolver::ResolveFuture;
use crate::stack::Resolver;
use crate::sync::lock;

fn assembled(store: MockBackend, clock: ManualClock) -> Result<Caching, Error> {
    let resolver = Resolver::builder(store)
        .with_attempts(1)
        .with_clock(clock)
        .build()?;
    let invalidator = resolver.invalidator();
    Ok(Caching::new(Arc::new(resolver), invalidator))
}

fn layered(store: MockBackend, clock: ManualClock) -> Result<Caching, Error> {
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let cache = Cache::new(store, Arc::clone(&clock), CacheConfig::default())?;
    let invalidator = cache.invalidator();
    let deadline = Deadline::new(cache, clock, Duration::from_secs(5));
    let boxed: Box<dyn SecretResolver> = Box::new(deadline);
    Ok(Caching::new(Arc::new(boxed), invalidator))
}

fn with_exceptions(store: MockBackend, clock: ManualClock) -> Result<Caching, Error> {
    // Exceptions for other names change nothing for the law's.
    let resolver = Resolver::builder(store)
        .with_attempts(1)
        .with_clock(clock)
        .serve_stale_up_to_for("other", TTL)
        .dangerous_fallback_to_for("other", MockBackend::new())
        .build()?;
    let invalidator = resolver.invalidator();
    Ok(Caching::new(Arc::new(resolver), invalidator))
}

fn routed(store: MockBackend, clock: ManualClock) -> Result<Caching, Error> {
    let resolver = Resolver::builder(MockBackend::new())
        .with_attempts(1)
        .with_clock(clock)
        .with_route("law", store)
        .with_route("other", MockBackend::new())
        .with_limit_for("other", LimitConfig::default())
        .build()?;
    let invalidator = resolver.invalidator();
    Ok(Caching::new(Arc::new(resolver), invalidator))
}

#[tokio::test]
async fn a_resolver_of_several_stores_keeps_all_laws_of_caching() {
    all_of_caching(&routed).await.unwrap();
}

#[tokio::test]
async fn the_assembled_resolver_keeps_all_laws_of_caching() {
    all_of_caching(&assembled).await.unwrap();
}

#[tokio::test]
async fn a_cache_in_a_deadline_as_a_trait_object_keeps_all_laws_of_caching() {
    all_of_caching(&layered).await.unwrap();
}

#[tokio::test]
async fn a_resolver_with_exceptions_for_other_names_keeps_all_laws_of_caching() {
    all_of_caching(&with_exceptions).await.unwrap();
}

/// A way to cache badly.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Not at all.
    PassesThrough,
    /// For ever, whatever is invalidated.
    KeepsForEver,
    /// The fetch is the first caller's own: it ends with it.
    LeaderOwned,
    /// Without an end to waiting.
    NoDeadline,
}

#[derive(Debug)]
struct Bad {
    way: Way,
    store: MockBackend,
    kept: Mutex<HashMap<String, Record>>,
    flying: tokio::sync::Mutex<()>,
}

impl SecretResolver for Bad {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let path = request.name().path().to_owned();
        ResolveFuture::new(async move {
            if self.way == Way::PassesThrough || self.way == Way::NoDeadline {
                return self.store.resolve(request).await;
            }
            let held = |kept: &HashMap<String, Record>| {
                kept.get(&path)
                    .map(|record| record.clone().select(request.name().field()))
            };
            let _leader = self.flying.lock().await;
            if let Some(record) = held(&lock(&self.kept)) {
                return Ok(record);
            }
            let record = self.store.resolve(request).await?;
            lock(&self.kept).insert(path.clone(), record.clone());
            Ok(record)
        })
    }
}

fn bad(way: Way) -> impl Fn(MockBackend, ManualClock) -> Result<Caching, Error> + Sync {
    move |store, _clock| {
        // An invalidator of a cache that nobody asks.
        let other = Resolver::builder(MockBackend::new()).build()?.invalidator();
        let bad = Bad {
            way,
            store,
            kept: Mutex::default(),
            flying: tokio::sync::Mutex::default(),
        };
        Ok(Caching::new(Arc::new(bad), other))
    }
}

/// Asserts that `law` rejects a cache that is bad in this way.
macro_rules! rejects {
    ($($test:ident: $law:ident, $way:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let violation = $law(&bad(Way::$way)).await.unwrap_err();
            assert_eq!(violation.law, stringify!($law));
        }
    )*};
}

rejects! {
    no_cache_is_rejected: a_value_within_its_time_is_not_fetched_again, PassesThrough;
    a_cache_without_expiry_is_rejected: an_expired_value_is_not_answered, KeepsForEver;
    a_fetch_for_each_caller_is_rejected: all_who_wait_share_one_fetch, PassesThrough;
    an_error_for_each_caller_is_rejected: all_who_wait_share_an_error, LeaderOwned;
    a_fetch_that_ends_with_its_caller_is_rejected: a_caller_who_leaves_does_not_end_the_fetch, LeaderOwned;
    a_cache_without_a_fence_is_rejected: nothing_fetched_before_an_invalidation_is_answered, KeepsForEver;
    a_fetch_for_each_name_is_rejected: names_of_one_record_are_fetched_together, PassesThrough;
    a_value_in_an_outage_is_rejected: an_outage_is_answered_as_an_error, KeepsForEver;
}

#[tokio::test]
async fn waiting_without_an_end_is_rejected() {
    // The law waits for 10 s of real time before it calls that a violation.
    let violation = no_answer_comes_after_the_deadline(&bad(Way::NoDeadline))
        .await
        .unwrap_err();
    assert_eq!(violation.found, "it does not answer");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_value_that_is_not_wiped_is_rejected() {
    let violation = no_value_outlives_its_end_in_memory(&bad(Way::KeepsForEver))
        .await
        .unwrap_err();
    assert_eq!(violation.found, "1 copies are left after its expiry");
}

/// A cache whose values live for `ttl`.
fn living_for(ttl: Duration) -> impl Fn(MockBackend, ManualClock) -> Result<Caching, Error> + Sync {
    move |store, clock| {
        let mut config = CacheConfig::default();
        config.ttl.set("law", ttl);
        let cache = Cache::new(store, Arc::new(clock), config)?;
        let invalidator = cache.invalidator();
        Ok(Caching::new(Arc::new(cache), invalidator))
    }
}

#[tokio::test]
async fn a_cache_whose_values_live_for_less_than_half_of_their_time_is_rejected() {
    // The cache's jitter takes up to a tenth.
    let make = living_for(TTL * 48 / 100);
    let violation = a_value_within_its_time_is_not_fetched_again(&make).await;
    assert_eq!(violation.unwrap_err().found, "2 fetches instead of 1");
}

/// A cache that a count of its answers makes forget its values.
#[derive(Debug)]
struct Forgetful {
    cache: Cache,
    invalidator: Invalidator,
    answers: std::sync::atomic::AtomicUsize,
}

impl SecretResolver for Forgetful {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let before = self
            .answers
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if before == 3 {
            self.invalidator.invalidate(NAME).unwrap();
        }
        self.cache.resolve(request)
    }
}

#[tokio::test]
async fn a_cache_that_forgets_a_value_after_its_third_answer_is_rejected() {
    let make = |store, clock| {
        let cache = Cache::new(store, Arc::new(clock), CacheConfig::default())?;
        let (invalidator, of_cache) = (cache.invalidator(), cache.invalidator());
        let forgetful = Forgetful {
            cache,
            invalidator: of_cache,
            answers: std::sync::atomic::AtomicUsize::new(0),
        };
        Ok(Caching::new(Arc::new(forgetful), invalidator))
    };
    let violation = a_value_within_its_time_is_not_fetched_again(&make).await;
    assert_eq!(violation.unwrap_err().found, "2 fetches instead of 1");
}

/// Drops a copy of each record once its caller waits for something else.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Late(Resolver);

#[cfg(target_os = "linux")]
impl SecretResolver for Late {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let record = self.0.resolve(request).await?;
            let copy = record.clone();
            // It runs when the law waits for the first time, which is after its first look.
            tokio::spawn(async move { drop(copy) });
            Ok(record)
        })
    }

    fn shutdown(&self, deadline: crate::Moment) -> crate::resolver::ShutdownFuture<'_> {
        self.0.shutdown(deadline)
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_cache_that_wipes_a_moment_later_keeps_the_law_of_wiping() {
    let make = |store: MockBackend, clock: ManualClock| {
        let resolver = Resolver::builder(store)
            .with_attempts(1)
            .with_clock(clock)
            .build()?;
        let invalidator = resolver.invalidator();
        Ok(Caching::new(Arc::new(Late(resolver)), invalidator))
    };
    no_value_outlives_its_end_in_memory(&make).await.unwrap();
}

#[tokio::test]
async fn all_laws_of_caching_are_asked_for_together_and_none_is_left_out() {
    let laws = [
        "a_value_within_its_time_is_not_fetched_again",
        "an_expired_value_is_not_answered",
        "all_who_wait_share_one_fetch",
        "all_who_wait_share_an_error",
        "a_caller_who_leaves_does_not_end_the_fetch",
        "nothing_fetched_before_an_invalidation_is_answered",
        "no_answer_comes_after_the_deadline",
        "names_of_one_record_are_fetched_together",
        "an_outage_is_answered_as_an_error",
        #[cfg(target_os = "linux")]
        "no_value_outlives_its_end_in_memory",
    ];
    for (number, law) in laws.into_iter().enumerate() {
        // The subject of this law cannot be made, those of the laws before it can.
        let made = std::sync::atomic::AtomicUsize::new(0);
        let make = |store: MockBackend, clock: ManualClock| match made
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            == number
        {
            true => Err(Error::new(ErrorKind::Misconfigured, "by the test")),
            false => assembled(store, clock),
        };
        assert_eq!(all_of_caching(&make).await.unwrap_err().law, law);
    }
}
