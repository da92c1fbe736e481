//! A breaker for each endpoint: who fails again and again is left alone for a while.
//!
//! It spares a store that is down, or wants to be left alone, and callers that would wait for it, and
//! directs attempts to the endpoints that answer. It decides nothing about what is answered instead:
//! its refusal has the kind of the error that it follows from, and the policy does the rest.
//!
//! Only the answers of attempts move it, in `endpoint`; no timer does. `attempt` sees to it that
//! each attempt is reported once, also one that is dropped. `known` are the names that have a trial of
//! their own.

mod attempt;
mod endpoint;
mod known;

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::aside::tell;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::in_time::{TimeLimit, in_time};
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::sync::lock;
use attempt::Attempt;
pub use endpoint::BreakerState;
use endpoint::{Admission, Change, Endpoint, Evidence};
use known::Known;

/// Bounds and times of a [`Breaker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// How many counted failures in a row open it, or four times as many names in a row that get
    /// nothing useful. Default 5; from 1 to 1,000.
    pub failures: u32,
    /// How long it is open the first time; each time that the trial fails it is twice as long, but not
    /// in an outage of all endpoints. Names that the store has answered before may try, too, one of them once
    /// in each `first_open`. Default 1 s; from 1 ms to `longest_open`.
    pub first_open: Duration,
    /// How long it is open at most, and how long a trial has the only place. Default 15 s, which is
    /// also the most.
    pub longest_open: Duration,
    /// How much time an attempt must have had before its deadline for a timeout to count: else a
    /// caller in a hurry could open the breaker for all others. Default 1 s; at most 15 s; 0 to
    /// count every timeout. Keep it below the attempt's timeout and above the patience that any
    /// caller may choose.
    pub fair_time: Duration,
}

/// Directs each attempt to the best endpoint whose breaker lets it through.
///
/// That is the first of them, in their order; or where the store says so
/// ([`SecretResolver::spreads`]), the one with the fewest attempts under way, by turns. An endpoint that
/// fails five times in a row is left alone for a second; then
/// one attempt at a time tries it: an answer closes the breaker, a failure opens it for twice as
/// long as before, up to 15 s. In an outage of all endpoints it is tried once a second instead, so that a
/// store is found again soon after its return. A failure is what [`Permits`](crate::Permits) says counts, of an
/// attempt that began after the endpoint's last answer. Useless answers (Malformed, Refused,
/// Unauthenticated, Throttled) to twenty names in a row, four times as many, open the breaker, too: a few
/// names alone, however often they are read, open nothing. So do twenty names that are throttled within
/// `first_open`, whatever others get between them. Every other answer of the store, also NotFound
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
/// A request that is already directed ([`Request::endpoint`]) stays where it is, and is counted
/// there.
///
/// # Order
/// Below retry, so that the next attempt goes to the next endpoint: above it, one failed request
/// would be all of its attempts at one endpoint. Below the limit: what was admitted and then queues
/// would all reach a store that has asked meanwhile to be left alone. A refusal takes no time, so the
/// queue of a store that is away is soon empty. Above the attempt's timeout, whose
/// [`ErrorKind::Timeout`] it counts: an attempt that is dropped from above counts for nothing, so a
/// budget that ends before the attempt's timeout would keep the breaker closed for ever.
///
/// # Cancel safety
/// An attempt that is dropped, or panics, counts for nothing; a trial gives its place back. One that waits
/// for a trial holds nothing.
///
/// ```
/// use std::sync::Arc;
/// use secret_resolver::{Clock, Error, SecretResolver};
/// use secret_resolver::layers::{Breaker, BreakerConfig, BreakerState};
///
/// fn wary(backend: Arc<dyn SecretResolver>, clock: Arc<dyn Clock>) -> Result<(), Error> {
///     let breaker = Breaker::new(backend, clock, BreakerConfig::default())?;
///     // Kept, when the breaker goes into other layers.
///     let monitor = breaker.monitor();
///     assert!(monitor.status().iter().all(|endpoint| endpoint.state == BreakerState::Closed));
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Breaker<R> {
    inner: R,
    core: Arc<Core>,
}

/// Shows the state of a [`Breaker`] that has gone into other layers. Cheap to clone.
///
/// ```
/// fn healthy(monitor: &secret_resolver::layers::BreakerMonitor) -> bool {
///     monitor.status().iter().any(|endpoint| endpoint.failures == 0)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct BreakerMonitor(Arc<Core>);

