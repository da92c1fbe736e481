//! What is held, its bounds, and the order in which it expires.
//!
//! Every slot that holds a value is in the table; what must be wiped is found there. The table has
//! a lock, which hits by a known name do not take (`index`).
//!
//! Eviction is SIEVE (Zhang et al., NSDI 2024): a hit only sets a mark, so that the read path stays
//! free of locks and of bookkeeping; the hand walks from old to new, takes marks away and evicts
//! the first slot without one. Names that an attacker makes up are read once and go first. What is
//! waited for stays until somebody has looked, or it would be fetched again at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::address::Address;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::jitter::random_part;
use crate::layers::cache::flight::Flight;
use crate::layers::cache::index::{Index, Spelling};
use crate::layers::cache::signals::Signals;
use crate::layers::cache::slot::{Detached, Hit, Landed, Slot};
use crate::name::{NameRef, path_of};
use crate::rules::is_below;
use crate::secret::Selected;
use crate::sync::lock;

pub(super) struct Store {
    index: Index,
    pub(super) signals: Signals,
    /// Signals for single addresses, for batches: a value that is held is taken out by one.
    pub(super) addressed: Signals,
    table: Mutex<Table>,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Table {
    by_address: HashMap<Arc<str>, Entry>,
    by_number: BTreeMap<u64, Arc<Slot>>,
    by_end: BTreeSet<(Moment, u64)>,
    pinned: HashMap<Box<str>, Pin>,
    bytes: usize,
    /// The bytes that are kept free for what is pinned, whether it is held now or not.
    pinned_bytes: usize,
    next: u64,
    /// Where the look for something to evict goes on.
    hand: u64,
}

/// Why an address is exempt from eviction.
#[derive(Clone, Copy, Default)]
struct Pin {
    required: bool,
    handles: usize,
    /// The bytes of its value, as far as they are known.
    weight: usize,
}

/// A slot and the names that the index links to it. They outlive the slot: the one that replaces it
/// takes them over. Other names take the lock.
struct Entry {
    slot: Arc<Slot>,
    names: Vec<Spelling>,
}

impl Entry {
    /// How many names of one address are linked. A backend may fold any number into one address (env
    /// folds case), and they must not be a way to fill the memory.
    const MOST: usize = 16;

    /// Whether a name is to be linked: it is new, and there is room. Names of fields that are not there
    /// can be made up without end: they displace none that is.
    fn wants(&self, name: NameRef<'_>, field: Option<&str>) -> bool {
        let known = self.names.iter().any(|held| *held.name == *name.as_str());
        let missing = || matches!(self.slot.find(field), Selected::Missing);
        !known && self.names.len() < Self::MOST && !missing()
    }

    /// Whether it is known to be below the prefix, by its address or by one of its names.
    fn is_below(&self, prefix: &str, addresses: &[Address<'_>]) -> bool {
        let address = &self.slot.address;
        let mut names = self.names.iter();
        let mut addresses = addresses.iter();
        names.any(|spelling| is_below(path_of(&spelling.name), prefix))
            || addresses.any(|prefix| is_below(address, prefix.as_str()))
    }
}

impl Store {
    pub(super) fn new(max_entries: u32, max_bytes: u32) -> Self {
        Self {
            index: Index::new(),
            signals: Signals::default(),
            addressed: Signals::default(),
            table: Mutex::default(),
            max_entries: max_entries as usize,
            max_bytes: max_bytes as usize,
        }
    }

    /// The value of a name that was answered before. The path of a hit.
    pub(super) fn get(&self, text: &str, clock: &dyn Clock) -> Option<Hit> {
        self.index.get(text, &self.signals, clock)
    }

    /// The slot at `address`, the long way.
    pub(super) fn at(&self, address: &str) -> Option<Arc<Slot>> {
        let table = lock(&self.table);
        Some(Arc::clone(&table.by_address.get(address)?.slot))
    }

