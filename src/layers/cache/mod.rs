//! The cache: values within their time to live, one fetch a record, and a fence behind every
//! invalidation.
//!
//! A hit is one look-up, no lock and no allocation. A miss joins the flight for its address, or
//! starts one on the cache's own driver, so that a caller that leaves neither ends nor delays it.
//! The parts: `slot` (one value), `store` (what is held, and its bounds), `index` (the read path),
//! `flight` (one fetch in progress), `core` (all flights, and the fence), `landing` (what a
//! fetch may leave behind), `life` (how long it lives), `signals` (what a prefix concerns), `sweeper`
//! (drops what has ended without being asked), `keeper` (keeps handles current); and three small
//! memories of the store's answers: `negative`, `seen`, `settle`.
//!
//! Time to live, lease and policy are decided here and in `policy`, by the clock, at each read; the
//! sweeper only cleans up.

mod config;
mod core;
mod exact;
mod flight;
mod invalidation;

mod handle;
mod index;
mod judge;
mod keeper;
mod landing;
mod life;
mod negative;
mod recent;
mod seen;
mod settle;
mod signals;
mod slot;
mod store;
mod sweeper;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::address::Located;
use crate::audit;
use crate::clock::{Clock, Moment};
use crate::downgrade::Downgrades;
use crate::driver::Driver;
use crate::ending;
use crate::error::{Error, ErrorKind};
#[cfg(feature = "metrics")]
use crate::foreign::foreign;
use crate::invalidate::Invalidates;
use crate::layers::batch::whole;
use crate::name::NameRef;
use crate::policy::{Age, serve_held};
use crate::race::first;
use crate::resolver::{
    Request, ResolveFuture, ResolveManyFuture, SecretResolver, ShutdownFuture, ShutdownReport,
};
use crate::secret::Record;
use crate::status::Status;
pub(crate) use config::CacheConfig;
pub(crate) use core::closed_error;
pub use handle::SecretHandle;

use core::{Core, Joined};
use flight::{Flight, Outcome};
use negative::Said;
use slot::Hit;

/// A resolver that answers from memory what another has answered within its time to live.
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
/// `Secret` that the application holds keeps them. After [`Invalidator::invalidate`](crate::Invalidator::invalidate) has returned,
/// no value is answered that was fetched before.
pub(crate) struct Cache {
    // Dropped with the cache, which ends the flights; they hold only `core`.
    driver: Arc<Driver>,
    core: Arc<Core>,
}

