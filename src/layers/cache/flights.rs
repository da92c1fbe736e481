//! Who flies where, what may land, and the fence.
//!
//! One lock orders everything that changes what a `get` may see: starting a flight, landing one,
//! invalidating, closing. Hits do not take it. No foreign code runs under it.
//!
//! The fence: an invalidation raises the epoch and the generation of the flight to its address, and
//! drops the held value, in one critical section. A flight lands in one, too, and only under the
//! generation it began with; a waiter takes an answer only in the epoch of its landing. So after
//! `invalidate` has returned, nothing that was fetched before is answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::invalidate::Fence;
use crate::layers::cache::CacheConfig;
use crate::layers::cache::flight::{Flight, Outcome, Waiter};
use crate::layers::cache::slot::Detached;
use crate::layers::cache::store::Store;
use crate::layers::cache::sweeper::Sweeper;
use crate::name::{Located, NameRef, SecretName};
use crate::race::race;
use crate::resolver::{Request, SecretResolver, ShutdownReport};
use crate::secret::{Answer, Record};
use crate::sync::lock;

pub(super) struct Flights<R> {
    inner: R,
    clock: Arc<dyn Clock>,
    config: CacheConfig,
    store: Arc<Store>,
    sweeper: Arc<Sweeper>,
    flying: Mutex<Flying>,
    pub(super) epoch: AtomicU64,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
struct Flying {
    flights: HashMap<Box<str>, Arc<Flight>>,
    closed: bool,
}

/// What came of asking for a flight.
pub(super) enum Joined {
    /// It landed in the meantime.
    Held(Record),
    /// Somebody else's is under way.
    Other(Waiter),
    /// None was: the caller has to put this one on the driver.
    Started(Arc<Flight>),
    Refused(Error),
}

impl<R: SecretResolver> Flights<R> {
    pub(super) fn new(inner: R, clock: Arc<dyn Clock>, config: CacheConfig) -> Self {
        let store = Arc::new(Store::new(config.max_entries, config.max_bytes));
        Self {
            inner,
            sweeper: Sweeper::new(Arc::clone(&store), Arc::clone(&clock)),
            clock,
            config,
            store,
            flying: Mutex::default(),
            epoch: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        }
    }

    pub(super) fn inner(&self) -> &R {
        &self.inner
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The value held for a name that was answered before. The path of a hit.
    pub(super) fn hit(&self, name: NameRef<'_>) -> Option<Record> {
        self.store.get(name, &*self.clock)
    }

    /// The value held at `address`, the long way.
    fn held(&self, address: &str) -> Option<Record> {
        self.store.at(address, self.clock.now())
    }

    /// Selects what `located` means and lets the next `get` of the name take the short way.
    pub(super) fn select(
        &self,
        name: NameRef<'_>,
        located: &Located<'_>,
        record: Record,
    ) -> Record {
        let record = record.select(located.field());
        // Names of fields that are not there can be made up without end; they stay on the long way.
        if record.has_selected() {
            self.store
                .link(name, located.address().as_str(), located.field());
        }
        record
    }

    /// Whether what a waiter was handed may still be answered.
    pub(super) fn good(&self, answer: Answer, epoch: u64) -> bool {
        let expires = answer.expires_at();
        self.epoch.load(Ordering::Acquire) == epoch
            && expires.is_some_and(|moment| self.clock.now() < moment)
    }

    pub(super) fn join(&self, address: &str) -> Joined {
        let mut flying = lock(&self.flying);
        if flying.closed {
            return Joined::Refused(closed_error());
        }
        if let Some(flight) = flying.flights.get(address) {
            return Joined::Other(flight.waiter());
        }
        // A flight may have landed between the caller's look and this lock.
        if let Some(record) = self.held(address) {
            return Joined::Held(record);
        }
        if flying.flights.len() >= self.config.max_flights {
            return Joined::Refused(Error::new(
                ErrorKind::Overloaded,
                "too many fetches are in flight; raise max_flights or ask for fewer names at once",
            ));
        }
        let flight = Arc::new(Flight::new(address));
        flying
            .flights
            .insert(Box::from(address), Arc::clone(&flight));
        Joined::Started(flight)
    }

    /// Fetches until an answer may land. The job of the driver.
    pub(super) async fn fly(self: Arc<Self>, flight: Arc<Flight>, name: SecretName) {
        // Ends the flight also when the fetch panics or the driver drops it.
        let landing = Landing {
            flights: &self,
            flight: &flight,
        };
        loop {
            let generation = flight.generation();
            let began = self.clock.now();
            let closed = async {
                self.closed().await;
                Err(closed_error())
            };
            // From before the call, so that the time the call itself takes counts.
            let budget = began + self.config.flight_budget;
            let request = Request::new(name.as_ref()).with_deadline(budget);
            let answer = race(self.inner.resolve(request), closed).await;
            if landing.land(generation, began, answer, name.as_ref()) {
                return;
            }
        }
    }

    /// Ready once the cache is closed.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // It cannot fail: the sender is part of `self`.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    pub(super) fn invalidate_address(&self, address: &str) {
        let flying = lock(&self.flying);
        self.epoch.fetch_add(1, Ordering::Release);
        if let Some(flight) = flying.flights.get(address) {
            flight.fence();
        }
        let old = self.store.take(address);
        drop(flying);
        old.map(Detached::forget);
    }

