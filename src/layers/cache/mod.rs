//! The cache: values within their time to live, one fetch a record, and a fence behind every
//! invalidation.
//!
//! A hit is one look-up, no lock and no allocation. A miss joins the flight for its address, or
//! starts one on the cache's own driver, so that a caller who leaves neither ends nor delays it.
//! The parts: `slot` (one value), `store` (what is held, and its bounds), `index` (the read path),
//! `flight` (one fetch in progress), `flights` (who flies where, and the fence), `sweeper` (drops
//! what has expired without being asked).
//!
//! Time to live, lease and policy are decided here and in `policy`, by the clock, at each read; the
//! sweeper only cleans up.

mod flight;
mod flights;
mod index;
mod slot;
mod store;
mod sweeper;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::{Clock, Moment};
use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
use crate::invalidate::{Fence, Invalidator};
use crate::layers::Deadline;
use crate::name::{Located, NameRef};
use crate::race::race;
use crate::resolver::{
    Request, ResolveFuture, ResolveManyFuture, SecretResolver, ShutdownFuture, ShutdownReport,
    join_all,
};
use crate::secret::Record;
use flight::Outcome;
use flights::{Flights, Joined};

/// Bounds and times of a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheConfig {
    /// How long a value is used after the store answered it, less a jitter of up to 10 %; a lease
    /// that ends earlier counts instead. Default 300 s; from 1 s to 24 h.
    pub ttl: Duration,
    /// How long one fetch may take. Default 4 s, less than the caller's 5 s.
    pub flight_budget: Duration,
    /// How many records are held at most. Default 10,000.
    pub max_entries: u32,
    /// How many bytes of values are held at most. Default 16 MiB.
    pub max_bytes: u32,
    /// How large one record may be. A larger one is answered as an error, since it could be
    /// neither cached nor bounded. Default 64 KiB.
    pub max_record_bytes: u32,
    /// How many fetches may be in flight at once. Default 16,384.
    pub max_flights: usize,
}

/// A resolver that answers from memory what `R` has answered within its time to live.
///
/// # Order
/// Inside the caller's deadline, outside retries and the breaker: a hit must not depend on the
/// health of the store, and one fetch with all its retries must be one flight.
///
/// # Cancel safety
/// A caller that leaves a flight does not end it.
///
/// # Security
/// Values are wiped within 1 s of their expiry, of an invalidation or of shutdown, unless a
/// `Secret` that the application holds keeps them. After [`Invalidator::invalidate`] has returned,
/// no value is answered whose fetch began before.
pub struct Cache<R: SecretResolver> {
    // Dropped with the cache, which ends the flights; they hold only `flights`.
    driver: Driver,
    flights: Arc<Flights<Deadline<R>>>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            flight_budget: Duration::from_secs(4),
            max_entries: 10_000,
            max_bytes: 16 << 20,
            max_record_bytes: 64 << 10,
            max_flights: 16_384,
        }
    }
}

impl CacheConfig {
    const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);

    fn check(&self) -> Result<(), Error> {
        let rule = if self.ttl < Duration::from_secs(1) || self.ttl > Self::LONGEST_TTL {
            "the time to live must be from 1 s to 24 h"
        } else if self.flight_budget.is_zero() {
            "the budget of a flight must not be zero"
        } else if self.max_entries == 0 || self.max_flights == 0 {
            "the bounds on entries and flights must not be zero"
        } else if self.max_record_bytes > self.max_bytes {
            "one record may not be larger than the whole cache"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Misconfigured, rule))
    }
}

impl<R: SecretResolver> Cache<R> {
    /// Around `inner`, keeping time on `clock`. Starts the thread for fetches.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when a bound makes no sense; [`ErrorKind::Overloaded`] when
    /// the thread cannot be started.
    pub fn new(inner: R, clock: Arc<dyn Clock>, config: CacheConfig) -> Result<Self, Error> {
        config.check()?;
        let driver = Driver::start()?;
        let inner = Deadline::new(inner, Arc::clone(&clock), config.flight_budget);
        let flights = Arc::new(Flights::new(inner, clock, config));
        Ok(Self { driver, flights })
    }

    /// What a rotation signal calls.
    pub fn invalidator(&self) -> Invalidator {
        let fence: Arc<dyn Fence> = Arc::clone(&self.flights) as _;
        Invalidator::new(&fence)
    }

