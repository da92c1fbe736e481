//! Another attempt, where one makes sense and there is time and budget for it.
//!
//! The error's kind says whether it makes sense ([`Permits`](crate::backend::Permits)); the breaker
//! decides where it goes. An endpoint is not asked again for what it has answered.

mod budget;
mod tour;

use std::sync::Arc;
use std::time::Duration;

use crate::aside::report;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::jitter::random_part;
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::secret::Record;
use budget::Budget;
use tour::{Failed, Tour};

/// Bounds and times of retries.
///
/// ```
/// use secret_resolver::{Resolver, RetryConfig, testing::MockBackend};
///
/// let patient = RetryConfig::default().with_max_attempts(5);
/// let resolver = Resolver::builder(MockBackend::new()).with_retry(patient).build()?;
/// # let _ = resolver;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    pub(crate) max_attempts: u32,
    pub(crate) first_backoff: Duration,
    pub(crate) longest_backoff: Duration,
    pub(crate) longest_asked: Duration,
    pub(crate) budget: u32,
    pub(crate) budget_percent: u32,
}

/// Asks again after a failure that may pass.
///
/// Before each further attempt it waits a random part of a back-off that doubles (full jitter), and
/// at least what the store asked for ([`Error::retry_after`]; a second where its quota is used up and it
/// does not say). Of a store with several endpoints an attempt is a tour: where one is away, wants to be left
/// alone or answers nonsense, each other is asked at once. What does
/// not fit before the request's deadline is not begun: the last error is answered at once instead. A
/// breaker's refusal is answered at once, too: it says that the store is not to be asked now, and a
/// caller should not wait for it.
///
/// A request for the latest version ([`Request::wants_latest`]) is tried again until its deadline, if it has
/// one, and waits for a breaker, too: only the leader of a store can answer it, and while there is none, one is being elected.
///
/// Retries of all requests share one budget: with the defaults, `n` requests to a dead store make
/// at most `1.2 n + 10` attempts, each of which asks each endpoint once at most.
///
/// # Order
/// Below the cache, so that all attempts are one flight within one budget, and a caller that joins it
/// adds none. Above the breaker, so that each attempt is counted, and directed to the next
/// endpoint. Above the limit, so that a back-off holds no permit. Above the attempt's timeout,
/// whose error is what is retried: below it, one attempt that hangs would take the time of all.
///
/// It bounds waits and beginnings, not attempts: the attempt's timeout ends one that
/// hangs. It knows only a deadline that the request carries: a layer that sets a budget on a flight passes
/// it on in the [`Request`].
///
/// # Cancel safety
/// Dropping it ends the wait or the attempt. What was taken from the budget for a retry that did not
/// begin stays taken; other requests refill it.
#[derive(Debug)]
pub(crate) struct Retry<R> {
    inner: R,
    clock: Arc<dyn Clock>,
    config: RetryConfig,
    budget: Budget,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            first_backoff: Duration::from_millis(50),
            longest_backoff: Duration::from_secs(1),
            longest_asked: Duration::from_secs(30),
            budget: 10,
            budget_percent: 20,
        }
    }
}

impl RetryConfig {
    const LONGEST: Duration = Duration::from_secs(60);

    /// How many attempts a fetch gets, the first included. Default 3; from 1 to 10.
    #[must_use]
    pub fn with_max_attempts(self, max_attempts: u32) -> Self {
        Self {
            max_attempts,
            ..self
        }
    }

    /// The longest back-off before the second attempt, default 50 ms, at least 1 ms; and before any
    /// attempt, default 1 s, at most 60 s. Before each further attempt it is twice as long.
    #[must_use]
    pub fn with_backoff(self, first: Duration, longest: Duration) -> Self {
        Self {
            first_backoff: first,
            longest_backoff: longest,
            ..self
        }
    }

    /// The longest wait that a store may ask for; a store that asks for more is not asked again. It
    /// counts where a request has no deadline that ends earlier. Default 30 s; at most 60 s.
    #[must_use]
    pub fn with_longest_asked(self, longest_asked: Duration) -> Self {
        Self {
            longest_asked,
            ..self
        }
    }

    /// How many retries all requests together may make in a burst, default 10, at most 10,000, 0 for no
    /// retry of what was sent; and what each first attempt adds to that, in hundredths of a retry, default 20, at most
    /// 100.
    #[must_use]
    pub fn with_budget(self, budget: u32, budget_percent: u32) -> Self {
        Self {
            budget,
            budget_percent,
            ..self
        }
    }

    fn check(&self) -> Result<(), Error> {
        let rule = if self.max_attempts == 0 || self.max_attempts > 10 {
            "a request gets from 1 to 10 attempts"
        } else if self.longest_backoff > Self::LONGEST || self.longest_asked > Self::LONGEST {
            "no wait before an attempt is longer than 60 s"
        } else if self.first_backoff < Duration::from_millis(1)
            || self.first_backoff > self.longest_backoff
        {
            "the first back-off lasts from 1 ms to the longest"
        } else if self.budget > 10_000 || self.budget_percent > 100 {
            "a budget holds at most 10,000 retries, and a first attempt adds at most one"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Misconfigured, rule))
    }
}