/// How one endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// Which endpoint of the store, counted from 0.
    pub endpoint: usize,
    /// Whether it is asked.
    pub state: BreakerState,
    /// Counted failures since its last sign of life, and names that got nothing useful.
    pub failures: u32,
}

struct Core {
    clock: Arc<dyn Clock>,
    config: BreakerConfig,
    /// Whether attempts are spread over the endpoints; else the first that answers is preferred.
    spreads: bool,
    state: Mutex<State>,
    /// Wakes those that wait for a trial.
    settled: Notify,
}

struct State {
    endpoints: Box<[Endpoint]>,
    /// Whose turn it is, where attempts are spread.
    next: usize,
    known: Known,
    closed: bool,
}

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
    pub fn new(inner: R, clock: Arc<dyn Clock>, config: BreakerConfig) -> Result<Self, Error> {
        config.check()?;
        let endpoints = (0..inner.endpoints().max(1)).map(|_| Endpoint::new());
        let state = State {
            endpoints: endpoints.collect(),
            next: 0,
            known: Known::new(),
            closed: false,
        };
        let core = Arc::new(Core {
            clock,
            config,
            spreads: inner.spreads(),
            state: Mutex::new(state),
            settled: Notify::new(),
        });
        Ok(Self { inner, core })
    }

    /// The resolver inside.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// How each endpoint does now.
    pub fn status(&self) -> Vec<BreakerStatus> {
        self.core.status()
    }

    /// What shows the same once the breaker has gone into other layers.
    pub fn monitor(&self) -> BreakerMonitor {
        BreakerMonitor(Arc::clone(&self.core))
    }
}

impl BreakerMonitor {
    /// Lets the next attempt at each open endpoint be its trial, however long it was to stay open,
    /// unless the store has asked for it: for a caller that asks at its own, slow pace.
    pub(crate) fn allow_trial(&self) {
        let now = self.0.clock.now();
        for endpoint in &mut lock(&self.0.state).endpoints {
            endpoint.allow_trial(now);
        }
    }

    /// How each endpoint does now.
    #[must_use]
    pub fn status(&self) -> Vec<BreakerStatus> {
        self.0.status()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Breaker<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            // From here to `settle` the attempt holds its admission; dropped, it gives it back.
            let attempt = self.core.admit_or_wait(&request).await?;
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
            lock(&self.core.state).closed = true;
            self.core.settled.notify_waiters();
            self.inner.shutdown(deadline).await
        })
    }
}

