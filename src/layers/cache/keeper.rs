//! What keeps handles current: one job for all handles of a cache.
//!
//! It knows for each address with a handle when it is to be fetched next: in the last fifth of the
//! value's life, at once after a signal, and after a failure with a back-off. Every landing comes by
//! here, whichever caller asked for it, and wakes the handles of that address alone.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::foreign::foreign;
use crate::layers::cache::core::{Core, Joined};
use crate::layers::cache::slot::Slot;
use crate::name::SecretName;
use crate::race::race;
use crate::sync::lock;

pub(super) struct Keeper {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Notified when something may be due at another time than the job waits for.
    changed: Notify,
}

#[derive(Default)]
struct State {
    by_address: HashMap<Arc<str>, Kept>,
    started: bool,
}

struct Kept {
    /// The names under which handles read the record.
    names: Vec<SecretName>,
    handles: usize,
    due: Moment,
    failures: u32,
    error: Option<Error>,
    /// Sent to at each landing and each failure; dropped when no more will come.
    news: watch::Sender<()>,
}

impl Keeper {
    /// How long after the first failure, and after many, the next fetch comes.
    const AGAIN: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(15);
    /// How long after a value the next fetch comes at the soonest, however short the value lives: a
    /// handle asks a store a few times a second at most.
    const SOONEST: Duration = Duration::from_millis(250);

    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Keeps the record of `name` current for one more handle. Returns its news, and whether the job
    /// is to be started.
    pub(super) fn keep(&self, address: &str, name: &SecretName) -> (watch::Receiver<()>, bool) {
        let mut state = lock(&self.state);
        let start = !std::mem::replace(&mut state.started, true);
        let kept = state.by_address.entry(Arc::from(address));
        let kept = kept.or_insert_with(|| Kept {
            names: Vec::new(),
            handles: 0,
            due: Moment::NEVER,
            failures: 0,
            error: None,
            news: watch::Sender::new(()),
        });
        kept.handles += 1;
        if !kept.names.contains(name) {
            kept.names.push(name.clone());
            // What is held already does not land again.
            kept.is_due(self.clock.now());
        }
        let news = kept.news.subscribe();
        drop(state);
        self.changed.notify_one();
        (news, start)
    }

    pub(super) fn release(&self, address: &str) {
        let mut state = lock(&self.state);
        let Some(kept) = state.by_address.get_mut(address) else {
            return;
        };
        kept.handles -= 1;
        if kept.handles == 0 {
            state.by_address.remove(address);
        }
        drop(state);
        // The job may wait for what was due here.
        self.changed.notify_one();
    }

    /// A value has landed. A signal may have come since, and has asked for the next fetch already:
    /// it has taken the value, or `concerned` says that it concerns a name.
    pub(super) fn landed(&self, slot: &Slot, concerned: impl Fn(&SecretName) -> bool) {
        let now = self.clock.now();
        self.with(&slot.address, |kept| {
            kept.failures = 0;
            kept.error = None;
            let mut names = kept.names.iter();
            let taken = slot.record().is_none() && now < slot.life.expires;
            let due = match taken || names.any(&concerned) {
                true => now,
                false => slot.life.refresh.max(now + Self::SOONEST),
            };
            (due, true)
        });
    }

    /// A fetch has failed; `signalled` says whether a signal has come since it began.
    pub(super) fn failed(&self, address: &str, error: &Error, signalled: impl Fn() -> bool) {
        let now = self.clock.now();
        self.with(address, |kept| {
            if signalled() {
                return (now, false);
            }
            let doubled = 1 << kept.failures.min(16);
            kept.failures = kept.failures.saturating_add(1);
            kept.error = Some(error.clone());
            let wait = (Self::AGAIN * doubled).min(Self::LONGEST);
            (now + wait, true)
        });
    }

    /// The record at `address` is to be fetched at once.
    pub(super) fn due_now(&self, address: &str) {
        let now = self.clock.now();
        self.with(address, |kept| {
            kept.error = None;
            (now, false)
        });
    }

