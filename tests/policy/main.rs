//! What the two exceptions allow, and everything that they do not.
//!
//! Each file has one idea; here is what they share.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod closed;
mod fallback;
mod outages;
mod stale;

use std::time::Duration;

use secret_resolver::testing::{ManualClock, MockBackend, Reply};
use secret_resolver::{ErrorKind, Freshness, Resolver, ResolverBuilder};

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
    let clock = ManualClock::new();
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
}

fn stale(bench: Result<(String, Freshness), ErrorKind>) -> bool {
    matches!(bench, Ok((text, Freshness::Stale { .. })) if text == "primary")
}
