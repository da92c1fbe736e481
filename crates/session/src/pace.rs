//! When a login may be sent: a cap on the rate of those that the store answers, and a back-off after
//! those that it refuses. A login that the store did not answer does not count.
//!
//! Stores lock an identity out, for all who have it, after some logins with a wrong secret. OpenBao and Vault do so by
//! default after five, each within 15 minutes of the one before, and for 15 minutes. So one process may not send five:
//! after the third it waits until they are forgotten.
//!
//! Pure: it is given the time and decides. The session knows which credential was refused.

use std::time::Duration;

use secret_resolver::Moment;

use crate::random;

/// One login a second in the long run, three at once: more is a fault that logins do not repair.
const INTERVAL: Duration = Duration::from_secs(1);
const BURST: u32 = 3;
/// The wait after the first refusal; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// This many refusals that the store counts may follow each other quickly.
const QUICK: u32 = 3;
/// How long after the last of them the store forgets them.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// The wait after that many, a tenth more or less. It is longer than the store remembers.
const RARE_WAIT: Duration = Duration::from_secs(18 * 60);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the logins answered so far are paid off, at one an interval (GCRA).
    paid_at: Option<Moment>,
    refusals: u32,
    /// The refusals that the store counts for a lockout, and when the last one came.
    counted: Option<(u32, Moment)>,
}

impl Pace {
    /// How long an answer that is not the store's holds back the next login.
    pub(crate) const MOMENT: Duration = FIRST_WAIT;

    /// Admits a login, or says how long to wait.
    pub(crate) fn admit(&self, now: Moment) -> Result<(), Duration> {
        let debt = self.debt(now);
        let allowed = INTERVAL * (BURST - 1);
        match debt > allowed {
            true => Err(debt - allowed),
            false => Ok(()),
        }
    }

    /// The store has answered a login, with a token or a refusal.
    pub(crate) fn answered(&mut self, now: Moment) {
        self.paid_at = Some(now + self.debt(now) + INTERVAL);
    }

    fn debt(&self, now: Moment) -> Duration {
        self.paid_at.map_or(Duration::ZERO, |paid| paid.since(now))
    }

    /// A login was refused: no other with the same credential before this moment.
    pub(crate) fn refused(&mut self, now: Moment, store_asks: Option<Duration>) -> Moment {
        let doubled = FIRST_WAIT * 2_u32.saturating_pow(self.refusals.min(5));
        self.refusals += 1;
        // Spread downwards only, so that the longest wait is the longest. A store that asks for
        // more gets it, up to the same bound: nobody may switch this identity off for longer.
        let wait = doubled
            .max(store_asks.unwrap_or_default())
            .min(LONGEST_WAIT);
        now + random::spread(wait / 10 * 9, 1)
    }

    /// The store counts this many refusals, which came just now, for a lockout. Where it has counted enough, no
    /// other with the same credential before the moment that is returned.
    pub(crate) fn counted(&mut self, now: Moment, refusals: u32) -> Option<Moment> {
        if refusals == 0 {
            return None;
        }
        // The store forgets, but what was refused three times is not likely to be taken the next three.
        let all = self.counted.map_or(0, |(all, _)| all) + refusals;
        self.counted = Some((all, now));
        (all >= QUICK).then(|| now + random::spread(RARE_WAIT, 1))
    }

    /// How many refusals the store still counts.
    fn remembered(&self, now: Moment) -> u32 {
        let counted = self.counted.filter(|(_, last)| now < *last + FORGOTTEN);
        counted.map_or(0, |(refusals, _)| refusals)
    }

    /// Whether no refusal came since the last login that was accepted, and the store counts none.
    pub(crate) fn is_calm(&self, now: Moment) -> bool {
        self.refusals == 0 && self.remembered(now) == 0
    }

    /// The credential is another. The store counts refusals of both together, as long as it remembers them.
    pub(crate) fn changed(&mut self, now: Moment) {
        self.refusals = 0;
        if self.remembered(now) == 0 {
            self.counted = None;
        }
    }

    /// A login was accepted: the store begins to count again, too.
    pub(crate) fn accepted(&mut self) {
        self.refusals = 0;
        self.counted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::ZERO + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_burst_of_three_passes_and_then_one_a_second() {
        let mut pace = Pace::default();
        let login = |pace: &mut Pace, now| {
            let admitted = pace.admit(now).is_ok();
            if admitted {
                pace.answered(now);
            }
            admitted
        };
        let admitted = (0..10_000)
            .filter(|step| login(&mut pace, at(f64::from(*step) / 1000.0)))
            .count();
        // Three at once, then one at each full second of the ten.
        assert_eq!(admitted, 3 + 9);
        assert!((0..3).all(|_| login(&mut pace, at(100.0))));
        let wait = pace.admit(at(100.0)).unwrap_err();
        assert!(pace.admit(at(100.0) + wait).is_ok());
    }

    #[test]
    fn logins_that_the_store_does_not_answer_count_for_nothing() {
        let pace = Pace::default();
        assert!((0..100).all(|_| pace.admit(at(5.0)).is_ok()));
    }

    #[test]
    fn refusals_double_the_wait_up_to_thirty_seconds_and_a_success_ends_it() {
        let mut pace = Pace::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
            let wait = pace.refused(at(5.0), None).since(at(5.0)).as_secs_f64();
            assert!(
                (expected * 0.8..=expected).contains(&wait),
                "{wait} for {expected}"
            );
        }
        pace.accepted();
        assert!(pace.refused(at(5.0), None).since(at(5.0)) <= FIRST_WAIT);
    }

    #[test]
    fn a_third_refusal_that_counts_for_a_lockout_is_the_last_until_the_store_has_forgotten_them() {
        let mut pace = Pace::default();
        assert_eq!(pace.counted(at(0.0), 1), None);
        assert_eq!(pace.counted(at(1.0), 1), None);
        let mut last = at(3.0);
        for _ in 0..20 {
            let again = pace.counted(last, 1).unwrap();
            let wait = again.since(last);
            assert!(wait > FORGOTTEN && wait <= RARE_WAIT / 10 * 11, "{wait:?}");
            last = again;
        }
        // Another credential begins again once the store has forgotten.
        pace.changed(last);
        assert!(pace.is_calm(last) && pace.counted(last, 1).is_none());
        // Several endpoints count as one store.
        let mut pace = Pace::default();
        assert_eq!(pace.counted(at(0.0), 2), None);
        assert!(pace.counted(at(1.0), 1).is_some());
        // So do two credentials, and a login that is accepted ends the count.
        pace.changed(at(2.0));
        assert!(!pace.is_calm(at(2.0)) && pace.counted(at(2.0), 1).is_some());
        pace.accepted();
        assert!(pace.is_calm(at(3.0)) && pace.counted(at(3.0), 1).is_none());
        assert_eq!(pace.counted(at(4.0), 0), None);
    }

    #[test]
    fn the_stores_own_delay_is_heard_within_the_bound() {
        let mut pace = Pace::default();
        let wait = |pace: &mut Pace, asks| {
            pace.refused(at(0.0), Some(Duration::from_secs(asks)))
                .since(at(0.0))
                .as_secs()
        };
        assert!((7..=10).contains(&wait(&mut pace, 10)));
        assert!(wait(&mut pace, 3600) <= 30);
    }
}
