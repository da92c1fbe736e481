//! How long a token may be used, and when to do something about it: arithmetic on moments.
//!
//! A life is counted from before the request that began it was sent, so it never outlasts the
//! store's own count.

use std::time::Duration;

use secret_resolver::Moment;

use crate::random;
use crate::store::Grant;

/// A token is not used this close to its end: the last request must still arrive in time.
const MARGIN: Duration = Duration::from_secs(5);
/// After a failed renewal another is tried no sooner than this, and no later than the next.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    grant: Grant,
    /// `None` for a token that lives for ever.
    until: Option<Until>,
    /// A renewal was sent whose answer is not known: the store may count a longer life.
    may_be_longer: bool,
    /// What its login was made with ends then: it is not used past that, whatever the store grants.
    bound: Option<Moment>,
    /// When a login replaces it, whatever a renewal could do.
    replace_at: Option<Moment>,
}

#[derive(Clone, Copy, Debug)]
struct Until {
    dies: Moment,
    refresh_at: Moment,
    refresh: Refresh,
}

/// What lengthens a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// The store lengthens it.
    Renew,
    /// A new login: the token is not renewable, or has reached the longest life that it can have.
    Login,
}

impl Life {
    /// The life that a request sent at `asked` was granted.
    pub(crate) fn begin(asked: Moment, grant: Grant) -> Self {
        let refresh = if grant.renewable {
            Refresh::Renew
        } else {
            Refresh::Login
        };
        let until = grant.lease.map(|lease| Until {
            dies: asked + (lease - (lease / 10).min(MARGIN)),
            // Two thirds, so that a third is left for attempts while the store is away.
            refresh_at: asked + random::spread(lease / 3 * 2, 1),
            refresh,
        });
        Self {
            grant,
            until,
            may_be_longer: false,
            bound: None,
            replace_at: None,
        }
    }

    /// The same life, but over before `end`, when what the login sent at `asked` was made with ends.
    pub(crate) fn bounded(self, asked: Moment, end: Option<Moment>) -> Self {
        let Some(left) = end.map(|end| end.since(asked)) else {
            return self;
        };
        Self {
            bound: Some(asked + (left - (left / 10).min(MARGIN))),
            replace_at: Some(asked + random::spread(left / 3 * 2, 1)),
            ..self
        }
    }

    /// When it ends, a margin before the store's own count; `None` for never.
    pub(crate) fn ends(self) -> Option<Moment> {
        let dies = self.until.map(|until| until.dies);
        dies.into_iter().chain(self.bound).min()
    }

    /// The life after a renewal sent at `asked`. A life that is shorter than the last one is cut by the
    /// token's longest life: the next refresh is a login.
    pub(crate) fn renewed(self, asked: Moment, grant: Grant) -> Self {
        let second = Duration::from_secs(1);
        let cut = match (self.grant.lease, grant.lease) {
            (Some(before), Some(now)) => now + second < before,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let renewable = grant.renewable && !cut;
        Self {
            bound: self.bound,
            replace_at: self.replace_at,
            ..Self::begin(asked, Grant { renewable, ..grant })
        }
    }

    /// A login is to replace it from now on.
    pub(crate) fn replace(&mut self, now: Moment) {
        self.replace_at = Some(now);
    }

    /// Whether the token must not be sent any more.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        self.ends().is_some_and(|end| now >= end)
    }

    /// A renewal was sent, and its answer did not come.
    pub(crate) fn renewal_unanswered(&mut self) {
        self.may_be_longer = true;
    }

    /// Whether somebody else may have lengthened it, as far as the store said.
    pub(crate) fn is_renewable(&self) -> bool {
        self.grant.renewable
    }

    /// When the token is dead at the store at the latest; `None` for never.
    pub(crate) fn dead_by(&self) -> Option<Moment> {
        let lease = self.grant.lease.filter(|_| self.may_be_longer);
        Some(self.until?.dies + MARGIN + lease.unwrap_or_default())
    }

    /// What is to be done now for a token that is in use.
    pub(crate) fn refresh_due(&self, now: Moment) -> Option<Refresh> {
        if self.replace_at.is_some_and(|at| now >= at) {
            return Some(Refresh::Login);
        }
        self.until
            .filter(|until| now >= until.refresh_at)
            .map(|until| until.refresh)
    }

    /// Puts the next refresh off after one that failed. A renewal that fails says nothing of a login that is to
    /// replace the token.
    pub(crate) fn postpone(&mut self, now: Moment, failed: Refresh, next: Option<Refresh>) {
        let left = self.ends().map_or(RETRY.1, |end| end.since(now) / 4);
        let again_at = now + random::spread(left.clamp(RETRY.0, RETRY.1), 1);
        if let Some(at) = &mut self.replace_at
            && failed == Refresh::Login
        {
            *at = again_at.max(*at);
        }
        if let Some(until) = &mut self.until {
            until.refresh_at = again_at;
            until.refresh = next.unwrap_or(until.refresh);
        }
    }