    /// Lets the next look-up of `name` take the short way to the value at `address`.
    pub(super) fn link(&self, name: NameRef<'_>, address: &str, field: Option<&str>) {
        // After a stampede every waiter of one name comes by here.
        if self.index.knows(name.as_str()) {
            return;
        }
        let mut table = lock(&self.table);
        let held = table.by_address.get_mut(address);
        let Some(held) = held.filter(|held| held.wants(name, field)) else {
            return;
        };
        let spelling = Spelling {
            name: Arc::from(name.as_str()),
            field: field.map(Box::from),
        };
        // Under the lock, so that the link does not come after the end of its slot.
        self.index.link(&spelling, &held.slot);
        // One at a time: there is seldom a second.
        held.names.reserve_exact(1);
        held.names.push(spelling);
    }

    /// Holds a value; returns what it replaces and what had to make room.
    ///
    /// Fails when there is no room beside what is pinned.
    pub(super) fn put(
        &self,
        flight: &Flight,
        landed: &Landed,
    ) -> (Vec<Detached>, Result<Arc<Slot>, Error>) {
        let mut table = lock(&self.table);
        let number = table.next;
        table.next += 1;
        let address = Arc::clone(&flight.address);
        let awaited = flight.awaited_by() > 0;
        let slot = Arc::new(Slot::new(address, landed, number, awaited));
        // Before anything is taken out: a value that cannot be held takes the place of no other,
        // and its own older value, if still good, stays.
        if let Err(error) = self.make_room(&mut table, &slot) {
            return (Vec::new(), Err(error));
        }
        let replaced = table.remove(&slot.address);
        let (old, names) = replaced.map(|held| (held.slot, held.names)).unzip();
        let mut out: Vec<_> = old.into_iter().map(Detached::new).collect();
        while self.is_over(table.by_address.len() + 1, table.bytes + slot.weight) {
            let Some(victim) = table.victim() else {
                break;
            };
            out.extend(self.detach(&mut table, &victim.address));
        }
        table.bytes += slot.weight;
        table.by_number.insert(number, Arc::clone(&slot));
        table.by_end.insert((slot.life.ends, number));
        let held = Entry {
            slot: Arc::clone(&slot),
            names: names.unwrap_or_default(),
        };
        for spelling in &held.names {
            self.index.link(spelling, &slot);
        }
        table.by_address.insert(Arc::clone(&slot.address), held);
        (out, Ok(slot))
    }

    /// Keeps room for the slot where it is pinned; fails when it does not fit beside the others that
    /// are.
    fn make_room(&self, table: &mut Table, slot: &Slot) -> Result<(), Error> {
        let pin = table.pinned.get(&*slot.address).copied();
        let (pins, bytes) = pin.map_or((0, 0), |pin| (1, pin.weight));
        let others = (table.pinned.len() - pins, table.pinned_bytes - bytes);
        if self.is_over(others.0 + 1, others.1 + slot.weight) {
            return Err(no_room());
        }
        if let Some(pin) = pin {
            let weight = slot.weight;
            self.reserve(table, vec![(&slot.address, Pin { weight, ..pin })])?;
        }
        Ok(())
    }

    fn is_over(&self, entries: usize, bytes: usize) -> bool {
        entries > self.max_entries || bytes > self.max_bytes
    }

    /// Exempts these addresses, whose values weigh so much, from eviction, now and whenever they are
    /// held; for what a service cannot do without. All of them, or none.
    pub(super) fn require(&self, addresses: &[(Box<str>, usize)]) -> Result<(), Error> {
        let mut table = lock(&self.table);
        let pins = addresses.iter().map(|(address, weight)| {
            let known = table.pinned.get(address).copied().unwrap_or_default();
            let pin = Pin {
                required: true,
                weight: known.weight.max(*weight),
                ..known
            };
            (&**address, pin)
        });
        let pins = pins.collect();
        self.reserve(&mut table, pins)
    }

    /// The same until [`release`](Self::release), for a handle, whose value may be still to come.
    pub(super) fn retain(&self, address: &str) -> Result<(), Error> {
        let mut table = lock(&self.table);
        let held = table.by_address.get(address);
        let weight = held.map_or(0, |held| held.slot.weight);
        let known = table.pinned.get(address).copied();
        let known = known.unwrap_or(Pin {
            weight,
            ..Pin::default()
        });
        let pin = Pin {
            handles: known.handles + 1,
            ..known
        };
        self.reserve(&mut table, vec![(address, pin)])
    }

