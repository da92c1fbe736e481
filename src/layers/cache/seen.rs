//! Which versions were seen, so that none that is lower comes back.
//!
//! A store or a follower that is restored from a backup, or that an attacker holds, may answer an
//! old value. A version lower than one already seen is refused. A record that was deleted and created
//! again starts its count again: one that stays lower for ten seconds is taken for that, with a
//! warning. That it was not found in between says nothing: an endpoint that is behind, or that lies,
//! says so, too. The table outlives expiry and eviction of the values and is bounded: the entry that was
//! touched least recently goes first.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::layers::cache::recent::Recent;
use crate::secret::Version;

pub(super) struct Seen(Recent<Highest>);

/// The highest version of a record.
struct Highest {
    // A number, for only numbers have an order.
    version: u64,
    /// How many invalidations there were when it was last asked for.
    epoch: u64,
    /// Since when the store answers a lower one.
    lower_since: Option<Moment>,
}

/// What a version is, given those seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Not lower than any.
    Good,
    /// Lower, and not for long: perhaps another endpoint knows better.
    RolledBack,
    /// Lower for so long that the record must have been created again.
    NewLife,
}

impl Seen {
    /// How long a lower version is refused before it counts as a new life of the record.
    pub(super) const NEW_LIFE_AFTER: Duration = Duration::from_secs(10);

    pub(super) fn new(most: usize) -> Self {
        Self(Recent::new(most))
    }

    /// Judges a version that the store has just answered, asked for in this epoch, and notes it unless it is
    /// refused.
    pub(super) fn judge(
        &mut self,
        address: &Arc<str>,
        version: &Version,
        epoch: u64,
        now: Moment,
    ) -> Order {
        // A version that says nothing of order is not noted: there is nothing to compare.
        let Some(version) = version.as_number() else {
            return Order::Good;
        };
        let verdict = match self.0.get_mut(address) {
            Some(entry) if version < entry.version => {
                let since = *entry.lower_since.get_or_insert(now);
                match now.since(since) >= Self::NEW_LIFE_AFTER {
                    true => Order::NewLife,
                    false => Order::RolledBack,
                }
            }
            _ => Order::Good,
        };
        if verdict != Order::RolledBack {
            self.note(Arc::clone(address), version, epoch);
        }
        verdict
    }

    /// The epoch in which a version of the record was last asked for that was accepted.
    pub(super) fn epoch(&self, address: &str) -> Option<u64> {
        self.0.get(address).map(|entry| entry.epoch)
    }

    /// Accepts nothing below `floor` from now on.
    pub(super) fn raise(&mut self, address: &str, floor: &Version) {
        let Some(floor) = floor.as_number() else {
            return;
        };
        let held = self.0.get(address);
        if held.is_none_or(|entry| floor > entry.version) {
            let epoch = held.map_or(0, |entry| entry.epoch);
            self.note(Arc::from(address), floor, epoch);
        }
    }

    pub(super) fn forget(&mut self, address: &str) {
        self.0.remove(address);
    }

    fn note(&mut self, address: Arc<str>, version: u64, epoch: u64) {
        let highest = Highest {
            version,
            epoch,
            lower_since: None,
        };
        self.0.put(address, highest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::ZERO;

    fn version(number: u64) -> Version {
        Version::number(number)
    }

    #[test]
    fn a_lower_version_is_refused_and_the_same_or_a_higher_one_is_good() {
        let mut seen = Seen::new(10);
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(3), 0, START),
            Order::Good
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(2), 0, START),
            Order::RolledBack
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(3), 0, START),
            Order::Good
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(4), 0, START),
            Order::Good
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(3), 0, START),
            Order::RolledBack
        );
        assert_eq!(
            seen.judge(&Arc::from("b"), &version(1), 0, START),
            Order::Good
        );
    }

    #[test]
    fn a_version_that_stays_lower_is_a_new_life() {
        let mut seen = Seen::new(10);
        seen.judge(&Arc::from("a"), &version(9), 0, START);
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(1), 0, START),
            Order::RolledBack
        );
        let almost = START + Duration::from_millis(9_999);
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(1), 0, almost),
            Order::RolledBack
        );
        let then = START + Seen::NEW_LIFE_AFTER;
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(1), 0, then),
            Order::NewLife
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(1), 0, then),
            Order::Good
        );
    }

    #[test]
    fn a_version_that_comes_back_up_starts_the_wait_again() {
        let mut seen = Seen::new(10);
        seen.judge(&Arc::from("a"), &version(9), 0, START);
        seen.judge(&Arc::from("a"), &version(1), 0, START);
        let later = START + Duration::from_secs(5);
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(9), 0, later),
            Order::Good
        );
        let then = START + Seen::NEW_LIFE_AFTER;
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(1), 0, then),
            Order::RolledBack
        );
    }

    #[test]
    fn a_floor_only_rises_and_can_be_forgotten() {
        let mut seen = Seen::new(10);
        seen.raise("a", &version(5));
        seen.raise("a", &version(2));
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(4), 0, START),
            Order::RolledBack
        );
        seen.forget("a");
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(4), 0, START),
            Order::Good
        );
    }

    #[test]
    fn a_floor_that_is_known_already_does_not_begin_the_wait_for_a_new_life_again() {
        let mut seen = Seen::new(10);
        let (address, nine) = (Arc::from("a"), version(9));
        seen.judge(&address, &nine, 0, START);
        seen.judge(&address, &version(1), 0, START);
        seen.raise("a", &nine);
        let then = START + Seen::NEW_LIFE_AFTER;
        assert_eq!(seen.judge(&address, &version(1), 0, then), Order::NewLife);
    }

    #[test]
    fn the_table_is_bounded_and_drops_what_was_touched_least_recently() {
        let mut seen = Seen::new(3);
        for name in ["a", "b", "c", "a", "d"] {
            seen.judge(&Arc::from(name), &version(5), 0, START);
        }
        assert_eq!(seen.0.len(), 3);
        assert_eq!(
            seen.judge(&Arc::from("b"), &version(1), 0, START),
            Order::Good
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &version(1), 0, START),
            Order::RolledBack
        );
    }

    #[test]
    fn versions_without_order_are_not_judged() {
        let mut seen = Seen::new(3);
        assert_eq!(
            seen.judge(&Arc::from("a"), &Version::none(), 0, START),
            Order::Good
        );
        assert_eq!(
            seen.judge(&Arc::from("a"), &Version::tag(b"x"), 0, START),
            Order::Good
        );
        assert_eq!(seen.0.len(), 0);
    }
}
