//! All flights, what may be answered, and the fence.
//!
//! One lock orders everything that changes what a `get` may see: starting a flight, landing one
//! (`landing`), invalidating, closing. Hits do not take it. No foreign code runs under it.
//!
//! The fence: an invalidation raises the epoch, notes it in the flight to its address, and takes the
//! held value out, in one critical section. A flight lands in one, too, and only what was asked for
//! since the epoch in it; its waiters are handed the slot, not the value. A signal for a
//! prefix is compared with the epoch in which a fetch began (`signals`). So after `invalidate` has
//! returned, nothing that was fetched before is answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};

use crate::address::Located;
use crate::aside::Aside;
use crate::audit;
use crate::clock::{Clock, Moment};
use crate::counter::Sharded;
use crate::downgrade::Downgrades;
use crate::error::{Error, ErrorKind};
use crate::in_time::{TimeLimit, in_time};
use crate::layers::cache::CacheConfig;
use crate::layers::cache::flight::{Flight, Outcome, Waiter};
use crate::layers::cache::keeper::Keeper;
use crate::layers::cache::negative::{Negatives, Said};
use crate::layers::cache::seen::Seen;
use crate::layers::cache::settle::Settling;
use crate::layers::cache::slot::{Hit, Slot};
use crate::layers::cache::store::Store;
use crate::layers::cache::sweeper::Sweeper;
use crate::layers::deadline::too_late;
use crate::name::NameRef;
use crate::race::race;
use crate::resolver::{Request, SecretResolver, ShutdownReport};
use crate::rules::ByPrefix;
use crate::secret::{Record, Version};
use crate::sync::{lock, preempt};

pub(super) struct Core {
    pub(super) inner: Arc<dyn SecretResolver>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) config: CacheConfig,
    pub(super) store: Arc<Store>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) keeper: Keeper,
    pub(super) downgrades: Downgrades,
    /// Where the wakers of callers run.
    pub(super) aside: Aside,
    pub(super) hits: Sharded,
    /// How many hits were reported to metrics.
    hits_reported: AtomicU64,
    pub(super) fetches: AtomicU64,
    /// How many fetches there may be still, by prefix of the name.
    places: ByPrefix<Arc<Semaphore>>,
    state: Mutex<State>,
    pub(super) epoch: AtomicU64,
    /// Written only under the lock.
    closed: watch::Sender<bool>,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) flights: HashMap<Arc<str>, (Arc<Flight>, Place)>,
    pub(super) negatives: Negatives,
    pub(super) seen: Seen,
    pub(super) settling: Settling,
    pub(super) last_success: Option<Moment>,
}

/// A place among the fetches, given back when it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// What came of asking for a flight.
pub(super) enum Joined {
    /// It landed in the meantime.
    Held(Hit),
    /// It is under way. Where it is new, the caller has to put it on the driver.
    Flight(Waiter, Option<Arc<Flight>>),
}

impl Core {
    pub(super) fn new(
        inner: Arc<dyn SecretResolver>,
        clock: Arc<dyn Clock>,
        config: CacheConfig,
        downgrades: Downgrades,
        aside: Aside,
    ) -> Result<Self, Error> {
        let places = |_: Option<&str>, most: usize| {
            let places = Semaphore::new(most.min(Semaphore::MAX_PERMITS));
            Ok(Arc::new(places))
        };
        let places = config.max_flights.clone().map(places)?;
        let store = Arc::new(Store::new(config.max_entries, config.max_bytes));
        let state = Mutex::new(State {
            flights: HashMap::new(),
            negatives: Negatives::default(),
            // Versions outlive values: four of them for each value that can be held.
            seen: Seen::new((config.max_entries as usize).saturating_mul(4)),
            settling: Settling::new(config.settle),
            last_success: None,
        });
        Ok(Self {
            inner,
            sweeper: Sweeper::new(Arc::clone(&store), Arc::clone(&clock)),
            keeper: Keeper::new(Arc::clone(&clock)),
            clock,
            config,
            store,
            downgrades,
            aside,
            hits: Sharded::default(),
            hits_reported: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            places,
            state,
            epoch: AtomicU64::new(0),
            closed: watch::Sender::new(false),
        })
    }

