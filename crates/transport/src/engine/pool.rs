//! The connections that are kept open between requests, and their end.
//!
//! As many as a burst uses are kept while it lasts, and two a second after it. They are few and
//! short-lived on purpose: each holds buffers in which the last answer may still stand, and one that is
//! kept is not checked against the authorities again. One that was made with other authorities, or with another
//! client certificate, than the next would be is closed: at once when it is idle, else when its request has ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use secret_resolver::backend::first;
use secret_resolver::{Clock, Moment};
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;

use crate::engine::Connection;
use crate::identity::{Identity, Stamp};
use crate::origin::Origin;

/// The most that one origin keeps for longer than a burst.
const MOST_IDLE: usize = 2;

/// How long a connection is kept unused.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// How long one more than the most is kept unused.
const SPARE_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Pool {
    clock: Arc<dyn Clock>,
    identity: Arc<Identity>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// In the order of their last use.
    idle: HashMap<Origin, Vec<Idle>>,
    sweeper: Option<Sweeper>,
}

struct Sweeper {
    task: JoinHandle<()>,
    wakes_at: Moment,
}

struct Idle {
    connection: Connection,
    expires_at: Moment,
    /// A connection lives on the runtime that opened it, and stands still when that one does.
    runtime: Id,
}

impl Pool {
    pub(crate) fn new(clock: Arc<dyn Clock>, identity: Arc<Identity>) -> Self {
        Self {
            clock,
            identity,
            state: Arc::default(),
        }
    }

    /// The connection to `origin` of this runtime that was used last.
    pub(crate) async fn take(&self, origin: &Origin, runtime: &Handle) -> Option<Connection> {
        loop {
            let now = self.clock.now();
            let mut connection = {
                let mut state = lock(&self.state);
                state.take(origin, runtime.id(), self.identity.stamp(), now)?
            };
            if connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    /// Closes all that are kept to `origin`, unless one of them is reported to have answered: when one is
    /// dead, those that are older are, too.
    pub(crate) fn doubt<'a>(&'a self, origin: &'a Origin) -> Doubt<'a> {
        Doubt {
            pool: self,
            origin,
            answered: false,
        }
    }

    /// Keeps no more connections to `origin` than `most` says: makes room for a new one. It is asked under
    /// the lock, so that a place that is taken meanwhile counts. What others of `runtime` are about to use
    /// stays, if that is given: they have their places already.
    pub(crate) fn keep(
        &self,
        origin: &Origin,
        runtime: Option<&Handle>,
        most: impl FnOnce() -> usize,
    ) {
        let mut state = lock(&self.state);
        let Some(kept) = state.idle.get_mut(origin) else {
            return;
        };
        let mut surplus = kept.len().saturating_sub(most());
        let runtime = runtime.map(Handle::id);
        let closed = kept.extract_if(.., |idle| {
            let closes = surplus > 0 && runtime != Some(idle.runtime);
            surplus -= usize::from(closes);
            closes
        });
        let closed: Vec<Idle> = closed.collect();
        drop(state);
        drop(closed);
    }

    /// Keeps `connection` if it is of any further use.
    pub(crate) async fn put(&self, origin: &Origin, mut connection: Connection, runtime: &Handle) {
        if !connection.is_usable().await {
            return;
        }
        let now = self.clock.now();
        let idle = Idle {
            connection,
            expires_at: now + IDLE_FOR,
            runtime: runtime.id(),
        };
        let mut state = lock(&self.state);
        // Under the lock, so that what changes later finds it among the idle ones.
        let stamp = self.identity.stamp();
        if idle.connection.stamp != stamp {
            drop(state);
            return;
        }
        // The sweeper may not have come to the others yet, and the next one only looks for later changes.
        state.close_old(stamp, now);
        let kept = state.idle.entry(origin.clone()).or_default();
        kept.push(idle);
        let spare = kept.len().saturating_sub(MOST_IDLE);
        for idle in kept.iter_mut().take(spare) {
            idle.expires_at = idle.expires_at.min(now + SPARE_FOR);
        }
        let Some(next) = state.next() else { return };
        if state
            .sweeper
            .as_ref()
            .is_none_or(|sweeper| sweeper.is_late_for(next))
        {
            let sweep = sweep(
                Arc::downgrade(&self.state),
                Arc::clone(&self.identity),
                Arc::clone(&self.clock),
                (stamp, next),
            );
            state.sweep_by(Sweeper {
                task: runtime.spawn(sweep),
                wakes_at: next,
            });
        }
    }
}

impl Idle {
    fn is_good(&self, stamp: Stamp, now: Moment) -> bool {
        now < self.expires_at && self.connection.stamp == stamp
    }
}

impl Sweeper {
    /// A finished task ended with its runtime.
    fn is_late_for(&self, next: Moment) -> bool {
        next < self.wakes_at || self.task.is_finished()
    }
}

/// Doubt about the connections to an origin, while one of them is used. Dropped without an answer, even by
/// a caller that did not wait any longer, it closes the others.
pub(crate) struct Doubt<'a> {
    pool: &'a Pool,
    origin: &'a Origin,
    answered: bool,
}

impl Doubt<'_> {
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let kept = lock(&self.pool.state).idle.remove(self.origin);
            drop(kept);
        }
    }
}

impl State {
    fn take(
        &mut self,
        origin: &Origin,
        runtime: Id,
        stamp: Stamp,
        now: Moment,
    ) -> Option<Connection> {
        let kept = self.idle.get_mut(origin)?;
        kept.retain(|idle| idle.is_good(stamp, now));
        let newest = kept.iter().rposition(|idle| idle.runtime == runtime)?;
        Some(kept.remove(newest).connection)
    }

    /// Closes what has expired, or was made with something else than `stamp`; when the next one will expire.
    fn sweep(&mut self, stamp: Stamp, now: Moment) -> Option<Moment> {
        self.close_old(stamp, now);
        let next = self.next();
        match (next, &mut self.sweeper) {
            (Some(next), Some(sweeper)) => sweeper.wakes_at = next,
            _ => self.sweeper = None,
        }
        next
    }

    fn close_old(&mut self, stamp: Stamp, now: Moment) {
        self.idle.retain(|_, kept| {
            kept.retain(|idle| idle.is_good(stamp, now));
            !kept.is_empty()
        });
    }

    /// When the next connection expires.
    fn next(&self) -> Option<Moment> {
        let idle = self.idle.values().flatten();
        idle.map(|idle| idle.expires_at).min()
    }

    fn sweep_by(&mut self, sweeper: Sweeper) {
        if let Some(old) = self.sweeper.replace(sweeper) {
            old.task.abort();
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(sweeper) = &self.sweeper {
            sweeper.task.abort();
        }
    }
}

/// Closes connections on time, and when they are not made in the same way any more, whether or not another request
/// comes. It ends with the last of them, or with the pool.
async fn sweep(
    pool: Weak<Mutex<State>>,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    (mut stamp, mut next): (Stamp, Moment),
) {
    loop {
        first(identity.changed(stamp), clock.sleep_until(next)).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = lock(&pool);
        stamp = identity.stamp();
        match state.sweep(stamp, clock.now()) {
            Some(later) => next = later,
            None => return,
        }
    }
}

/// Nothing panics while it holds the lock, and a half-done change would only lose a connection.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
