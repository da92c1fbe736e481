//! What is wiped while a store blocks the thread that fetches; and a lease that allows nothing.
//!
//! Each in its own process, because it reads all of the process's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use secret_resolver::backend::{Request, ResolveFuture};
use secret_resolver::testing::Canary;
use secret_resolver::{ErrorKind, Freshness, Record, Resolver, SecretBuf, SecretResolver, Version};

use crate::support::{Store, in_a_process, ms, now, pause, since};

/// A store with one value and its tag, both kept masked. From its second request on it blocks.
#[derive(Clone, Debug)]
struct Masked {
    value: Arc<Canary>,
    tag: Arc<Canary>,
    asked: Arc<AtomicUsize>,
    blocking: Arc<AtomicBool>,
}

impl Masked {
    fn new() -> Self {
        Self {
            value: Arc::default(),
            tag: Arc::default(),
            asked: Arc::default(),
            blocking: Arc::default(),
        }
    }

    fn found(&self) -> (usize, usize) {
        (self.value.found().unwrap(), self.tag.found().unwrap())
    }
}

impl SecretResolver for Masked {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            if self.asked.fetch_add(1, Ordering::SeqCst) > 0 {
                self.blocking.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_secs(4));
                self.blocking.store(false, Ordering::SeqCst);
            }
            let record = Record::builder("masked").field("", self.value.value()?);
            let tag = Version::tag(self.tag.value()?.expose());
            request.admit(record.version(tag).build()?)
        })
    }
}

/// How much of the value and of its tag is found a second after `act`, while a refresh is blocked.
async fn found_a_second_after(act: impl AsyncFnOnce(&Resolver)) {
    let store = Masked::new();
    // The last fifth of a life is longer than a fetch may take, so that what is held is offered.
    let resolver = Resolver::builder(store.clone())
        .with_ttl(Duration::from_secs(5))
        .with_deadline(Duration::from_secs(1))
        .with_settle_time(ms(300))
        .build()
        .unwrap();
    drop(resolver.get("a/x").await.unwrap());
    assert_eq!(store.found(), (1, 1));
    let begun = now();
    while !store.blocking.load(Ordering::SeqCst) {
        assert!(since(begun) < Duration::from_secs(6), "it is not refreshed");
        // A hit, one of which begins the refresh.
        drop(resolver.get("a/x").await.unwrap());
        pause(10).await;
    }
    act(&resolver).await;
    let begun = now();
    pause(1000).await;
    let found = store.found();
    assert!(
        store.blocking.load(Ordering::SeqCst),
        "after {:?}",
        since(begun)
    );
    assert_eq!(found, (0, 0), "copies of the value and of its tag");
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn found_after_an_invalidation() {
    found_a_second_after(async |resolver| {
        resolver.invalidator().invalidate_all().unwrap();
    })
    .await;
}

#[test]
fn invalidated_values_and_tags_are_gone_from_memory_while_their_store_blocks() {
    in_a_process(
        "wiping::found_after_an_invalidation",
        Duration::from_secs(20),
    );
}

#[tokio::test]
#[ignore = "another test runs it in its own process"]
async fn found_after_a_shutdown() {
    found_a_second_after(async |resolver| {
        resolver.shutdown_within(ms(100)).await;
    })
    .await;
}

#[test]
fn values_and_tags_are_gone_from_memory_after_a_shutdown_while_their_store_blocks() {
    in_a_process("wiping::found_after_a_shutdown", Duration::from_secs(20));
}

/// A store whose leases are over when they begin.
#[derive(Debug)]
struct NoLease;

impl SecretResolver for NoLease {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let record = Record::builder("no lease").field("", SecretBuf::from_slice(b"value")?);
            request.admit(record.lease(Duration::ZERO).build()?)
        })
    }
}

#[tokio::test]
async fn a_lease_of_zero_is_not_an_outage_and_asks_no_fallback() {
    let fallback = Store::new("fallback");
    let resolver = Resolver::builder(NoLease)
        .dangerous_fallback_to(fallback.clone())
        .build()
        .unwrap();
    let answer = resolver.get("a/x").await;
    let asked = fallback.asked();
    let answer = match answer {
        Ok(secret) => Ok(secret.answer().freshness() == Freshness::Fallback),
        Err(error) => Err(error.kind()),
    };
    let refused = |kind: &ErrorKind| !kind.permits().fallback && !kind.permits().stale;
    assert!(answer.as_ref().is_err_and(refused), "{answer:?}");
    assert_eq!(asked, 0);
}
