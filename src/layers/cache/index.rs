//! The read path: from the text of a name straight to its slot, without a lock.
//!
//! It holds no value and decides nothing: a link to a slot that was emptied finds nothing, and the
//! look-up goes the long way. So it needs no care about order; only its size has to be bounded,
//! and the store does that by unlinking with the slot.

use std::collections::hash_map::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::ending::is_whole;
use crate::layers::cache::signals::Signals;
use crate::layers::cache::slot::{Hit, Slot};
use crate::name::path_of;
use crate::secret::Selected;
use crate::sync::lock;

#[derive(Default)]
pub(super) struct Index {
    // Keyed hashing: names may be chosen by an attacker.
    links: papaya::HashMap<Arc<str>, Link, RandomState>,
    /// Names to be unlinked, which a thread that was ending has left to the next.
    left: Mutex<Vec<Arc<str>>>,
}

/// A name of a record, and the field that it means.
pub(super) struct Spelling {
    pub(super) name: Arc<str>,
    pub(super) field: Option<Box<str>>,
}

/// What a name means: a slot, and where its field is in the record there.
struct Link {
    slot: Arc<Slot>,
    selected: Selected,
    /// The epoch until which no signal is known to concern the name.
    good_until: AtomicU64,
}

impl Link {
    /// Whether no signal concerns the value under this name. Looks at the list once after a signal.
    #[inline(always)]
    fn is_good(&self, name: &str, signals: &Signals) -> bool {
        self.good_until.load(Ordering::Relaxed) >= signals.last() || self.looks_good(name, signals)
    }

    #[cold]
    fn looks_good(&self, name: &str, signals: &Signals) -> bool {
        // Read first: a signal that comes during the look is looked at by the next read.
        let last = signals.last();
        let good = !signals.concern(self.slot.epoch, path_of(name), &self.slot.address);
        if good {
            self.good_until.store(last, Ordering::Relaxed);
        }
        good
    }
}

impl Index {
    /// The record that the name with this text was linked to, if its time is not over and no signal
    /// concerns it, with the name's field selected. Text that is no name was never linked. On a thread
    /// that is ending there is none: the look-up goes the long way.
    pub(super) fn get(&self, text: &str, signals: &Signals, clock: &dyn Clock) -> Option<Hit> {
        if !is_whole() {
            return None;
        }
        let links = self.links.pin();
        let link = links.get(text).filter(|link| link.is_good(text, signals))?;
        let mut hit = link.slot.read(clock.now())?;
        hit.record = hit.record.selecting(link.selected);
        Some(hit)
    }

    pub(super) fn knows(&self, text: &str) -> bool {
        is_whole() && self.links.pin().contains_key(text)
    }

    /// Under the lock of the table, as `unlink`, so that the two come in order. On a thread that is
    /// ending it does nothing.
    pub(super) fn link(&self, spelling: &Spelling, slot: &Arc<Slot>) {
        if !is_whole() {
            return;
        }
        // Before the link: what was left is older.
        self.unlink_left();
        let link = Link {
            selected: slot.find(spelling.field.as_deref()),
            good_until: AtomicU64::new(slot.epoch),
            slot: Arc::clone(slot),
        };
        self.links.pin().insert(Arc::clone(&spelling.name), link);
    }

    pub(super) fn unlink(&self, name: &Arc<str>) {
        if !is_whole() {
            lock(&self.left).push(Arc::clone(name));
            return;
        }
        self.unlink_left();
        self.links.pin().remove(name);
    }

    fn unlink_left(&self) {
        let left = std::mem::take(&mut *lock(&self.left));
        for name in left {
            self.links.pin().remove(&name);
        }
    }
}
