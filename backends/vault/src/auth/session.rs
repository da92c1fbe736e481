//! One token for all requests: had when first needed, kept alive while in use, revoked at the end.
//!
//! # Invariants
//! A token whose life is over is not sent. At most one login or renewal is under way, and it is a
//! task of its own, so no caller who leaves ends it. An outage is not a token's death: only a 403
//! that `verdict` has looked into is, or the end of its life. The state's lock is
//! never held across an await, nor while anything is traced.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use secret_resolver::{Clock, Error, Moment, SecretBuf, ShutdownReport};
use tokio::sync::watch;

use crate::auth::flight::Flight;
use crate::auth::life::{Life, Refresh};
use crate::auth::state::{Errand, State, Token};
use crate::auth::verdict::Verdicts;
use crate::auth::{Auth, Issued, token};
use crate::client::Client;
use crate::{error, race};

/// Where the core's audit events go, too.
const AUDIT: &str = "secret_resolver::audit";

/// How often a request waits for a token before it gives up on tokens that die at once.
const ROUNDS: usize = 3;

pub(crate) struct Session(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) auth: Auth,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) verdicts: Verdicts,
    pub(super) counts: Counts,
    state: Mutex<State>,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) logins: AtomicU64,
    pub(super) renewals: AtomicU64,
    pub(super) lookups: AtomicU64,
}

impl Session {
    pub(crate) fn new(client: Client, auth: Auth, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            client,
            auth,
            clock,
            verdicts: Verdicts::default(),
            counts: Counts::default(),
            state: Mutex::default(),
            closed: watch::Sender::new(false),
        }))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// When the token in use ends; `None` without one, or for one without an end.
    pub(crate) fn ends(&self) -> Option<Moment> {
        self.0
            .lock()
            .live
            .as_ref()
            .and_then(|live| live.life.ends())
    }

    /// Changes with every token that is put into use, so that what the store said to the holder of
    /// an older one can be told.
    pub(crate) fn identity(&self) -> u64 {
        self.0.lock().issued
    }

    /// Logins sent, renewals granted, lookups sent after a 403.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let Counts {
            logins,
            renewals,
            lookups,
        } = &self.0.counts;
        [logins, renewals, lookups].map(|count| count.load(Ordering::Relaxed))
    }

    /// A token that may be sent now. A login that it takes begins at `endpoint`, where the request
    /// goes, so that what fails there is put down to it; one that others have begun goes where it goes.
    ///
    /// # Cancel safety
    /// A login that it waits for goes on, for others and for the next request.
    pub(crate) async fn token(&self, endpoint: Option<usize>) -> Result<Arc<Token>, Error> {
        for _ in 0..ROUNDS {
            let (flight, is_login) = match self.0.look(endpoint)? {
                Look::Token(token) => return Ok(token),
                Look::Wait(flight, is_login) => (flight, is_login),
            };
            let outcome = flight.wait(self.clock()).await;
            // A renewal that failed while the token died is no answer: a login follows it.
            if is_login {
                outcome?;
            }
        }
        Err(error::dead_again())
    }

    /// Ready once the session was shut down.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as `self`, so the wait ends with the shutdown alone.
        let _ = self.0.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Refuses new requests and ends those under way, drops the token, and revokes it if it is the
    /// backend's own, until `deadline`.
    ///
    /// # Cancel safety
    /// All but the revocation is done at the first poll.
    pub(crate) async fn shutdown(&self, deadline: Moment) -> ShutdownReport {
        let shared = &*self.0;
        let (live, errand) = {
            let mut state = shared.lock();
            state.ended = true;
            state.held = None;
            (state.live.take(), state.errand.take())
        };
        shared.closed.send_replace(true);
        let ours = live
            .filter(|live| shared.auth.issues_tokens() && !live.life.is_over(shared.clock.now()));
        let errand = errand.filter(|errand| {
            errand.is_login
                && shared.auth.issues_tokens()
                && !errand.flight.is_over(shared.clock.now())
        });
        let due = usize::from(ours.is_some()) + usize::from(errand.is_some());
        let results = Mutex::new(Vec::with_capacity(due));
        let note = |revoked: bool| {
            results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(revoked)
        };
        let work = async {
            if let Some(live) = ours {
                note(shared.revoke(&live.token.secret).await);
            }
            if let Some(errand) = errand {
                // A login that ends now revokes its own token.
                let _ = errand.flight.wait(&*shared.clock).await;
                shared.lock().late.take().into_iter().for_each(&note);
            }
        };
        let done = race::first(work, shared.clock.sleep_until(deadline))
            .await
            .is_some();
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut report = ShutdownReport::default();
        report.revoked = results.iter().filter(|&&revoked| revoked).count();
        // A login that is still under way may yet give a token that nobody revokes.
        report.not_revoked = if done { results.len() } else { due } - report.revoked;
        report.timed_out = !done;
        report
    }
}

