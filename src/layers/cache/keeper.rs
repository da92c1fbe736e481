//! What keeps handles current: one job for all handles of a cache.
//!
//! It knows for each address with a handle when it is to be fetched next: in the last fifth of the
//! value's life, at once after a signal, and after a failure with a back-off. Every landing comes by
//! here, whichever caller asked for it, and wakes the handles of that address alone.

use std::collections::{BTreeSet, HashMap};
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::address::Located;
use crate::clock::{Clock, Moment};
use crate::error::Error;
use crate::foreign::foreign;
use crate::layers::cache::flights::{Flights, Joined};
use crate::layers::cache::slot::Slot;
use crate::name::SecretName;
use crate::race::race;
use crate::resolver::SecretResolver;
use crate::sync::lock;

pub(super) struct Keeper {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// How many addresses have handles: most caches have none, and a landing looks here first.
    number: AtomicUsize,
    /// Notified when something is due earlier than the job waits for.
    earlier: Notify,
}

#[derive(Default)]
struct State {
    by_address: HashMap<Arc<str>, Kept>,
    due: BTreeSet<(Moment, Arc<str>)>,
    started: bool,
    closed: bool,
}

struct Kept {
    address: Arc<str>,
    name: SecretName,
    located: Arc<Located<'static>>,
    handles: usize,
    due: Moment,
    /// The epoch in which the fetch of the last value began.
    epoch: u64,
    failures: u32,
    error: Option<Error>,
    news: watch::Sender<u64>,
}

