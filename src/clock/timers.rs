//! The sleepers of a clock: who is to be woken, and when.
//!
//! Knows nothing of time's source: a clock asks for those that are due and wakes them.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::clock::Moment;
use crate::sync::lock;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    // The number tells sleepers of one moment apart.
    sleepers: BTreeMap<(Moment, u64), Waker>,
    next: u64,
}

/// Where a sleep is told the time and where its clock hears of an earlier wake-up.
pub(crate) trait Timed: Send + Sync + 'static {
    fn now(&self) -> Moment;
    fn timers(&self) -> &Timers;
    /// Called when a sleeper was added that is due before all others.
    fn earlier(&self);
}

impl Timers {
    /// When the first sleeper is due.
    pub(crate) fn first(&self) -> Option<Moment> {
        let state = lock(&self.state);
        state.sleepers.keys().next().map(|&(moment, _)| moment)
    }

    /// Wakes all that are due at `now`.
    ///
    /// A waker is foreign code. It is called outside the lock, so that it may sleep again, and
    /// what it panics with stays its own: the next sleepers are woken all the same.
    pub(crate) fn wake_due(&self, now: Moment) {
        let due = {
            let mut state = lock(&self.state);
            match now.0.checked_add(1) {
                Some(after) => {
                    let later = state.sleepers.split_off(&(Moment(after), 0));
                    std::mem::replace(&mut state.sleepers, later)
                }
                None => std::mem::take(&mut state.sleepers),
            }
        };
        for waker in due.into_values() {
            let woken = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            if woken.is_err() {
                tracing::error!("a waker panicked while a clock was waking it");
            }
        }
    }

    /// Notes a sleeper; tells whether it is now the first.
    fn insert(&self, moment: Moment, waker: Waker) -> (u64, bool) {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        state.sleepers.insert((moment, number), waker);
        let first = state.sleepers.keys().next() == Some(&(moment, number));
        (number, first)
    }

    /// Gives a sleeper that still waits another waker; tells whether it does still wait.
    fn replace(&self, key: (Moment, u64), waker: &Waker) -> bool {
        // Wakers are foreign code, cloned and dropped outside the lock: the last owner of a sleep
        // may go with one.
        let mut new = waker.clone();
        let mut state = lock(&self.state);
        let held = state.sleepers.get_mut(&key);
        let waits = held.is_some();
        if let Some(held) = held {
            std::mem::swap(held, &mut new);
        }
        drop(state);
        drop(new);
        waits
    }

    fn remove(&self, key: (Moment, u64)) {
        // The waker is dropped after the lock: it may be the last owner of something that sleeps.
        let removed = lock(&self.state).sleepers.remove(&key);
        drop(removed);
    }
}

/// The sleep of every clock in this crate. Keeps its clock alive.
pub(crate) struct SleepUntil<T: Timed> {
    timed: Arc<T>,
    moment: Moment,
    number: Option<u64>,
}

impl<T: Timed> SleepUntil<T> {
    pub(crate) fn new(timed: Arc<T>, moment: Moment) -> Self {
        Self {
            timed,
            moment,
            number: None,
        }
    }
}

impl<T: Timed> Future for SleepUntil<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.timed.now() >= this.moment {
            return Poll::Ready(());
        }
        let timers = this.timed.timers();
        if let Some(number) = this.number
            && timers.replace((this.moment, number), cx.waker())
        {
            return Poll::Pending;
        }
        let (number, first) = timers.insert(this.moment, cx.waker().clone());
        this.number = Some(number);
        if first {
            this.timed.earlier();
        }
        // Time may have passed the moment, and the due have been woken, before the insertion.
        if this.timed.now() >= this.moment {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<T: Timed> Drop for SleepUntil<T> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timed.timers().remove((self.moment, number));
        }
    }
}
