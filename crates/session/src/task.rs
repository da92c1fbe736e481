//! One task for all that wait for its result: how logins are single-task.
//!
//! The task is the runtime's, so that a waiter that leaves does not end it. It can end without a result,
//! when its runtime is dropped, and it can stand still on a runtime that nobody
//! drives: a waiter notices the first at once and gives up on the second.

use std::future::Future;
use std::time::Duration;

use secret_resolver::backend::{contained, first};
use secret_resolver::{Clock, Error, Moment};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error;

/// Longer than any login takes that still makes progress: the transport bounds each exchange.
const LIMIT: Duration = Duration::from_secs(20);

type Outcome = Result<(), Error>;

#[derive(Clone, Debug)]
pub(crate) struct Task {
    outcome: watch::Receiver<Option<Outcome>>,
    late_at: Moment,
}

impl Task {
    /// Starts `task` on the current runtime.
    pub(crate) fn start(
        now: Moment,
        task: impl Future<Output = Outcome> + Send + 'static,
    ) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| error::no_runtime())?;
        let (done, outcome) = watch::channel(None);
        runtime.spawn(async move {
            let result = contained(task).await;
            let result = result.unwrap_or_else(|| Err(error::login_panicked()));
            done.send_replace(Some(result));
        });
        Ok(Self {
            outcome,
            late_at: now + LIMIT,
        })
    }

    /// Whether there is nothing more to wait for.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        let ended = self.outcome.has_changed().is_err() || self.outcome.borrow().is_some();
        ended || now >= self.late_at
    }

    /// What the task has failed with, if it has.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.outcome.borrow().as_ref()?.as_ref().err().cloned()
    }

    /// The task's result.
    ///
    /// # Cancel safety
    /// Dropping it leaves the task alone.
    pub(crate) async fn wait(mut self, clock: &dyn Clock) -> Outcome {
        let late = clock.sleep_until(self.late_at);
        let outcome = async {
            let ended = self.outcome.wait_for(Option::is_some).await;
            // An error means that the task ended without a result.
            ended
                .ok()
                .and_then(|outcome| outcome.clone())
                .unwrap_or_else(|| Err(error::login_abandoned()))
        };
        first(outcome, late)
            .await
            .unwrap_or_else(|| Err(error::login_late()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secret_resolver::ErrorKind;
    use secret_resolver::backend::SystemClock;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    fn clock() -> SystemClock {
        SystemClock::shared().unwrap()
    }

    #[test]
    fn all_waiters_get_the_one_result() {
        let clock = clock();
        let refused = error::dead_again();
        runtime().block_on(async {
            let task = Task::start(clock.now(), async move { Err(refused) }).unwrap();
            for _ in 0..3 {
                assert_eq!(
                    task.clone().wait(&clock).await.unwrap_err().kind(),
                    ErrorKind::Unauthenticated
                );
            }
            assert!(task.is_over(clock.now()));
        });
    }

    #[test]
    fn a_dropped_runtime_and_a_panic_free_the_waiters() {
        let clock = clock();
        let lost = runtime();
        let never =
            lost.block_on(async { Task::start(clock.now(), std::future::pending()).unwrap() });
        assert!(!never.is_over(clock.now()));
        drop(lost);
        assert!(never.is_over(clock.now()));
        let here = runtime();
        assert_eq!(
            here.block_on(never.wait(&clock)).unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        let panicked = here.block_on(async {
            Task::start(clock.now(), async { panic!("of the test's own making") }).unwrap()
        });
        let error = here.block_on(panicked.wait(&clock)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.is_held_back());
    }

    #[test]
    fn without_a_runtime_it_is_an_error_and_not_a_panic() {
        let error = Task::start(Moment::ZERO, async { Ok(()) }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
    }
}
