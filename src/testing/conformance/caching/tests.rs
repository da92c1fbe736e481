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
    a_value_that_is_not_wiped_is_rejected: no_value_outlives_its_end_in_memory, KeepsForEver;
}

#[tokio::test]
async fn waiting_without_an_end_is_rejected() {
    // The law waits for 10 s of real time before it calls that a violation.
    let violation = no_answer_comes_after_the_deadline(&bad(Way::NoDeadline))
        .await
        .unwrap_err();
    assert_eq!(violation.found, "it does not answer");
}

#[tokio::test]
async fn all_laws_of_caching_are_asked_for_together_and_none_is_left_out() {
    let made = std::sync::atomic::AtomicUsize::new(0);
    let make = |store: MockBackend, clock: ManualClock| {
        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assembled(store, clock)
    };
    let count = || made.swap(0, std::sync::atomic::Ordering::Relaxed);
    all_of_caching(&make).await.unwrap();
    let all = count();
    a_value_within_its_time_is_not_fetched_again(&make)
        .await
        .unwrap();
    an_expired_value_is_not_answered(&make).await.unwrap();
    all_who_wait_share_one_fetch(&make).await.unwrap();
    all_who_wait_share_an_error(&make).await.unwrap();
    a_caller_who_leaves_does_not_end_the_fetch(&make)
        .await
        .unwrap();
    nothing_fetched_before_an_invalidation_is_answered(&make)
        .await
        .unwrap();
    no_answer_comes_after_the_deadline(&make).await.unwrap();
    names_of_one_record_are_fetched_together(&make)
        .await
        .unwrap();
    an_outage_is_answered_as_an_error(&make).await.unwrap();
    #[cfg(target_os = "linux")]
    no_value_outlives_its_end_in_memory(&make).await.unwrap();
    assert_eq!(all, count());
}
