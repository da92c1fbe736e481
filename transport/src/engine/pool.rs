//! The few connections that are kept open between requests, and their end.
//!
//! They are few and short-lived on purpose: each holds buffers in which the last answer may still
//! stand, and one that is kept is not checked against the authorities again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use secret_resolver::{Clock, Moment};
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;

use crate::engine::Connection;
use crate::origin::Origin;

/// The most that one origin keeps.
const MOST_IDLE: usize = 2;

/// How long a connection is kept unused.
const IDLE_FOR: Duration = Duration::from_secs(30);

pub(crate) struct Pool {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    idle: HashMap<Origin, Vec<Idle>>,
    sweeper: Option<JoinHandle<()>>,
}

struct Idle {
    connection: Connection,
    expires_at: Moment,
    /// A connection lives on the runtime that opened it, and stands still when that one does.
    runtime: Id,
}

impl Pool {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Arc::default(),
        }
    }

    /// The connection to `origin` that was used last, of this runtime's.
    pub(crate) async fn take(&self, origin: &Origin, runtime: &Handle) -> Option<Connection> {
        loop {
            let mut connection = lock(&self.state).take(origin, runtime.id(), self.clock.now())?;
            if connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    /// Closes all that are kept to `origin`, unless it is told that one of them has answered: when one is
    /// dead, those that are older are, too.
    pub(crate) fn doubt<'a>(&'a self, origin: &'a Origin) -> Doubt<'a> {
        Doubt {
            pool: self,
            origin,
            answered: false,
        }
    }

    /// Keeps `connection` if it is of any further use.
    pub(crate) async fn put(&self, origin: &Origin, mut connection: Connection, runtime: &Handle) {
        if !connection.is_usable().await {
            return;
        }
        let idle = Idle {
            connection,
            expires_at: self.clock.now() + IDLE_FOR,
            runtime: runtime.id(),
        };
        let mut state = lock(&self.state);
        let kept = state.idle.entry(origin.clone()).or_default();
        if kept.len() >= MOST_IDLE {
            kept.remove(0);
        }
        kept.push(idle);
        // A sweeper that is finished, but still here, ended with its runtime.
        if state.sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            let sweep = sweep(Arc::downgrade(&self.state), Arc::clone(&self.clock));
            state.sweeper = Some(runtime.spawn(sweep));
        }
    }
}

/// Doubt about the connections to an origin, while one of them is used. Dropped without an answer, also by
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
    fn take(&mut self, origin: &Origin, runtime: Id, now: Moment) -> Option<Connection> {
        let kept = self.idle.get_mut(origin)?;
        kept.retain(|idle| now < idle.expires_at);
        let newest = kept.iter().rposition(|idle| idle.runtime == runtime)?;
        Some(kept.remove(newest).connection)
    }

    /// Closes what has expired; when the next one will.
    fn sweep(&mut self, now: Moment) -> Option<Moment> {
        self.idle.retain(|_, kept| {
            kept.retain(|idle| now < idle.expires_at);
            !kept.is_empty()
        });
        self.idle
            .values()
            .flatten()
            .map(|idle| idle.expires_at)
            .min()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(sweeper) = &self.sweeper {
            sweeper.abort();
        }
    }
}

/// Closes connections on time, whether or not another request comes. It ends with the last of
/// them, or with the pool.
async fn sweep(pool: Weak<Mutex<State>>, clock: Arc<dyn Clock>) {
    loop {
        let next = {
            let Some(pool) = pool.upgrade() else { return };
            let mut state = lock(&pool);
            let next = state.sweep(clock.now());
            if next.is_none() {
                state.sweeper = None;
            }
            next
        };
        let Some(next) = next else { return };
        clock.sleep_until(next).await;
    }
}

/// Nothing panics while it holds the lock, and a half-done change would only lose a connection.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
