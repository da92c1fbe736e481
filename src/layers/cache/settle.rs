//! Signals that come before the store's own commit.
//!
//! Conjur writes its audit message before the database commit, so a reader that fetches on the
//! signal may be answered the old value. For a settle time after a signal, an answer that may be
//! the old one is trusted for a moment only: a quarter of a second, or as long as the signal is past.
//! The time ends for a record as soon as a version proves its value new.
//!
//! A store may also answer from a replica that is behind. So for a minute after a signal, until it was answered
//! and has settled, the record is asked for where the store has its latest version (`Request::wants_latest`).
//!
//! Here are the signals for single records and for what was held; `signals` has those for a prefix,
//! which concern what was not held, too.

use std::collections::hash_map::RandomState;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::layers::cache::recent::Recent;
use crate::layers::cache::signals::Signal;
use crate::secret::{Version, print};

pub(super) struct Settling {
    time: Duration,
    keys: RandomState,
    /// The last signal that is in the table no more.
    forgotten: Option<Signal>,
    signalled: Recent<Signalled>,
}

struct Signalled {
    /// The signal for the record.
    own: Signal,
    /// The same, or a later one for more.
    signal: Signal,
    /// A print of the version that was held; `None` where none was.
    dropped: Option<u64>,
    /// Whether an answer has proved to be newer.
    settled: bool,
}

impl Settling {
    const MOST: usize = 16_384;
    /// How long an answer that may be old is trusted at least.
    const MOMENT: Duration = Duration::from_millis(250);
    /// How long after a signal a replica of the store is not believed.
    const LATELY: Duration = Duration::from_secs(60);

