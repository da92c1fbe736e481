//! Who flies where, what may be answered, and the fence.
//!
//! One lock orders everything that changes what a `get` may see: starting a flight, landing one
//! (`landing`), invalidating, closing. Hits do not take it. No foreign code runs under it.
//!
//! The fence: an invalidation raises the epoch and the generation of the flight to its address, and
//! takes the held value out, in one critical section. A flight lands in one, too, and only under
//! the generation it began with; its waiters are handed the slot, not the value. So after
//! `invalidate` has returned, nothing that was fetched before is answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::address::Located;
use crate::audit;
use crate::clock::{Clock, Moment};
use crate::counter::Sharded;
use crate::downgrade::Downgrades;
use crate::error::{Error, ErrorKind};
use crate::layers::cache::CacheConfig;
use crate::layers::cache::flight::{Flight, Outcome, Waiter};
use crate::layers::cache::negative::Negatives;
use crate::layers::cache::seen::Seen;
use crate::layers::cache::settle::Settling;
use crate::layers::cache::slot::{Hit, Slot};
use crate::layers::cache::store::Store;
use crate::layers::cache::sweeper::Sweeper;
use crate::name::NameRef;
use crate::resolver::{SecretResolver, ShutdownReport};
use crate::secret::Record;
use crate::status::Status;
use crate::sync::{lock, preempt};

pub(super) struct Flights<R> {
    pub(super) inner: R,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: CacheConfig,
    pub(super) store: Arc<Store>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) downgrades: Downgrades,
    pub(super) hits: Sharded,
    /// How many hits metrics were told of.
    hits_told: AtomicU64,
    fetches: AtomicU64,
    flying: Mutex<Flying>,
    pub(super) epoch: AtomicU64,
    /// The epoch again, for handles that wait for the next signal.
    pub(super) signals: watch::Sender<u64>,
    last_success: AtomicU64,
    closed: watch::Sender<bool>,
}

/// What the lock guards.
pub(super) struct Flying {
    pub(super) flights: HashMap<Arc<str>, Arc<Flight>>,
    pub(super) negatives: Negatives,
    pub(super) seen: Seen,
    pub(super) settling: Settling,
    pub(super) closed: bool,
    /// Fetches that are not flights.
    places: usize,
}

/// A place among the fetches, given back when it is dropped.
pub(super) struct Place<R: SecretResolver>(Arc<Flights<R>>);

impl<R: SecretResolver> Drop for Place<R> {
    fn drop(&mut self) {
        self.0.lock().places -= 1;
    }
}

/// How long after a refresh that came to nothing the next read may ask for one, at the soonest.
pub(super) const REFRESH_AGAIN: Duration = Duration::from_secs(1);

/// What came of asking for a flight.
pub(super) enum Joined {
    /// It landed in the meantime.
    Held(Hit),
    /// Somebody else's is under way.
    Other(Waiter),
    /// None was: the caller has to put this one on the driver.
    Started(Arc<Flight>),
    Refused(Error),
}

impl<R: SecretResolver> Flights<R> {
    pub(super) fn new(
        inner: R,
        clock: Arc<dyn Clock>,
        config: CacheConfig,
        downgrades: Downgrades,
    ) -> Self {
        let store = Arc::new(Store::new(config.max_entries, config.max_bytes));
        // Versions outlive values: four of them for each value that can be held.
        let seen = Seen::new((config.max_entries as usize).saturating_mul(4));
        Self {
            inner,
            sweeper: Sweeper::new(Arc::clone(&store), Arc::clone(&clock)),
            clock,
            config,
            store,
            downgrades,
            hits: Sharded::default(),
            hits_told: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            flying: Mutex::new(Flying {
                flights: HashMap::new(),
                negatives: Negatives::default(),
                seen,
                settling: Settling::default(),
                closed: false,
                places: 0,
            }),
            epoch: AtomicU64::new(0),
            signals: watch::Sender::new(0),
            last_success: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        }
    }

