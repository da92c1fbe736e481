//! What is held, its bounds, and the order in which it expires.
//!
//! Every slot that holds a value is in the table; what must be wiped is found there. The table has
//! a lock, which hits by a known name do not take (`index`).
//!
//! Eviction is SIEVE (Zhang et al., NSDI 2024): a hit only sets a mark, so that the read path stays
//! free of locks and of bookkeeping; the hand walks from old to new, takes marks away and evicts
//! the first slot without one. Names that an attacker makes up are read once and go first. What is
//! waited for stays until its waiters have looked, or it would be fetched again at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use crate::address::{Address, Located};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::cache::index::{Index, Spelling};
use crate::layers::cache::recent::Recent;
use crate::layers::cache::signals::Signals;
use crate::layers::cache::slot::{Detached, Slot};
use crate::name::{NameRef, path_of};
use crate::rules::is_below;
use crate::secret::Selected;
use crate::sync::lock;

pub(super) struct Store {
    pub(super) index: Index,
    pub(super) signals: Signals,
    table: Mutex<Table>,
    max_entries: usize,
    max_bytes: usize,
}

struct Table {
    /// In the order in which they have landed.
    held: Recent<Entry>,
    by_end: BTreeSet<(Moment, Arc<str>)>,
    pinned: HashMap<Box<str>, Pin>,
    bytes: usize,
    /// The bytes that are kept free for what is pinned, whether it is held now or not.
    pinned_bytes: usize,
    /// Where the look for something to evict goes on.
    hand: u64,
}

/// Why an address is exempt from eviction.
#[derive(Clone, Copy, Default)]
struct Pin {
    /// How many have asked for it: handles, which take it back, and calls of `require`, which do not.
    users: usize,
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