/// A name that is due, and where its record is.
type Due = (SecretName, Arc<Located<'static>>);

/// The count of news that says that there will be no more.
pub(super) const CLOSED: u64 = u64::MAX;

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
            number: AtomicUsize::new(0),
            earlier: Notify::new(),
        }
    }

    /// Keeps the record of `name` current for one more handle. Returns its news, and whether the job
    /// is to be started.
    pub(super) fn keep(
        &self,
        located: &Located<'_>,
        name: SecretName,
    ) -> (watch::Receiver<u64>, bool) {
        let mut state = lock(&self.state);
        let start = !std::mem::replace(&mut state.started, true);
        let news = if state.closed { CLOSED } else { 0 };
        let address: Arc<str> = Arc::from(located.address().as_str());
        let kept = state.by_address.entry(Arc::clone(&address));
        let kept = kept.or_insert_with(|| Kept {
            address,
            name,
            located: Arc::new(located.clone().into_owned()),
            handles: 0,
            due: Moment::NEVER,
            epoch: 0,
            failures: 0,
            error: None,
            news: watch::Sender::new(news),
        });
        kept.handles += 1;
        let news = kept.news.subscribe();
        self.number.store(state.by_address.len(), Ordering::Release);
        (news, start)
    }

    pub(super) fn release(&self, address: &str) {
        let mut state = lock(&self.state);
        let Some(kept) = state.by_address.get_mut(address) else {
            return;
        };
        kept.handles -= 1;
        if kept.handles > 0 {
            return;
        }
        if let Some(kept) = state.by_address.remove(address) {
            state.due.remove(&(kept.due, kept.address));
        }
        self.number.store(state.by_address.len(), Ordering::Release);
        drop(state);
        // The job may wait for what was due here.
        self.earlier.notify_one();
    }

    /// A value has landed.
    pub(super) fn landed(&self, slot: &Slot) {
        let soonest = self.clock.now() + Self::SOONEST;
        self.with(&slot.address, |kept| {
            kept.failures = 0;
            kept.error = None;
            kept.epoch = slot.epoch;
            (slot.life.refresh.max(soonest), true)
        });
    }

    /// A fetch has failed.
    pub(super) fn failed(&self, address: &str, error: &Error) {
        let now = self.clock.now();
        self.with(address, |kept| {
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

    /// All records that a signal concerns are to be fetched at once; `concerns` decides by the epoch of
    /// a value, the path of a name and an address.
    pub(super) fn signalled(&self, concerns: impl Fn(u64, &str, &str) -> bool) {
        if self.number.load(Ordering::Acquire) == 0 {
            return;
        }
        let state = lock(&self.state);
        let kept = state.by_address.iter();
        let concerned =
            kept.filter(|(address, kept)| concerns(kept.epoch, kept.name.path(), address));
        let addresses: Vec<_> = concerned.map(|(address, _)| Arc::clone(address)).collect();
        drop(state);
        for address in addresses {
            self.due_now(&address);
        }
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
        let mut state = lock(&self.state);
        state.closed = true;
        let news: Vec<_> = state
            .by_address
            .values()
            .map(|kept| kept.news.clone())
            .collect();
        drop(state);
        for news in news {
            news.send_replace(CLOSED);
        }
    }

    /// Changes what is kept at `address` and when it is due; notifies its handles where there is news.
    fn with(&self, address: &str, change: impl FnOnce(&mut Kept) -> (Moment, bool)) {
        if self.number.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut state = lock(&self.state);
        let State {
            by_address,
            due,
            closed,
            ..
        } = &mut *state;
        let Some(kept) = by_address.get_mut(address) else {
            return;
        };
        let (at, is_news) = change(kept);
        due.remove(&(kept.due, Arc::clone(&kept.address)));
        kept.due = at;
        due.insert((at, Arc::clone(&kept.address)));
        let news = (is_news && !*closed).then(|| kept.news.clone());
        let first = due.first().is_some_and(|(_, first)| **first == *address);
        drop(state);
        if first {
            self.earlier.notify_one();
        }
        if let Some(news) = news {
            // What was closed stays so.
            news.send_if_modified(|news| {
                let open = *news != CLOSED;
                *news += u64::from(open);
                open
            });
        }
    }

    /// What is due now, and when the next is. Each is due again in a second, in case nothing comes of
    /// it.
    fn take_due(&self) -> (Vec<Due>, Option<Moment>) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let State {
            by_address, due, ..
        } = &mut *state;
        let mut all = Vec::new();
        while let Some((moment, address)) = due.first().cloned() {
            if moment > now {
                break;
            }
            due.pop_first();
            if let Some(kept) = by_address.get_mut(&address) {
                kept.due = now + Self::AGAIN;
                due.insert((kept.due, address));
                all.push((kept.name.clone(), Arc::clone(&kept.located)));
            }
        }
        (all, due.first().map(|(moment, _)| *moment))
    }
}

impl<R: SecretResolver> Flights<R> {
    /// Fetches what is due, until the cache is closed. The job of all handles, on the driver.
    pub(super) async fn keep_current(self: Arc<Self>) {
        let closed = async {
            self.closed().await;
            false
        };
        let work = async {
            loop {
                let (all, next) = self.keeper.take_due();
                for (name, located) in all {
                    // It asks a backend for its identity: what that panics with ends no other handle.
                    foreign(|| self.refetch(name, &located));
                }
                let due = async {
                    match next {
                        Some(next) => self.clock.sleep_until(next).await,
                        None => pending().await,
                    }
                    true
                };
                let earlier = async {
                    self.keeper.earlier.notified().await;
                    true
                };
                race(due, earlier).await;
            }
        };
        race(closed, work).await;
    }

    /// Begins the fetch that is due for `name`, unless one is under way or what is held is still young.
    fn refetch(self: &Arc<Self>, name: SecretName, located: &Located<'static>) {
        let now = self.clock.now();
        let slot = self.slot_of(located, name.as_ref());
        let live = slot.filter(|slot| now < slot.life.expires && slot.record().is_some());
        let flight = match live {
            Some(slot) if now < slot.life.refresh => {
                self.keeper.landed(&slot);
                None
            }
            Some(_) => self.start_refresh(located, name.as_ref()),
            None => match self.join(located, name.as_ref(), false) {
                Joined::Started(flight) => Some(flight),
                Joined::Other(_) | Joined::Held(_) => None,
                Joined::Refused(error) => {
                    self.keeper.failed(located.address().as_str(), &error);
                    None
                }
            },
        };
        if let Some(flight) = flight {
            // A task of its own: the flight may be awaited by others when this job ends.
            let field = located.field().map(Box::from);
            tokio::spawn(Arc::clone(self).fly(flight, name, field));
        }
    }
}