impl Cache {
    /// Around `inner`, keeping time on `clock`; on a driver that another cache of the stack uses, too.
    pub(crate) fn shared(
        inner: Arc<dyn SecretResolver>,
        clock: Arc<dyn Clock>,
        config: CacheConfig,
        driver: Arc<Driver>,
        downgrades: Downgrades,
    ) -> Result<Self, Error> {
        config.check()?;
        if inner.remembers() {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "a resolver with a cache cannot be a store of another: an invalidation would not reach it; give its backend, and one with_route for each store",
            ));
        }
        let core = Arc::new(Core::new(
            inner,
            clock,
            config,
            downgrades,
            driver.aside().clone(),
        )?);
        Ok(Self { driver, core })
    }

    /// The number of invalidations so far.
    pub(crate) fn epoch(&self) -> u64 {
        self.core.epoch()
    }

    pub(crate) fn invalidates(&self) -> Weak<dyn Invalidates> {
        let core: Weak<Core> = Arc::downgrade(&self.core);
        core
    }

    /// The cached secret's record, if it may be answered now; never asks the store and never
    /// waits. A value in the last fifth of its life is refreshed in the background. Takes a lock for a
    /// name that the read path does not know: a record has more spellings than are linked.
    pub(crate) fn peek(&self, name: NameRef<'_>) -> Option<Record> {
        let hit = self.core.held(name)?;
        self.noted(name.as_str(), &hit, true);
        Some(hit.record)
    }

    /// The same for text that may be no name: what was never a name was never cached, so a hit
    /// needs no parsing.
    pub(crate) fn peek_text(&self, text: &str) -> Option<Record> {
        let hit = self.core.hit(text)?;
        self.noted(text, &hit, true);
        Some(hit.record)
    }

    /// Why nothing is answered from memory.
    pub(crate) fn not_cached(&self) -> Error {
        match self.core.is_closed() {
            true => core::closed_error(),
            false => Error::new(
                ErrorKind::NotFound,
                "the secret is not cached now; get it first",
            ),
        }
    }

    /// Counts a hit, if it is the answer, and starts the refresh that it may be the only one to ask for.
    fn noted(&self, text: &str, hit: &Hit, is_answer: bool) {
        if is_answer {
            self.core.hits.add_one();
            audit::hit(text);
        }
        if hit.refresh {
            self.refresh(text);
        }
    }

    /// Exempts the records of `secrets`, under these names, from eviction: all, or none.
    pub(crate) fn pin<'a>(
        &self,
        secrets: impl Iterator<Item = (NameRef<'a>, &'a Record)>,
    ) -> Result<(), Error> {
        let pin = |(name, record): (NameRef<'a>, &Record)| {
            let located = self.core.inner.locate(name);
            (Box::from(located.address().as_str()), record.weight())
        };
        self.core.store.pin(&secrets.map(pin).collect::<Vec<_>>())
    }

    /// Whether a signal that came after the epoch `asked_in` concerns the name: what was answered then
    /// may not be answered any more.
    pub(crate) fn was_signalled(&self, name: NameRef<'_>, asked_in: u64) -> bool {
        let located = self.core.inner.locate(name);
        let (core, address) = (&self.core, located.address().as_str());
        core.was_signalled(&core.lock(), asked_in, name, address)
    }

    /// Reports to metrics how it is, and lets `also` report more, every few seconds until it is closed or
    /// dropped; then lets `ended` report that all is over.
    #[cfg(feature = "metrics")]
    pub(crate) fn publish(
        &self,
        also: impl Fn(Moment) + Send + Sync + 'static,
        ended: impl Fn(Moment) + Send + Sync + 'static,
    ) {
        /// Tells it also when the driver drops the job.
        struct Ends<F: Fn(Moment)>(F, Arc<dyn Clock>);
        impl<F: Fn(Moment)> Drop for Ends<F> {
            fn drop(&mut self) {
                (self.0)(self.1.now());
            }
        }
        let core = Arc::clone(&self.core);
        let ends = Ends(ended, Arc::clone(&core.clock));
        self.driver.spawn(async move {
            let _ends = ends;
            audit::describe();
            let work = async {
                loop {
                    let now = core.clock.now();
                    let (entries, bytes) = core.store.size();
                    audit::holds(entries, bytes);
                    core.tell_hits();
                    // It asks a store for its login, which is foreign code.
                    foreign(|| also(now));
                    core.clock.sleep_until(now + audit::PERIOD).await;
                }
            };
            first(core.closed(), work).await;
        });
    }

    pub(crate) fn status(&self) -> Status {
        let core = &self.core;
        // Foreign code, so before the lock.
        let login_ends = core.inner.login_ends();
        let state = core.lock();
        let (entries, bytes) = core.store.size();
        Status {
            closed: core.is_closed(),
            last_success: state.last_success,
            login_ends,
            stale_allowed: !core.config.longest_stale().is_zero(),
            entries,
            bytes,
            flights: state.flights.len(),
            hits: core.hits.sum(),
            fetches: core.fetches.load(Ordering::Relaxed),
            outlived: core.sweeper.outlived(),
            ..Status::default()
        }
    }

    #[cold]
    fn refresh(&self, text: &str) {
        let Ok(name) = NameRef::parse(text) else {
            return;
        };
        let located = self.core.inner.locate(name);
        if let Some(flight) = self.core.start_refresh(&located, name) {
            self.launch(flight, name);
        }
    }

    fn close(&self) -> ShutdownReport {
        let report = self.core.close();
        let core = Arc::clone(&self.core);
        // A recorder may block, and this is a shutdown's limit or a drop.
        self.driver.aside().run(move || core.tell_hits());
        report
    }

    fn launch(&self, flight: Arc<Flight>, name: NameRef<'_>) {
        let core = Arc::clone(&self.core);
        self.driver.spawn(core.fly(flight, name.to_owned()));
    }

    /// Joins or starts flights until one brings an answer that may be given.
    async fn miss(&self, request: Request<'_>) -> Result<Record, Error> {
        let located = self.core.inner.locate(request.name());
        let mut again = 0;
        loop {
            let record = match self.fetched(&located, &request, again > 0).await {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => return self.without_primary(&request, &located, error),
            };
            if again == 2 || request.accepts(record.version()) {
                return request.admit(record.select(located.field()));
            }
            // The caller knows of a newer version. What is held stays until that one lands: only the
            // store can say that there is one. Twice, for a flight that was joined may have begun
            // before the caller knew.
            again += 1;
        }
    }

    /// What is held, unless it is to be fetched `again`, or what one flight brings. `None` when it may
    /// not be answered any more: between its landing and this poll it has expired or been fenced. Then the
    /// caller asks again, and its deadline bounds how often.
    async fn fetched(
        &self,
        located: &Located<'_>,
        request: &Request<'_>,
        again: bool,
    ) -> Result<Option<Record>, Error> {
        let name = request.name();
        let joined = self.core.join(located, name, again);
        let joined = joined.inspect_err(|error| audit::refused_unasked(name, error))?;
        let (mut waiter, started) = match joined {
            Joined::Held(hit) => {
                let accepted = request.accepts(hit.record.version());
                self.noted(name.as_str(), &hit, accepted);
                return Ok(Some(hit.record));
            }
            Joined::Flight(waiter, started) => (waiter, started),
        };
        if let Some(flight) = started {
            self.launch(flight, name);
        }
        if !ending::is_whole() {
            return Err(ending::refused());
        }
        // The caller's waker is called aside: by one job, which holds up no other.
        let outcome = self.core.aside.woken(waiter.outcome()).await;
        let address = located.address().as_str();
        match outcome {
            Some(Outcome::Landed(slot)) => {
                let signals = &self.core.store.signals;
                let concerned = signals.concern(slot.epoch, name.path(), address);
                let record = slot.peek(self.core.clock.now());
                // Known from now on, so that a signal for its path finds the record.
                self.core.store.link(name, located);
                Ok(record.filter(|_| !concerned))
            }
            Some(Outcome::Said(said)) => {
                let young = said.is_young(self.core.clock.now());
                let state = self.core.lock();
                let over = |said: &Said| self.core.was_signalled(&state, said.epoch, name, address);
                match young && !self.core.is_closed() && !over(&said) {
                    true => Err(said.error.clone()),
                    false => Ok(None),
                }
            }
            Some(Outcome::Failed(error)) => Err(error),
            None => Err(core::lost()),
        }
    }

    /// What the policy allows when the primary has answered an error.
    fn without_primary(
        &self,
        request: &Request<'_>,
        located: &Located<'_>,
        error: Error,
    ) -> Result<Record, Error> {
        let Some(slot) = self.core.slot_of(located, request.name()) else {
            return Err(error);
        };
        let now = self.core.clock.now();
        let by = now.since(slot.life.expires);
        let age = match now < slot.life.expires {
            true => Age::Fresh,
            false => Age::Expired {
                by,
                // A slot is kept no longer than its lease; only its sweep may be late.
                lease_over: now >= slot.life.ends,
            },
        };
        let stale_up_to = *self.core.config.stale.get(request.name().path());
        let Some(freshness) = serve_held(error.kind(), age, Some(stale_up_to)) else {
            return Err(error);
        };
        let record = match slot.record() {
            Some(record) if request.accepts(record.version()) => record.select(located.field()),
            _ => return Err(error),
        };
        self.core
            .downgrades
            .report(request.name(), freshness, &error, now);
        let answer = record.answer().marked(freshness);
        Ok(record.with_answer(answer))
    }
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Cache {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        if request.version().is_some() {
            return ResolveFuture::new(self.exact(request));
        }
        let name = request.name().as_str();
        if let Some(hit) = self.core.hit(name) {
            let accepted = request.accepts(hit.record.version());
            self.noted(name, &hit, accepted);
            if accepted {
                return ResolveFuture::ready(Ok(hit.record));
            }
        }
        ResolveFuture::new(self.miss(request))
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        // Names of one address share a flight, so a batch asks for each record once.
        let signalled = |name: NameRef<'_>, asked_in| self.was_signalled(name, asked_in);
        let epoch = || self.epoch();
        let ask = |request| self.resolve(request);
        ResolveManyFuture::new(whole(requests, &*self.core.clock, epoch, signalled, ask))
    }

    pass_on!(self => self.core.inner, remembers: true);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(async move {
            let report = self.close();
            // The inner resolver talks to its store, so it too needs the driver's runtime.
            let (done, wait) = oneshot::channel();
            let core = Arc::clone(&self.core);
            self.driver.spawn(async move {
                let _ = done.send(core.inner.shutdown(deadline).await);
            });
            let late = self.core.clock.sleep_until(deadline);
            // The caller's waker is called aside, as that of a read is.
            let ended = self.core.aside.woken(wait);
            let inner = first(ended, late).await.and_then(Result::ok);
            report.and(inner.unwrap_or(ShutdownReport {
                timed_out: true,
                ..ShutdownReport::default()
            }))
        })
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // Wipes now, although a flight may hold the rest for a moment longer.
        self.close();
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("inner", &self.core.inner)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod model;
#[cfg(test)]
mod tests;
