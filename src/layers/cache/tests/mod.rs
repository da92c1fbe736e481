//! The cache by itself, on a manual clock: what its tests share. Each file has one idea.

mod batches;
mod bounds;
mod fence;
mod flights;

mod handles;
mod lifetime;
mod negatives;
mod refresh;
mod settle;
mod shutdown;
mod signals;
mod status;
mod versions;
mod wishes;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::address::Located;
use crate::invalidate::Invalidator;
use crate::resolver::SecretResolverExt;
use crate::rules::ByPrefix;
use crate::secret::Secret;
use crate::testing::{ManualClock, MockBackend};

const NAME: &str = "prod/db#password";
const TTL: Duration = Duration::from_secs(300);

struct Bench {
    clock: ManualClock,
    backend: MockBackend,
    cache: Arc<Cache>,
}

fn bench() -> Bench {
    bench_with(CacheConfig::default())
}

fn bench_with(config: CacheConfig) -> Bench {
    let clock = ManualClock::strict();
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

fn stale_up_to(limit: Duration) -> CacheConfig {
    CacheConfig {
        stale: ByPrefix::new(limit),
        ..CacheConfig::default()
    }
}

impl Cache {
    /// Around `inner`, keeping time on `clock`. Starts the thread for fetches.
    pub(crate) fn new(
        inner: impl SecretResolver,
        clock: Arc<dyn Clock>,
        config: CacheConfig,
    ) -> Result<Self, Error> {
        let driver = Arc::new(Driver::for_a_store()?);
        Self::shared(
            Arc::new(inner),
            clock,
            config,
            driver,
            Downgrades::default(),
        )
    }

    /// What a rotation signal calls.
    pub(crate) fn invalidator(&self) -> Invalidator {
        Invalidator::new([self.invalidates()])
    }
}

impl Core {
    pub(super) fn flying_now(&self) -> HashMap<Arc<str>, Arc<Flight>> {
        let state = self.lock();
        let flights = state.flights.iter();
        let flights = flights.map(|(address, (flight, _))| (address.clone(), flight.clone()));
        flights.collect()
    }

    pub(super) fn values(&self) -> usize {
        self.store.weights().len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.store.weights().into_iter().sum()
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
            let flight = self.cache.core.flying_now().into_values().next();
            if flight.is_some_and(|flight| flight.awaited_by() >= number) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Two names of one record, `a/x` and `b/y`, of which the backend says only where each leads.
#[derive(Clone, Debug)]
struct TwoNames(MockBackend);

impl TwoNames {
    fn path<'a>(name: NameRef<'a>) -> &'a str {
        match name.path() {
            "a/x" | "b/y" => "one/record",
            other => other,
        }
    }
}

impl SecretResolver for TwoNames {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let name = NameRef::parse(Self::path(request.name()))?;
            self.0.resolve(Request::new(name)).await
        })
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        Located::new(Self::path(name), name.field().map(Cow::Borrowed))
    }
}

fn two_names() -> (MockBackend, Cache) {
    let store = MockBackend::new().with_value("one/record", "v1");
    let clock = Arc::new(ManualClock::strict());
    let cache = Cache::new(TwoNames(store.clone()), clock, CacheConfig::default());
    (store, cache.unwrap())
}
