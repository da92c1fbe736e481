//! An end to waiting: no answer comes later than its deadline.
//!
//! It ends a wait, never the work behind it: what goes on when the waiting future is dropped is
//! up to the inner resolver. An answer that is ready at once passes without a look at the clock.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::in_time::{TimeLimit, in_time};
use crate::layers::batch::in_memory;
use crate::resolver::{
    Request, ResolveFuture, ResolveManyFuture, SecretResolver, ShutdownFuture, join_all,
};

/// Answers [`ErrorKind::Timeout`] when the inner resolver has not answered in time.
///
/// The limit counts from the call; a request's own deadline counts if it is earlier. An answer that
/// is there but past it is a timeout, too. Time in which this process did not run
/// ([`Clock::lost`]) does not count: it says nothing about the store.
///
/// # Order
/// The stack has it twice: outermost for the caller, where it covers waiting for another's fetch
/// and the fallback; and below the cache as the budget of one fetch. A caller's deadline below the
/// cache would let one impatient caller end a fetch that others wait for.
#[derive(Debug)]
pub(crate) struct Deadline<R> {
    inner: R,
    clock: Arc<dyn Clock>,
    limit: Duration,
    strict: bool,
}

impl<R: SecretResolver> Deadline<R> {
    /// Around `inner`, with `limit` measured on `clock`.
    pub(crate) fn new(inner: R, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self {
            inner,
            clock,
            limit,
            strict: false,
        }
    }

    /// For the caller: nothing prolongs it, so that no `get` outlives its deadline.
    pub(crate) fn strict(inner: R, clock: Arc<dyn Clock>, limit: Duration) -> Self {
        Self {
            strict: true,
            ..Self::new(inner, clock, limit)
        }
    }

    /// The resolver inside.
    pub(crate) fn inner(&self) -> &R {
        &self.inner
    }

    /// When a request that is made now, and asked for this deadline, has to end.
    fn moment(&self, asked: Option<Moment>) -> Moment {
        let limit = self.clock.now() + self.limit;
        asked.map_or(limit, |asked| asked.min(limit))
    }

    fn until(&self, request: &Request<'_>) -> TimeLimit<'_> {
        let clock = &*self.clock;
        let until = self.moment(request.ends(clock));
        match self.strict {
            true => TimeLimit::strict(clock, until),
            false => TimeLimit::while_running(clock, until),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Deadline<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let answer = self.inner.resolve(request);
        if answer.is_ready() {
            return answer;
        }
        let limit = self.until(&request);
        ResolveFuture::new(async move {
            match in_time(limit, answer).await {
                Some(answer) => answer,
                // Below is a cache: what it holds now is good now, however late it is asked for.
                None if self.strict => in_memory(self.inner.resolve(request)).await,
                None => Err(too_late()),
            }
        })
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        ResolveManyFuture::new(async move {
            // One moment for all, however long it takes to begin the last.
            let timed = requests
                .iter()
                .map(|&request| request.with_deadline(self.moment(request.deadline())));
            let timed: Vec<_> = timed.collect();
            match self.strict {
                // Each ends at its own deadline inside; what is in memory then is still answered.
                true => self.inner.resolve_many(&timed).await,
                false => join_all(timed.iter().map(|&request| self.resolve(request))).await,
            }
        })
    }

    pass_on!(self => self.inner);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.inner.shutdown(deadline)
    }
}

pub(crate) fn too_late() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "no answer within the deadline; check the store, or allow more time",
    )
}
