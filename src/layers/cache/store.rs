//! What is held, its bounds, and the order in which it expires.
//!
//! Every slot that holds a value is in the table; what must be wiped is found there. The table has
//! a lock, which hits by a known name do not take (`index`).
//!
//! Eviction is SIEVE (Zhang et al., NSDI 2024): a hit only sets a mark, so that the read path stays
//! free of locks and of bookkeeping; the hand walks from old to new, takes marks away and evicts
//! the first slot without one. Names that an attacker makes up are read once and go first. What is
//! waited for stays until somebody has looked, or it would be fetched again at once.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::layers::cache::flight::{Flight, Spelling, Spellings};
use crate::layers::cache::index::Index;
use crate::layers::cache::slot::{Detached, Hit, Life, Slot};
use crate::name::NameRef;
use crate::rules::is_below;
use crate::secret::{Record, Selected};
use crate::sync::lock;

pub(super) struct Store {
    index: Index,
    table: Mutex<Table>,
    max_entries: usize,
    max_bytes: usize,
    random: RandomState,
}

#[derive(Default)]
struct Table {
    by_address: HashMap<Arc<str>, Held>,
    by_number: BTreeMap<u64, Arc<Slot>>,
    by_end: BTreeSet<(Moment, u64)>,
    pinned: HashMap<Box<str>, Pin>,
    bytes: usize,
    /// How many of the slots are pinned, and their bytes.
    pinned_slots: usize,
    pinned_bytes: usize,
    next: u64,
    /// Where the look for something to evict goes on.
    hand: u64,
}

/// Why an address is exempt from eviction.
#[derive(Default)]
struct Pin {
    required: bool,
    handles: usize,
}

/// A slot and the names that the index links to it. They outlive the slot: the one that replaces it
/// takes them over. Names beyond those that are kept take the lock.
struct Held {
    slot: Arc<Slot>,
    names: Spellings,
}

impl Held {
    /// Whether it may have been answered to a name at or below `path`. Where more names were used
    /// than are kept, or none is known, it may be any.
    fn is_below(&self, path: &str) -> bool {
        let Spellings { kept, more } = &self.names;
        let mut paths = kept.iter().map(|spelling| path_of(&spelling.name));
        *more || kept.is_empty() || paths.any(|held| is_below(held, path))
    }

    /// Takes over the names that the value was fetched for. Names of fields that are not there can
    /// be made up without end: they displace none that is, and only their paths count.
    fn adopt(&mut self, asked: Spellings) {
        let there = |spelling: &Spelling| {
            let selected = self.slot.find(spelling.field.as_deref());
            matches!(selected, Selected::Index(_))
        };
        let (there, missing): (Vec<_>, Vec<_>) = asked.kept.into_iter().partition(there);
        for spelling in there {
            if !self.names.knows(&spelling.name) {
                self.names.push(spelling);
            }
        }
        let others = |spelling: &Spelling| !self.keeps(path_of(&spelling.name));
        let more = asked.more || missing.iter().any(others);
        self.names.more |= more;
    }

    /// Whether a name of this path is kept.
    fn keeps(&self, path: &str) -> bool {
        let mut kept = self.names.kept.iter();
        kept.any(|held| path_of(&held.name) == path)
    }
}

fn path_of(name: &str) -> &str {
    name.split_once('#').map_or(name, |(path, _)| path)
}

impl Store {
    pub(super) fn new(max_entries: u32, max_bytes: u32) -> Self {
        Self {
            index: Index::new(),
            table: Mutex::default(),
            max_entries: max_entries as usize,
            max_bytes: max_bytes as usize,
            random: RandomState::new(),
        }
    }

    /// The value of a name that was answered before. The path of a hit.
    pub(super) fn get(&self, text: &str, clock: &dyn Clock) -> Option<Hit> {
        self.index.get(text, clock)
    }

    /// The slot at `address`, the long way.
    pub(super) fn at(&self, address: &str) -> Option<Arc<Slot>> {
        let table = lock(&self.table);
        Some(Arc::clone(&table.by_address.get(address)?.slot))
    }

    /// Notes that `name` was answered from the value at `address`, and lets its next look-up take the
    /// short way there.
    pub(super) fn link(&self, name: NameRef<'_>, address: &str, field: Option<&str>) {
        let mut table = lock(&self.table);
        let Some(held) = table.by_address.get_mut(address) else {
            return;
        };
        if matches!(held.slot.find(field), Selected::Missing) {
            // Names of fields that are not there can be made up without end: only their paths count.
            held.names.more |= !held.keeps(name.path());
        } else if let Some(spelling) = held.names.add(name.as_str(), field) {
            // Under the lock, so that the link does not come after the end of its slot.
            self.index.link(spelling, &held.slot);
        }
    }