    /// All records that a signal is for are to be fetched at once; `is_meant` decides by the address and
    /// the names.
    pub(super) fn signalled(&self, is_meant: impl Fn(&str, &[SecretName]) -> bool) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let kept = state.by_address.iter_mut();
        let meant = kept.filter(|(address, kept)| is_meant(address, &kept.names));
        meant.for_each(|(_, kept)| kept.is_due(now));
        drop(state);
        self.changed.notify_one();
    }

    /// Why there is no value, if the last fetch has failed.
    pub(super) fn error(&self, address: &str) -> Option<Error> {
        lock(&self.state).by_address.get(address)?.error.clone()
    }

    #[cfg(test)]
    pub(super) fn due_at(&self, address: &str) -> Moment {
        lock(&self.state).by_address[address].due
    }

    /// Notifies all handles that no more values will come.
    pub(super) fn close(&self) {
        let kept = std::mem::take(&mut lock(&self.state).by_address);
        // Without the lock. Each handle learns it from the end of its sender.
        drop(kept);
    }

    /// Changes what is kept at `address` and when it is due; notifies its handles where there is news.
    fn with(&self, address: &str, change: impl FnOnce(&mut Kept) -> (Moment, bool)) {
        let mut state = lock(&self.state);
        let Some(kept) = state.by_address.get_mut(address) else {
            return;
        };
        let (due, is_news) = change(kept);
        kept.due = due;
        let news = is_news.then(|| kept.news.clone());
        drop(state);
        self.changed.notify_one();
        if let Some(news) = news {
            news.send_replace(());
        }
    }

    /// What is due now, and when the next is. Each is due again in a second, in case nothing comes of
    /// it.
    fn take_due(&self) -> (Vec<SecretName>, Option<Moment>) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let mut all = Vec::new();
        for kept in state.by_address.values_mut() {
            if kept.due <= now {
                kept.due = now + Self::AGAIN;
                all.extend(kept.names.iter().cloned());
            }
        }
        let due = state.by_address.values().map(|kept| kept.due);
        (all, due.min())
    }
}

impl Kept {
    /// To be fetched at once.
    fn is_due(&mut self, now: Moment) {
        self.error = None;
        self.due = now;
    }
}

impl Core {
    /// Fetches what is due, until the cache is closed. The job of all handles, on the driver.
    pub(super) async fn keep_current(self: Arc<Self>) {
        let work = async {
            loop {
                let (all, next) = self.keeper.take_due();
                for name in all {
                    // It asks a backend for its identity: what that panics with ends no other handle.
                    foreign(|| self.refetch(name));
                }
                let due = async {
                    match next {
                        Some(next) => self.clock.sleep_until(next).await,
                        None => pending().await,
                    }
                };
                race(due, self.keeper.changed.notified()).await;
            }
        };
        race(self.closed(), work).await;
    }

    /// Begins the fetch that is due for `name`, unless one is under way or what is held is still young.
    fn refetch(self: &Arc<Self>, name: SecretName) {
        let now = self.clock.now();
        let located = self.inner.locate(name.borrowed());
        let slot = self.slot_of(&located, name.borrowed());
        let live = slot.filter(|slot| now < slot.life.expires && slot.record().is_some());
        if let Some(slot) = live.as_ref().filter(|slot| now < slot.life.refresh) {
            // Of this name alone: another that is concerned is due by itself.
            let concerned = |kept: &SecretName| {
                *kept == name && self.slot_of(&located, name.borrowed()).is_none()
            };
            return self.keeper.landed(slot, concerned);
        }
        match self.join(&located, name.borrowed(), live.is_some()) {
            Ok(Joined::Flight(_, Some(flight))) => {
                // A task of its own: the flight may be awaited by others when this job ends.
                tokio::spawn(Arc::clone(self).fly(flight, name.clone()));
            }
            Err(error) if live.is_none() => {
                let address = located.address().as_str();
                self.keeper.failed(address, &error, || false);
            }
            // It is due again in a second.
            Ok(_) | Err(_) => {}
        }
    }
}