impl Core {
    /// Admits an attempt, perhaps after the trial that is under way: it ends soon where the store is healthy
    /// again, and what it shows is worth more than a refusal.
    ///
    /// # Cancel safety
    /// Nothing is held while it waits.
    async fn admit_or_wait(&self, request: &Request<'_>) -> Result<Attempt<'_>, Error> {
        loop {
            let mut settled = pin!(self.settled.notified());
            // From here on no end of a trial is missed.
            settled.as_mut().enable();
            let (refusal, until) = match self.admit(request) {
                Ok(attempt) => return Ok(attempt),
                Err(refused) => refused,
            };
            let clock = &*self.clock;
            let end = request.ends(clock).unwrap_or(Moment::NEVER);
            let until = until.filter(|until| clock.now() < *until && *until < end);
            let Some(until) = until else {
                return Err(refusal);
            };
            let _ = in_time(TimeLimit::strict(clock, until), settled).await;
        }
    }

    /// Admits an attempt at the endpoint that it is directed to, or at the best that lets it through. If
    /// none does, says until when it is worth to wait for a trial.
    fn admit(&self, request: &Request<'_>) -> Result<Attempt<'_>, (Error, Option<Moment>)> {
        let now = self.clock.now();
        let state = &mut *lock(&self.state);
        if state.closed {
            let closed = Error::new(ErrorKind::Closed, "the resolver was shut down");
            return Err((closed, None));
        }
        let (asked, number) = (request.endpoint(), state.endpoints.len());
        if let Some(nowhere) = asked.filter(|&endpoint| endpoint >= number) {
            // The backend says what that means.
            return Ok(Attempt::new(self, nowhere, None));
        }
        let tries: Vec<usize> = match asked {
            Some(endpoint) => vec![endpoint],
            None if self.spreads => state.by_turns(),
            None => (0..number).collect(),
        };
        let tries = tries.iter().copied();
        let tries = tries.filter(|&endpoint| request.may_ask(endpoint));
        let name = state.known.hash(request.name());
        let alone = !state.endpoints.iter().any(Endpoint::answers);
        let is_known = state.known.has(name);
        let config = &self.config;
        let mut first = |admit: &dyn Fn(&mut Endpoint) -> Option<Admission>| {
            tries
                .clone()
                .find_map(|at| Some((at, admit(state.endpoints.get_mut(at)?)?)))
        };
        let mut admitted = first(&|endpoint| endpoint.admit(name, alone, now, config));
        if admitted.is_none() && is_known {
            admitted = first(&|endpoint| endpoint.admit_known(name, now, config));
        }
        let mut closed = tries.filter_map(|at| Some((at, state.endpoints.get(at)?)));
        let Some((endpoint, admission)) = admitted else {
            let closed = closed.map(|(_, endpoint)| endpoint);
            let until = closed.clone().filter_map(Endpoint::trial_until).max();
            return Err((refusal(closed, alone, now, config), until));
        };
        let other = closed.any(|(at, other)| at != endpoint && other.is_closed());
        if asked.is_none() {
            state.next = (endpoint + 1) % number;
        }
        let attempt = Attempt::new(self, endpoint, Some(admission));
        Ok(attempt.with_alternative(other))
    }

    fn settle(&self, endpoint: usize, admission: Admission, evidence: Evidence) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if evidence == Evidence::Good {
            state.known.note(admission.name);
        }
        let breaker = state.endpoints.get_mut(endpoint);
        let change =
            breaker.and_then(|breaker| breaker.settle(admission, evidence, now, &self.config));
        drop(state);
        self.settled.notify_waiters();
        // Told outside the lock: a subscriber is foreign code.
        match change {
            Some(Change::Opened { wait, cause }) => {
                tell(move || {
                    tracing::warn!(endpoint, ?wait, ?cause, "the breaker of an endpoint opened");
                });
            }
            Some(Change::Closed) => {
                tell(move || tracing::info!(endpoint, "the breaker of an endpoint closed"));
            }
            None => {}
        }
    }

    fn status(&self) -> Vec<BreakerStatus> {
        lock(&self.state).status()
    }
}

impl State {
    /// The endpoints in the order in which they are asked where attempts are spread: those with the least
    /// under way first, so that one which is slow does not get as many as the others; and by turns.
    fn by_turns(&self) -> Vec<usize> {
        let number = self.endpoints.len();
        let mut order: Vec<usize> = (0..number)
            .map(|step| (self.next + step) % number)
            .collect();
        // Stable: among equals it is whose turn it is.
        order.sort_by_key(|&at| self.endpoints.get(at).map(|endpoint| endpoint.busy));
        order
    }

    fn status(&self) -> Vec<BreakerStatus> {
        let endpoints = self.endpoints.iter().enumerate();
        endpoints
            .map(|(endpoint, breaker)| BreakerStatus {
                endpoint,
                state: breaker.state,
                failures: breaker.failures(),
            })
            .collect()
    }
}

/// The answer when none of `endpoints` lets an attempt through.
///
/// It is an outage only where each of them has one: no exception of a policy may follow from a store
/// that answers, even nothing useful.
fn refusal<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    alone: bool,
    now: Moment,
    config: &BreakerConfig,
) -> Error {
    let at = |endpoint: &&Endpoint| endpoint.told_at(alone, now, config);
    let soonest = endpoints.clone().map(|endpoint| at(&endpoint)).min();
    let kind = endpoints
        .filter(|endpoint| !endpoint.cause.permits().counts_for_breaker)
        .min_by_key(at)
        .map_or(ErrorKind::Unavailable, |endpoint| endpoint.cause);
    let what = match kind {
        ErrorKind::Unavailable => {
            "the breaker is open: the store failed, and is left alone for now"
        }
        _ => "the breaker is open: the store answered so or asked for it, and is left alone",
    };
    Error::new(kind, what)
        .with_backend("breaker")
        .with_retry_after(soonest.unwrap_or(now).since(now))
        .held_back()
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Does not wait: in a forked child the lock may be held for ever.
        let endpoints = self.state.try_lock().ok().map(|state| state.status());
        f.debug_struct("Core")
            .field("config", &self.config)
            .field("endpoints", &endpoints)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