    /// The cached record, if it is one that the request accepts.
    fn hit(&self, request: &Request<'_>) -> Option<Record> {
        let record = self.flights.hit(request.name())?;
        request.accepts(record.version()).then_some(record)
    }

    /// Joins or starts flights until one brings an answer that may be given.
    async fn miss(&self, request: Request<'_>) -> Result<Record, Error> {
        let located = self.flights.inner().locate(request.name());
        let address = located.address().as_str();
        let mut refetched = false;
        loop {
            let waiter = match self.flights.join(address) {
                Joined::Refused(error) => return Err(error),
                Joined::Held(record) => Err(record),
                Joined::Other(waiter) => Ok(waiter),
                Joined::Started(flight) => {
                    let waiter = flight.waiter();
                    let flights = Arc::clone(&self.flights);
                    self.driver
                        .spawn(flights.fly(flight, request.name().to_owned()));
                    Ok(waiter)
                }
            };
            let record = match waiter {
                Err(held) => held,
                // Between the landing and this poll the value may have expired or been fenced:
                // then the loop asks again, and the caller's deadline bounds the loop.
                Ok(mut waiter) => match waiter.outcome().await {
                    Some(Outcome::Landed { record, epoch }) => {
                        if !self.flights.good(record.answer(), epoch) {
                            continue;
                        }
                        record
                    }
                    Some(Outcome::Failed(error)) => return Err(error),
                    Some(Outcome::Forgotten | Outcome::Flying) => continue,
                    None => return Err(flights::lost()),
                },
            };
            if refetched || request.accepts(record.version()) {
                let record = self.flights.select(request.name(), &located, record);
                return request.admit(record);
            }
            // The caller knows of a newer version, so what is held is old news for everybody.
            self.flights.invalidate_address(address);
            refetched = true;
        }
    }

    /// A read of one given version: neither cached nor shared, but on the driver like every fetch.
    async fn exact(&self, request: Request<'_>) -> Result<Record, Error> {
        let (answer, wait) = oneshot::channel();
        let flights = Arc::clone(&self.flights);
        let name = request.name().to_owned();
        let version = request.version().cloned();
        self.driver.spawn(async move {
            let mut read = Request::new(name.as_ref());
            if let Some(version) = &version {
                read = read.with_version(version);
            }
            let closed = async {
                flights.closed().await;
                Err(flights::closed_error())
            };
            let _ = answer.send(race(flights.inner().resolve(read), closed).await);
        });
        wait.await.unwrap_or_else(|_| Err(flights::lost()))
    }
}

#[deny(clippy::missing_trait_methods)]
impl<R: SecretResolver> SecretResolver for Cache<R> {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        if request.version().is_some() {
            return ResolveFuture::new(self.exact(request));
        }
        match self.hit(&request) {
            Some(record) => ResolveFuture::ready(Ok(record)),
            None => ResolveFuture::new(self.miss(request)),
        }
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        // Names of one address share a flight, so a batch asks for each record once.
        ResolveManyFuture::new(join_all(
            requests.iter().map(|&request| self.resolve(request)),
        ))
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        self.flights.inner().locate(name)
    }

    fn endpoints(&self) -> usize {
        self.flights.inner().endpoints()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            let report = self.flights.close();
            // The inner resolver talks to its store, so it too needs the driver's runtime.
            let (done, wait) = oneshot::channel();
            let flights = Arc::clone(&self.flights);
            self.driver.spawn(async move {
                let _ = done.send(flights.inner().shutdown(deadline).await);
            });
            let unfinished = || ShutdownReport {
                timed_out: true,
                ..ShutdownReport::default()
            };
            let inner = async { wait.await.unwrap_or_else(|_| unfinished()) };
            let late = async {
                self.flights.clock().sleep_until(deadline).await;
                unfinished()
            };
            report.and(race(inner, late).await)
        })
    }
}

impl<R: SecretResolver> Drop for Cache<R> {
    fn drop(&mut self) {
        // Wipes now, although a flight may hold the rest for a moment longer.
        self.flights.close();
    }
}

impl<R: SecretResolver> fmt::Debug for Cache<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("inner", self.flights.inner().inner())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
