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

use std::time::Duration;

use super::*;
use crate::resolver::SecretResolverExt;
use crate::secret::Secret;
use crate::testing::{ManualClock, MockBackend};

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
            let flight = self.cache.flights.flying_now().values().next().cloned();
            if flight.is_some_and(|flight| flight.awaited_by() >= number) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}
