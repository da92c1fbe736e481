//! What the store has said is not there, or not ours: for a few seconds, and never for long.
//!
//! It keeps a loop over a missing name from becoming a load on the store. The table is its own, so
//! that names which do not exist displace no value, and bounded: the oldest goes first.

use std::collections::{HashMap, VecDeque};

use crate::clock::Moment;
use crate::error::Error;

#[derive(Default)]
pub(super) struct Negatives {
    by_address: HashMap<Box<str>, Negative>,
    /// In the order in which they came. They end in it, too, but for those of a settle time, which end
    /// sooner and wait for their turn.
    order: VecDeque<(Moment, Box<str>)>,
}

struct Negative {
    error: Error,
    until: Moment,
    identity: u64,
}

impl Negatives {
    const MOST: usize = 4096;

    /// The store's word on `address`, if it is still young and was said to the same identity.
    pub(super) fn get(&self, address: &str, now: Moment, identity: u64) -> Option<Error> {
        let negative = self.by_address.get(address)?;
        let good = now < negative.until && negative.identity == identity;
        good.then(|| negative.error.clone())
    }

    pub(super) fn put(&mut self, address: &str, error: &Error, until: Moment, identity: u64) {
        while self.order.len() >= Self::MOST {
            self.drop_oldest();
        }
        let negative = Negative {
            error: error.clone(),
            until,
            identity,
        };
        self.by_address.insert(Box::from(address), negative);
        self.order.push_back((until, Box::from(address)));
    }

    pub(super) fn remove(&mut self, address: &str) {
        self.by_address.remove(address);
    }

    pub(super) fn clear(&mut self) {
        self.by_address.clear();
        self.order.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert!(self.by_address.len() <= self.order.len());
        self.order.len()
    }

    fn drop_oldest(&mut self) {
        let Some((until, address)) = self.order.pop_front() else {
            return;
        };
        // It may have been removed, or said again since.
        let same = |negative: &Negative| negative.until == until;
        if self.by_address.get(&address).is_some_and(same) {
            self.by_address.remove(&address);
        }
    }
}
