//! One fetch in progress, and those who wait for it.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::error::Error;
use crate::secret::Record;
use crate::sync::lock;

/// A fetch of one address. It lives in the table of flights until it lands.
pub(super) struct Flight {
    pub(super) address: Box<str>,
    /// Raised by each invalidation: what was fetched under an older number may not land. Written
    /// and compared only under the lock of the table.
    generation: watch::Sender<u64>,
    outcome: watch::Sender<Outcome>,
    /// Under which names it was asked for, as far as they are kept: a prefix must find them before
    /// their waiters have taken the answer. Written only under the lock of the table.
    asked: Mutex<Vec<Box<str>>>,
}

/// What became of a flight.
#[derive(Clone)]
pub(super) enum Outcome {
    Flying,
    /// The epoch is that of the landing: a waiter who is polled in a later one asks again.
    Landed {
        record: Record,
        epoch: u64,
    },
    Failed(Error),
    /// The value has expired or was invalidated before every waiter took it.
    Forgotten,
}

/// A claim on the outcome of a flight. It keeps the flight reachable, so that the value offered to
/// it can still be taken back.
pub(super) struct Waiter {
    ended: watch::Receiver<Outcome>,
    _flight: Arc<Flight>,
}

impl Waiter {
    /// The end of the flight; `None` when it was dropped without one.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let flying = |outcome: &Outcome| matches!(outcome, Outcome::Flying);
        let ended = self.ended.wait_for(|outcome| !flying(outcome)).await;
        ended.ok().map(|outcome| outcome.clone())
    }
}

impl Flight {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: Box::from(address),
            generation: watch::Sender::new(0),
            outcome: watch::Sender::new(Outcome::Flying),
            asked: Mutex::default(),
        }
    }

    pub(super) fn waiter(self: &Arc<Self>) -> Waiter {
        Waiter {
            ended: self.outcome.subscribe(),
            _flight: Arc::clone(self),
        }
    }

    /// How many still wait.
    pub(super) fn awaited_by(&self) -> usize {
        self.outcome.receiver_count()
    }

    pub(super) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Keeps what is being fetched from landing. It may wake the flight's job on the driver, whose
    /// waker is tokio's own; no other waits for it.
    pub(super) fn fence(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Ready once the flight has been fenced since `generation`.
    pub(super) async fn fenced(&self, generation: u64) {
        let mut now = self.generation.subscribe();
        // It cannot fail: the sender is part of `self`.
        let _ = now.wait_for(|now| *now != generation).await;
    }

    pub(super) fn end(&self, outcome: Outcome) {
        self.outcome.send_replace(outcome);
    }

    /// Notes a name; one more than are kept says that there may be any.
    pub(super) fn ask(&self, name: &str, most: usize) {
        let mut asked = lock(&self.asked);
        if asked.len() <= most && !asked.iter().any(|held| **held == *name) {
            asked.push(Box::from(name));
        }
    }

    pub(super) fn asked(&self) -> Vec<Box<str>> {
        lock(&self.asked).clone()
    }

    pub(super) fn end_if_flying(&self, outcome: Outcome) {
        self.outcome.send_if_modified(|held| {
            let flying = matches!(held, Outcome::Flying);
            if flying {
                *held = outcome;
            }
            flying
        });
    }

    /// Lets go of the value, so that a waiter who is never polled does not keep it in memory.
    pub(super) fn forget(&self) {
        self.outcome.send_if_modified(|outcome| {
            let landed = matches!(outcome, Outcome::Landed { .. });
            if landed {
                *outcome = Outcome::Forgotten;
            }
            landed
        });
    }
}
