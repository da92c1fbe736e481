//! One landed value, from its landing to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;

use crate::clock::Moment;
use crate::layers::cache::flight::Flight;
use crate::secret::Record;

/// A value until it expires, is evicted or is invalidated. A slot is filled once and emptied once.
pub(super) struct Slot {
    pub(super) address: Box<str>,
    pub(super) expires: Moment,
    /// Its place in the order of landings.
    pub(super) number: u64,
    pub(super) weight: usize,
    record: ArcSwapOption<Record>,
    /// Whether it was read since the last look for something to evict.
    visited: AtomicBool,
    /// Where waiters take the same value from.
    flight: Weak<Flight>,
}

/// A slot that the store has let go of. No look-up finds it any more; its value is to be dropped
/// with [`Detached::forget`].
#[must_use = "its value stays in memory until it is forgotten"]
pub(super) struct Detached(Arc<Slot>);

impl Slot {
    pub(super) fn new(flight: &Arc<Flight>, record: &Record, expires: Moment, number: u64) -> Self {
        Self {
            address: flight.address.clone(),
            expires,
            number,
            weight: record.weight(),
            record: ArcSwapOption::from_pointee(record.clone()),
            visited: AtomicBool::new(false),
            flight: Arc::downgrade(flight),
        }
    }

    /// The value, if its time is not over. Takes no lock and allocates nothing.
    pub(super) fn read(&self, now: Moment) -> Option<Record> {
        if now >= self.expires {
            return None;
        }
        let record = self.record.load();
        let record = record.as_deref()?.clone();
        // Written only when it changes, so that readers on two cores do not fight for the line.
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Whether it was read since the last call.
    pub(super) fn take_visited(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed)
    }
}

impl Detached {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self(slot)
    }

    /// Drops the value, the copy offered to waiters included; tells whether a clone of it is still
    /// held elsewhere.
    ///
    /// It may wake waiters, whose wakers are foreign code: never call it under a lock.
    pub(super) fn forget(self) -> bool {
        if let Some(flight) = self.0.flight.upgrade() {
            flight.forget();
        }
        let record = self.0.record.swap(None);
        record.is_some_and(|record| record.references() > 1)
    }
}
