//! What a login waits for before it is sent: its credential. A read that ends meanwhile says nothing about the store.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::Moment;

#[derive(Default)]
pub(crate) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    /// Logins that wait for their credential, and since when there are some.
    number: usize,
    since: Option<Moment>,
    /// When a credential came last, or its source failed, and how long that took.
    came: Option<(Moment, Duration)>,
}

/// A login that waits; it may be dropped meanwhile.
pub(crate) struct Waits<'a> {
    waiting: &'a Waiting,
    began: Moment,
}

impl Waiting {
    pub(crate) fn begin(&self, now: Moment) -> Waits<'_> {
        let mut state = self.lock();
        if state.number == 0 {
            state.since = Some(now);
        }
        state.number += 1;
        Waits {
            waiting: self,
            began: now,
        }
    }

    /// Whether logins have waited so long, and wait still.
    pub(crate) fn lasts(&self, long: Duration, now: Moment) -> bool {
        let state = self.lock();
        let lasts = |since| now.since(since) >= long;
        state.number > 0 && state.since.is_some_and(lasts)
    }

    /// Whether the last credential took so long, and came at this moment or later.
    pub(crate) fn came_late(&self, long: Duration, moment: Moment) -> bool {
        matches!(self.lock().came, Some((came, took)) if came >= moment && took >= long)
    }

    /// Each critical section leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits<'_> {
    pub(crate) fn came(self, now: Moment) {
        self.waiting.lock().came = Some((now, now.since(self.began)));
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiting.lock().number -= 1;
    }
}