    /// Refuses what comes, ends what flies, drops what is held. The second call does nothing.
    pub(super) fn close(&self) -> ShutdownReport {
        let mut flying = lock(&self.flying);
        let mut report = ShutdownReport::default();
        if flying.closed {
            return report;
        }
        flying.closed = true;
        self.epoch.fetch_add(1, Ordering::Release);
        let flights = std::mem::take(&mut flying.flights);
        let values = self.store.take_all();
        drop(flying);
        self.sweeper.stop();
        report.flights_ended = flights.len();
        report.values_dropped = values.len();
        for flight in flights.into_values() {
            flight.end(Outcome::Failed(closed_error()));
        }
        for value in values {
            report.values_still_held += usize::from(value.forget());
        }
        self.closed.send_replace(true);
        report
    }

    /// The record with its times, or why it may not be held.
    fn admit(&self, record: Record, began: Moment) -> Result<(Record, Moment), Error> {
        if record.weight() > self.config.max_record_bytes as usize {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "the record is larger than max_record_bytes; raise it or store less in one record",
            ));
        }
        let now = self.clock.now();
        // The store said "current" just now; but its lease ran while the answer travelled.
        let configured = now + self.store.shortened(self.config.ttl);
        let leased = record
            .lease()
            .map(|lease| began + self.store.shortened(lease));
        let expires = leased.map_or(configured, |leased| leased.min(configured));
        if expires <= now {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the value's lease ended before it arrived; ask the store for a longer one",
            ));
        }
        let answer = record.answer().timed(began, expires);
        Ok((record.with_answer(answer), expires))
    }
}

#[cfg(test)]
impl<R> Flights<R> {
    pub(super) fn flying_now(&self) -> HashMap<Box<str>, Arc<Flight>> {
        lock(&self.flying).flights.clone()
    }

    pub(super) fn values(&self) -> usize {
        self.store.weights().len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.store.weights().into_iter().sum()
    }

    pub(super) fn shortened(&self, duration: std::time::Duration) -> std::time::Duration {
        self.store.shortened(duration)
    }
}

/// A flight that must end, whatever happens to the job that carries it.
struct Landing<'a, R: SecretResolver> {
    flights: &'a Flights<R>,
    flight: &'a Arc<Flight>,
}

impl<R: SecretResolver> Landing<'_, R> {
    /// Lands an answer; `false` when it was fenced and the flight has to fetch again.
    fn land(
        &self,
        generation: u64,
        began: Moment,
        answer: Result<Record, Error>,
        name: NameRef<'_>,
    ) -> bool {
        let Self { flights, flight } = self;
        let mut flying = lock(&flights.flying);
        if flying.closed {
            return true;
        }
        // An error is fenced like a value: the secret may have been created since.
        if flight.generation() != generation && flight.awaited_by() > 0 {
            return false;
        }
        flying.flights.remove(&flight.address);
        if flight.generation() != generation {
            // Nobody waits, and what was fetched may not be held.
            return true;
        }
        let admitted = answer.and_then(|record| flights.admit(record, began));
        let epoch = flights.epoch.load(Ordering::Relaxed);
        let out = match &admitted {
            Ok((record, expires)) => flights.store.put(flight, record, *expires),
            Err(_) => Vec::new(),
        };
        drop(flying);
        for slot in out {
            slot.forget();
        }
        match admitted {
            Ok((record, expires)) => {
                // Before anybody can see the value, so that its end is certain by then.
                flights.sweeper.due_at(expires);
                let answer = record.answer();
                flight.end(Outcome::Landed { record, epoch });
                // Who invalidated or swept since the lock was let go found nothing to forget.
                if !flights.good(answer, epoch) {
                    flight.forget();
                }
            }
            Err(error) => {
                tracing::debug!(%name, kind = ?error.kind(), "fetch failed");
                flight.end(Outcome::Failed(error));
            }
        }
        true
    }
}

impl<R: SecretResolver> Drop for Landing<'_, R> {
    fn drop(&mut self) {
        let mut flying = lock(&self.flights.flying);
        let flight = flying.flights.get(&self.flight.address);
        if flight.is_some_and(|flight| Arc::ptr_eq(flight, self.flight)) {
            flying.flights.remove(&self.flight.address);
            drop(flying);
            self.flight.end(Outcome::Failed(lost()));
        }
    }
}

impl<R: SecretResolver> Fence for Flights<R> {
    fn invalidate(&self, name: NameRef<'_>) {
        let located = self.inner.locate(name);
        self.invalidate_address(located.address().as_str());
    }

    fn invalidate_all(&self) {
        let flying = lock(&self.flying);
        self.epoch.fetch_add(1, Ordering::Release);
        for flight in flying.flights.values() {
            flight.fence();
        }
        let old = self.store.take_all();
        drop(flying);
        for value in old {
            value.forget();
        }
    }
}

pub(super) fn closed_error() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the resolver was shut down; build a new one",
    )
}

/// For a flight that ended without an answer: its job panicked, or its driver is gone.
pub(super) fn lost() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the fetch ended without an answer; the backend may have panicked",
    )
}
