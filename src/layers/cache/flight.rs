//! One fetch in progress, and those who wait for it.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::error::Error;
use crate::layers::cache::slot::Slot;
use crate::sync::lock;

/// A fetch of one address. It lives in the table of flights until it lands.
pub(super) struct Flight {
    pub(super) address: Arc<str>,
    /// Raised by each invalidation: what was fetched under an older number may not land. Written
    /// and compared only under the lock of the table.
    generation: watch::Sender<u64>,
    outcome: watch::Sender<Outcome>,
    /// Under which names it was asked for.
    asked: Mutex<Spellings>,
}

/// The names of one address, as far as they are kept.
#[derive(Default)]
pub(super) struct Spellings {
    pub(super) kept: Vec<Spelling>,
    /// Whether there were others.
    pub(super) more: bool,
}

/// A name, and the field that it means.
pub(super) struct Spelling {
    pub(super) name: Arc<str>,
    pub(super) field: Option<Box<str>>,
}

/// What became of a flight.
#[derive(Clone)]
pub(super) enum Outcome {
    Flying,
    /// Where the value is until its end: a waiter who comes late finds the slot empty.
    Landed(Arc<Slot>),
    /// In the epoch of the landing: what was refused or not there may have been signalled since.
    Failed(Error, u64),
}

/// A claim on the outcome of a flight.
pub(super) struct Waiter(watch::Receiver<Outcome>);

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Outcome::Landed(slot) = &*self.0.borrow() {
            slot.not_awaited();
        }
    }
}

impl Waiter {
    /// The end of the flight; `None` when it was dropped without one.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        let flying = |outcome: &Outcome| matches!(outcome, Outcome::Flying);
        let ended = self.0.wait_for(|outcome| !flying(outcome)).await;
        ended.ok().map(|outcome| outcome.clone())
    }
}

impl Flight {
    pub(super) fn new(address: &str) -> Self {
        Self {
            address: Arc::from(address),
            generation: watch::Sender::new(0),
            outcome: watch::Sender::new(Outcome::Flying),
            asked: Mutex::default(),
        }
    }

    pub(super) fn waiter(&self) -> Waiter {
        Waiter(self.outcome.subscribe())
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

    /// Notes a name that waits for the answer, and the field that it means.
    pub(super) fn ask(&self, name: &str, field: Option<&str>) {
        lock(&self.asked).add(name, field);
    }

    /// The names noted, for what it has brought.
    pub(super) fn take_asked(&self) -> Spellings {
        std::mem::take(&mut lock(&self.asked))
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
}

impl Spellings {
    /// How many names of one address are kept. A backend may fold any number into one address (env
    /// folds case), and they must not be a way to fill the memory.
    pub(super) const MOST: usize = 16;

    /// Keeps a name; answers it if it is new and was kept.
    pub(super) fn add(&mut self, name: &str, field: Option<&str>) -> Option<&Spelling> {
        // After a stampede every waiter of one name comes by here.
        if self.knows(name) {
            return None;
        }
        self.push(Spelling {
            name: Arc::from(name),
            field: field.map(Box::from),
        })
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.kept.iter().any(|held| *held.name == *name)
    }

    /// Keeps a name that is new, if there is room.
    pub(super) fn push(&mut self, spelling: Spelling) -> Option<&Spelling> {
        if self.kept.len() >= Self::MOST {
            self.more = true;
            return None;
        }
        // One at a time: there is seldom a second.
        self.kept.reserve_exact(1);
        self.kept.push(spelling);
        self.kept.last()
    }
}
