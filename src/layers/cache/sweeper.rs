//! Drops what has expired, asked or not.
//!
//! The sweeper is a waker. It sleeps on the clock, and the clock's own thread runs it: a runtime
//! that is blocked, not driven or gone does not keep a value in memory. It runs no foreign code.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::clock::{Clock, Moment, Sleep, ours};
use crate::layers::cache::store::Store;
use crate::sync::{lock, preempt};

pub(super) struct Sweeper {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    armed: Mutex<Armed>,
    outlived: AtomicU64,
}

#[derive(Default)]
struct Armed {
    sleep: Option<(Moment, Sleep)>,
    stopped: bool,
}

impl Sweeper {
    /// Values that expire within this time of each other are dropped together, so that a cache
    /// full of them does not wake the clock's thread for each.
    const TOGETHER: Duration = Duration::from_millis(100);

    pub(super) fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            armed: Mutex::default(),
            outlived: AtomicU64::new(0),
        })
    }

    /// Makes sure that the next sweep comes no later than a value that expires at `moment` needs.
    pub(super) fn due_at(self: &Arc<Self>, moment: Moment) {
        let armed = lock(&self.armed);
        if armed.sleep.as_ref().is_none_or(|(next, _)| moment < *next) {
            self.arm(armed, moment);
        }
    }

    /// Ends the sleep, which holds the clock; nothing is swept any more.
    pub(super) fn stop(&self) {
        let mut armed = lock(&self.armed);
        armed.stopped = true;
        armed.sleep = None;
    }

    /// How many values the application still held at their end.
    pub(super) fn outlived(&self) -> u64 {
        self.outlived.load(Ordering::Relaxed)
    }

    fn sweep(self: &Arc<Self>) {
        preempt();
        // One lock over the look and the next sleep: a value that comes in between asks for its
        // own, earlier sleep afterwards and is not forgotten.
        let mut armed = lock(&self.armed);
        let (ended, next) = self.store.take_ended(self.clock.now());
        armed.sleep = None;
        match next {
            Some(next) => self.arm(armed, next.max(self.clock.now() + Self::TOGETHER)),
            None => drop(armed),
        }
        preempt();
        // Wiped here, after the locks.
        for slot in ended {
            if slot.is_held_elsewhere() {
                self.outlived.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn arm(self: &Arc<Self>, mut armed: std::sync::MutexGuard<'_, Armed>, moment: Moment) {
        if armed.stopped {
            return;
        }
        let mut sleep = self.clock.sleep_until(moment);
        let waker = Waker::from(Arc::clone(self));
        // Called by the clock's own thread: it runs no foreign code.
        let poll = || sleep.as_mut().poll(&mut Context::from_waker(&waker));
        let due = ours(poll) == Poll::Ready(());
        armed.sleep = Some((moment, sleep));
        drop(armed);
        preempt();
        if due {
            self.sweep();
        }
    }
}

impl Wake for Sweeper {
    fn wake(self: Arc<Self>) {
        self.sweep();
    }
}
