//! One token for all requests: asked for when it is first needed, kept alive while in use. `login` knows how a
//! login gets one, and `revocation` how its life ends.
//!
//! # Invariants
//! A token whose life is over is not sent with a request. At most one login is under way at an endpoint, and
//! it is its own task, so no caller that leaves ends it. An outage is not a token's death: a token is dead
//! only by the store's own word, checked by `verdict`, or at the end of its life. The state's lock is never
//! held across an await, nor while anything is traced.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::backend::{Seldom, report};
use secret_resolver::{Clock, Error, Moment};
use tokio::sync::watch;

use crate::attempt::Attempt;
use crate::error;
use crate::life::Refresh;
use crate::state::{Errand, State, Token};
use crate::store::Store;
use crate::task::Task;
use crate::verdict::Verdicts;
use crate::waiting::Waiting;

/// Where the core's audit events go, too.
pub(crate) const AUDIT: &str = "secret_resolver::audit";

/// How long a request waits for a login that others have begun at another endpoint before it begins its own.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// The login of one backend, for all of its requests.
pub struct Session<S: Store>(pub(crate) Arc<Shared<S>>);

pub(crate) struct Shared<S: Store> {
    pub(crate) store: S,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) verdicts: Verdicts,
    pub(crate) counts: Counts,
    /// Failed logins.
    pub(crate) failures: Seldom,
    state: Mutex<State<S::Credentials>>,
    /// Sent to with each token that is put into use.
    pub(crate) installed: watch::Sender<()>,
    pub(crate) closed: watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) logins: AtomicU64,
    renewals: AtomicU64,
    pub(crate) lookups: AtomicU64,
}

/// What a session has done since it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Logins that were sent.
    pub logins: u64,
    /// Renewals that the store granted.
    pub renewals: u64,
    /// Times that the store was asked whether it knows a token.
    pub lookups: u64,
}

impl<S: Store> Session<S> {
    /// A session without a token. Sends nothing.
    pub fn new(store: S, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            store,
            clock,
            verdicts: Verdicts::default(),
            counts: Counts::default(),
            failures: Seldom::default(),
            state: Mutex::default(),
            installed: watch::Sender::new(()),
            closed: watch::Sender::new(false),
        }))
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.0.store
    }

    /// When the token in use ends; `None` without one, or for one without an end.
    #[must_use]
    pub fn ends(&self) -> Option<Moment> {
        let state = self.0.lock();
        state.live.as_ref().and_then(|live| live.life.ends())
    }

    /// Changes with every token that is put into use, so that what the store said to the holder of
    /// an older one is not answered again.
    #[must_use]
    pub fn identity(&self) -> u64 {
        self.0.lock().issued
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = &self.0.counts;
        let [logins, renewals, lookups] = [&counts.logins, &counts.renewals, &counts.lookups]
            .map(|count| count.load(Ordering::Relaxed));
        Stats {
            logins,
            renewals,
            lookups,
        }
    }

    /// An attempt that ends at this moment: each that needs a token is one.
    #[must_use]
    pub fn attempt(&self, deadline: Option<Moment>) -> Attempt<'_, S> {
        Attempt::new(self, deadline)
    }
}

pub(crate) enum Look {
    Token(Arc<Token>),
    /// What to wait for, and until when where it is not a login at this request's endpoint.
    Wait(Errand, Option<Moment>),
}

