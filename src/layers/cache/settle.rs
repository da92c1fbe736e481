//! Signals that come before the store's own commit.
//!
//! Conjur writes its audit message before the database commit, so a reader that fetches on the
//! signal may be answered the old value. For a settle time after a signal, an answer that may be
//! the old one is held for a moment only, until one differs from what was dropped.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Moment;
use crate::secret::Version;

#[derive(Default)]
pub(super) struct Settling {
    by_address: HashMap<Box<str>, (Version, Moment)>,
    order: VecDeque<(Moment, Box<str>)>,
    /// After a signal for everything, every answer may be an old one until then.
    all_until: Option<Moment>,
}

impl Settling {
    const MOST: usize = 16_384;
    /// How long an answer that may be old is held while its address settles.
    pub(super) const RECHECK: Duration = Duration::from_millis(250);

    /// Notes a signal; `dropped` is the version that was held, `None` when there was none.
    pub(super) fn signalled(
        &mut self,
        address: &str,
        dropped: Option<Version>,
        now: Moment,
        until: Moment,
    ) {
        self.forget_settled(now);
        let version = match (dropped, self.by_address.get(address)) {
            (Some(version), _) => version,
            // A second signal soon after the first, before anything was fetched: still about the
            // version that the first dropped.
            (None, Some((version, held))) if now < *held => version.clone(),
            (None, _) => Version::none(),
        };
        while self.order.len() >= Self::MOST {
            self.forget_oldest();
        }
        self.by_address.insert(Box::from(address), (version, until));
        self.order.push_back((until, Box::from(address)));
    }

    pub(super) fn clear(&mut self) {
        self.by_address.clear();
        self.order.clear();
    }

    pub(super) fn all_signalled(&mut self, until: Moment) {
        self.all_until = Some(until);
    }

    /// Forgets what has settled without a new answer: a version may be a digest of a value.
    fn forget_settled(&mut self, now: Moment) {
        while let Some((until, _)) = self.order.front()
            && now >= *until
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((until, address)) = self.order.pop_front() else {
            return;
        };
        // It may have been signalled again since.
        let same = |(_, held): &(Version, Moment)| *held == until;
        if self.by_address.get(&address).is_some_and(same) {
            self.by_address.remove(&address);
        }
    }

    /// Whether there was a signal for the address, so soon before `now` that it may have come before
    /// what it is about.
    pub(super) fn is_unsettled(&mut self, address: &str, now: Moment) -> bool {
        self.forget_settled(now);
        let held = self.by_address.get(address);
        let all = self.all_until.is_some_and(|until| now < until);
        all || held.is_some_and(|(_, until)| now < *until)
    }

    /// Whether an answer of `version` may be the one that the signal was about.
    pub(super) fn may_be_old(&mut self, address: &str, version: &Version, now: Moment) -> bool {
        self.forget_settled(now);
        let all = self.all_until.is_some_and(|until| now < until);
        let Some((dropped, until)) = self.by_address.get(address) else {
            return all;
        };
        // A store without versions answers nothing that could be told from the old value.
        let settled = now >= *until || version.differs_from(dropped);
        if settled {
            self.by_address.remove(address);
        }
        !settled || all
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
    fn the_same_version_may_be_old_until_another_is_seen_or_the_time_is_over() {
        let until = START + Duration::from_secs(2);
        let mut settling = Settling::default();
        settling.signalled("a", Some(version(1)), START, until);
        assert!(settling.may_be_old("a", &version(1), START));
        assert!(!settling.may_be_old("a", &version(2), START));
        settling.signalled("a", Some(version(2)), START, until);
        assert!(!settling.may_be_old("a", &version(2), until));
        assert!(!settling.may_be_old("b", &version(2), START));
    }

    #[test]
    fn a_second_signal_keeps_what_the_first_dropped() {
        let mut settling = Settling::default();
        let until = START + Duration::from_secs(2);
        settling.signalled("a", Some(version(1)), START, until);
        settling.signalled("a", None, START, until + Duration::from_secs(1));
        assert!(settling.may_be_old("a", &version(1), until));
        assert!(!settling.may_be_old("a", &version(2), until));
    }

    #[test]
    fn a_signal_long_after_another_does_not_trust_what_differs_from_the_old_one() {
        let mut settling = Settling::default();
        let two = Duration::from_secs(2);
        settling.signalled("a", Some(version(1)), START, START + two);
        let later = START + Duration::from_secs(3600);
        settling.signalled("a", None, later, later + two);
        assert!(settling.may_be_old("a", &version(2), later));
    }

    #[test]
    fn what_cannot_be_compared_may_be_old_for_the_whole_time() {
        let mut settling = Settling::default();
        let until = START + Duration::from_secs(2);
        settling.signalled("a", Some(Version::none()), START, until);
        assert!(settling.may_be_old("a", &Version::none(), START));
        settling.signalled("b", None, START, until);
        assert!(settling.may_be_old("b", &version(7), START));
        assert!(!settling.may_be_old("b", &version(7), until));
    }

    #[test]
    fn a_signal_for_everything_unsettles_every_name() {
        let mut settling = Settling::default();
        settling.all_signalled(START + Duration::from_secs(2));
        assert!(settling.may_be_old("x", &version(1), START));
        assert!(!settling.may_be_old("x", &version(1), START + Duration::from_secs(2)));
    }

    #[test]
    fn what_was_dropped_is_forgotten_once_it_has_settled_whatever_is_asked_next() {
        let until = START + Duration::from_secs(2);
        let looks: [fn(&mut Settling, Moment); 3] = [
            |settling, now| assert!(!settling.is_unsettled("b", now)),
            |settling, now| assert!(!settling.may_be_old("b", &version(1), now)),
            |settling, now| settling.signalled("b", None, now, now),
        ];
        for look in looks {
            let mut settling = Settling::default();
            settling.signalled("a", Some(Version::tag(b"digest")), START, until);
            look(&mut settling, until);
            assert!(!settling.by_address.contains_key("a"));
        }
    }

    #[test]
    fn a_flood_of_signals_is_bounded() {
        let mut settling = Settling::default();
        for number in 0..3 * Settling::MOST {
            settling.signalled(&number.to_string(), None, START, START);
        }
        assert!(settling.by_address.len() <= Settling::MOST);
        assert!(settling.order.len() <= Settling::MOST);
    }
}
