//! One fetch in progress, and its waiters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::error::Error;
use crate::layers::cache::negative::Said;
use crate::layers::cache::slot::Slot;

/// A fetch of one address. It lives in the table of flights until it lands.
pub(super) struct Flight {
    pub(super) address: Arc<str>,
    /// The epoch of the last signal for the address: what was asked for before it may not land.
    /// Written and compared only under the lock of the table.
    fenced: AtomicU64,
    /// `None` while it is under way.
    outcome: watch::Sender<Option<Outcome>>,
}

/// What became of a flight.
#[derive(Clone)]
pub(super) enum Outcome {
    /// Where the value is until its end: a waiter that comes late finds the slot empty.
    Landed(Arc<Slot>),
    /// What the store has said instead, until it is invalidated.
    Said(Arc<Said>),
    /// Why the store has said nothing.
    Failed(Error),
}

/// A claim on the outcome of a flight: what has landed is not evicted while there is one.
pub(super) struct Waiter(watch::Receiver<Option<Outcome>>);

impl Waiter {
    /// The end of the flight; `None` when it was dropped without one.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let ended = self.0.wait_for(Option::is_some).await;
        ended.ok()?.clone()
    }
}

impl Flight {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: Arc::from(address),
            fenced: AtomicU64::new(0),
            outcome: watch::Sender::new(None),
        }
    }

    pub(super) fn waiter(&self) -> Waiter {
        Waiter(self.outcome.subscribe())
    }

    /// How many still wait.
    pub(super) fn awaited_by(&self) -> usize {
        self.outcome.receiver_count()
    }

    /// Keeps what was asked for before this epoch from landing.
    pub(super) fn fence(&self, epoch: u64) {
        self.fenced.store(epoch, Ordering::Relaxed);
    }

    /// Whether what was asked for in the epoch `began` may not land.
    pub(super) fn is_fenced(&self, began: u64) -> bool {
        began < self.fenced.load(Ordering::Relaxed)
    }

    /// Ends it, if it has not ended, and wakes the waiters. Not to be called under a lock: where no
    /// thread can be started for their wakers, which are foreign code, these run here.
    pub(super) fn end(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|held| {
            let flying = held.is_none();
            if flying {
                *held = Some(outcome);
            }
            flying
        });
    }
}
