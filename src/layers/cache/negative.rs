//! What the store has said instead of a value: answered again for a while, so that a loop over one
//! name is no load on the store.
//!
//! "Not found" and "denied" are the store's answer about the secret, and held for a time like a value.
//! Any other error that is no outage is held only when it repeats, for twice as long each time. The
//! table is its own, so that names which do not exist displace no value, and bounded: the oldest goes
//! first.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::Error;
use crate::layers::cache::landing::Asked;
use crate::layers::cache::recent::Recent;

pub(super) struct Negatives(Recent<Arc<Said>>);

impl Default for Negatives {
    fn default() -> Self {
        Self(Recent::new(Self::MOST))
    }
}

/// What the store said.
pub(super) struct Said {
    pub(super) error: Error,
    /// The epoch in which the fetch began.
    pub(super) epoch: u64,
    until: Moment,
    said_at: Moment,
    identity: u64,
    /// How often in a row.
    times: u32,
}

impl Said {
    /// Whether it may still be answered to a caller that waited for it.
    pub(super) fn is_young(&self, now: Moment) -> bool {
        now < self.said_at + Negatives::LONGEST
    }
}

impl Negatives {
    const MOST: usize = 4096;
    /// How long the second error in a row is held.
    const FIRST: Duration = Duration::from_millis(100);
    /// How long the last is held, and what the store has said of a secret.
    pub(super) const LONGEST: Duration = Duration::from_secs(5);
    /// What a store may ask for at most.
    const LONGEST_ASKED: Duration = Duration::from_secs(60);

    /// What was said of `address`, if it is to be answered again to the same identity.
    pub(super) fn get(&self, address: &str, now: Moment, identity: u64) -> Option<&Arc<Said>> {
        let said = self.0.get(address)?;
        (now < said.until && said.identity == identity).then_some(said)
    }

    /// Holds what was said: the store's own word about a secret from the time at which it was asked, and
    /// only for the time `unsettled` where it may be old; any other error for as long as it deserves.
    pub(super) fn put(
        &mut self,
        address: &Arc<str>,
        error: &Error,
        asked: &Asked,
        now: Moment,
        unsettled: Option<Duration>,
    ) -> Arc<Said> {
        let before = self.0.get(address);
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        let until = match error.kind().is_of_the_secret() {
            true => {
                let word = Self::LONGEST;
                asked.began + unsettled.map_or(word, |trusted| word.min(trusted))
            }
            false => now + Self::deserved(error, times),
        };
        let said = Arc::new(Said {
            error: error.clone(),
            epoch: asked.epoch,
            until,
            said_at: now,
            identity: asked.identity,
            times,
        });
        self.0.put(Arc::clone(address), Arc::clone(&said));
        said
    }

    fn deserved(error: &Error, times: u32) -> Duration {
        // The first is not held: it may pass at once.
        let doubled = times.checked_sub(2).map(|times| 1 << times.min(16));
        let held = doubled.map_or(Duration::ZERO, |times| Self::FIRST * times);
        let asked = error.retry_after().unwrap_or_default();
        let asked = asked.min(Self::LONGEST_ASKED);
        held.min(Self::LONGEST).max(asked)
    }

    /// Whether an error of a fetch is to be held here. An outage is left to the breaker; what
    /// this process decided on its own says nothing of the store.
    pub(super) fn holds(error: &Error) -> bool {
        !error.kind().permits().counts_for_breaker && !error.is_held_back()
    }

    pub(super) fn forget(&mut self, address: &str) {
        self.0.remove(address);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
