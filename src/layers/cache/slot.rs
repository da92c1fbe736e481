//! One landed value, from its landing to its end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;

use crate::clock::Moment;
use crate::layers::cache::flight::Flight;
use crate::secret::{Record, Version};

/// A value until its end, its eviction or its invalidation. A slot is filled once and emptied once.
pub(super) struct Slot {
    pub(super) address: Box<str>,
    pub(super) life: Life,
    /// Its place in the order of landings.
    pub(super) number: u64,
    pub(super) weight: usize,
    record: ArcSwapOption<Record>,
    /// Whether it was read since the last look for something to evict.
    visited: AtomicBool,
    /// From when on a read asks for a refresh, in nanoseconds of the clock.
    refresh_from: AtomicU64,
    /// Where waiters take the same value from.
    flight: Weak<Flight>,
}

/// The moments in a value's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// From when on a read asks for a refresh.
    pub(super) refresh: Moment,
    /// From when on it is not answered any more, but for a policy that allows stale values.
    pub(super) expires: Moment,
    /// When it is dropped: its expiry, or as long after as some policy allows stale values.
    pub(super) ends: Moment,
}

/// What a read found.
pub(super) struct Hit {
    pub(super) record: Record,
    /// Whether this read is the one that has to ask for a refresh.
    pub(super) refresh: bool,
}

/// A slot that the store has let go of. No look-up finds it any more, nor its value through a link
/// that is left; the value is to be dropped with [`Detached::forget`].
#[must_use = "its value stays in memory until it is forgotten"]
pub(super) struct Detached {
    slot: Arc<Slot>,
    record: Option<Arc<Record>>,
}

impl Slot {
    pub(super) fn new(flight: &Arc<Flight>, record: &Record, life: Life, number: u64) -> Self {
        Self {
            address: flight.address.clone(),
            life,
            number,
            weight: record.weight(),
            record: ArcSwapOption::from_pointee(record.clone()),
            visited: AtomicBool::new(false),
            refresh_from: AtomicU64::new(life.refresh.nanos()),
            flight: Arc::downgrade(flight),
        }
    }

    /// The value, if its time is not over. Takes no lock and allocates nothing.
    pub(super) fn read(&self, now: Moment) -> Option<Hit> {
        if now >= self.life.expires {
            return None;
        }
        let record = self.record()?;
        // Written only when it changes, so that readers on two cores do not fight for the line.
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
        let refresh = self.claim_refresh(now);
        Some(Hit { record, refresh })
    }

    /// The value, whatever its age.
    pub(super) fn record(&self) -> Option<Record> {
        self.record.load().as_deref().cloned()
    }

    /// Lets reads ask for a refresh again from `moment` on: the last one has failed.
    pub(super) fn refresh_again(&self, moment: Moment) {
        self.refresh_from.store(moment.nanos(), Ordering::Relaxed);
    }

    /// Whether a refresh is due and nobody else has asked for it.
    fn claim_refresh(&self, now: Moment) -> bool {
        let from = self.refresh_from.load(Ordering::Relaxed);
        let claim = || {
            let never = Moment::NEVER.nanos();
            let claimed = self.refresh_from.compare_exchange(
                from,
                never,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            claimed.is_ok()
        };
        now.nanos() >= from && claim()
    }

    /// Whether it was read since the last call.
    pub(super) fn take_visited(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed)
    }
}

impl Detached {
    /// Takes the value out of `slot`: from here on nobody reads it there.
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        let record = slot.record.swap(None);
        Self { slot, record }
    }

    pub(super) fn address(&self) -> &str {
        &self.slot.address
    }

    /// The version of the value, for those who must know what was dropped.
    pub(super) fn version(&self) -> Option<Version> {
        self.record
            .as_deref()
            .map(|record| record.version().clone())
    }

    /// Drops the value, the copy offered to waiters included; tells whether a clone of it is still
    /// held elsewhere.
    ///
    /// It may wake waiters, whose wakers are foreign code: never call it under a lock.
    pub(super) fn forget(self) -> bool {
        if let Some(flight) = self.slot.flight.upgrade() {
            flight.forget();
        }
        self.record.is_some_and(|record| record.references() > 1)
    }
}
