//! What a login waits for before it is sent: its credential. A read that ends meanwhile says nothing about the store.

use std::sync::{Mutex, MutexGuard, PoisonError};

use secret_resolver::Moment;

#[derive(Default)]
pub(crate) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    /// Logins that wait for their credential.
    number: usize,
    /// When one came last, or its source failed.
    came: Option<Moment>,
}

/// A login that waits; it may be dropped meanwhile.
pub(crate) struct Waits<'a>(&'a Waiting);

impl Waiting {
    pub(crate) fn begin(&self) -> Waits<'_> {
        self.lock().number += 1;
        Waits(self)
    }

    /// Whether a login waits now, or did at this moment or later.
    pub(crate) fn since(&self, moment: Moment) -> bool {
        let state = self.lock();
        state.number > 0 || state.came.is_some_and(|came| came >= moment)
    }

    /// Each critical section leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waits<'_> {
    pub(crate) fn came(self, now: Moment) {
        self.0.lock().came = Some(now);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.lock().number -= 1;
    }
}
