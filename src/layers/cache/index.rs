//! The read path: from the text of a name straight to its slot, without a lock.
//!
//! It holds no value and decides nothing: a link to a slot that was emptied finds nothing, and the
//! look-up goes the long way. So it needs no care about order; only its size has to be bounded,
//! and the store does that by unlinking with the slot.

use std::collections::hash_map::RandomState;
use std::sync::Arc;

use crate::clock::{Clock, Moment};
use crate::layers::cache::flight::Spelling;
use crate::layers::cache::slot::{Hit, Slot};
use crate::secret::{Record, Selected};

pub(super) struct Index {
    // Keyed hashing: names may be chosen by an attacker.
    links: papaya::HashMap<Arc<str>, Link, RandomState>,
}

/// What a name means: a slot, and where its field is in the record there.
pub(super) struct Link {
    slot: Arc<Slot>,
    selected: Selected,
}

impl Link {
    pub(super) fn new(slot: Arc<Slot>, field: Option<&str>) -> Self {
        let selected = slot.find(field);
        Self { slot, selected }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The record, if its time is not over, with the field selected.
    #[inline(always)]
    pub(super) fn read(&self, clock: &dyn Clock) -> Option<Hit> {
        let mut hit = self.slot.read(clock.now())?;
        hit.record = hit.record.selecting(self.selected);
        Some(hit)
    }

    /// The same without counting as a read.
    pub(super) fn peek(&self, now: Moment) -> Option<Record> {
        Some(self.slot.peek(now)?.selecting(self.selected))
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            links: papaya::HashMap::with_hasher(RandomState::new()),
        }
    }

    /// The record that the name with this text was linked to, if its time is not over, with the
    /// name's field selected. Text that is no name was never linked.
    pub(super) fn get(&self, text: &str, clock: &dyn Clock) -> Option<Hit> {
        self.links.pin().get(text)?.read(clock)
    }

    pub(super) fn link(&self, spelling: &Spelling, slot: &Arc<Slot>) {
        let link = Link::new(Arc::clone(slot), spelling.field.as_deref());
        self.links.pin().insert(Arc::clone(&spelling.name), link);
    }

    pub(super) fn unlink(&self, name: &str) {
        self.links.pin().remove(name);
    }
}