    /// Holds a value; returns what it replaces and what had to make room.
    ///
    /// Fails when there is no room and all that is held was pinned.
    pub(super) fn put(
        &self,
        flight: &Flight,
        record: &Record,
        life: Life,
    ) -> (Vec<Detached>, Result<Arc<Slot>, Error>) {
        let mut table = lock(&self.table);
        let number = table.next;
        table.next += 1;
        let address = Arc::clone(&flight.address);
        let awaited = flight.awaited_by() > 0;
        let slot = Arc::new(Slot::new(address, record, life, number, awaited));
        // Before anything is taken out: what cannot be held costs nobody else his value, and itself
        // not the one that is still good.
        if !self.has_room(&table, &slot) {
            return (Vec::new(), Err(no_room()));
        }
        let replaced = table.remove(&slot.address);
        let (old, names) = replaced.map(|held| (held.slot, held.names)).unzip();
        let names: Spellings = names.unwrap_or_default();
        let mut out: Vec<_> = old.into_iter().map(Detached::new).collect();
        while self.is_over(table.by_address.len() + 1, table.bytes + slot.weight) {
            let Some(victim) = table.victim() else {
                break;
            };
            out.extend(self.detach(&mut table, &victim.address));
        }
        table.bytes += slot.weight;
        if table.pinned.contains_key(&*slot.address) {
            table.pinned_slots += 1;
            table.pinned_bytes += slot.weight;
        }
        table.by_number.insert(number, Arc::clone(&slot));
        table.by_end.insert((life.ends, number));
        let mut held = Held {
            slot: Arc::clone(&slot),
            names,
        };
        held.adopt(flight.take_asked());
        for spelling in &held.names.kept {
            self.index.link(spelling, &slot);
        }
        table.by_address.insert(Arc::clone(&slot.address), held);
        (out, Ok(slot))
    }

    /// Whether the slot fits beside those that are exempt from eviction, but for the one it replaces.
    fn has_room(&self, table: &Table, slot: &Slot) -> bool {
        let replaced = table.by_address.get(&slot.address).map(|held| &held.slot);
        let pinned = replaced.filter(|_| table.pinned.contains_key(&*slot.address));
        let (slots, bytes) = pinned.map_or((0, 0), |replaced| (1, replaced.weight));
        let entries = table.pinned_slots - slots + 1;
        !self.is_over(entries, table.pinned_bytes - bytes + slot.weight)
    }

    fn is_over(&self, entries: usize, bytes: usize) -> bool {
        entries > self.max_entries || bytes > self.max_bytes
    }

    /// Exempts the address from eviction, now and whenever it is held; for what a service cannot
    /// do without.
    pub(super) fn require(&self, address: &str) -> Result<(), Error> {
        self.pin(address, |pin| pin.required = true)
    }

    /// The same until [`release`](Self::release), for a handle.
    pub(super) fn retain(&self, address: &str) -> Result<(), Error> {
        self.pin(address, |pin| pin.handles += 1)
    }

    pub(super) fn release(&self, address: &str) {
        let mut table = lock(&self.table);
        let Some(pin) = table.pinned.get_mut(address) else {
            return;
        };
        pin.handles = pin.handles.saturating_sub(1);
        if !pin.required && pin.handles == 0 {
            table.pinned.remove(address);
            let weight = table.weight_at(address);
            table.pinned_slots -= usize::from(weight.is_some());
            table.pinned_bytes -= weight.unwrap_or(0);
        }
    }

