//! How long a login waits for something other than its store's answer. The reads that wait for the login know from it how much of
//! their own time the store had.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::backend::foreign;
use secret_resolver::{Clock, Error, Moment};

/// What one login waits for beside its store: its credential, or a moment that the store asks for. It is shared with the reads that
/// wait for the login.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How long the waits took that are over.
    took: Duration,
    /// Those under way, and since when there are some.
    number: usize,
    since: Option<Moment>,
    /// Of the last.
    why: Option<Error>,
}

/// How it stands at one moment.
#[derive(Clone, Default)]
pub(crate) struct Waits {
    pub(crate) took: Duration,
    /// Whether it waits still.
    pub(crate) lasts: bool,
    pub(crate) why: Option<Error>,
}

impl Waiting {
    /// Awaits `what`, which is not an answer of the store. `why` is the answer of a read that has no time left.
    ///
    /// # Cancel safety
    /// As that of `what`.
    pub async fn wait<T>(&self, clock: &dyn Clock, why: Error, what: impl Future<Output = T>) -> T {
        let _under_way = UnderWay::begin(self, clock, why);
        what.await
    }

    pub(crate) fn at(&self, now: Moment) -> Waits {
        let state = self.lock();
        let still = state.since.map_or(Duration::ZERO, |since| now.since(since));
        Waits {
            took: state.took + still,
            lasts: state.since.is_some(),
            why: state.why.clone(),
        }
    }

    /// Each critical section leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait, which may be dropped at any time.
struct UnderWay<'a> {
    waiting: &'a Waiting,
    clock: &'a dyn Clock,
}

impl<'a> UnderWay<'a> {
    fn begin(waiting: &'a Waiting, clock: &'a dyn Clock, why: Error) -> Self {
        let now = clock.now();
        let mut state = waiting.lock();
        state.number += 1;
        state.since.get_or_insert(now);
        state.why = Some(why);
        drop(state);
        Self { waiting, clock }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // The application's clock may be what panics just now.
        let now = foreign(|| self.clock.now());
        let mut state = self.waiting.lock();
        state.number -= 1;
        if state.number == 0
            && let Some(since) = state.since.take()
        {
            state.took += now.map_or(Duration::ZERO, |now| now.since(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use secret_resolver::backend::Sleep;
    use secret_resolver::testing::ManualClock;

    use super::*;
    use crate::error;

    #[test]
    fn waits_at_the_same_time_count_once_and_each_is_waited_for() {
        let (waiting, clock) = (Waiting::default(), ManualClock::new());
        let second = Duration::from_secs(1);
        let begin = || UnderWay::begin(&waiting, &clock, error::credential_late("test"));
        let first = begin();
        clock.advance(second);
        let other = begin();
        clock.advance(second);
        drop(first);
        clock.advance(second);
        let at = || waiting.at(clock.now());
        assert!(at().lasts && at().took == second * 3);
        drop(other);
        clock.advance(second);
        assert!(!at().lasts && at().took == second * 3);
        // Another one, later.
        let last = begin();
        clock.advance(second);
        drop(last);
        assert_eq!(at().took, second * 4);
    }

    /// It tells the time until it is to panic.
    #[derive(Debug, Default)]
    struct Panicking(AtomicBool);

    impl Clock for Panicking {
        fn now(&self) -> Moment {
            assert!(!self.0.load(Ordering::Acquire), "of the test's own making");
            Moment::ZERO
        }

        fn sleep_until(&self, _: Moment) -> Sleep {
            unreachable!()
        }
    }

    #[test]
    fn a_clock_that_panics_ends_a_wait_and_not_the_process() {
        let (waiting, clock) = (Waiting::default(), Panicking::default());
        let unwound = foreign(|| {
            let _wait = UnderWay::begin(&waiting, &clock, error::credential_late("test"));
            clock.0.store(true, Ordering::Release);
            clock.now()
        });
        assert_eq!(unwound, None);
        assert!(!waiting.at(Moment::ZERO).lasts);
    }
}
