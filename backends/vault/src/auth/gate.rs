//! When a login may be sent: a cap on their rate, and a back-off after refused ones.
//!
//! Pure: it is told the time and decides. What a refused credential was is the session's to know.

use std::time::Duration;

use secret_resolver::Moment;

use crate::random;

/// One login a second in the long run, three at once: more is a fault that logins do not mend.
const INTERVAL: Duration = Duration::from_secs(1);
const BURST: u32 = 3;
/// The wait after the first refusal; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Gate {
    /// When the logins sent so far are paid off, at one an interval (GCRA).
    paid_at: Option<Moment>,
    refusals: u32,
}

impl Gate {
    /// Admits a login, or tells how long to wait.
    pub(super) fn admit(&mut self, now: Moment) -> Result<(), Duration> {
        let debt = self.paid_at.map_or(Duration::ZERO, |paid| paid.since(now));
        let allowed = INTERVAL * (BURST - 1);
        if debt > allowed {
            return Err(debt - allowed);
        }
        self.paid_at = Some(now + debt + INTERVAL);
        Ok(())
    }

    /// A login was refused: no other with the same credential before this moment.
    pub(super) fn refused(&mut self, now: Moment, store_asks: Option<Duration>) -> Moment {
        let doubled = FIRST_WAIT * 2_u32.saturating_pow(self.refusals.min(5));
        self.refusals += 1;
        // Spread downwards only, so that the longest wait is the longest. A store that asks for
        // more is heard, up to the same bound: nobody may switch this identity off for longer.
        let wait = doubled
            .max(store_asks.unwrap_or_default())
            .min(LONGEST_WAIT);
        now + random::spread(wait / 10 * 9, 1)
    }

    /// A login was accepted.
    pub(super) fn accepted(&mut self) {
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
        let mut gate = Gate::default();
        let admitted = (0..10_000)
            .filter(|step| gate.admit(at(f64::from(*step) / 1000.0)).is_ok())
            .count();
        // Three at once, then one at each full second of the ten.
        assert_eq!(admitted, 3 + 9);
        assert!(
            gate.admit(at(100.0)).is_ok()
                && gate.admit(at(100.0)).is_ok()
                && gate.admit(at(100.0)).is_ok()
        );
        let wait = gate.admit(at(100.0)).unwrap_err();
        assert!(gate.admit(at(100.0) + wait).is_ok());
    }

    #[test]
    fn refusals_double_the_wait_up_to_thirty_seconds_and_a_success_ends_it() {
        let mut gate = Gate::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
            let wait = gate.refused(at(5.0), None).since(at(5.0)).as_secs_f64();
            assert!(
                (expected * 0.8..=expected).contains(&wait),
                "{wait} for {expected}"
            );
        }
        gate.accepted();
        assert!(gate.refused(at(5.0), None).since(at(5.0)) <= FIRST_WAIT);
    }

    #[test]
    fn the_stores_own_delay_is_heard_within_the_bound() {
        let mut gate = Gate::default();
        let wait = |gate: &mut Gate, asks| {
            gate.refused(at(0.0), Some(Duration::from_secs(asks)))
                .since(at(0.0))
                .as_secs()
        };
        assert!((7..=10).contains(&wait(&mut gate, 10)));
        assert!(wait(&mut gate, 3600) <= 30);
    }
}
