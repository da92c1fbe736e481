//! Signals for a prefix, or for everything: what they concern, also names not asked for yet.
//!
//! What is held below a prefix is taken out when the signal comes (`fence`). Everything else is decided
//! when it is read: a value remembers the epoch in which its fetch began, and one that began before a
//! signal is not answered to a name below the signal's prefix, or from an address below it. No other
//! name loses anything. A read compares one number; only after a signal it looks at the list, once.
//!
//! The list is bounded. What falls off its end concerns everything that was fetched before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::address::Address;
use crate::clock::Moment;
use crate::layers::cache::recent::Recent;
use crate::sync::lock;

#[derive(Default)]
pub(super) struct Signals {
    /// The epoch of the last one.
    last: AtomicU64,
    list: Mutex<List>,
}

/// One signal. The later of two is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signal {
    /// The number of invalidations until then, itself included.
    pub(super) epoch: u64,
    pub(super) came: Moment,
}

struct List {
    /// By prefix: of the paths of names, and of addresses.
    by_prefix: [Recent<Signal>; 2],
    /// The last signal that fell off the list: it concerns everything that was fetched before it.
    forgotten: Option<Signal>,
}

const NAMES: usize = 0;
const ADDRESSES: usize = 1;

impl Signals {
    /// At most this many paths, and as many addresses: a signal for a path is one of each.
    const MOST: usize = 16_384;

    /// Notes a signal for the names at and below the path `prefix`, and for the addresses at and below
    /// each of `addresses`.
    pub(super) fn below(&self, signal: Signal, prefix: &str, addresses: &[Address<'_>]) {
        let mut list = lock(&self.list);
        list.note(NAMES, prefix, signal);
        for address in addresses {
            list.note(ADDRESSES, address.as_str(), signal);
        }
        self.last.store(signal.epoch, Ordering::Release);
    }

    /// Notes a signal for everything.
    pub(super) fn all(&self, signal: Signal) {
        let mut list = lock(&self.list);
        *list = List {
            forgotten: Some(signal),
            ..List::default()
        };
        self.last.store(signal.epoch, Ordering::Release);
    }

    /// The epoch of the last signal: nothing that was fetched since is concerned by any.
    #[inline(always)]
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Whether what was fetched in the epoch `began` may not be answered to a name of the path `path`
    /// from `address`.
    pub(super) fn concern(&self, began: u64, path: &str, address: &str) -> bool {
        let latest = || self.latest(path, address);
        began < self.last() && latest().is_some_and(|signal| began < signal.epoch)
    }

    /// The last signal that concerns a name of the path `path`, kept at `address`.
    pub(super) fn latest(&self, path: &str, address: &str) -> Option<Signal> {
        // Epochs begin at 1.
        if self.last() == 0 {
            return None;
        }
        lock(&self.list).latest(path, address)
    }
}

impl Default for List {
    fn default() -> Self {
        Self {
            by_prefix: [Signals::MOST; 2].map(Recent::new),
            forgotten: None,
        }
    }
}

impl List {
    fn note(&mut self, of: usize, prefix: &str, signal: Signal) {
        let oldest = self.by_prefix[of].put(Arc::from(prefix), signal);
        self.forgotten = oldest.max(self.forgotten);
    }

    fn latest(&self, path: &str, address: &str) -> Option<Signal> {
        let names = self.above(NAMES, path);
        let addresses = self.above(ADDRESSES, address);
        names.chain(addresses).chain(self.forgotten).max()
    }

    /// The signals for `path` and for each path above it.
    fn above<'a>(&'a self, of: usize, path: &'a str) -> impl Iterator<Item = Signal> + 'a {
        let parent = |path: &&'a str| path.rfind('/').map(|end| &path[..end]);
        std::iter::successors(Some(path), parent)
            .filter_map(move |prefix| self.by_prefix[of].get(prefix).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(epoch: u64) -> Signal {
        Signal {
            epoch,
            came: Moment::ZERO,
        }
    }

    #[test]
    fn a_prefix_concerns_the_names_and_addresses_below_it_and_no_others() {
        let signals = Signals::default();
        signals.below(
            signal(5),
            "a/b",
            &[Address::from("m/a/b"), Address::from("x//y")],
        );
        for (path, address) in [
            ("a/b", "?"),
            ("a/b/c/d", "?"),
            ("?", "m/a/b"),
            ("?", "m/a/b/c"),
            ("?", "x//y"),
        ] {
            assert!(signals.concern(4, path, address), "{path} {address}");
            assert!(!signals.concern(5, path, address), "{path} {address}");
        }
        for (path, address) in [
            ("a", "m/a"),
            ("a/bc", "m/a/bc"),
            // A name that reads like an address, and the other way round.
            ("m/a/b", "a/b"),
            ("x", "x/y"),
        ] {
            assert!(!signals.concern(0, path, address), "{path} {address}");
        }
    }

    #[test]
    fn the_latest_of_several_signals_counts_and_one_for_everything_ends_the_list() {
        let signals = Signals::default();
        signals.below(signal(1), "a", &[]);
        signals.below(signal(2), "a/b", &[]);
        signals.below(signal(3), "a", &[]);
        assert_eq!(signals.latest("a/b", "?"), Some(signal(3)));
        assert_eq!(lock(&signals.list).by_prefix[NAMES].len(), 2);
        assert!(!signals.concern(0, "other", "?"));
        signals.all(signal(4));
        assert!(signals.concern(3, "other", "?"));
        assert!(!signals.concern(4, "a", "?"));
        assert_eq!(lock(&signals.list).by_prefix[NAMES].len(), 0);
    }

    #[test]
    fn what_falls_off_the_list_concerns_everything_that_was_fetched_before() {
        let signals = Signals::default();
        for epoch in 1..=Signals::MOST as u64 {
            signals.below(signal(epoch), &epoch.to_string(), &[]);
        }
        assert!(!signals.concern(0, "other", "?"));
        let one_more = Signals::MOST as u64 + 1;
        signals.below(signal(one_more), "more", &[]);
        let held = lock(&signals.list).by_prefix[NAMES].len();
        assert_eq!(held, Signals::MOST);
        assert!(signals.concern(0, "other", "?"));
        assert!(!signals.concern(1, "other", "?"));
        // One prefix again and again takes one place.
        for epoch in 1..1_000 {
            signals.below(signal(one_more + epoch), "more", &[]);
        }
        assert!(!signals.concern(1, "other", "?"));
    }
}