    /// The value held for a name that was answered before. The path of a hit.
    pub(super) fn hit(&self, text: &str) -> Option<Hit> {
        let Store { index, signals, .. } = &*self.store;
        index.get(text, signals, &*self.clock)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The number of invalidations so far.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The slot at the name's address, of any age, unless a signal concerns it under this name.
    pub(super) fn slot_of(&self, located: &Located<'_>, name: NameRef<'_>) -> Option<Arc<Slot>> {
        let address = located.address().as_str();
        let slot = self.store.at(address)?;
        let signals = &self.store.signals;
        (!signals.concern(slot.epoch, name.path(), address)).then_some(slot)
    }

    /// Whether a signal since this epoch concerns the name, or the record at its address.
    pub(super) fn was_signalled(
        &self,
        state: &State,
        epoch: u64,
        name: NameRef<'_>,
        address: &str,
    ) -> bool {
        let signals = &self.store.signals;
        signals.concern(epoch, name.path(), address) || state.settling.concern(epoch, address)
    }

    /// What is held for `name`, also where the read path does not know it.
    pub(super) fn held(&self, name: NameRef<'_>) -> Option<Hit> {
        let found = || self.found(&self.inner.locate(name), name);
        self.hit(name.as_str()).or_else(found)
    }

    /// The same, the long way; the next look-up takes the short one.
    fn found(&self, located: &Located<'_>, name: NameRef<'_>) -> Option<Hit> {
        let mut hit = self.slot_of(located, name)?.read(self.clock.now())?;
        self.store.link(name, located);
        hit.record = hit.record.select(located.field());
        Some(hit)
    }

    /// What is held, unless it is to be fetched `again`, or the flight that brings it.
    pub(super) fn join(
        &self,
        located: &Located<'_>,
        name: NameRef<'_>,
        again: bool,
    ) -> Result<Joined, Error> {
        if located.address().is_lost() {
            return Err(no_address());
        }
        let address = located.address().as_str();
        // Foreign code, so before the lock.
        let identity = self.inner.identity();
        preempt();
        let mut state = self.lock();
        if let Some((flight, _)) = state.flights.get(address) {
            return Ok(Joined::Flight(flight.waiter(), None));
        }
        // A flight may have landed between the caller's look and this lock.
        if !again && let Some(hit) = self.found(located, name) {
            return Ok(Joined::Held(hit));
        }
        let said = state.negatives.get(address, self.clock.now(), identity);
        let over = |said: &Said| self.was_signalled(&state, said.epoch, name, address);
        if let Some(said) = said.filter(|said| !over(said)) {
            return Err(said.error.clone());
        }
        let flight = state.start(address, self.place(name)?);
        Ok(Joined::Flight(flight.waiter(), Some(flight)))
    }

    /// A place among the fetches.
    pub(super) fn place(&self, name: NameRef<'_>) -> Result<Place, Error> {
        let places = Arc::clone(self.places.get(name.path()));
        places.try_acquire_owned().map_err(|refused| match refused {
            TryAcquireError::Closed => closed_error(),
            TryAcquireError::NoPermits => Error::new(
                ErrorKind::Overloaded,
                "too many fetches are in flight; ask for fewer names at once, or raise the bound by with_max_flights, or by with_limit_for for a prefix",
            ),
        })
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

    /// A new flight to refresh what is held, if there is anything and none is under way.
    pub(super) fn start_refresh(
        &self,
        located: &Located<'_>,
        name: NameRef<'_>,
    ) -> Option<Arc<Flight>> {
        // A hit comes by here before it is answered, so nothing else may run in between.
        let address = located.address().as_str();
        let mut state = self.lock();
        let idle = !state.flights.contains_key(address) && self.store.at(address).is_some();
        let place = idle.then(|| self.place(name))?;
        Some(state.start(address, place.ok()?))
    }

    /// Ready once the cache is closed.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // It cannot fail: the sender is part of `self`.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Changes only under the lock.
    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Refuses what comes, ends what flies, drops what is held. The second call does nothing.
    pub(super) fn close(&self) -> ShutdownReport {
        let mut report = ShutdownReport::default();
        let mut state = self.lock();
        // Only jobs on the driver wait for this: no foreign code is woken.
        if self.closed.send_replace(true) {
            return report;
        }
        self.epoch.fetch_add(1, Ordering::Release);
        self.places.values().for_each(|places| places.close());
        let flights: Vec<_> = state.flights.drain().collect();
        state.negatives = Negatives::default();
        let values = self.store.take_all();
        drop(state);
        preempt();
        self.sweeper.stop();
        report.flights_ended = flights.len();
        report.values_dropped = values.len();
        let held = values.iter().filter(|value| value.is_held_elsewhere());
        report.values_still_held = held.count();
        drop(values);
        // Without the lock, for it wakes waiters.
        for (_, (flight, _)) in flights {
            flight.end(Outcome::Failed(closed_error()));
        }
        self.keeper.close();
        report
    }

    pub(super) fn tell_hits(&self) {
        if self.config.counts_hits {
            audit::hits(self.hits.sum(), &self.hits_reported);
        }
    }

    /// Reports a fetch that has ended: the backend and the version that it brought, or why it failed.
    pub(super) fn tell_fetched(
        &self,
        name: NameRef<'_>,
        began: Moment,
        told: Result<(&'static str, Version), Error>,
    ) {
        let now = self.clock.now();
        let store = self.config.stores.get(name.path());
        store.fetched(name, told, now, now.since(began));
    }

    /// Asks the store, within the budget of a fetch and until the cache is closed. `lost` is what the
    /// clock lost before `began`, read in this order.
    pub(super) async fn ask(
        &self,
        request: Request<'_>,
        began: Moment,
        lost: Duration,
    ) -> Result<Record, Error> {
        let until = began + self.config.flight_budget;
        let closed = async {
            self.closed().await;
            Err(closed_error())
        };
        let limit = TimeLimit::since(&*self.clock, until, lost);
        let answer = self.inner.resolve(request.while_running(until, lost));
        let answer = in_time(limit, race(closed, answer)).await;
        let answer = answer.unwrap_or_else(|| Err(too_late()));
        let store = self.config.stores.get(request.name().path());
        let answer = answer.map_err(|error| store.named_by(error));
        if audit::was_asked(&answer) {
            self.fetches.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

impl State {
    fn start(&mut self, address: &str, place: Place) -> Arc<Flight> {
        let flight = Arc::new(Flight::new(address));
        let address = Arc::clone(&flight.address);
        self.flights.insert(address, (Arc::clone(&flight), place));
        flight
    }

    /// Takes a flight off the table, if it is there.
    pub(super) fn end(&mut self, flight: &Arc<Flight>) -> bool {
        let held = self.flights.get(&flight.address);
        let there = held.is_some_and(|(held, _)| Arc::ptr_eq(held, flight));
        if there {
            self.flights.remove(&flight.address);
        }
        there
    }
}

pub(crate) fn closed_error() -> Error {
    Error::new(
        ErrorKind::Closed,
        "the resolver was shut down; build a new one",
    )
}

/// Where a record is cannot be known.
#[cold]
pub(super) fn no_address() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the backend panicked as it was asked where the secret is",
    )
}

/// For a flight that ended without an answer: its job panicked, or its driver is gone.
pub(super) fn lost() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the fetch ended without an answer; the backend may have panicked",
    )
}