    /// The granted life in seconds, for log lines; `None` for ever.
    pub(crate) fn seconds(&self) -> Option<u64> {
        self.grant.lease.map(|lease| lease.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::ZERO;

    fn grant(seconds: u64, renewable: bool) -> Grant {
        Grant {
            lease: Some(Duration::from_secs(seconds)),
            renewable,
        }
    }

    fn at(seconds: f64) -> Moment {
        START + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_life_ends_a_tenth_and_at_most_five_seconds_before_the_stores_count() {
        for (lease, end) in [(2, 1.8), (10, 9.0), (50, 45.0), (3600, 3595.0)] {
            let life = Life::begin(START, grant(lease, true));
            assert!(!life.is_over(at(end - 0.001)), "{lease}");
            assert!(life.is_over(at(end)), "{lease}");
        }
        assert!(Life::begin(START, grant(0, true)).is_over(START));
    }

    #[test]
    fn a_refresh_is_due_between_three_fifths_and_three_quarters_of_a_life() {
        for _ in 0..200 {
            let life = Life::begin(START, grant(1000, true));
            assert_eq!(life.refresh_due(at(599.0)), None);
            assert_eq!(life.refresh_due(at(734.0)), Some(Refresh::Renew));
        }
        assert_eq!(
            Life::begin(START, grant(1000, false)).refresh_due(at(734.0)),
            Some(Refresh::Login)
        );
    }

    #[test]
    fn an_endless_life_is_never_over_and_never_refreshed() {
        let life = Life::begin(
            START,
            Grant {
                lease: None,
                renewable: true,
            },
        );
        assert!(!life.is_over(at(1e9)));
        assert_eq!(life.refresh_due(at(1e9)), None);
    }

    #[test]
    fn a_renewal_that_is_cut_short_is_followed_by_a_login() {
        let life = Life::begin(START, grant(60, true));
        let full = life.renewed(at(40.0), grant(60, true));
        assert_eq!(full.refresh_due(at(90.0)), Some(Refresh::Renew));
        let rounded = full.renewed(at(80.0), grant(59, true));
        assert_eq!(rounded.refresh_due(at(139.0)), Some(Refresh::Renew));
        let cut = full.renewed(at(80.0), grant(30, true));
        assert_eq!(cut.refresh_due(at(109.0)), Some(Refresh::Login));
        assert!(cut.is_over(at(107.0)));
    }

    #[test]
    fn a_life_is_over_before_the_end_of_what_its_login_was_made_with() {
        for lease in [Some(3600), None] {
            let lease = Grant {
                lease: lease.map(Duration::from_secs),
                renewable: true,
            };
            for _ in 0..200 {
                let life = Life::begin(START, lease).bounded(START, Some(at(100.0)));
                assert_eq!(life.ends(), Some(at(95.0)));
                assert!(!life.is_over(at(94.9)) && life.is_over(at(95.0)));
                assert_eq!(life.refresh_due(at(59.0)), None);
                assert_eq!(life.refresh_due(at(74.0)), Some(Refresh::Login));
                // No renewal makes it longer.
                let life = life.renewed(at(50.0), lease);
                assert_eq!(life.ends(), Some(at(95.0)));
                assert_eq!(life.refresh_due(at(74.0)), Some(Refresh::Login));
            }
            // The store counts on by itself: the token is to be revoked.
            let life = Life::begin(START, lease).bounded(START, Some(at(100.0)));
            assert!(life.dead_by().is_none_or(|dead| dead >= at(3600.0)));
        }
        let short = Life::begin(START, grant(60, true)).bounded(START, Some(at(1000.0)));
        assert_eq!(short.ends(), Some(at(55.0)));
        assert_eq!(
            Life::begin(START, grant(60, true))
                .bounded(START, None)
                .ends(),
            short.ends()
        );
    }

    #[test]
    fn a_token_that_is_to_be_replaced_is_so_by_a_login_and_not_by_a_renewal() {
        for lease in [Some(Duration::from_secs(3600)), None] {
            let lease = Grant {
                lease,
                renewable: true,
            };
            let mut life = Life::begin(START, lease);
            life.replace(at(1.0));
            assert_eq!(life.refresh_due(at(1.0)), Some(Refresh::Login));
            // A renewal that was under way meanwhile does not end it.
            life = life.renewed(at(1.0), lease);
            assert_eq!(life.refresh_due(at(2.0)), Some(Refresh::Login));
            // One that fails is tried again, and not at once.
            life.postpone(at(2.0), Refresh::Renew, Some(Refresh::Login));
            assert_eq!(life.refresh_due(at(2.0)), Some(Refresh::Login));
            life.postpone(at(2.0), Refresh::Login, None);
            assert_eq!(life.refresh_due(at(2.9)), None);
            assert_eq!(life.refresh_due(at(35.1)), Some(Refresh::Login));
        }
    }

    #[test]
    fn a_failed_refresh_is_tried_again_before_the_end_and_not_at_once() {
        let mut life = Life::begin(START, grant(60, true));
        for _ in 0..200 {
            // A quarter of the 15 s that are left, and a tenth of that more or less.
            life.postpone(at(40.0), Refresh::Renew, None);
            assert_eq!(life.refresh_due(at(43.374)), None);
            assert_eq!(life.refresh_due(at(44.126)), Some(Refresh::Renew));
        }
        life.postpone(at(44.5), Refresh::Renew, Some(Refresh::Login));
        assert_eq!(life.refresh_due(at(49.0)), Some(Refresh::Login));
    }
}
