//! The pure decision: what may happen when the primary store does not answer. No I/O, no time.
//!
//! The default is to fail closed. The two exceptions are chosen by name; what an error, an age and
//! a policy allow is decided here and nowhere else.

use std::time::Duration;

use crate::error::ErrorKind;
use crate::secret::Freshness;

/// The age of the value that the cache holds when the primary's error arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// It is within its time to live: a refresh ahead of the expiry has failed.
    Fresh,
    /// It is past its time to live.
    Expired {
        /// The time since it expired.
        by: Duration,
        /// Whether the store's own limit on its life is over, too.
        lease_over: bool,
    },
}

/// Whether the held value may be answered after an error of `kind`, and as what; `stale_up_to` is how
/// long past its expiry the owner of the name allows it.
pub(crate) fn serve_held(
    kind: ErrorKind,
    age: Age,
    stale_up_to: Option<Duration>,
) -> Option<Freshness> {
    match age {
        // The store's own word about this secret ends the life of what it said before.
        _ if kind.is_of_the_secret() => None,
        Age::Fresh => Some(Freshness::Fresh),
        Age::Expired { lease_over, by } => {
            let allowed = kind.permits().stale && !lease_over;
            let within = stale_up_to.is_some_and(|limit| by < limit);
            (allowed && within).then_some(Freshness::Stale { by })
        }
    }
}

/// Whether a named fallback may be asked after an error of `kind`, when nothing that is held may be
/// answered.
pub(crate) fn ask_fallback(kind: ErrorKind) -> bool {
    kind.permits().fallback
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn each(mut check: impl FnMut(ErrorKind, Age, Option<Duration>, Option<Freshness>)) {
        let mut ages = vec![Age::Fresh];
        for by in [Duration::ZERO, SECOND, 10 * SECOND, 11 * SECOND] {
            for lease_over in [false, true] {
                ages.push(Age::Expired { by, lease_over });
            }
        }
        let limits = [None, Some(Duration::ZERO), Some(10 * SECOND)];
        for kind in ErrorKind::ALL {
            for &age in &ages {
                for limit in limits {
                    check(kind, age, limit, serve_held(kind, age, limit));
                }
            }
        }
    }

    #[test]
    fn without_a_policy_nothing_that_has_expired_is_served() {
        each(|_, age, limit, served| {
            if limit.is_none_or(|limit| limit.is_zero()) && age != Age::Fresh {
                assert_eq!(served, None);
            }
        });
    }

    #[test]
    fn stale_needs_a_passing_error_a_policy_an_age_within_it_and_a_living_lease() {
        each(|kind, age, limit, served| {
            let Age::Expired { by, lease_over } = age else {
                return;
            };
            let within = limit.is_some_and(|limit| by < limit);
            let allowed = kind.permits().stale && within && !lease_over;
            let stale = allowed.then_some(Freshness::Stale { by });
            assert_eq!(served, stale, "{kind:?} {age:?} {limit:?}");
        });
    }

    #[test]
    fn only_an_outage_permits_a_fallback() {
        for kind in ErrorKind::ALL {
            let outage = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
            assert_eq!(ask_fallback(kind), outage, "{kind:?}");
        }
    }

    #[test]
    fn denied_and_not_found_end_what_is_held_and_nothing_else_ends_a_fresh_value() {
        each(|kind, age, _, served| {
            let gone = matches!(kind, ErrorKind::Denied | ErrorKind::NotFound);
            match age {
                _ if gone => assert_eq!(served, None, "{kind:?} {age:?}"),
                Age::Fresh => assert_eq!(served, Some(Freshness::Fresh), "{kind:?}"),
                Age::Expired { .. } => {}
            }
        });
    }
}