    /// At most half of the entries can be pinned.
    fn pin(&self, address: &str, add: impl FnOnce(&mut Pin)) -> Result<(), Error> {
        let mut table = lock(&self.table);
        let known = table.pinned.contains_key(address);
        if !known && table.pinned.len() >= self.max_entries.div_ceil(2) {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "more secrets are required, or have handles, than half of max_entries; raise it",
            ));
        }
        add(table.pinned.entry(Box::from(address)).or_default());
        if !known {
            let weight = table.weight_at(address);
            table.pinned_slots += usize::from(weight.is_some());
            table.pinned_bytes += weight.unwrap_or(0);
        }
        Ok(())
    }

    /// Takes out what `name` and everything below the path may have been answered from.
    pub(super) fn take_below(&self, path: &str) -> Vec<Detached> {
        let mut table = lock(&self.table);
        let held = table
            .by_address
            .iter()
            .filter(|(_, held)| held.is_below(path));
        let addresses: Vec<Arc<str>> = held.map(|(address, _)| Arc::clone(address)).collect();
        addresses
            .iter()
            .filter_map(|address| self.detach(&mut table, address))
            .collect()
    }

    /// How many values are held, and how many bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.by_address.len(), table.bytes)
    }

    /// Takes the value at `address` out.
    pub(super) fn take(&self, address: &str) -> Option<Detached> {
        self.detach(&mut lock(&self.table), address)
    }

    /// Takes all values out.
    pub(super) fn take_all(&self) -> Vec<Detached> {
        let mut table = lock(&self.table);
        let slots: Vec<_> = table.by_number.values().cloned().collect();
        let detach = |slot: Arc<Slot>| self.detach(&mut table, &slot.address);
        slots.into_iter().filter_map(detach).collect()
    }

    /// Takes out what has come to its end at `now`; tells when the next one does.
    pub(super) fn take_ended(&self, now: Moment) -> (Vec<Detached>, Option<Moment>) {
        let mut table = lock(&self.table);
        let mut out = Vec::new();
        loop {
            let Some(&(moment, number)) = table.by_end.first() else {
                return (out, None);
            };
            if moment > now {
                return (out, Some(moment));
            }
            match table.by_number.get(&number).map(Arc::clone) {
                Some(slot) => out.extend(self.detach(&mut table, &slot.address)),
                // All orders hold the same slots; so that the loop ends whatever happens.
                None => drop(table.by_end.pop_first()),
            }
        }
    }

    /// `duration` less a random part of up to a tenth, so that what was fetched together does not
    /// expire together.
    pub(super) fn shortened(&self, duration: Duration) -> Duration {
        let next = {
            let mut table = lock(&self.table);
            table.next += 1;
            table.next
        };
        let draw = u32::try_from(self.random.hash_one(next) % 1024).unwrap_or(0);
        // The draw is below 1024, so the product is below a tenth.
        duration - (duration / 10_240) * draw
    }

    /// Takes the slot at `address` out, and its names out of the index.
    fn detach(&self, table: &mut Table, address: &str) -> Option<Detached> {
        let Held { slot, names } = table.remove(address)?;
        self.unlink(&names);
        Some(Detached::new(slot))
    }

    fn unlink(&self, names: &Spellings) {
        for spelling in &names.kept {
            self.index.unlink(&spelling.name);
        }
    }

    #[cfg(test)]
    pub(super) fn weights(&self) -> Vec<usize> {
        let table = lock(&self.table);
        let weights: Vec<_> = table.by_number.values().map(|slot| slot.weight).collect();
        assert_eq!(table.by_address.len(), weights.len());
        assert_eq!(table.by_end.len(), weights.len());
        assert_eq!(table.bytes, weights.iter().sum::<usize>());
        let pinned = table
            .pinned
            .keys()
            .filter_map(|address| table.weight_at(address));
        let pinned: Vec<_> = pinned.collect();
        assert_eq!(table.pinned_slots, pinned.len());
        assert_eq!(table.pinned_bytes, pinned.iter().sum::<usize>());
        weights
    }
}

impl Table {
    /// The bytes of what is held at `address`, if anything is.
    fn weight_at(&self, address: &str) -> Option<usize> {
        Some(self.by_address.get(address)?.slot.weight)
    }

    /// Takes a slot out of every order.
    fn remove(&mut self, address: &str) -> Option<Held> {
        let held = self.by_address.remove(address)?;
        self.by_number.remove(&held.slot.number);
        self.by_end.remove(&(held.slot.life.ends, held.slot.number));
        self.bytes -= held.slot.weight;
        if self.pinned.contains_key(address) {
            self.pinned_slots -= 1;
            self.pinned_bytes -= held.slot.weight;
        }
        Some(held)
    }

    /// What is to be evicted next: the first slot, from the hand on, that was not read since the
    /// hand last passed it.
    fn victim(&mut self) -> Option<Arc<Slot>> {
        // The first round may find marks everywhere; it takes them away, so the second ends.
        for _ in 0..2 {
            let from_hand = self.by_number.range(self.hand..);
            let before_hand = self.by_number.range(..self.hand);
            for (&number, slot) in from_hand.chain(before_hand) {
                let kept = slot.is_awaited() || self.pinned.contains_key(&*slot.address);
                if !kept && !slot.take_visited() {
                    self.hand = number + 1;
                    return Some(Arc::clone(slot));
                }
            }
        }
        // Readers have marked every slot between the two rounds, or all are waited for: then any is
        // as good.
        let mut slots = self.by_number.values();
        slots
            .find(|slot| !self.pinned.contains_key(&*slot.address))
            .cloned()
    }
}

fn no_room() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "the cache is full of secrets that are required or have handles; raise max_entries or max_bytes",
    )
}
