//! The pure decision: what may happen when the primary store does not answer. No I/O, no time.
//!
//! The default is to fail closed. The two exceptions are chosen by name; what an error, an age and
//! a policy allow is decided here and nowhere else.

use std::time::Duration;

use crate::error::ErrorKind;

/// What the owner of a name allows when its primary store does not answer. The default allows
/// nothing.
///
/// ```
/// use secret_resolver::{Decision, ErrorKind, Held, Policy, decide};
///
/// let closed = Policy::fail_closed();
/// assert_eq!(decide(ErrorKind::Unavailable, Held::Nothing, &closed), Decision::Fail);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// How long past its expiry a cached value may be served; `None` and zero for not at all.
    pub stale_up_to: Option<Duration>,
    /// Whether a fallback resolver was named.
    pub fallback: bool,
}

/// What the cache holds at the address when the primary's error arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Held {
    /// No value.
    Nothing,
    /// A value within its time to live: a refresh ahead of the expiry has failed.
    Fresh,
    /// A value past its time to live.
    Expired {
        /// The time since it expired.
        by: Duration,
        /// Whether the store's own limit on its life is over, too.
        lease_over: bool,
    },
    /// A value that was invalidated: it may never be served again.
    Invalidated,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Answer the error.
    Fail,
    /// Drop the held value at once, then answer the error: the store has said that it is gone or
    /// that this identity may not have it.
    DropAndFail,
    /// Go on with the value that is still within its time.
    KeepFresh,
    /// Answer the expired value, marked as stale.
    ServeStale,
    /// Ask the named fallback; its answer is marked and never replaces the primary's.
    AskFallback,
}

impl Policy {
    /// Nothing is allowed: the default, spelled out.
    #[must_use]
    pub const fn fail_closed() -> Self {
        Self {
            stale_up_to: None,
            fallback: false,
        }
    }
}

/// What the policy allows after an error of `kind`, given what is held.
#[must_use]
pub fn decide(kind: ErrorKind, held: Held, policy: &Policy) -> Decision {
    let permits = kind.permits();
    match held {
        // The store's own word about this secret ends the life of what it said before.
        _ if kind.is_of_the_secret() => match held {
            Held::Nothing => Decision::Fail,
            _ => Decision::DropAndFail,
        },
        Held::Fresh => Decision::KeepFresh,
        Held::Expired {
            by,
            lease_over: false,
        } if permits.stale && policy.stale_up_to.is_some_and(|limit| by < limit) => {
            Decision::ServeStale
        }
        _ if permits.fallback && policy.fallback => Decision::AskFallback,
        _ => Decision::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn every_held() -> Vec<Held> {
        let mut all = vec![Held::Nothing, Held::Fresh, Held::Invalidated];
        for by in [Duration::ZERO, SECOND, 10 * SECOND, 11 * SECOND] {
            for lease_over in [false, true] {
                all.push(Held::Expired { by, lease_over });
            }
        }
        all
    }

    fn every_policy() -> Vec<Policy> {
        let limits = [None, Some(Duration::ZERO), Some(10 * SECOND)];
        let of = |stale_up_to| {
            [false, true].map(|fallback| Policy {
                stale_up_to,
                fallback,
            })
        };
        limits.into_iter().flat_map(of).collect()
    }

    fn each(mut check: impl FnMut(ErrorKind, Held, &Policy, Decision)) {
        for kind in ErrorKind::ALL {
            for held in every_held() {
                for policy in every_policy() {
                    check(kind, held, &policy, decide(kind, held, &policy));
                }
            }
        }
    }

    #[test]
    fn the_default_policy_serves_nothing_that_has_expired_and_asks_nobody_else() {
        assert_eq!(Policy::default(), Policy::fail_closed());
        each(|_, held, policy, decision| {
            if *policy == Policy::default() {
                assert!(!matches!(
                    decision,
                    Decision::ServeStale | Decision::AskFallback
                ));
                if decision == Decision::KeepFresh {
                    assert_eq!(held, Held::Fresh);
                }
            }
        });
    }

    #[test]
    fn stale_needs_a_passing_error_a_policy_an_age_within_it_and_a_living_lease() {
        each(|kind, held, policy, decision| {
            let within = |by| policy.stale_up_to.is_some_and(|limit| by < limit);
            let allowed = kind.permits().stale
                && matches!(held, Held::Expired { by, lease_over: false } if within(by));
            assert_eq!(
                decision == Decision::ServeStale,
                allowed,
                "{kind:?} {held:?} {policy:?}"
            );
        });
    }

    #[test]
    fn a_fallback_is_asked_only_in_an_outage_when_named_and_after_stale() {
        each(|kind, held, policy, decision| {
            if decision == Decision::AskFallback {
                assert!(
                    policy.fallback && kind.permits().fallback,
                    "{kind:?} {held:?}"
                );
            }
            let outage = matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout);
            if policy.fallback && outage && matches!(held, Held::Nothing | Held::Invalidated) {
                assert_eq!(decision, Decision::AskFallback, "{kind:?} {held:?}");
            }
        });
    }

    #[test]
    fn denied_and_not_found_drop_what_is_held_whatever_the_policy() {
        each(|kind, held, _, decision| {
            let gone = matches!(kind, ErrorKind::Denied | ErrorKind::NotFound);
            let drop = gone && held != Held::Nothing;
            assert_eq!(decision == Decision::DropAndFail, drop, "{kind:?} {held:?}");
        });
    }

    #[test]
    fn an_invalidated_value_is_never_served_again() {
        each(|_, held, _, decision| {
            if held == Held::Invalidated {
                assert!(!matches!(
                    decision,
                    Decision::ServeStale | Decision::KeepFresh
                ));
            }
        });
    }
}
