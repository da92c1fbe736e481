//! When a login may be sent: a cap on the rate of those that the store answers, and a back-off after
//! those that it refuses. A login that the store did not answer does not count.
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

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the logins answered so far are paid off, at one an interval (GCRA).
    paid_at: Option<Moment>,
    refusals: u32,
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

    /// Whether no refusal came since the last login that was accepted.
    pub(crate) fn is_calm(&self) -> bool {
        self.refusals == 0
    }

    /// A login was accepted.
    pub(crate) fn accepted(&mut self) {
        self.refusals = 0;
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