    pub(super) fn release(&self, address: &str) {
        let mut table = lock(&self.table);
        let Some(pin) = table.pinned.get_mut(address) else {
            return;
        };
        pin.handles = pin.handles.saturating_sub(1);
        let Pin {
            required,
            handles,
            weight,
        } = *pin;
        if !required && handles == 0 {
            table.pinned.remove(address);
            table.pinned_bytes -= weight;
        }
    }

    /// Sets pins: at most half of the entries and half of the bytes can be pinned, so that there is
    /// always room for others.
    fn reserve(&self, table: &mut Table, pins: Vec<(&str, Pin)>) -> Result<(), Error> {
        // Names of one record are one pin.
        let pins: HashMap<&str, Pin> = pins.into_iter().collect();
        let known = |address: &str| table.pinned.get(address);
        let new = pins.keys().filter(|address| known(address).is_none());
        let before: usize = pins
            .keys()
            .filter_map(|address| known(address))
            .map(|pin| pin.weight)
            .sum();
        let entries = table.pinned.len() + new.count();
        let bytes =
            table.pinned_bytes - before + pins.values().map(|pin| pin.weight).sum::<usize>();
        let too_much = |what| Err(Error::new(ErrorKind::Overloaded, what));
        if entries > self.max_entries.div_ceil(2) {
            return too_much(
                "more secrets are required, or have handles, than half of max_entries; raise it",
            );
        }
        if bytes > self.max_bytes.div_ceil(2) && bytes > table.pinned_bytes {
            return too_much(
                "the secrets that are required, or have handles, fill half of max_bytes; raise it",
            );
        }
        table.pinned_bytes = bytes;
        for (address, pin) in pins {
            table.pinned.insert(Box::from(address), pin);
        }
        Ok(())
    }

    /// Takes out what is known to be below a prefix, by its names or its address.
    pub(super) fn take_below(&self, prefix: &str, addresses: &[Address<'_>]) -> Vec<Detached> {
        let mut table = lock(&self.table);
        let held = table.by_address.iter();
        let held = held.filter(|(_, held)| held.is_below(prefix, addresses));
        let addresses: Vec<Arc<str>> = held.map(|(address, _)| Arc::clone(address)).collect();
        addresses
            .iter()
            .filter_map(|address| self.detach(&mut table, address))
            .collect()
    }

    /// Whether a name that is known for `address` is below a prefix that was signalled since `epoch`,
    /// or the address is.
    pub(super) fn was_signalled(&self, epoch: u64, address: &str, name: NameRef<'_>) -> bool {
        if epoch >= self.signals.last() {
            return false;
        }
        let concerned = |path: &str| self.signals.concern(epoch, path, address);
        let table = lock(&self.table);
        let names = table.by_address.get(address).map(|held| held.names.iter());
        let mut names = names.into_iter().flatten();
        concerned(name.path()) || names.any(|held| concerned(path_of(&held.name)))
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
        duration - random_part(duration / 10)
    }

    /// Takes the slot at `address` out, and its names out of the index.
    fn detach(&self, table: &mut Table, address: &str) -> Option<Detached> {
        let Entry { slot, names } = table.remove(address)?;
        for spelling in &names {
            self.index.unlink(&spelling.name);
        }
        Some(Detached::new(slot))
    }

    #[cfg(test)]
    pub(super) fn weights(&self) -> Vec<usize> {
        let table = lock(&self.table);
        let weights: Vec<_> = table.by_number.values().map(|slot| slot.weight).collect();
        assert_eq!(table.by_address.len(), weights.len());
        assert_eq!(table.by_end.len(), weights.len());
        assert_eq!(table.bytes, weights.iter().sum::<usize>());
        let pinned = table.pinned.values().map(|pin| pin.weight);
        assert_eq!(table.pinned_bytes, pinned.sum::<usize>());
        weights
    }
}

impl Table {
    /// Takes a slot out of every order.
    fn remove(&mut self, address: &str) -> Option<Entry> {
        let held = self.by_address.remove(address)?;
        self.by_number.remove(&held.slot.number);
        self.by_end.remove(&(held.slot.life.ends, held.slot.number));
        self.bytes -= held.slot.weight;
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
