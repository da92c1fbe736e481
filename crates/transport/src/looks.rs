//! When a source is looked at again. One look is under way at a time: of those that hang there is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::Moment;

/// After a refusal, the source of what was refused is looked at again no sooner than that.
const URGENT: Duration = Duration::from_secs(1);

pub(crate) struct Looks {
    /// How long after a look there is another, at the soonest.
    again: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    last: Option<Moment>,
    under_way: bool,
}

/// A look, until this is dropped.
pub(crate) struct Look(Arc<Mutex<State>>);

impl Looks {
    pub(crate) fn new(again: Duration) -> Self {
        Self {
            again,
            state: Arc::default(),
        }
    }

    /// A look, if it is time for one and none is under way; then it counts. The first was when the source was made.
    pub(crate) fn begin(&self, now: Moment, urgent: bool) -> Option<Look> {
        let wait = if urgent { URGENT } else { self.again };
        let mut state = lock(&self.state);
        let due = match state.last {
            Some(last) => now >= last + wait,
            None => urgent,
        };
        if !due {
            state.last.get_or_insert(now);
        }
        if !due || state.under_way {
            return None;
        }
        *state = State {
            last: Some(now),
            under_way: true,
        };
        Some(Look(Arc::clone(&self.state)))
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        lock(&self.0).under_way = false;
    }
}

/// Each critical section leaves it whole.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