    /// Whether there is a claim on the slot beside the table and the index: of a waiter that has not
    /// looked yet. Evicted now, it would be fetched again at once.
    fn is_awaited(&self) -> bool {
        Arc::strong_count(&self.slot) > 1 + self.names.len()
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
            index: Index::default(),
            signals: Signals::default(),
            table: Mutex::new(Table {
                // Its bounds are those below, which are of bytes, too.
                held: Recent::new(usize::MAX),
                by_end: BTreeSet::new(),
                pinned: HashMap::new(),
                bytes: 0,
                pinned_bytes: 0,
                hand: 0,
            }),
            max_entries: max_entries as usize,
            max_bytes: max_bytes as usize,
        }
    }

    /// The slot at `address`, the long way.
    pub(super) fn at(&self, address: &str) -> Option<Arc<Slot>> {
        let table = lock(&self.table);
        Some(Arc::clone(&table.held.get(address)?.slot))
    }

    /// Lets the next look-up of `name` take the short way to the value where it is located.
    pub(super) fn link(&self, name: NameRef<'_>, located: &Located<'_>) {
        // After a stampede every waiter of one name comes by here.
        if self.index.knows(name.as_str()) {
            return;
        }
        let mut table = lock(&self.table);
        let held = table.held.get_mut(located.address().as_str());
        let Some(held) = held.filter(|held| held.wants(name, located.field())) else {
            return;
        };
        let spelling = Spelling {
            name: Arc::from(name.as_str()),
            field: located.field().map(Box::from),
        };
        // Under the lock, so that the link does not come after the end of its slot.
        self.index.link(&spelling, &held.slot);
        // One at a time: there is seldom a second.
        held.names.reserve_exact(1);
        held.names.push(spelling);
    }

    /// Holds a value; returns what it replaces and what made room.
    ///
    /// Fails when there is no room beside what is pinned.
    pub(super) fn put(&self, slot: &Arc<Slot>) -> Result<Vec<Detached>, Error> {
        let mut table = lock(&self.table);
        // Before anything is taken out: a value that cannot be held takes the place of no other,
        // and its own older value, if still good, stays.
        self.make_room(&mut table, slot)?;
        let replaced = table.remove(&slot.address);
        let (old, names) = replaced.map(|held| (held.slot, held.names)).unzip();
        let mut out: Vec<_> = old.into_iter().map(Detached::new).collect();
        while self.is_over(table.held.len() + 1, table.bytes + slot.weight) {
            let Some(victim) = table.victim() else {
                break;
            };
            out.extend(self.detach(&mut table, &victim));
        }
        let held = Entry {
            slot: Arc::clone(slot),
            names: names.unwrap_or_default(),
        };
        for spelling in &held.names {
            self.index.link(spelling, slot);
        }
        table.bytes += slot.weight;
        let address = Arc::clone(&slot.address);
        table.by_end.insert((slot.life.ends, Arc::clone(&address)));
        table.held.put(address, held);
        Ok(out)
    }

    /// Keeps room for the slot where it is pinned; fails when it does not fit beside the others that
    /// are.
    fn make_room(&self, table: &mut Table, slot: &Slot) -> Result<(), Error> {
        if table.pinned.contains_key(&*slot.address) {
            return self.reserve(table, &slot.address, 0, slot.weight);
        }
        match self.is_over(table.pinned.len() + 1, table.pinned_bytes + slot.weight) {
            true => Err(Error::new(
                ErrorKind::Overloaded,
                "the cache is full of secrets that are required or have handles; raise max_entries or max_bytes",
            )),
            false => Ok(()),
        }
    }

    fn is_over(&self, entries: usize, bytes: usize) -> bool {
        entries > self.max_entries || bytes > self.max_bytes
    }

    /// Exempts these addresses, each with the weight of its value, from eviction, now and whenever they are
    /// held: all of them, or none. It is for what a service requires, and for a handle until
    /// [`release`](Self::release); the value of a handle may not be there yet.
    pub(super) fn pin(&self, pins: &[(Box<str>, usize)]) -> Result<(), Error> {
        let mut table = lock(&self.table);
        for (done, (address, weight)) in pins.iter().enumerate() {
            let held = table.held.get(address).map_or(0, |held| held.slot.weight);
            let known = table.pinned.get(address).map_or(0, |pin| pin.weight);
            let weight = held.max(known).max(*weight);
            if let Err(error) = self.reserve(&mut table, address, 1, weight) {
                let done = pins.iter().take(done);
                done.for_each(|(address, _)| table.unpin(address));
                return Err(error);
            }
        }
        Ok(())
    }

    pub(super) fn release(&self, address: &str) {
        lock(&self.table).unpin(address);
    }

    /// Pins an address for so many users more: at most half of the entries and half of the bytes can be
    /// pinned, so that there is always room for others.
    fn reserve(
        &self,
        table: &mut Table,
        address: &str,
        more: usize,
        weight: usize,
    ) -> Result<(), Error> {
        let known = table.pinned.get(address).copied();
        let entries = table.pinned.len() + usize::from(known.is_none());
        let known = known.unwrap_or_default();
        let bytes = table.pinned_bytes - known.weight + weight;
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
        let users = known.users + more;
        let pin = Pin { users, weight };
        table.pinned.insert(Box::from(address), pin);
        table.pinned_bytes = bytes;
        Ok(())
    }

    /// Takes out what is known to be below a prefix, by its names or its address.
    pub(super) fn take_below(&self, prefix: &str, addresses: &[Address<'_>]) -> Vec<Detached> {
        self.take_each(|held| held.is_below(prefix, addresses))
    }

    /// Takes all values out.
    pub(super) fn take_all(&self) -> Vec<Detached> {
        self.take_each(|_| true)
    }

    fn take_each(&self, is_meant: impl Fn(&Entry) -> bool) -> Vec<Detached> {
        let mut table = lock(&self.table);
        let held = table.held.round_from(0).map(|(_, held)| held);
        let meant = held.filter(|held| is_meant(held));
        let addresses: Vec<_> = meant.map(|held| Arc::clone(&held.slot.address)).collect();
        let detach = |address: &Arc<str>| self.detach(&mut table, address);
        addresses.iter().filter_map(detach).collect()
    }

    /// Whether a name that is known for `address` is below a prefix that was signalled since `epoch`,
    /// or the address is.
    pub(super) fn was_signalled(&self, epoch: u64, address: &str, name: NameRef<'_>) -> bool {
        if epoch >= self.signals.last() {
            return false;
        }
        let concerned = |path: &str| self.signals.concern(epoch, path, address);
        let table = lock(&self.table);
        let names = table.held.get(address).map(|held| held.names.iter());
        let mut names = names.into_iter().flatten();
        concerned(name.path()) || names.any(|held| concerned(path_of(&held.name)))
    }

    /// How many values are held, and how many bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (table.held.len(), table.bytes)
    }

    /// Takes the value at `address` out.
    pub(super) fn take(&self, address: &str) -> Option<Detached> {
        self.detach(&mut lock(&self.table), address)
    }

    /// Takes out what has come to its end at `now`; returns when the next one does.
    pub(super) fn take_ended(&self, now: Moment) -> (Vec<Detached>, Option<Moment>) {
        let mut table = lock(&self.table);
        let mut out = Vec::new();
        while let Some((end, address)) = table.by_end.first().cloned() {
            if end > now {
                return (out, Some(end));
            }
            // Before the rest, so that the loop ends whatever happens.
            table.by_end.pop_first();
            out.extend(self.detach(&mut table, &address));
        }
        (out, None)
    }

    /// Takes the slot at `address` out, and its names out of the index.
    fn detach(&self, table: &mut Table, address: &str) -> Option<Detached> {
        let Entry { slot, names } = table.remove(address)?;
        for spelling in &names {
            self.index.unlink(&spelling.name);
        }
        Some(Detached::new(slot))
    }

    /// How many names of the record at `address` are linked.
    #[cfg(test)]
    pub(super) fn linked(&self, address: &str) -> usize {
        let table = lock(&self.table);
        table.held.get(address).map_or(0, |held| held.names.len())
    }

    #[cfg(test)]
    pub(super) fn weights(&self) -> Vec<usize> {
        let table = lock(&self.table);
        let held = table.held.round_from(0);
        let weights: Vec<_> = held.map(|(_, held)| held.slot.weight).collect();
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
        let held = self.held.remove(address)?;
        let slot = &held.slot;
        self.by_end
            .remove(&(slot.life.ends, Arc::clone(&slot.address)));
        self.bytes -= slot.weight;
        Some(held)
    }

    fn unpin(&mut self, address: &str) {
        let Some(pin) = self.pinned.get_mut(address) else {
            return;
        };
        pin.users -= 1;
        if pin.users == 0 {
            self.pinned_bytes -= pin.weight;
            self.pinned.remove(address);
        }
    }

    /// What is to be evicted next: the first slot, from the hand on, that was not read since the
    /// hand last passed it.
    fn victim(&mut self) -> Option<Arc<str>> {
        // The first round may find marks everywhere; it takes them away, so the second ends. Unless
        // readers have marked every slot between the two, or all are waited for: then any is as good.
        for any in [false, false, true] {
            for (number, held) in self.held.round_from(self.hand) {
                let slot = &held.slot;
                let kept = held.is_awaited() || slot.take_visited();
                if (any || !kept) && !self.pinned.contains_key(&*slot.address) {
                    self.hand = number + 1;
                    return Some(Arc::clone(&slot.address));
                }
            }
        }
        None
    }
}
