//! One landed value, from its landing to its end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::clock::Moment;
use crate::layers::cache::life::Life;
use crate::resolver::Holder;
use crate::secret::{Answer, Contents, Record, Selected, Version};

/// A value until its end, its eviction or its invalidation. A slot is filled once and emptied once.
///
/// All callers, also the waiters of its flight, are given the slot and not the value. So once it is
/// emptied, no caller is answered the value any more.
pub(super) struct Slot {
    pub(super) address: Arc<str>,
    pub(super) life: Life,
    /// The epoch in which its fetch began.
    pub(super) epoch: u64,
    pub(super) weight: usize,
    answer: Answer,
    contents: ArcSwapOption<Contents>,
    /// Whether it was read since the last look for something to evict.
    visited: AtomicBool,
    /// From when on a read asks for a refresh, in nanoseconds of the clock.
    refresh_from: AtomicU64,
}

/// What a read found.
pub(super) struct Hit {
    pub(super) record: Record,
    /// Whether this read is the one that has to ask for a refresh.
    pub(super) refresh: bool,
}

/// The value of a slot that the store has let go of. No look-up finds the slot any more, nor its
/// value through a link that is left; the value is wiped when this is dropped.
#[must_use = "its value is wiped when it is dropped, which is better done outside of a lock"]
pub(super) struct Detached {
    slot: Arc<Slot>,
    contents: Option<Arc<Contents>>,
}

impl Slot {
    /// How long after it was asked for, or has failed, the next refresh may be asked for at the soonest.
    pub(super) const REFRESH_AGAIN: Duration = Duration::from_secs(1);

    pub(super) fn new(address: &Arc<str>, record: &Record, life: Life, epoch: u64) -> Self {
        Self {
            address: Arc::clone(address),
            life,
            epoch,
            weight: record.weight(),
            answer: record.answer(),
            contents: ArcSwapOption::new(Some(Arc::clone(record.contents()))),
            visited: AtomicBool::new(false),
            refresh_from: AtomicU64::new(life.refresh.nanos()),
        }
    }

    /// The value, if its time is not over. Takes no lock and allocates nothing.
    // The path of a hit is one piece of code: handed on through memory, the parts of a record cost
    // a hit 8 ns more.
    #[inline(always)]
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

    /// The same without counting as a read.
    pub(super) fn peek(&self, now: Moment) -> Option<Record> {
        self.record().filter(|_| now < self.life.expires)
    }

    /// The value, whatever its age, with no field selected.
    #[inline(always)]
    pub(super) fn record(&self) -> Option<Record> {
        let contents = self.contents.load_full()?;
        Some(Record::of(contents, self.answer, Selected::Missing))
    }

    /// Where a field of the record is; nowhere in a slot that was emptied.
    pub(super) fn find(&self, field: Option<&str>) -> Selected {
        let contents = self.contents.load();
        let contents = contents.as_deref();
        contents.map_or(Selected::Missing, |contents| contents.find(field))
    }

    /// Lets reads ask for a refresh again only from `moment` on: the last one has failed.
    pub(super) fn refresh_again(&self, moment: Moment) {
        self.refresh_from.store(moment.nanos(), Ordering::Relaxed);
    }

    /// Whether a refresh is due and this read is the one to ask for it. Should nothing come of it, a
    /// read asks again a little later.
    fn claim_refresh(&self, now: Moment) -> bool {
        let from = self.refresh_from.load(Ordering::Relaxed);
        let claim = || {
            let again = (now + Self::REFRESH_AGAIN).nanos();
            let (write, read) = (Ordering::Relaxed, Ordering::Relaxed);
            let claimed = self.refresh_from.compare_exchange(from, again, write, read);
            claimed.is_ok()
        };
        now.nanos() >= from && claim()
    }

    /// Whether it was read since the last call.
    pub(super) fn take_visited(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed)
    }
}

impl Holder for Slot {
    fn version(&self) -> Option<Version> {
        let contents = self.contents.load();
        let contents = contents.as_deref();
        contents.map(|contents| contents.version().clone())
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl Detached {
    /// Takes the value out of `slot`: from here on it is read nowhere.
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        let contents = slot.contents.swap(None);
        Self { slot, contents }
    }

    pub(super) fn address(&self) -> &Arc<str> {
        &self.slot.address
    }

    /// The version of the value that was dropped.
    pub(super) fn version(&self) -> Option<Version> {
        let contents = self.contents.as_deref();
        contents.map(|contents| contents.version().clone())
    }

    /// Whether a clone of the value is held elsewhere.
    pub(super) fn is_held_elsewhere(&self) -> bool {
        let contents = self.contents.as_ref();
        contents.is_some_and(|contents| Arc::strong_count(contents) > 1)
    }
}