impl<S: Store> Shared<S> {
    /// Every critical section leaves the state whole at each step, so a poisoned lock is not a reason
    /// to refuse.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S::Credentials>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once the session was shut down.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as `self`, so the wait ends with the shutdown alone.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// The token, if it may be sent; else what to wait for, which is started if need be.
    pub(crate) fn look(
        self: &Arc<Self>,
        endpoint: Option<usize>,
        patience: Moment,
    ) -> Result<Look, Error> {
        let now = self.clock.now();
        let certificate = self.store.certificate();
        let mut state = self.lock();
        if state.ended {
            return Err(error::closed());
        }
        state.errands.retain(|errand| !errand.task.is_over(now));
        if let Some(live) = &mut state.live {
            live.vouched_by(certificate, now);
            if !live.life.is_over(now) {
                let token = Arc::clone(&live.token);
                // Nobody waits for it: the token is good meanwhile.
                if let Some(refresh) = live.life.refresh_due(now)
                    && state.errands.is_empty()
                {
                    let waiting = Arc::default();
                    let task =
                        Arc::clone(self).refresh(refresh, Arc::clone(&token), Arc::clone(&waiting));
                    state.errands.push(Errand {
                        task: Task::start(now, task)?,
                        waiting,
                        is_login: refresh == Refresh::Login,
                        endpoint: None,
                        began: now,
                    });
                }
                self.revoke_left(&mut state, false);
                return Ok(Look::Token(token));
            }
            state.end_life(now);
        }
        let own = |errand: &&Errand| errand.is_login && errand.endpoint == endpoint;
        if let Some(errand) = state.errands.iter().find(own) {
            return Ok(Look::Wait(errand.clone(), None));
        }
        let until = |errand: &Errand| patience.min(errand.began + PATIENCE);
        let young = |errand: &&Errand| now < until(errand);
        if let Some(errand) = state.errands.iter().find(young) {
            return Ok(Look::Wait(errand.clone(), Some(until(errand))));
        }
        let waiting = Arc::default();
        let errand = Errand {
            task: Task::start(now, Arc::clone(self).login(endpoint, Arc::clone(&waiting)))?,
            waiting,
            is_login: true,
            endpoint,
            began: now,
        };
        state.errands.push(errand.clone());
        Ok(Look::Wait(errand, None))
    }

    /// The token in use, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Token>> {
        let now = self.clock.now();
        let state = self.lock();
        let live = state.live.as_ref().filter(|live| !live.life.is_over(now));
        live.map(|live| Arc::clone(&live.token))
    }

    async fn refresh(
        self: Arc<Self>,
        refresh: Refresh,
        token: Arc<Token>,
        waiting: Arc<Waiting>,
    ) -> Result<(), Error> {
        let outcome = match refresh {
            Refresh::Renew => self.renew(&token).await,
            Refresh::Login => Arc::clone(&self).login(None, waiting).await,
        };
        if let Err(error) = &outcome {
            // What the store refuses to renew must be replaced by a login; an outage may pass.
            let refused = !error::is_outage(error);
            let next = (refused && refresh == Refresh::Renew).then_some(Refresh::Login);
            let now = self.clock.now();
            if let Some(live) = self.lock().live_of(token.number) {
                live.life.postpone(now, refresh, next);
                if !refused && refresh == Refresh::Renew {
                    live.life.renewal_unanswered();
                }
            }
            let error = error.clone();
            report(move || {
                tracing::warn!(target: AUDIT, backend = S::NAME, %error, "token not refreshed; it is used while it lives");
            });
        }
        outcome
    }

    async fn renew(self: &Arc<Self>, token: &Token) -> Result<(), Error> {
        let asked = self.clock.now();
        let renewal = self.store.renew(token.secret(), token.certificate);
        let grant = renewal.await?;
        let life = self.lock().renewed(token.number, asked, grant);
        if let Some(life) = life {
            self.counts.renewals.fetch_add(1, Ordering::Relaxed);
            let life_seconds = life.seconds();
            let micros = self.micros_since(asked);
            report(move || {
                tracing::info!(target: AUDIT, backend = S::NAME, life_seconds, micros, "token renewed");
            });
        }
        self.revoke_left(&mut self.lock(), true);
        Ok(())
    }

    pub(crate) fn micros_since(&self, moment: Moment) -> u64 {
        let took = self.clock.now().since(moment);
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    }
}

impl<S: Store> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("store", &S::NAME)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