    /// For `time` after each signal.
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            keys: RandomState::new(),
            forgotten: None,
            signalled: Recent::new(Self::MOST),
        }
    }

    /// Notes a signal; `dropped` is the version that was held, `None` when there was none.
    pub(super) fn signalled(&mut self, address: &str, dropped: Option<&Version>, signal: Signal) {
        self.forget_settled(signal.came);
        let dropped = match (dropped, self.signalled.get(address)) {
            (Some(version), _) => self.print(version),
            // A second signal soon after the first, before anything was fetched: still about the
            // version that the first dropped.
            (None, Some(held)) if !held.settled && signal.came < held.own.came + self.time => {
                held.dropped
            }
            (None, _) => None,
        };
        let signalled = Signalled {
            own: signal,
            signal,
            dropped,
            settled: false,
        };
        let oldest = self.signalled.put(Arc::from(address), signalled);
        self.forget(oldest);
    }

    /// A keyed hash, by which versions differ: a version may be a digest of a value.
    /// `None` of one that cannot be compared.
    fn print(&self, version: &Version) -> Option<u64> {
        let known = version.as_number().map(|number| number.to_be_bytes());
        let known = known
            .as_ref()
            .map(|bytes| &bytes[..])
            .or_else(|| version.as_tag());
        Some(print(&self.keys, known?))
    }

    fn forget_settled(&mut self, now: Moment) {
        let kept = self.time.max(Self::LATELY);
        let over = |oldest: &Signalled| now >= oldest.own.came + kept;
        while let oldest @ Some(_) = self.signalled.remove_oldest(over) {
            self.forget(oldest);
        }
    }

    fn forget(&mut self, oldest: Option<Signalled>) {
        self.forgotten = self.forgotten.max(oldest.map(|oldest| oldest.own));
    }

    /// Whether a signal since the epoch `began` was for this record, or may have been: one that is
    /// forgotten may have been for any.
    pub(super) fn concern(&self, began: u64, address: &str) -> bool {
        let own = self.signalled.get(address).map(|signalled| signalled.own);
        let last = own.max(self.forgotten);
        last.is_some_and(|signal| began < signal.epoch)
    }

    /// Whether so many signals came in this time that what fell off the table may have been any record.
    fn is_flooded(&self, now: Moment, time: Duration) -> bool {
        self.forgotten
            .is_some_and(|signal| now < signal.came + time)
    }

    /// Whether a replica that is behind may not answer for the record: it was signalled a short time ago, and
    /// has not settled or was not asked for since. `wide` is the last signal for a prefix, or for all, that
    /// concerns it; `seen` is the epoch in which it was last asked for.
    pub(super) fn wants_latest(
        &self,
        address: &str,
        now: Moment,
        wide: Option<Signal>,
        seen: Option<u64>,
    ) -> bool {
        if self.is_flooded(now, Self::LATELY) {
            return true;
        }
        let narrow = self.signalled.get(address);
        // What a later signal is about has not settled with what an earlier one was about.
        let is_latest = |narrow: &Signalled| wide <= Some(narrow.signal);
        let settled = narrow.is_some_and(|narrow| narrow.settled && is_latest(narrow));
        let Some(signal) = narrow.map(|narrow| narrow.signal).max(wide) else {
            return false;
        };
        let lately = now < signal.came + Self::LATELY;
        let settling = !settled && now < signal.came + self.time;
        lately && (settling || seen.is_none_or(|epoch| epoch < signal.epoch))
    }

    /// How long an answer of `version` is to be trusted, where it may be the one that a signal was
    /// about; `wide` is the last signal for a prefix, or for all, that concerns it. Without a version,
    /// for a refusal: any such answer may be old.
    pub(super) fn trusted_for(
        &mut self,
        address: &str,
        version: Option<&Version>,
        now: Moment,
        wide: Option<Signal>,
    ) -> Option<Duration> {
        let print = version.and_then(|version| self.print(version));
        let time = self.time;
        let flooded = self.is_flooded(now, time);
        // An old signal is not kept alive by a new one for more.
        let narrow = self.signalled.get_mut(address);
        let narrow = narrow.filter(|narrow| now < narrow.own.came + time);
        let signal = match narrow {
            // A signal for more that came after the one for this record says nothing new of it, as
            // long as nothing was fetched in between.
            Some(narrow) if !narrow.settled || wide <= Some(narrow.signal) => {
                narrow.signal = wide.map_or(narrow.signal, |wide| wide.max(narrow.signal));
                // Without versions a new answer looks like the old value.
                let differs = |dropped: u64| print.is_some_and(|print| print != dropped);
                narrow.settled |= narrow.dropped.is_some_and(differs);
                if narrow.settled {
                    return None;
                }
                narrow.signal
            }
            _ => match wide {
                Some(wide) => wide,
                None if flooded => return Some(Self::MOMENT),
                None => return None,
            },
        };
        let past = now.since(signal.came);
        (past < self.time).then_some(past.max(Self::MOMENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::ZERO;
    const TIME: Duration = Duration::from_secs(2);

    fn version(number: u64) -> Version {
        Version::number(number)
    }

    fn signal(epoch: u64, came: Moment) -> Signal {
        Signal { epoch, came }
    }

    /// Without a signal for a prefix.
    fn may_be_old(settling: &mut Settling, version: &Version, now: Moment) -> bool {
        settling
            .trusted_for("a", Some(version), now, None)
            .is_some()
    }

    #[test]
    fn the_same_version_may_be_old_until_another_is_seen_or_the_time_is_over() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        assert!(may_be_old(&mut settling, &version(1), START));
        assert!(!may_be_old(&mut settling, &version(1), START + TIME));
        assert!(!may_be_old(&mut settling, &version(2), START));
        // From here on it has settled, whatever the answer is.
        assert!(!may_be_old(&mut settling, &version(2), START));
        assert!(
            settling
                .trusted_for("b", Some(&version(2)), START, None)
                .is_none()
        );
    }

    #[test]
    fn it_is_trusted_for_a_moment_or_as_long_as_the_signal_is_past() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        for (past, trusted) in [(0, 250), (100, 250), (300, 300), (1_900, 1_900)] {
            let now = START + Duration::from_millis(past);
            let held = settling.trusted_for("a", Some(&version(1)), now, None);
            assert_eq!(held, Some(Duration::from_millis(trusted)));
        }
    }

    #[test]
    fn a_second_signal_keeps_what_the_first_dropped() {
        let mut settling = Settling::new(TIME);
        let second = START + TIME / 2;
        settling.signalled("a", Some(&version(1)), signal(1, START));
        settling.signalled("a", None, signal(2, second));
        assert!(may_be_old(&mut settling, &version(1), START + TIME));
        assert!(!may_be_old(&mut settling, &version(2), START + TIME));
        // But where a newer one was seen in between, it may be the one that the second is about.
        settling.signalled("a", None, signal(3, second));
        assert!(may_be_old(&mut settling, &version(2), second));
    }

    #[test]
    fn a_signal_long_after_another_does_not_trust_what_differs_from_the_old_one() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        let later = START + Duration::from_secs(3600);
        settling.signalled("a", None, signal(2, later));
        assert!(may_be_old(&mut settling, &version(2), later));
    }

    #[test]
    fn nor_does_one_for_a_prefix() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        let later = START + Duration::from_secs(3600);
        let wide = Some(signal(2, later));
        let trusted = settling.trusted_for("a", Some(&version(2)), later, wide);
        assert!(trusted.is_some());
    }

    #[test]
    fn what_cannot_be_compared_may_be_old_for_the_whole_time() {
        for dropped in [Some(&Version::none()), None] {
            let mut settling = Settling::new(TIME);
            settling.signalled("a", dropped, signal(1, START));
            assert!(may_be_old(&mut settling, &version(7), START));
            assert!(!may_be_old(&mut settling, &version(7), START + TIME));
        }
    }

    #[test]
    fn a_later_signal_for_a_prefix_counts_and_an_earlier_one_does_not() {
        let mut settling = Settling::new(TIME);
        let wide = |epoch| Some(signal(epoch, START));
        let mut old = |epoch, version: &Version| {
            settling
                .trusted_for("a", Some(version), START, wide(epoch))
                .is_some()
        };
        assert!(old(1, &version(1)));
        settling.signalled("a", Some(&version(1)), signal(2, START));
        let mut old = |epoch, version: &Version| {
            settling
                .trusted_for("a", Some(version), START, wide(epoch))
                .is_some()
        };
        // The record's own version decides, also where the prefix was signalled with it.
        assert!(!old(2, &version(2)));
        assert!(old(3, &version(2)));
    }

    #[test]
    fn at_the_end_of_its_time_a_signal_says_nothing_of_a_later_one_for_a_prefix() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        let wide = Some(signal(2, START + TIME / 2));
        let end = START + TIME;
        // What differs from what the first has dropped may be what the second is about.
        let trusted = settling.trusted_for("a", Some(&version(2)), end, wide);
        assert_eq!(trusted, Some(TIME / 2));
    }

    #[test]
    fn what_was_dropped_is_forgotten_once_it_has_settled() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        settling.signalled("b", None, signal(2, START + Settling::LATELY));
        assert!(settling.signalled.get("a").is_none());
    }

    #[test]
    fn for_a_minute_after_a_signal_the_latest_version_is_wanted() {
        let mut settling = Settling::new(TIME);
        let soon = START + Duration::from_millis(59_999);
        let later = START + Settling::LATELY;
        assert!(!settling.wants_latest("a", START, None, None));
        settling.signalled("a", Some(&version(1)), signal(1, START));
        for (now, wanted) in [(START, true), (soon, true), (later, false)] {
            assert_eq!(settling.wants_latest("a", now, None, Some(0)), wanted);
            assert!(!settling.wants_latest("b", now, None, None));
            let wide = Some(signal(2, START));
            assert_eq!(settling.wants_latest("b", now, wide, None), wanted);
        }
        // Once it was asked for since, and has settled, a lower version is known as one.
        assert!(settling.wants_latest("a", START, None, Some(1)));
        assert!(!settling.wants_latest("a", START + TIME, None, Some(1)));
        let _ = settling.trusted_for("a", Some(&version(2)), START, None);
        assert!(!settling.wants_latest("a", START, None, Some(1)));
        assert!(settling.wants_latest("a", START, Some(signal(2, START)), Some(1)));
        // What fell off the table may have been any record.
        for number in 0..=Settling::MOST {
            settling.signalled(&number.to_string(), None, signal(1, START));
        }
        assert!(settling.wants_latest("c", soon, None, Some(1)));
    }

    #[test]
    fn a_later_signal_for_a_prefix_wants_the_latest_version_until_it_has_settled() {
        let mut settling = Settling::new(TIME);
        settling.signalled("a", Some(&version(1)), signal(1, START));
        let _ = settling.trusted_for("a", Some(&version(2)), START, None);
        // Settled. Then all is invalidated, while nothing is held; it was asked for since.
        let later = START + Duration::from_secs(10);
        let wide = Some(signal(2, later));
        let now = later + Duration::from_millis(300);
        // Without the settled signal of its own it is wanted for the settle time:
        assert!(settling.wants_latest("b", now, wide, Some(2)));
        assert!(
            settling
                .trusted_for("a", Some(&version(2)), now, wide)
                .is_some()
        );
        assert!(settling.wants_latest("a", now, wide, Some(2)));
    }

    #[test]
    fn a_flood_of_signals_for_one_record_says_nothing_of_others() {
        let mut settling = Settling::new(TIME);
        // 300 a second for 58 s, all for one record.
        let mut now = START;
        for epoch in 0..17_400 {
            now = START + Duration::from_micros(3_333 * epoch);
            settling.signalled("a", None, signal(epoch, now));
        }
        assert!(!settling.wants_latest("other", now, None, Some(0)));
    }

    #[test]
    fn a_flood_of_signals_is_bounded() {
        let mut settling = Settling::new(TIME);
        for number in 0..3 * Settling::MOST {
            settling.signalled(&number.to_string(), None, signal(1, START));
        }
        assert_eq!(settling.signalled.len(), Settling::MOST);
    }
}
