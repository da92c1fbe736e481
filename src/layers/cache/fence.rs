//! Invalidation: what a signal takes out, and what it keeps from landing.
//!
//! Each is one critical section of `flights`, whose docs say why that is a fence.

use std::sync::atomic::Ordering;

use crate::address::Address;
use crate::clock::Moment;
use crate::invalidate::Fence;
use crate::layers::cache::flights::{Flights, Flying};
use crate::layers::cache::slot::Detached;
use crate::name::NameRef;
use crate::resolver::SecretResolver;
use crate::secret::Version;
use crate::sync::preempt;

/// When a signal came, and until when its address settles.
#[derive(Clone, Copy)]
struct Signalled {
    now: Moment,
    settled: Moment,
}

impl<R: SecretResolver> Fence for Flights<R> {
    fn invalidate(&self, name: NameRef<'_>) {
        let located = self.inner.locate(name);
        self.invalidate_each(std::slice::from_ref(located.address()));
    }

    fn invalidate_address(&self, address: &Address<'_>) {
        // A store's own id, or what `locate` has answered here.
        let mut addresses = self.inner.addresses(address);
        addresses.push(address.clone());
        self.invalidate_each(&addresses);
    }

    fn invalidate_below(&self, path: &str) {
        self.fence(|flying, at| {
            let taken = self.store.take_below(path);
            for slot in &taken {
                flying.signal(slot.address(), Some(slot), at);
            }
            // What was not held has no version to compare, nor a name that is kept here: for the
            // settle time every answer may be an old one.
            flying.settling.all_signalled(at.settled);
            // Of the names that wait for a flight only some are kept, so all of them fetch once more.
            for flight in flying.flights.values() {
                flight.fence();
            }
            flying.negatives.clear();
            taken
        });
    }

    fn invalidate_all(&self) {
        self.fence(|flying, at| {
            flying.settling.all_signalled(at.settled);
            flying.negatives.clear();
            for flight in flying.flights.values() {
                flight.fence();
            }
            self.store.take_all()
        });
    }

    fn raise(&self, name: NameRef<'_>, floor: &Version) {
        let located = self.inner.locate(name);
        self.lock().seen.raise(located.address().as_str(), floor);
    }

    fn forget_version(&self, name: NameRef<'_>) {
        let located = self.inner.locate(name);
        self.lock().seen.forget(located.address().as_str());
    }
}

impl<R: SecretResolver> Flights<R> {
    fn invalidate_each(&self, addresses: &[Address<'_>]) {
        self.fence(|flying, at| {
            let take = |address: &Address<'_>| {
                let taken = self.store.take(address.as_str());
                flying.signal(address.as_str(), taken.as_ref(), at);
                taken
            };
            addresses.iter().filter_map(take).collect()
        });
    }

    /// Runs an invalidation in its critical section, and drops outside of it what it took out.
    fn fence(&self, take: impl FnOnce(&mut Flying, Signalled) -> Vec<Detached>) {
        let mut flying = self.lock();
        self.epoch.fetch_add(1, Ordering::Release);
        let now = self.clock.now();
        let settled = now + self.config.settle;
        let taken = take(&mut flying, Signalled { now, settled });
        drop(flying);
        preempt();
        self.signals.send_modify(|epoch| *epoch += 1);
        drop(taken);
    }
}

impl Flying {
    /// Fences what concerns one address; `taken` is what was held there.
    fn signal(&mut self, address: &str, taken: Option<&Detached>, at: Signalled) {
        self.negatives.remove(address);
        let dropped = taken.and_then(Detached::version);
        self.settling
            .signalled(address, dropped, at.now, at.settled);
        if let Some(flight) = self.flights.get(address) {
            flight.fence();
        }
    }
}
