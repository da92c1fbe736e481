//! The moments in a value's life: arithmetic alone, and the one place where they are set.
//!
//! A life counts from the moment at which the value was asked for. The answer may have been on its
//! way for as long as it likes, or this process may have stood still: nothing is answered as fresh
//! later than its time to live after its request.

use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::jitter::random_part;

/// The moments in a value's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// From when on a read asks for a refresh.
    pub(super) refresh: Moment,
    /// From when on it is not answered any more, except where a policy allows stale values.
    pub(super) expires: Moment,
    /// When it is dropped: its expiry, or as long after as some policy allows stale values.
    pub(super) ends: Moment,
    /// When the store's own limit on it is over.
    pub(super) lease_over: Moment,
}

/// What a life is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// When the request was sent, at the earliest.
    pub(super) asked: Moment,
    pub(super) now: Moment,
    /// The configured time to live, with its jitter.
    pub(super) ttl: Duration,
    /// The end that the store or the backend has set, and the same with a jitter.
    pub(super) lease_over: Moment,
    pub(super) lease_used: Moment,
    pub(super) stale: Duration,
    /// Where it may be the very value that a signal was about: how long it is trusted.
    pub(super) unsettled: Option<Duration>,
}

impl Life {
    /// # Errors
    /// When it is over before it has begun.
    pub(super) fn begin(terms: Terms) -> Result<Self, Error> {
        let Terms {
            now, lease_over, ..
        } = terms;
        let full = (terms.asked + terms.ttl).min(terms.lease_used);
        if full <= now {
            return Err(match terms.lease_used <= now {
                // The store has answered, so this is no outage.
                true => Error::new(
                    ErrorKind::Refused,
                    "the value's lease was over before it could be used; give it a longer one",
                ),
                false => Error::new(
                    ErrorKind::Timeout,
                    "the answer came later than its time to live allows; check the store",
                ),
            });
        }
        // Never stale where it may be old.
        let (expires, stale) = match terms.unsettled {
            Some(trusted) => (full.min(now + trusted), Duration::ZERO),
            None => (full, terms.stale),
        };
        Ok(Self {
            // In the last fifth of its life a value in use is refreshed before a caller has to wait.
            refresh: now + expires.since(now) / 5 * 4,
            expires,
            ends: (expires + stale).min(lease_over).max(expires),
            lease_over,
        })
    }
}

/// `duration` less a random part of up to a tenth, so that what was fetched together does not
/// expire together.
pub(super) fn shortened(duration: Duration) -> Duration {
    duration - random_part(duration / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u32) -> Moment {
        Moment::ZERO + SECOND * seconds
    }

    fn terms() -> Terms {
        Terms {
            asked: at(10),
            now: at(11),
            ttl: 100 * SECOND,
            lease_over: Moment::NEVER,
            lease_used: Moment::NEVER,
            stale: Duration::ZERO,
            unsettled: None,
        }
    }

    #[test]
    fn a_life_counts_from_the_request_however_late_the_answer() {
        for late in [11, 50, 109] {
            let now = at(late);
            let life = Life::begin(Terms { now, ..terms() }).unwrap();
            assert_eq!((life.expires, life.ends), (at(110), at(110)));
            assert!(now < life.refresh && life.refresh < life.expires);
        }
        let now = at(110);
        let error = Life::begin(Terms { now, ..terms() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn a_lease_ends_a_life_and_its_stale_time_and_its_end_is_no_outage() {
        let leased = Terms {
            lease_over: at(40),
            lease_used: at(38),
            stale: 100 * SECOND,
            ..terms()
        };
        let life = Life::begin(leased).unwrap();
        assert_eq!((life.expires, life.ends), (at(38), at(40)));
        let error = Life::begin(Terms {
            now: at(38),
            ..leased
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
    }

    #[test]
    fn what_may_be_old_is_held_for_a_moment_and_never_stale() {
        let unsettled = Terms {
            stale: 100 * SECOND,
            unsettled: Some(SECOND),
            ..terms()
        };
        let life = Life::begin(unsettled).unwrap();
        assert_eq!((life.expires, life.ends), (at(12), at(12)));
        let life = Life::begin(Terms {
            ttl: SECOND * 3 / 2,
            ..unsettled
        })
        .unwrap();
        assert_eq!(life.expires, at(10) + SECOND * 3 / 2);
    }
}
