//! What the store has said instead of a value: answered again for a while, so that a loop over one
//! name is no load on the store.
//!
//! "Not found" and "denied" are the store's answer about the secret, and held for a time like a value.
//! Any other error that is no outage is held only when it repeats, for twice as long each time. The
//! table is its own, so that names which do not exist displace no value, and bounded: the oldest goes
//! first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::error::Error;
use crate::layers::cache::recent::Recent;

pub(super) struct Negatives(Recent<Arc<Said>>);

impl Default for Negatives {
    fn default() -> Self {
        Self(Recent::new(Self::MOST))
    }
}

/// What the store said. Callers that waited for it are given this, so an invalidation reaches them, too.
pub(super) struct Said {
    error: Error,
    /// The epoch in which the fetch began.
    pub(super) epoch: u64,
    until: Moment,
    said_at: Moment,
    identity: u64,
    /// How often in a row.
    times: u32,
    void: AtomicBool,
}

/// What a fetch has brought instead of a value.
pub(super) struct Saying<'a> {
    pub(super) address: &'a str,
    pub(super) error: &'a Error,
    pub(super) epoch: u64,
    /// When it was asked.
    pub(super) asked: Moment,
    pub(super) now: Moment,
    pub(super) identity: u64,
    /// How long the store's answer about a secret is held.
    pub(super) word: Duration,
}

impl Said {
    pub(super) fn error(&self) -> Error {
        self.error.clone()
    }

    /// Whether it may still be answered to a caller that waited for it.
    pub(super) fn is_young(&self, now: Moment) -> bool {
        now < self.said_at + Negatives::LONGEST
    }

    /// Whether it was invalidated since.
    pub(super) fn is_void(&self) -> bool {
        self.void.load(Ordering::Acquire)
    }
}

impl Negatives {
    const MOST: usize = 4096;
    /// How long the second error in a row is held, and how long the last.
    const FIRST: Duration = Duration::from_millis(100);
    pub(super) const LONGEST: Duration = Duration::from_secs(5);
    /// What a store may ask for at most.
    const LONGEST_ASKED: Duration = Duration::from_secs(60);

    /// What was said of `address`, if it is to be answered again to the same identity.
    pub(super) fn get(&self, address: &str, now: Moment, identity: u64) -> Option<&Arc<Said>> {
        let said = self.0.get(address)?;
        (now < said.until && said.identity == identity).then_some(said)
    }

    /// Holds what was said, for as long as it deserves.
    pub(super) fn put(&mut self, saying: &Saying<'_>) -> Arc<Said> {
        let before = self.0.get(saying.address);
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        let said = Arc::new(Said {
            error: saying.error.clone(),
            epoch: saying.epoch,
            until: Self::until(saying, times),
            said_at: saying.now,
            identity: saying.identity,
            times,
            void: AtomicBool::new(false),
        });
        self.0.put(Arc::from(saying.address), Arc::clone(&said));
        said
    }

    fn until(saying: &Saying<'_>, times: u32) -> Moment {
        let error = saying.error;
        if error.kind().is_of_the_secret() {
            return saying.asked + saying.word;
        }
        // The first is not held: it may pass at once.
        let doubled = times.checked_sub(2).map(|times| 1 << times.min(16));
        let held = doubled.map_or(Duration::ZERO, |times| Self::FIRST * times);
        let asked = error.retry_after().unwrap_or_default();
        let asked = asked.min(Self::LONGEST_ASKED);
        saying.now + held.min(Self::LONGEST).max(asked)
    }

    /// Whether an error of a fetch is to be held here. An outage is left to the breaker; what
    /// this process decided on its own says nothing of the store.
    pub(super) fn holds(error: &Error) -> bool {
        !error.kind().permits().counts_for_breaker && !error.is_held_back()
    }

    /// Forgets what was said of `address`, also for callers that wait for that answer.
    pub(super) fn remove(&mut self, address: &str) {
        if let Some(said) = self.0.remove(address) {
            said.void.store(true, Ordering::Release);
        }
    }

    pub(super) fn clear(&mut self) {
        for said in self.0.take() {
            said.void.store(true, Ordering::Release);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