impl<R: SecretResolver> Retry<R> {
    /// Around `inner`, waiting on `clock`.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when a bound makes no sense.
    pub(crate) fn new(inner: R, clock: Arc<dyn Clock>, config: RetryConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            inner,
            clock,
            config,
            budget: Budget::new(config.budget, config.budget_percent),
        })
    }

    /// How much time an attempt needs where the one before waited for something of ours: with less, a thread that is late makes that look
    /// like an outage.
    const ENOUGH: Duration = Duration::from_millis(500);

    async fn one(&self, request: Request<'_>) -> Result<Record, Error> {
        if self.is_over(&request) {
            return Err(no_time());
        }
        self.budget.deposit();
        let mut attempt = 1;
        let mut before: Option<Error> = None;
        let mut asked = false;
        // A fetch counts if a store was asked, whatever comes of its last attempt.
        let marked = |error: Error, asked| match error.endpoint() {
            None if asked => error.at_endpoint(0),
            _ => error,
        };
        loop {
            let failed = match self.tour(&request).await {
                Ok(record) => return Ok(record),
                Err(failed) => failed,
            };
            asked |= failed.asked;
            let Some(at) = self.next_attempt(attempt, &failed, &request) else {
                return Err(marked(worse(before, failed.error), asked));
            };
            // The budget is asked last, so that nothing is taken out for what is not tried. To wait for the
            // breaker asks no store.
            if failed.asked && !failed.is_free && !self.budget.withdraw() {
                report(move || tracing::debug!(attempt, "the retry budget is spent"));
                return Err(marked(failed.error, asked));
            }
            if !self.wait(at, &request).await {
                return Err(marked(failed.error, asked));
            }
            before = Some(failed.error);
            attempt += 1;
        }
    }

    /// One attempt: at an endpoint, and where it gets no useful answer, at each other that is asked now. That
    /// is not a storm: an endpoint is asked once, and the budget is for asking again.
    async fn tour(&self, request: &Request<'_>) -> Result<Record, Failed> {
        let mut tried = request.tried();
        let mut others = match request.endpoint() {
            Some(_) => 0,
            None => self.inner.endpoints().saturating_sub(1 + tried.count()),
        };
        let mut tour = Tour::default();
        loop {
            // A stop before it takes nothing from an attempt.
            let asked = request.as_of_now(&*self.clock).elsewhere(tried);
            let error = match self.inner.resolve(asked).await {
                Ok(record) => return Ok(record),
                Err(error) => error,
            };
            let Some(endpoint) = error.endpoint() else {
                return Err(match error.is_held_back() {
                    true => tour.refused(error),
                    // There is no breaker below.
                    false => tour.met(error).over(no_time),
                });
            };
            if !is_of_the_endpoint(&error) {
                return Err(tour.ended(error));
            }
            if others > 0 && !error.kind().permits().counts_for_breaker {
                let shown = error.clone();
                report(move || {
                    tracing::warn!(endpoint, error = %shown, "an endpoint gives no useful answer; the next is asked");
                });
            }
            tour = tour.met(error);
            if others == 0 || self.is_over(request) {
                return Err(tour.over(no_time));
            }
            tried.add(endpoint);
            others -= 1;
        }
    }

    /// When the next attempt may begin; `None` when there is to be none.
    fn next_attempt(&self, attempt: u32, failed: &Failed, request: &Request<'_>) -> Option<Moment> {
        // A store whose leader is away elects another within seconds.
        let patient = request.wants_latest() && request.deadline().is_some();
        let most = match self.config.max_attempts {
            2.. if patient => u32::MAX,
            most => most,
        };
        if attempt >= most {
            return None;
        }
        let asked = match failed.soonest {
            Some(asked) => asked,
            // Where the breaker leaves all endpoints alone, one is tried again soon.
            None if patient && failed.error.is_held_back() => failed.error.retry_after()?,
            None => return None,
        };
        if asked > self.config.longest_asked {
            return None;
        }
        // The jitter comes on top, so that requests that were put off together do not return together.
        let at = self.clock.now() + asked + self.backoff(attempt);
        let needs = match failed.error.is_held_back() && asked.is_zero() {
            true => Self::ENOUGH,
            false => Duration::ZERO,
        };
        let end = request.ends(&*self.clock);
        let fits = end.is_none_or(|end| at + needs < end);
        fits.then_some(at)
    }

    /// Waits for the next attempt; returns whether it may begin.
    async fn wait(&self, at: Moment, request: &Request<'_>) -> bool {
        self.clock.pause_until(at).await;
        // A sleep may end late.
        !self.is_over(request)
    }

    /// A random part of the back-off after the `attempt`-th attempt.
    fn backoff(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let longest = self.config.first_backoff.saturating_mul(doubled);
        random_part(longest.min(self.config.longest_backoff))
    }

    fn is_over(&self, request: &Request<'_>) -> bool {
        request
            .limit(&*self.clock)
            .is_some_and(|limit| limit.is_over())
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Retry<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(self.one(request))
    }

    each_alone!(self);

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.inner.shutdown(deadline)
    }
}

fn no_time() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the deadline passed before an attempt could begin",
    )
}

/// Whether another endpoint of the store may give a better answer: this one is away, wants to be left alone,
/// or is not what it should be.
fn is_of_the_endpoint(error: &Error) -> bool {
    use ErrorKind::{Malformed, Refused, Throttled, Timeout, Unavailable};
    let kinds = [Unavailable, Timeout, Throttled, Malformed, Refused];
    kinds.contains(&error.kind()) && !error.is_held_back()
}

/// The error to go on with: if our own permits ran out for another attempt, this takes nothing from what
/// the store has shown in the one before.
fn worse(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if error.is_our_own_overload() => before,
        _ => error,
    }
}

#[cfg(test)]
mod tests;
