//! A breaker for each endpoint: one that fails again and again is left alone for a while.
//!
//! It spares a store that is down, or wants to be left alone, and callers that would wait for it, and
//! directs attempts to the endpoints that answer. It decides nothing about what is answered instead:
//! its refusal has the kind of the error that it follows from, and the policy does the rest.
//!
//! Only the answers of attempts move it, in `endpoint`; no timer does. `attempt` sees to it that
//! each attempt is reported once, even one that is dropped. `turns` chooses the endpoint of each. `known` are
//! the names that have their own trial.

mod attempt;
mod endpoint;
mod known;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::status::{EndpointStatus, Failure};
pub use endpoint::BreakerState;
use turns::Turns;

/// When an endpoint that fails is left alone, and for how long.
///
/// ```
/// use secret_resolver::{BreakerConfig, Resolver, testing::MockBackend};
///
/// let wary = BreakerConfig::default().with_failures(2);
/// let resolver = Resolver::builder(MockBackend::new()).with_breaker(wary).build()?;
/// # let _ = resolver;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    pub(crate) failures: u32,
    pub(crate) first_open: Duration,
    pub(crate) longest_open: Duration,
    /// How much time an attempt must have had before its deadline for a timeout to count: else a
    /// caller in a hurry could open the breaker for all others. 0 to count every timeout.
    pub(crate) fair_time: Duration,
}

/// Directs each attempt to the best endpoint whose breaker lets it through.
///
/// That is the first of them, in their order; or where the store says so
/// ([`SecretResolver::spreads`]), the one with the fewest attempts under way, by turns. An endpoint that
/// fails five times in a row is left alone for a second; then
/// one attempt at a time tries it: an answer closes the breaker, a failure opens it for twice as
/// long as before, up to 15 s. In an outage of all endpoints it is tried once a second instead, so that a
/// store is found again soon after its return. A failure is what [`Permits`](crate::backend::Permits) says counts, of an
/// attempt that began after the endpoint's last answer. Useless answers (Malformed, Refused,
/// Unauthenticated, Throttled) to twenty names in a row, four times as many, open the breaker, too: a few
/// names alone, however often they are read, open nothing. So do twenty names that are throttled within
/// `first_open`, whatever others get between them. Every other answer of the store, even NotFound
/// or Denied, is a sign of life. An answer to an attempt that began before the breaker last opened or
/// closed changes nothing.
///
/// After an error with a [`retry_after`](Error::retry_after) all attempts leave its endpoint alone for
/// that long, from the first such error on, for at least `first_open` and at most 60 s. This does
/// not hold for Unauthenticated, which is about logins, and for NotFound and Denied, which are about one
/// name.
///
/// One place for a trial is for any name; another, once each `first_open`, is for a name that the store
/// has answered since the start. So a flood of names that hang does not take every trial. About 16,384
/// such names are known.
///
/// When no endpoint lets an attempt through, the answer comes at once, or once the trial that is under way
/// has ended, if that is within half a second of its begin: the error that the breaker
/// follows from, with [`retry_after`](Error::retry_after) until the next trial. It is
/// [`ErrorKind::Unavailable`] only where every endpoint was away; otherwise it has the kind of the
/// useless answer of the endpoint that is tried first. Its backend is `breaker`. Breakers never count it,
/// and [`Retry`](crate::layers::Retry) does not try again.
///
/// Requests for the latest version ([`Request::wants_latest`]) have their own breakers: an endpoint that
/// cannot reach its leader fails them alone. [`Breaker::status`] shows those of all others.
///
/// A request that is already directed ([`Request::endpoint`]) stays where it is, and is counted
/// there.
///
/// # Order
/// Below retry, so that the next attempt goes to the next endpoint: above it, one failed request
/// would be all of its attempts at one endpoint. Below the limit: what was admitted and then queues
/// would all reach a store that has asked meanwhile to be left alone. A refusal takes half a second at most, so the
/// queue of a store that is away is soon empty. Above the attempt's timeout, whose
/// [`ErrorKind::Timeout`] it counts: an attempt that is dropped from above counts for nothing, so a
/// budget that ends before the attempt's timeout would keep the breaker closed for ever.
///
/// # Cancel safety
/// An attempt that is dropped, or panics, counts for nothing; a trial gives its place back. An attempt that waits
/// for a trial holds nothing.
#[derive(Debug)]
pub(crate) struct Breaker<R> {
    inner: R,
    turns: Arc<Turns>,
}

