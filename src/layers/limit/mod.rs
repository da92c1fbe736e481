//! A bound on how much is asked at once, and a queue, itself bounded, before it.
//!
//! It bounds concurrency, not rate. Waiting for a permit is this process's own affair: it is never
//! an error that speaks of the store.

mod gate;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::resolver::{Request, ResolveFuture, SecretResolver, ShutdownFuture};
use gate::Gate;

/// Bounds of a [`Limit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitConfig {
    /// How many requests the inner resolver has at once. Default 64; from 1 to 65,536.
    pub max_concurrent: u32,
    /// How many calls wait for a permit; one more is refused at once. Default 16,384, at most
    /// 1,048,576; 0 for no queue.
    pub max_queued: u32,
    /// How much of a request's time must be left when its turn comes; who has waited longer is
    /// refused. Else a flood would leave requests so little time that the store seems to be away,
    /// and a policy for outages would answer them. Default 0; the assembled stack makes it at least
    /// half of a fetch's budget, the time of one attempt.
    pub fair_time: Duration,
}

/// Lets at most so many requests through at a time; the others wait, first come, first served.
///
/// When the queue is full, or a request's own deadline passes while it waits, the answer is
/// [`ErrorKind::Overloaded`], which counts for no breaker and permits neither stale values nor a
/// fallback: a flood of requests must not be a way to get a weaker answer.
///
/// # Order
/// Above the breaker, so that it decides when a request's turn has come and not before; below retry, so
/// that a back-off holds no permit. Above the attempt's timeout, so that waiting for our own permit
/// takes nothing from the time that the store is given and is never counted as its failure.
///
/// # Cancel safety
/// Who is dropped while waiting leaves the queue; a permit goes back when its request ends, is
/// dropped, or panics. After `shutdown` was polled, everybody who waits gets
/// [`ErrorKind::Closed`].
///
/// ```
/// use std::sync::Arc;
/// use secret_resolver::{Clock, SecretResolver, layers::{Limit, LimitConfig}};
///
/// fn gentle(backend: Arc<dyn SecretResolver>, clock: Arc<dyn Clock>) -> impl SecretResolver {
///     let mut config = LimitConfig::default();
///     config.max_concurrent = 8;
///     Limit::new(backend, clock, config).unwrap()
/// }
/// ```
#[derive(Debug)]
pub struct Limit<R> {
    inner: R,
    clock: Arc<dyn Clock>,
    gate: Gate,
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
    pub fn new(inner: R, clock: Arc<dyn Clock>, config: LimitConfig) -> Result<Self, Error> {
        let gate = Gate::new(config)?;
        Ok(Self { inner, clock, gate })
    }

    /// The resolver inside.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// How many calls wait for a permit now.
    pub fn queued(&self) -> u32 {
        self.gate.queued()
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Limit<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            // Declared before the request, so it is given back after it has ended.
            let _permit = self.gate.enter(request.deadline(), &*self.clock).await?;
            self.inner.resolve(request).await
        })
    }

    each_alone!(self);

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            self.gate.close();
            self.inner.shutdown(deadline).await
        })
    }
}

#[cfg(test)]
mod tests;
