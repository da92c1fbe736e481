//! Another resolver's answer when the primary is away, for names whose owner has said so.
//!
//! It never asks unless an outage of the primary is proved by its error, and never keeps what it
//! was answered: the fallback's own cache, of seconds, stands below it.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::clock::{Clock, Moment};
use crate::downgrade::Downgrades;
use crate::error::Error;
use crate::layers::Cache;
use crate::layers::batch::whole;
use crate::name::NameRef;
use crate::policy::ask_fallback;
use crate::resolver::{
    Request, ResolveFuture, ResolveManyFuture, SecretResolver, ShutdownFuture, ShutdownReport,
};
use crate::rules::ByPrefix;
use crate::secret::{Freshness, Record};

/// Asks a fallback, by prefix of the name, when the primary's error permits it.
///
/// # Order
/// Outside the cache, so that a fallback's answer can neither take the place of the primary's
/// entry nor hide the primary's error from the decision on stale values; inside the caller's
/// deadline, which covers both.
///
/// # Security
/// Anyone who can cut the primary off chooses the fallback. Each answer is marked, logged at WARN,
/// counted and reported to `on_downgrade`.
#[derive(Debug)]
pub(crate) struct Fallback {
    primary: Cache,
    fallbacks: ByPrefix<Option<Cache>>,
    clock: Arc<dyn Clock>,
    downgrades: Downgrades,
}

impl Fallback {
    pub(crate) fn new(
        primary: Cache,
        fallbacks: ByPrefix<Option<Cache>>,
        clock: Arc<dyn Clock>,
        downgrades: Downgrades,
    ) -> Self {
        Self {
            primary,
            fallbacks,
            clock,
            downgrades,
        }
    }

    pub(crate) fn primary(&self) -> &Cache {
        &self.primary
    }

    /// Whether there is a fallback for some name.
    pub(crate) fn is_named(&self) -> bool {
        self.fallbacks.values().flatten().next().is_some()
    }

    async fn decide<'a>(
        &'a self,
        fallback: &'a Cache,
        request: Request<'a>,
        error: Error,
    ) -> Result<Record, Error> {
        // Versions of the primary mean nothing to another store.
        let any_version = request.version().is_none() && request.floor().is_none();
        if !ask_fallback(error.kind()) || !any_version {
            return Err(error);
        }
        match fallback.resolve(Request::new(request.name())).await {
            Ok(record) => {
                let now = self.clock.now();
                self.downgrades
                    .report(request.name(), Freshness::Fallback, &error, now);
                let answer = record.answer().marked(Freshness::Fallback);
                Ok(record.with_answer(answer))
            }
            // The primary's error is the one that its owner has to act on.
            Err(_) => Err(error),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Fallback {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let answer = self.primary.resolve(request);
        if answer.is_ready_ok() {
            return answer;
        }
        match self.fallbacks.get(request.name().path()) {
            None => answer,
            Some(fallback) => ResolveFuture::new(async move {
                match answer.await {
                    Ok(record) => Ok(record),
                    Err(error) => self.decide(fallback, request, error).await,
                }
            }),
        }
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        // A signal reaches the primary's cache last: what its epoch has not seen, no cache has kept.
        let signalled = |name: NameRef<'_>, asked_in| self.primary.was_signalled(name, asked_in);
        let epoch = || self.primary.epoch();
        let ask = |request| self.resolve(request);
        ResolveManyFuture::new(whole(requests, &*self.clock, epoch, signalled, ask))
    }

    pass_on!(self => self.primary, remembers: true);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        // All at once: each closes at the first poll, whatever the others wait for.
        let fallbacks = self.fallbacks.values().flatten();
        let caches = std::iter::once(&self.primary).chain(fallbacks);
        let parts = join_all(caches.map(|cache| cache.shutdown(deadline)));
        ShutdownFuture::new(async move {
            let reports = parts.await.into_iter();
            reports.fold(ShutdownReport::default(), ShutdownReport::and)
        })
    }
}
