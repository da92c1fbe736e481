//! Invalidation: what a signal takes out, and what it keeps from landing.
//!
//! Each is one critical section of `core`. Why that is a fence is said there.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::address::Address;
use crate::clock::Moment;
use crate::invalidate::Invalidates;
use crate::layers::cache::core::{Core, State};
use crate::layers::cache::negative::Negatives;
use crate::layers::cache::signals::Signal;
use crate::layers::cache::slot::Detached;
use crate::name::NameRef;
use crate::rules::is_below;
use crate::secret::Version;
use crate::sync::preempt;

impl Invalidates for Core {
    fn invalidate(&self, name: NameRef<'_>) -> usize {
        let located = self.inner.locate(name);
        self.invalidate_known(std::slice::from_ref(located.address()))
    }

    fn invalidate_address(&self, address: &Address<'_>) -> usize {
        // A store's own id, or what `locate` has answered here.
        let mut addresses = self.inner.addresses(address);
        addresses.push(address.clone());
        self.invalidate_known(&addresses)
    }

    fn invalidate_below(&self, prefix: NameRef<'_>) -> usize {
        // Foreign code, so before the lock.
        let addresses = self.inner.below(prefix);
        if addresses.iter().any(Address::is_lost) {
            return self.invalidate_all();
        }
        let prefix = prefix.path();
        let taken = self.taking(|_, signal| {
            self.store.signals.below(signal, prefix, &addresses);
            self.store.take_below(prefix, &addresses)
        });
        self.keeper.signalled(|address, names| {
            // Also those of another name of a record that was taken out.
            if taken.contains(address) {
                return true;
            }
            let mut addresses = addresses.iter();
            names.iter().any(|name| is_below(name.path(), prefix))
                || addresses.any(|prefix| is_below(address, prefix.as_str()))
        });
        taken.len()
    }

    fn invalidate_all(&self) -> usize {
        let taken = self.taking(|state, signal| {
            self.store.signals.all(signal);
            state.negatives = Negatives::default();
            self.store.take_all()
        });
        self.keeper.signalled(|_, _| true);
        taken.len()
    }

    fn raise(&self, name: NameRef<'_>, floor: &Version) {
        let located = self.inner.locate(name);
        self.lock().seen.raise(located.address().as_str(), floor);
    }

    fn forget_version(&self, name: NameRef<'_>) {
        let located = self.inner.locate(name);
        self.lock().seen.forget(located.address().as_str());
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }
}

impl Core {
    /// Invalidates what is at these addresses; everything where the backend panicked as it was asked for
    /// them, for what the signal is about could be anywhere.
    fn invalidate_known(&self, addresses: &[Address<'_>]) -> usize {
        match addresses.iter().any(Address::is_lost) {
            true => self.invalidate_all(),
            false => self.invalidate_each(addresses),
        }
    }

    fn invalidate_each(&self, addresses: &[Address<'_>]) -> usize {
        let taken = self.taking(|state, signal| {
            let take = |address: &Address<'_>| {
                // Also where nothing is held.
                state.signal(address.as_str(), None, signal);
                self.store.take(address.as_str())
            };
            addresses.iter().filter_map(take).collect()
        });
        for address in addresses {
            self.keeper.due_now(address.as_str());
        }
        taken.len()
    }

    /// Runs an invalidation in its critical section, and drops outside of it what it took out; returns
    /// where that was held.
    fn taking(&self, take: impl FnOnce(&mut State, Signal) -> Vec<Detached>) -> HashSet<Arc<str>> {
        let mut state = self.lock();
        let epoch = 1 + self.epoch.fetch_add(1, Ordering::Release);
        let came = self.clock.now();
        let signal = Signal { epoch, came };
        let taken = take(&mut state, signal);
        // Also the other names of these records: a waiter or a batch that was given one asks again.
        for slot in &taken {
            state.signal(slot.address(), slot.version(), signal);
        }
        drop(state);
        preempt();
        // Wiped here, after the lock.
        let address = |slot: Detached| Arc::clone(slot.address());
        taken.into_iter().map(address).collect()
    }
}

impl State {
    /// Fences what concerns one address, where `dropped` is the version that was held.
    fn signal(&mut self, address: &str, dropped: Option<Version>, signal: Signal) {
        self.negatives.forget(address);
        self.settling.signalled(address, dropped.as_ref(), signal);
        if let Some((flight, _)) = self.flights.get(address) {
            flight.fence(signal.epoch);
        }
    }
}
