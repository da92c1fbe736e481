//! How long this process did not run, as far as one thread that sleeps can see.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Moment;
use crate::sync::lock;

/// What the clock's thread overslept. Any thread may ask, so that one which runs first after a stop
/// finds it, before the clock's thread has run.
#[derive(Debug)]
pub(super) struct Lost(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the clock's thread should have run; since when it runs; never while it waits for a call.
    wakes: Moment,
    total: Duration,
}

impl Lost {
    /// A thread that wakes no later than this ran when it should. It also runs no longer than this
    /// before it sleeps again: a stop that finds it awake shows, too.
    const USUAL: Duration = Duration::from_millis(20);

    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            wakes: Moment::NEVER,
            total: Duration::ZERO,
        }))
    }

    /// From now on the thread should run again after `wait`: called before it sleeps; and, with none,
    /// when it woke, before it wakes anything, so that a waiter that is woken late knows why.
    pub(super) fn runs_after(&self, wait: Duration, now: impl FnOnce() -> Moment) {
        let mut state = lock(&self.0);
        let now = now();
        let overslept = state.overslept(now);
        state.total += overslept;
        state.wakes = now + wait;
    }

    /// All that was lost up to now. The time is taken under the lock, so that the sum never goes back.
    pub(super) fn sum(&self, now: impl FnOnce() -> Moment) -> Duration {
        let state = lock(&self.0);
        state.total + state.overslept(now())
    }
}

impl State {
    fn overslept(&self, now: Moment) -> Duration {
        let late = now.since(self.wakes);
        if late > Lost::USUAL {
            late
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn what_is_overslept_is_lost_once_and_already_before_the_sleeper_has_run() {
        let lost = Lost::new();
        let sum = |now| lost.sum(|| at(now)).as_millis();
        assert_eq!(sum(1_000), 0);
        lost.runs_after(Duration::from_millis(500), || at(1_000));
        assert_eq!((sum(1_500), sum(1_520), sum(4_500)), (0, 0, 3_000));
        lost.runs_after(Duration::ZERO, || at(4_510));
        assert_eq!((sum(4_510), sum(4_520)), (3_010, 3_010));
        lost.runs_after(Duration::from_millis(500), || at(4_520));
        lost.runs_after(Duration::ZERO, || at(5_030));
        assert_eq!(sum(5_040), 3_010);
    }

    #[test]
    fn a_stop_that_finds_the_thread_awake_is_lost_once_too() {
        let lost = Lost::new();
        let sum = |now| lost.sum(|| at(now)).as_millis();
        lost.runs_after(Duration::from_millis(100), || at(1_000));
        lost.runs_after(Duration::ZERO, || at(1_100));
        assert_eq!((sum(1_120), sum(2_100)), (0, 1_000));
        lost.runs_after(Duration::MAX, || at(2_101));
        assert_eq!((sum(2_101), sum(90_000)), (1_001, 1_001));
    }
}
