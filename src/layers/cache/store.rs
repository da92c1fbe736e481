//! What is held: slots under moka's bounds, and the order in which they expire.
//!
//! moka bounds and evicts, nothing else. Its clock cannot be injected and it keeps what nobody
//! touches, so a slot has an expiry of ours and is emptied by ours. The schedule knows every slot
//! that is not empty: what must be wiped is found there, never by asking moka.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::ops::compute::Op;

use crate::clock::Moment;
use crate::layers::cache::flight::Flight;
use crate::secret::Record;
use crate::sync::lock;

pub(super) struct Store {
    entries: moka::sync::Cache<Box<str>, Arc<Slot>>,
    schedule: Arc<Schedule>,
    next: AtomicU64,
    random: RandomState,
}

/// One landed value, until it expires, is evicted or is invalidated.
struct Slot {
    address: Box<str>,
    expires: Moment,
    number: u64,
    weight: u32,
    record: ArcSwapOption<Record>,
    /// Where waiters take the same value from.
    flight: Weak<Flight>,
}

/// A slot that the store has let go of. No look-up finds it any more; its value is to be dropped
/// with [`Detached::forget`].
#[must_use = "its value stays in memory until it is forgotten"]
pub(super) struct Detached(Arc<Slot>);

/// Every slot that holds a value, by expiry.
#[derive(Default)]
struct Schedule(Mutex<BTreeMap<(Moment, u64), Arc<Slot>>>);

impl Store {
    pub(super) fn new(max_entries: u32, max_bytes: u32) -> Self {
        let schedule = Arc::new(Schedule::default());
        let evicted = Arc::clone(&schedule);
        // moka has one bound. A floor under each weight makes it hold both: of the smallest
        // entries there can be no more than `max_entries`.
        let floor = (max_bytes / max_entries).max(1);
        let entries = moka::sync::Cache::builder()
            .max_capacity(u64::from(max_bytes))
            .weigher(move |_, slot: &Arc<Slot>| slot.weight.max(floor))
            // It must not panic: moka would never call it again.
            .eviction_listener(move |_, slot: Arc<Slot>, cause| {
                // What we take out ourselves is on its way to `Detached::forget`.
                if cause.was_evicted() {
                    evicted.remove(&slot);
                    slot.empty();
                }
            })
            .build();
        Self {
            entries,
            schedule,
            next: AtomicU64::new(0),
            random: RandomState::new(),
        }
    }

    pub(super) fn get(&self, address: &str, now: Moment) -> Option<Record> {
        let slot = self.entries.get(address)?;
        if now >= slot.expires {
            return None;
        }
        let record = slot.record.load();
        record.as_deref().cloned()
    }

    /// Holds a value in place of what was held before; returns what that was.
    pub(super) fn put(
        &self,
        flight: &Arc<Flight>,
        record: &Record,
        expires: Moment,
    ) -> Option<Detached> {
        let slot = Arc::new(Slot {
            address: flight.address.clone(),
            expires,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            weight: u32::try_from(record.weight()).unwrap_or(u32::MAX),
            record: ArcSwapOption::from_pointee(record.clone()),
            flight: Arc::downgrade(flight),
        });
        let old = self.take(&flight.address);
        self.schedule.add(&slot);
        self.entries.insert(flight.address.clone(), slot);
        // Puts come at the pace of the network, so the bounds can be exact.
        self.entries.run_pending_tasks();
        old
    }

    /// Takes the value at `address` out.
    pub(super) fn take(&self, address: &str) -> Option<Detached> {
        let slot = self.entries.remove(address)?;
        self.schedule.remove(&slot);
        Some(Detached(slot))
    }

    /// Takes all values out.
    pub(super) fn take_all(&self) -> Vec<Detached> {
        let slots = self.schedule.take_all();
        self.detach(slots)
    }

    /// Takes out what has expired at `now`; tells when the next one does.
    pub(super) fn take_expired(&self, now: Moment) -> (Vec<Detached>, Option<Moment>) {
        let (slots, next) = self.schedule.take_due(now);
        (self.detach(slots), next)
    }

    /// Removes slots that left the schedule from the map, unless others have taken their place.
    fn detach(&self, slots: Vec<Arc<Slot>>) -> Vec<Detached> {
        for slot in &slots {
            let same = |held: &Arc<Slot>| Arc::ptr_eq(held, slot);
            self.entries
                .entry_by_ref(&slot.address)
                .and_compute_with(|held| match held {
                    Some(held) if same(held.value()) => Op::Remove,
                    _ => Op::Nop,
                });
        }
        slots.into_iter().map(Detached).collect()
    }

    #[cfg(all(test, feature = "testing"))]
    pub(super) fn values(&self) -> Vec<usize> {
        let slots = lock(&self.schedule.0);
        slots.values().map(|slot| slot.weight as usize).collect()
    }

    /// `duration` less a random part of up to a tenth, so that what was fetched together does not
    /// expire together.
    pub(super) fn shortened(&self, duration: Duration) -> Duration {
        let draw = self
            .random
            .hash_one(self.next.fetch_add(1, Ordering::Relaxed))
            % 1024;
        // The draw is below 1024, so the product is below a tenth.
        duration - (duration / 10_240) * u32::try_from(draw).unwrap_or(0)
    }
}

impl Slot {
    /// Drops the cache's own reference; tells whether others are left.
    fn empty(&self) -> bool {
        let record = self.record.swap(None);
        record.is_some_and(|record| record.references() > 1)
    }
}

impl Detached {
    /// Drops the value, the copy offered to waiters included; tells whether a clone of it is still
    /// held elsewhere.
    ///
    /// It may wake waiters, whose wakers are foreign code: never call it under a lock.
    pub(super) fn forget(self) -> bool {
        if let Some(flight) = self.0.flight.upgrade() {
            flight.forget();
        }
        self.0.empty()
    }
}

impl Schedule {
    fn add(&self, slot: &Arc<Slot>) {
        lock(&self.0).insert((slot.expires, slot.number), Arc::clone(slot));
    }

    fn remove(&self, slot: &Slot) {
        lock(&self.0).remove(&(slot.expires, slot.number));
    }

    fn take_all(&self) -> Vec<Arc<Slot>> {
        std::mem::take(&mut *lock(&self.0)).into_values().collect()
    }

    fn take_due(&self, now: Moment) -> (Vec<Arc<Slot>>, Option<Moment>) {
        let mut slots = lock(&self.0);
        let mut due = Vec::new();
        while let Some(first) = slots.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        (due, slots.keys().next().map(|&(moment, _)| moment))
    }
}
