//! Whether an answer is late: the one place where that is decided.
//!
//! An answer that is there but past its deadline is too late, however long ago it was ready: a
//! caller that polls late must not get what its deadline rules out.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::clock::{Clock, Moment};

/// An end to a wait, on a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimit<'a> {
    clock: &'a dyn Clock,
    deadline: Moment,
    /// What `Clock::lost` said when the wait began; `None` where that does not matter.
    lost_before: Option<Duration>,
}

impl<'a> TimeLimit<'a> {
    /// Ends at `deadline`, whatever happens: for a caller's own deadline.
    pub(crate) fn strict(clock: &'a dyn Clock, deadline: Moment) -> Self {
        Self {
            clock,
            deadline,
            lost_before: None,
        }
    }

    /// Ends later by as long as this process does not run meanwhile. For limits that say something
    /// about a store: that we were stopped is not a sign that it is away.
    pub(crate) fn while_running(clock: &'a dyn Clock, deadline: Moment) -> Self {
        Self::since(clock, deadline, clock.lost())
    }

    /// As `while_running`, for a deadline that was set when `Clock::lost` was `lost_before`.
    pub(crate) fn since(clock: &'a dyn Clock, deadline: Moment, lost_before: Duration) -> Self {
        Self {
            lost_before: Some(lost_before),
            ..Self::strict(clock, deadline)
        }
    }

    /// Ready once the time is over.
    pub(crate) async fn over(&self) {
        let mut end = self.end();
        loop {
            self.clock.sleep_until(end).await;
            let later = self.end();
            // Not judged by the time: a clock that cannot wake its sleepers ends their sleeps early.
            if later <= end {
                return;
            }
            end = later;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        // The time first: the end must know of a stop between the two.
        let now = self.clock.now();
        now >= self.end()
    }

    /// When it ends, as far as is known now.
    pub(crate) fn end(&self) -> Moment {
        let lost = self
            .lost_before
            .map(|before| self.clock.lost().saturating_sub(before));
        self.deadline + lost.unwrap_or_default()
    }
}

/// The answer, if it comes in time. A late one is dropped.
///
/// # Cancel safety
/// Dropping it drops the answer's future.
pub(crate) async fn in_time<T>(limit: TimeLimit<'_>, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    let mut over = pin!(limit.over());
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready((!limit.is_over()).then_some(answer)),
        Poll::Pending => over.as_mut().poll(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::testing::ManualClock;

    const LIMIT: Duration = Duration::from_secs(2);

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_is_ready_but_late_is_too_late() {
        let clock = ManualClock::strict();
        let limits = [TimeLimit::strict, TimeLimit::while_running];
        for limit in limits {
            let limit = limit(&clock, clock.now() + LIMIT);
            let early = pin!(in_time(limit, ready(7)));
            assert_eq!(poll(early), Poll::Ready(Some(7)));
            clock.advance(LIMIT);
            let late = pin!(in_time(limit, ready(7)));
            assert_eq!(poll(late), Poll::Ready(None));
        }
    }

    #[test]
    fn time_in_which_nobody_ran_extends_a_limit_that_speaks_of_the_store_and_no_other() {
        let clock = ManualClock::strict();
        let deadline = clock.now() + LIMIT;
        let running = TimeLimit::while_running(&clock, deadline);
        let mut hangs = pin!(in_time(running, pending::<()>()));
        let mut strict = pin!(in_time(
            TimeLimit::strict(&clock, deadline),
            pending::<()>()
        ));
        assert!(poll(hangs.as_mut()).is_pending());
        assert!(poll(strict.as_mut()).is_pending());
        clock.stall(LIMIT * 5);
        assert_eq!(poll(strict), Poll::Ready(None));
        assert!(poll(hangs.as_mut()).is_pending());
        assert_eq!(poll(pin!(in_time(running, ready(7)))), Poll::Ready(Some(7)));
        clock.advance(LIMIT);
        assert_eq!(poll(hangs), Poll::Ready(None));
        assert_eq!(poll(pin!(in_time(running, ready(7)))), Poll::Ready(None));
    }
}