/// Shows the state of a [`Breaker`] that has gone into other layers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct BreakerMonitor(Arc<Turns>);

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            first_open: Duration::from_secs(1),
            longest_open: Self::LONGEST,
            fair_time: Duration::from_secs(1),
        }
    }
}

impl BreakerConfig {
    const LONGEST: Duration = Duration::from_secs(15);

    /// How many counted failures in a row open it, or four times as many names in a row that get
    /// nothing useful. Default 5; from 1 to 1,000.
    #[must_use]
    pub fn with_failures(self, failures: u32) -> Self {
        Self { failures, ..self }
    }

    /// How long it is open the first time, default 1 s, at least 1 ms; and at most, default 15 s, which
    /// is also the most. Each time that the trial fails it is twice as long, but not in an outage of all
    /// endpoints. Names that the store has answered before may try, too, one of them once in each `first`.
    #[must_use]
    pub fn with_open(self, first: Duration, longest: Duration) -> Self {
        Self {
            first_open: first,
            longest_open: longest,
            ..self
        }
    }

    fn check(&self) -> Result<(), Error> {
        let rule = if self.failures == 0 || self.failures > 1_000 {
            "a breaker opens after 1 to 1,000 failures"
        } else if self.longest_open > Self::LONGEST {
            "a breaker is open for at most 15 s"
        } else if self.first_open < Duration::from_millis(1) || self.first_open > self.longest_open
        {
            "the first opening of a breaker lasts from 1 ms to its longest"
        } else if self.fair_time > Self::LONGEST {
            "the time after which a timeout counts is at most 15 s"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Misconfigured, rule))
    }
}

impl<R: SecretResolver> Breaker<R> {
    /// Around `inner`, for as many endpoints as it has now, keeping time on `clock`.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when a bound makes no sense.
    pub(crate) fn new(
        inner: R,
        clock: Arc<dyn Clock>,
        config: BreakerConfig,
    ) -> Result<Self, Error> {
        config.check()?;
        let turns = Arc::new(Turns::new(&inner, clock, config));
        Ok(Self { inner, turns })
    }

    /// What shows the same once the breaker has gone into other layers.
    pub(crate) fn monitor(&self) -> BreakerMonitor {
        BreakerMonitor(Arc::clone(&self.turns))
    }
}

impl BreakerMonitor {
    /// Lets the next attempt at each open endpoint be its trial, however long it was to stay open,
    /// unless the store has asked for it: for a caller that asks at its own, slow pace.
    pub(crate) fn allow_trial(&self) {
        self.0.allow_trial();
    }

    /// How each endpoint does now.
    #[must_use]
    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        self.0.status()
    }

    /// Why no endpoint was asked at the last read, where that is not the breakers' doing.
    #[must_use]
    pub(crate) fn held_back(&self) -> Option<Failure> {
        self.0.held_back()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Breaker<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            // From here to `settle` the attempt holds its admission; dropped, it gives it back.
            let attempt = self.turns.admit_or_wait(&request).await?;
            let endpoint = attempt.endpoint();
            let answer = self.inner.resolve(attempt.direct(request)).await;
            attempt.settle(&request, &answer);
            answer
                .map(|record| record.answered_at(endpoint))
                .map_err(|error| error.at_endpoint(endpoint))
        })
    }

    each_alone!(self);

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            // An open breaker must not hide that all is over.
            self.turns.close();
            self.inner.shutdown(deadline).await
        })
    }
}

#[cfg(test)]
mod tests;