    /// The value held for a name that was answered before. The path of a hit.
    pub(super) fn hit(&self, text: &str) -> Option<Hit> {
        self.store.get(text, &*self.clock)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Flying> {
        lock(&self.flying)
    }

    /// The number of invalidations so far. Read it under the lock to compare it later.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What is held, unless it is to be had `anew`, or the flight that brings it.
    pub(super) fn join(&self, located: &Located<'_>, name: NameRef<'_>, anew: bool) -> Joined {
        let address = located.address().as_str();
        // Foreign code, so before the lock.
        let identity = self.inner.identity();
        preempt();
        let mut flying = self.lock();
        if flying.closed {
            return Joined::Refused(closed_error());
        }
        if let Some(flight) = flying.flights.get(address) {
            flight.ask(name.as_str(), located.field());
            return Joined::Other(flight.waiter());
        }
        // A flight may have landed between the caller's look and this lock.
        let now = self.clock.now();
        let held = self.store.at(address).filter(|_| !anew);
        if let Some(hit) = held.and_then(|slot| slot.read(now)) {
            // Under the lock, so that a signal for a prefix comes before it is read or finds the name.
            self.store.link(name, address, located.field());
            return Joined::Held(hit);
        }
        if let Some(error) = flying.negatives.get(address, now, identity) {
            return Joined::Refused(error);
        }
        match flying.start(address, self.config.max_flights) {
            Ok(flight) => {
                flight.ask(name.as_str(), located.field());
                Joined::Started(flight)
            }
            Err(error) => Joined::Refused(error),
        }
    }

    /// A place among the fetches for one that is not a flight.
    pub(super) fn place(self: &Arc<Self>) -> Result<Place<R>, Error> {
        let mut flying = self.lock();
        if flying.closed {
            return Err(closed_error());
        }
        flying.check_room(self.config.max_flights)?;
        flying.places += 1;
        Ok(Place(Arc::clone(self)))
    }

    /// The record, if it is not larger than one may be.
    pub(super) fn fits(&self, record: Record) -> Result<Record, Error> {
        if record.weight() > self.config.max_record_bytes as usize {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "the record is larger than max_record_bytes; raise it or store less in one record",
            )
            .with_backend(record.answer().backend()));
        }
        Ok(record)
    }

    /// A flight to refresh what is held, unless one is under way or nothing is held any more.
    pub(super) fn start_refresh(
        &self,
        located: &Located<'_>,
        name: NameRef<'_>,
    ) -> Option<Arc<Flight>> {
        let address = located.address().as_str();
        let mut flying = self.lock();
        let idle = !flying.closed && !flying.flights.contains_key(address);
        let slot = self.store.at(address).filter(|_| idle)?;
        let started = flying.start(address, self.config.max_flights);
        match &started {
            Ok(flight) => flight.ask(name.as_str(), located.field()),
            Err(_) => slot.refresh_again(self.clock.now() + REFRESH_AGAIN),
        }
        started.ok()
    }

    /// Ready once the cache is closed.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // It cannot fail: the sender is part of `self`.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Refuses what comes, ends what flies, drops what is held. The second call does nothing.
    pub(super) fn close(&self) -> ShutdownReport {
        let mut flying = self.lock();
        let mut report = ShutdownReport::default();
        if flying.closed {
            return report;
        }
        flying.closed = true;
        let epoch = 1 + self.epoch.fetch_add(1, Ordering::Release);
        let flights = std::mem::take(&mut flying.flights);
        flying.negatives.clear();
        flying.settling.clear();
        let values = self.store.take_all();
        drop(flying);
        preempt();
        self.sweeper.stop();
        report.flights_ended = flights.len();
        report.values_dropped = values.len();
        // Waiters' wakers are foreign code, so what they could spoil is done before.
        self.closed.send_replace(true);
        let held = values.iter().filter(|value| value.is_held_elsewhere());
        report.values_still_held = held.count();
        drop(values);
        for flight in flights.into_values() {
            flight.end(Outcome::Failed(closed_error(), epoch));
        }
        // Last, for a recorder is foreign code, too.
        self.tell_hits();
        report
    }

    /// Changes with every invalidation.
    pub(super) fn signals(&self) -> watch::Receiver<u64> {
        self.signals.subscribe()
    }

    pub(super) fn status(&self) -> Status {
        // Foreign code, so before the lock.
        let login_ends = self.inner.login_ends();
        let flying = self.lock();
        let (entries, bytes) = self.store.size();
        let success = self.last_success.load(Ordering::Relaxed);
        Status {
            closed: flying.closed,
            last_success: (success > 0).then(|| Moment::from_nanos(success)),
            login_ends,
            stale_allowed: !self.config.longest_stale().is_zero(),
            entries,
            bytes,
            flights: flying.flights.len(),
            hits: self.hits.sum(),
            fetches: self.fetches.load(Ordering::Relaxed),
            outlived: self.sweeper.outlived(),
            ..Status::default()
        }
    }

    pub(super) fn tell_hits(&self) {
        audit::hits(self.hits.sum(), &self.hits_told);
    }

    pub(super) fn asked(&self) {
        self.fetches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn succeeded(&self, now: Moment) {
        // At the very beginning of a clock counts as one nanosecond later.
        self.last_success
            .store(now.nanos().max(1), Ordering::Relaxed);
    }

    /// The slot at `address`, whatever its age.
    pub(super) fn slot(&self, address: &str) -> Option<Arc<Slot>> {
        self.store.at(address)
    }
}

impl Flying {
    fn check_room(&self, most: usize) -> Result<(), Error> {
        match self.flights.len() + self.places < most {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Overloaded,
                "too many fetches are in flight; raise max_flights or ask for fewer names at once",
            )),
        }
    }

    fn start(&mut self, address: &str, most: usize) -> Result<Arc<Flight>, Error> {
        self.check_room(most)?;
        let flight = Arc::new(Flight::new(address));
        self.flights
            .insert(Arc::clone(&flight.address), Arc::clone(&flight));
        Ok(flight)
    }
}

#[cfg(test)]
impl<R: SecretResolver> Flights<R> {
    pub(super) fn flying_now(&self) -> HashMap<Arc<str>, Arc<Flight>> {
        self.lock().flights.clone()
    }

    pub(super) fn values(&self) -> usize {
        self.store.weights().len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.store.weights().into_iter().sum()
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
