//! How each peer is set up: one key type, the standard keyed hasher, one capacity, one time to live
//! where it has one.

use std::future::Future;
use std::hash::RandomState;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aws_secretsmanager_caching::SecretsManagerCachingClient;
use quick_cache::UnitWeighter;
use quick_cache::sync::DefaultLifecycle;
use secret_resolver::Resolver;
use secret_vault::{SecretVault, SecretVaultBuilder, SecretVaultNoEncryption, SecretVaultRef};

use crate::source::{Source, Value};

pub const TTL: Duration = Duration::from_secs(300);
pub const CAPACITY: usize = 10_000;

pub type Moka = moka::sync::Cache<Box<str>, Arc<Value>, RandomState>;
pub type MokaFuture = moka::future::Cache<Box<str>, Arc<Value>, RandomState>;
pub type Quick = quick_cache::sync::Cache<
    Box<str>,
    Arc<Value>,
    UnitWeighter,
    RandomState,
    DefaultLifecycle<Box<str>, Arc<Value>>,
>;
pub type Vault = SecretVault<Source, SecretVaultNoEncryption>;

pub fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("prod/service-{number}/db#password"))
        .collect()
}

/// The answer of a future that has one at once, as every hit does.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a cached name was not answered at once"),
    }
}

pub fn resolver(source: Source, capacity: usize, ttl: Duration) -> Resolver {
    Resolver::builder(source)
        .with_max_entries(u32::try_from(capacity).unwrap())
        .with_max_bytes(64 << 20)
        .with_ttl(ttl)
        .build()
        .unwrap()
}

pub async fn fill_resolver(resolver: &Resolver, names: &[String]) {
    for name in names {
        resolver.get(name).await.unwrap();
    }
}

pub fn moka(capacity: usize, ttl: Duration) -> Moka {
    moka::sync::Cache::builder()
        .max_capacity(capacity as u64)
        .time_to_live(ttl)
        .build_with_hasher(RandomState::new())
}

pub fn fill_moka(cache: &Moka, names: &[String], value: fn() -> Value) {
    for name in names {
        cache.insert(Box::from(name.as_str()), Arc::new(value()));
    }
    cache.run_pending_tasks();
}

pub fn moka_future(capacity: usize, ttl: Duration) -> MokaFuture {
    moka::future::Cache::builder()
        .max_capacity(capacity as u64)
        .time_to_live(ttl)
        .build_with_hasher(RandomState::new())
}

pub fn quick(capacity: usize) -> Quick {
    Quick::with(
        capacity,
        capacity as u64,
        UnitWeighter,
        RandomState::new(),
        DefaultLifecycle::default(),
    )
}

pub fn fill_quick(cache: &Quick, names: &[String], value: fn() -> Value) {
    for name in names {
        cache.insert(Box::from(name.as_str()), Arc::new(value()));
    }
}

pub fn vault_refs(names: &[String]) -> Vec<SecretVaultRef> {
    let reference = |name: &String| SecretVaultRef::new(name.into()).with_allow_in_snapshots(true);
    names.iter().map(reference).collect()
}

pub fn vault(source: Source, refs: &[SecretVaultRef]) -> Vault {
    SecretVaultBuilder::with_source(source)
        .with_secret_refs(refs.iter().collect())
        .build()
        .unwrap()
}

pub async fn fill_vault(vault: &Vault) {
    // Not `refresh`, which compares every name held with every name registered.
    vault.refresh_only(|_| true).await.unwrap();
}

pub fn aws(source: &Source, capacity: usize, ttl: Duration) -> SecretsManagerCachingClient {
    let capacity = NonZeroUsize::new(capacity).unwrap();
    SecretsManagerCachingClient::new(source.aws_client(), capacity, ttl, false).unwrap()
}

pub async fn fill_aws(client: &SecretsManagerCachingClient, names: &[String]) {
    for name in names {
        client
            .get_secret_value(name, None, None, false)
            .await
            .unwrap();
    }
}
