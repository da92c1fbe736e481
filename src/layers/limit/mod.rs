//! A bound on how much is asked at once, and a queue, itself bounded, before it.
//!
//! It bounds concurrency, not rate. Waiting for a permit is this process's own affair: it is never
//! an error that says anything about the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::in_time::{TimeLimit, in_time};
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use crate::secret::Record;

/// How many requests a store has at once, and how many calls wait.
///
/// ```
/// use secret_resolver::{LimitConfig, Resolver, testing::MockBackend};
///
/// let gentle = LimitConfig::default().with_max_concurrent(8);
/// let resolver = Resolver::builder(MockBackend::new()).with_limit(gentle).build()?;
/// # let _ = resolver;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    pub(crate) max_concurrent: u32,
    pub(crate) max_queued: u32,
    /// How much of a request's time must be left when its turn comes; a request that waited longer is
    /// refused. Else a flood would leave requests so little time that the store seems to be away, and a
    /// policy for outages would answer them.
    pub(crate) fair_time: Duration,
}

/// Lets at most this many requests through at a time; the others wait, first come, first served.
///
/// When the queue is full, or a request's own deadline passes while it waits, the answer is
/// [`ErrorKind::Overloaded`], which counts for no breaker and permits neither stale values nor a
/// fallback: a flood of requests must not be a way to get a weaker answer. If nobody was given an answer
/// while it waited, it is [`ErrorKind::Timeout`]: then all wait for the store.
///
/// # Order
/// Above the breaker, so that it decides when a request's turn has come and not before; below retry, so
/// that a back-off holds no permit. Above the attempt's timeout, so that waiting for our own permit
/// takes nothing from the time that the store is given and is never counted as its failure.
///
/// # Cancel safety
/// A request that is dropped while waiting leaves the queue; a permit goes back when its request ends, is
/// dropped, or panics. After `shutdown` was polled, every waiter gets
/// [`ErrorKind::Closed`].
#[derive(Debug)]
pub(crate) struct Limit<R> {
    inner: R,
    clock: Arc<dyn Clock>,
    config: LimitConfig,
    permits: Semaphore,
    queued: AtomicU32,
    /// When the inner resolver last gave an answer, in nanoseconds of the clock; 0 for never.
    answered: AtomicU64,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 64,
            max_queued: 16_384,
            fair_time: Duration::ZERO,
        }
    }
}

impl LimitConfig {
    const MOST_CONCURRENT: u32 = 1 << 16;
    const MOST_QUEUED: u32 = 1 << 20;

    /// How many requests the store has at once. Default 64; from 1 to 65,536.
    #[must_use]
    pub fn with_max_concurrent(self, max_concurrent: u32) -> Self {
        Self {
            max_concurrent,
            ..self
        }
    }

    /// How many calls wait for a permit; one more is refused at once. Default 16,384, at most
    /// 1,048,576; 0 for no queue.
    #[must_use]
    pub fn with_max_queued(self, max_queued: u32) -> Self {
        Self { max_queued, ..self }
    }

    fn check(&self) -> Result<(), Error> {
        let rule = if self.max_concurrent == 0 || self.max_concurrent > Self::MOST_CONCURRENT {
            "the limit must be from 1 to 65,536 requests at once"
        } else if self.max_queued > Self::MOST_QUEUED {
            "at most 1,048,576 calls may wait for a permit"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Misconfigured, rule))
    }
}

impl<R: SecretResolver> Limit<R> {
    /// Around `inner`; `clock` is that of the requests' deadlines.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when a bound makes no sense.
    pub(crate) fn new(inner: R, clock: Arc<dyn Clock>, config: LimitConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            inner,
            clock,
            config,
            permits: Semaphore::new(config.max_concurrent as usize),
            queued: AtomicU32::new(0),
            answered: AtomicU64::new(0),
        })
    }

    /// How many calls wait for a permit now.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> u32 {
        self.queued.load(Ordering::Acquire)
    }

    /// A permit for one request, at once or after those that came before it.
    async fn enter(&self, request: &Request<'_>) -> Result<SemaphorePermit<'_>, Error> {
        // A released permit belongs to the first in the queue, so this overtakes nobody.
        match self.permits.try_acquire() {
            Ok(permit) => return Ok(permit),
            Err(TryAcquireError::Closed) => return Err(closed()),
            Err(TryAcquireError::NoPermits) => {}
        }
        let _place = Place::take(&self.queued, self.config.max_queued)?;
        let permit = async {
            let permit = self.permits.acquire().await;
            permit.map_err(|_| closed())
        };
        match request.deadline() {
            None => permit.await,
            // Dropping the wait takes it out of the queue.
            Some(deadline) => {
                // A request that goes on to another endpoint has had its turn before, and is nearly there.
                let fair_time = match request.tried().count() {
                    0 => self.config.fair_time,
                    _ => self.config.fair_time / 2,
                };
                let latest = deadline.before(fair_time);
                // Time in which this process did not run is not time that others made it wait.
                let limit = TimeLimit::while_running(&*self.clock, latest);
                let (began, lost) = (self.clock.now(), self.clock.lost());
                let entered = in_time(limit, permit).await;
                entered.unwrap_or_else(|| Err(self.too_late(began, lost)))
            }
        }
    }

    /// Notes an answer that is a sign of life.
    fn note(&self, answer: &Result<Record, Error>) {
        let is_none =
            |error: &Error| error.is_held_back() || error.kind().permits().counts_for_breaker;
        if !answer.as_ref().is_err_and(is_none) {
            let now = self.clock.now().nanos().max(1);
            self.answered.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// Why nothing was asked for a request that has waited since `began`, when the clock had lost `lost`.
    fn too_late(&self, began: Moment, lost: Duration) -> Error {
        let answered = Moment::from_nanos(self.answered.load(Ordering::Relaxed));
        let lost = self.clock.lost().saturating_sub(lost);
        let waited = self.clock.now().since(began).saturating_sub(lost);
        // Half of a fair time is fair, as for an attempt: a request comes here a moment after its time began.
        let long_enough = waited >= self.config.fair_time / 2;
        match answered < began && long_enough && !self.config.fair_time.is_zero() {
            true => Error::new(
                ErrorKind::Timeout,
                "waited for our own permit until the deadline, and the store gave no answer to those before",
            ),
            false => Error::new(
                ErrorKind::Overloaded,
                "waited for our own permit until the deadline; ask less, or raise the limit",
            ),
        }
        .held_back()
    }
}

/// A place in the queue, left when it is dropped.
struct Place<'a>(&'a AtomicU32);

impl<'a> Place<'a> {
    fn take(queued: &'a AtomicU32, most: u32) -> Result<Self, Error> {
        let one_more = |queued: u32| (queued < most).then_some(queued + 1);
        match queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(Self(queued)),
            Err(_) => Err(Error::new(
                ErrorKind::Overloaded,
                "too many requests wait for a permit of our own; ask less, or raise the limit",
            )
            .held_back()),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the resolver was shut down")
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Limit<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            // Declared before the request, so it is given back after it has ended.
            let _permit = self.enter(&request).await?;
            let answer = self.inner.resolve(request).await;
            self.note(&answer);
            answer
        })
    }

    each_alone!(self);

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            self.permits.close();
            self.inner.shutdown(deadline).await
        })
    }
}

#[cfg(test)]
mod tests;
