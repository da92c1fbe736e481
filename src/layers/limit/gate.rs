//! One bound on concurrency, and the queue before it.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::in_time::TimeLimit;
use crate::layers::limit::LimitConfig;
use crate::race::race;

/// What the names of one prefix go through, or all others.
#[derive(Debug)]
pub(super) struct Gate {
    config: LimitConfig,
    permits: Semaphore,
    queued: AtomicU32,
}

impl Gate {
    /// Fails when a bound makes no sense.
    pub(super) fn new(config: LimitConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            config,
            permits: Semaphore::new(config.max_concurrent as usize),
            queued: AtomicU32::new(0),
        })
    }

    pub(super) fn queued(&self) -> u32 {
        self.queued.load(Ordering::Acquire)
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.permits.available_permits()
    }

    /// Lets nobody through any more.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    /// A permit for one request, at once or after those that came before.
    pub(super) async fn enter(
        &self,
        deadline: Option<Moment>,
        clock: &dyn Clock,
    ) -> Result<SemaphorePermit<'_>, Error> {
        // A released permit belongs to the first who waits, so this overtakes nobody.
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
        match deadline {
            None => permit.await,
            // Dropping the wait takes it out of the queue.
            Some(deadline) => {
                let latest = deadline.before(self.config.fair_time);
                // Time in which this process did not run is not time that others made it wait.
                let limit = TimeLimit::while_running(clock, latest);
                let late = async {
                    limit.over().await;
                    Err(too_late())
                };
                race(permit, late).await
            }
        }
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

fn too_late() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "waited for our own permit until the deadline; ask less, or raise the limit",
    )
    .held_back()
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the resolver was shut down")
}