enum Look {
    Token(Arc<Token>),
    Wait(Flight, bool),
}

impl Shared {
    /// Every critical section leaves the state whole at each step, so a poisoned lock is no reason
    /// to refuse.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if it may be sent; else what to wait for, which is started if need be.
    fn look(self: &Arc<Self>, endpoint: Option<usize>) -> Result<Look, Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.ended {
            return Err(error::closed());
        }
        let idle = state
            .errand
            .as_ref()
            .is_none_or(|errand| errand.flight.is_over(now));
        if let Some(live) = &state.live {
            if !live.life.is_over(now) {
                let token = Arc::clone(&live.token);
                // Nobody waits for it: the token is good meanwhile.
                if let Some(refresh) = live.life.refresh_due(now).filter(|_| idle) {
                    let task = Arc::clone(self).refresh(refresh, Arc::clone(&token));
                    let flight = Flight::start(now, task)?;
                    state.errand = Some(Errand {
                        flight,
                        is_login: refresh == Refresh::Login,
                    });
                }
                return Ok(Look::Token(token));
            }
            let number = live.token.number;
            state.bury(number, self.auth.issues_tokens());
        }
        let errand = match state.errand.take().filter(|_| !idle) {
            Some(errand) => errand,
            None => Errand {
                flight: Flight::start(now, Arc::clone(self).login(endpoint))?,
                is_login: true,
            },
        };
        let look = Look::Wait(errand.flight.clone(), errand.is_login);
        state.errand = Some(errand);
        Ok(look)
    }

    async fn refresh(self: Arc<Self>, refresh: Refresh, token: Arc<Token>) -> Result<(), Error> {
        let outcome = match refresh {
            Refresh::Renew => self.renew(&token).await,
            Refresh::Login => Arc::clone(&self).login(None).await,
        };
        if let Err(error) = &outcome {
            // What the store refuses to renew must be had by a login; an outage may pass.
            let refused = !error.kind().permits().counts_for_breaker;
            let next = (refused && refresh == Refresh::Renew).then_some(Refresh::Login);
            let now = self.clock.now();
            if let Some(live) = self.lock().live_of(token.number) {
                live.life.postpone(now, next);
            }
            tracing::warn!(target: AUDIT, backend = error::BACKEND, %error, "token not refreshed; it is used while it lives");
        }
        outcome
    }

    async fn renew(&self, token: &Token) -> Result<(), Error> {
        let asked = self.clock.now();
        let grant = token::renew(&self.client, &token.secret).await?;
        let life = self.lock().renewed(token.number, asked, grant);
        if let Some(life) = life {
            self.counts.renewals.fetch_add(1, Ordering::Relaxed);
            let life_seconds = life.seconds();
            let micros = self.micros_since(asked);
            tracing::info!(target: AUDIT, backend = error::BACKEND, life_seconds, micros, "token renewed");
        }
        Ok(())
    }

    async fn login(self: Arc<Self>, endpoint: Option<usize>) -> Result<(), Error> {
        let loaded = self.auth.load().await?;
        let asked = self.clock.now();
        self.lock().admit(&loaded, asked)?;
        self.counts.logins.fetch_add(1, Ordering::Relaxed);
        match self.auth.login(&self.client, &loaded, endpoint).await {
            Ok(issued) => self.install(issued, asked).await,
            Err(error) => {
                let (method, micros) = (self.auth.name(), self.micros_since(asked));
                tracing::warn!(target: AUDIT, backend = error::BACKEND, method, %error, micros, "login failed");
                self.lock().hold(loaded, error.clone(), self.clock.now());
                Err(error)
            }
        }
    }

    /// Puts a token into use; after the shutdown it is revoked instead.
    async fn install(&self, issued: Issued, asked: Moment) -> Result<(), Error> {
        let Issued {
            token: secret,
            grant,
        } = issued;
        let life = Life::begin(asked, grant);
        if self.lock().install(&secret, life) {
            tracing::info!(
                target: AUDIT,
                backend = error::BACKEND,
                method = self.auth.name(),
                micros = self.micros_since(asked),
                life_seconds = life.seconds(),
                renewable = grant.renewable,
                "logged in"
            );
            return Ok(());
        }
        if self.auth.issues_tokens() {
            let revoked = self.revoke(&secret).await;
            self.lock().late = Some(revoked);
        }
        Err(error::closed())
    }

    fn micros_since(&self, moment: Moment) -> u64 {
        let took = self.clock.now().since(moment);
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    }

    async fn revoke(&self, secret: &SecretBuf) -> bool {
        let revoked = token::revoke(&self.client, secret).await;
        match &revoked {
            Ok(()) => tracing::info!(target: AUDIT, backend = error::BACKEND, "token revoked"),
            Err(error) => {
                tracing::warn!(target: AUDIT, backend = error::BACKEND, %error, "token not revoked; it dies with its life")
            }
        }
        revoked.is_ok()
    }
}
