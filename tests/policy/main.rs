//! What the two exceptions allow, and everything that they do not.
//!
//! Each file has one idea; here is what they share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod closed;
mod fallback;
mod floods;
mod outages;
mod stale;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{Downgrade, ErrorKind, Freshness, Resolver, ResolverBuilder};

const NAME: &str = "prod/db#password";
const TTL: Duration = Duration::from_secs(300);
const STALE: Duration = Duration::from_secs(60);

struct Bench {
    clock: ManualClock,
    primary: MockBackend,
    fallback: MockBackend,
    resolver: Resolver,
}

fn bench(configure: impl FnOnce(ResolverBuilder, MockBackend) -> ResolverBuilder) -> Bench {
    let clock = ManualClock::strict();
    let primary = MockBackend::new()
        .with_value(NAME, "primary")
        .with_clock(clock.clone());
    let fallback = MockBackend::new()
        .with_value(NAME, "fallback")
        .with_clock(clock.clone());
    let builder = Resolver::builder(primary.clone())
        .with_attempts(1)
        .with_clock(clock.clone());
    let resolver = configure(builder, fallback.clone()).build().unwrap();
    Bench {
        clock,
        primary,
        fallback,
        resolver,
    }
}

impl Bench {
    async fn text(&self) -> Result<(String, Freshness), ErrorKind> {
        let secret = self
            .resolver
            .get(NAME)
            .await
            .map_err(|error| error.kind())?;
        let freshness = secret.answer().freshness();
        Ok((secret.expose_str().unwrap().to_owned(), freshness))
    }

    fn fail(&self, kind: ErrorKind) {
        self.primary.always(Reply::Error(kind));
    }

    /// Waits until no fetch of the primary is in flight: what the last one left behind is seen.
    async fn landed(&self) {
        within(async {
            while self.resolver.status().flights > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// What was reported to a callback, in order: for which name, how it was obtained, and why.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<(String, Freshness, ErrorKind)>>>);

impl Reports {
    fn callback(&self) -> impl Fn(&Downgrade<'_>) + Send + Sync + 'static {
        let Self(reports) = self.clone();
        move |downgrade| {
            let name = downgrade.name.as_str().to_owned();
            let report = (name, downgrade.freshness, downgrade.cause);
            reports.lock().unwrap().push(report);
        }
    }

    fn all(&self) -> Vec<(String, Freshness, ErrorKind)> {
        self.0.lock().unwrap().clone()
    }
}

/// What hangs fails its test instead of blocking the run.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(Duration::from_secs(10), future).await;
    ended.unwrap_or_else(|_| panic!("it has not ended within 10 s"))
}

fn stale(bench: Result<(String, Freshness), ErrorKind>) -> bool {
    matches!(bench, Ok((text, Freshness::Stale { .. })) if text == "primary")
}
