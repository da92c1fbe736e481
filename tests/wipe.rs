//! What is gone from the cache is gone from memory, read back as an attacker would.
//!
//! The needle is kept masked (`Canary`), so that the search does not find itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use secret_resolver::testing::{Canary, ManualClock};
use secret_resolver::{Record, Request, ResolveFuture, Resolver, SecretResolver, Version};

/// A store that keeps the value masked, so that what is found is what the resolver holds.
#[derive(Clone, Debug)]
struct Masked(Arc<Canary>);

impl SecretResolver for Masked {
    fn resolve<'a>(&'a self, _request: Request<'a>) -> ResolveFuture<'a> {
        let record = |value| {
            let record = Record::builder("canary").field("", value);
            record.version(Version::number(1)).build()
        };
        ResolveFuture::ready(self.0.value().and_then(record))
    }
}

/// How often the store's value stands in memory.
fn found(store: &Masked) -> usize {
    store.0.found().unwrap()
}

fn resolver() -> (ManualClock, Masked, Resolver) {
    let (clock, store) = (ManualClock::new(), Masked(Arc::new(Canary::new())));
    let builder = Resolver::builder(store.clone()).with_clock(clock.clone());
    (clock, store, builder.build().unwrap())
}

#[tokio::test]
async fn a_cached_value_stands_once_in_memory_and_not_at_all_after_expiry() {
    let (clock, store, resolver) = resolver();
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(&store), 1);
    clock.advance(Duration::from_secs(300));
    assert_eq!(found(&store), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_after_invalidation() {
    let (_clock, store, resolver) = resolver();
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(&store), 1);
    resolver.invalidator().invalidate("a/b").unwrap();
    assert_eq!(found(&store), 0);
}

#[tokio::test]
async fn a_value_is_gone_from_memory_after_shutdown() {
    let (_clock, store, resolver) = resolver();
    drop(resolver.get("a/b").await.unwrap());
    assert_eq!(found(&store), 1);
    resolver.shutdown_within(Duration::from_secs(1)).await;
    assert_eq!(found(&store), 0);
}

#[tokio::test]
async fn a_clone_that_the_application_holds_is_wiped_when_it_goes_not_before() {
    let (_clock, store, resolver) = resolver();
    let held = resolver.get("a/b").await.unwrap();
    resolver.invalidator().invalidate("a/b").unwrap();
    assert_eq!(found(&store), 1);
    drop(held);
    assert_eq!(found(&store), 0);
}

#[test]
fn on_a_real_clock_ten_thousand_values_are_gone_within_a_second_on_an_undriven_runtime() {
    let store = Masked(Arc::new(Canary::new()));
    let builder = Resolver::builder(store.clone()).with_ttl(Duration::from_secs(1));
    let resolver = builder.build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        for number in 0..10_000 {
            drop(resolver.get(&format!("a/{number}")).await.unwrap());
        }
    });
    assert!(found(&store) > 0);
    // From here on nobody drives the runtime, and nobody asks. The last value was fetched before
    // this line: it expires within its second, and is gone within one more.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(found(&store), 0);
}
