//! One token for all requests: fetched when it is first needed, kept alive while in use, revoked when
//! it is not used any more.
//!
//! # Invariants
//! A token whose life is over is not sent with a request. At most one login or renewal is under way, and
//! it is a task of its own, so no caller that leaves ends it. An outage is not a token's death: only the
//! store's own word that `verdict` has looked into is, or the end of its life. The state's lock is never
//! held across an await, nor while anything is traced.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::{Clock, Error, ErrorKind, Moment, SecretBuf, ShutdownReport};
use tokio::sync::watch;

use crate::flight::Flight;
use crate::leaving::Left;
use crate::life::{Life, Refresh};
use crate::state::{Errand, New, State, Token};
use crate::store::{Issued, Store};
use crate::verdict::Verdicts;
use crate::{error, race};

/// Where the core's audit events go, too.
const AUDIT: &str = "secret_resolver::audit";

/// How often a request waits for a token before it gives up on tokens that die at once.
const ROUNDS: usize = 3;

/// How long requests may go on using a token that was replaced before it is revoked.
const STILL_USED: Duration = Duration::from_secs(5);

/// The login of one backend, for all of its requests.
pub struct Session<S: Store>(pub(crate) Arc<Shared<S>>);

pub(crate) struct Shared<S: Store> {
    pub(crate) store: S,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) verdicts: Verdicts,
    pub(crate) counts: Counts,
    state: Mutex<State<S::Credentials>>,
    closed: watch::Sender<bool>,
}

#[derive(Default)]
pub(crate) struct Counts {
    logins: AtomicU64,
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
            state: Mutex::default(),
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

    /// A token that may be sent now. A login that it takes begins at `endpoint`, where the request
    /// goes, so that what fails there is put down to it. One that others have begun goes where it goes;
    /// if it fails there by an outage, this request's own endpoint is asked.
    ///
    /// # Errors
    /// What the login failed with. While the store's refusal of the same credentials holds logins back, that
    /// refusal, with the time that is left as its
    /// [`retry_after`](Error::retry_after); [`ErrorKind::Closed`] after the shutdown.
    ///
    /// # Cancel safety
    /// A login that it waits for goes on, for others and for the next request.
    pub async fn token(&self, endpoint: Option<usize>) -> Result<Arc<Token>, Error> {
        let mut last = None;
        for _ in 0..ROUNDS {
            let wait = match self.0.look(endpoint)? {
                Look::Token(token) => return Ok(token),
                Look::Wait(wait) => wait,
            };
            let outcome = wait.flight.wait(&*self.0.clock).await;
            // A renewal that failed while the token died is no answer: a login follows it.
            let Err(error) = outcome else { continue };
            if !wait.is_login {
                continue;
            }
            if !wait.elsewhere || !is_outage(&error) {
                return Err(error);
            }
            last = Some(error);
        }
        Err(last.unwrap_or_else(error::dead_again))
    }

    /// What `request` answers, if it does so before the session is shut down and before `deadline`.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] and [`ErrorKind::Timeout`], and what `request` fails with.
    ///
    /// # Cancel safety
    /// Drops `request`.
    pub async fn bounded<T>(
        &self,
        deadline: Option<Moment>,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let open = async {
            let answer = race::first(request, self.closed()).await;
            answer.unwrap_or_else(|| Err(error::closed()))
        };
        let Some(deadline) = deadline else {
            return open.await;
        };
        let end = self.0.clock.sleep_until(deadline);
        let answer = race::first(open, end).await;
        answer.unwrap_or_else(|| Err(error::deadline()))
    }

    /// Ready once the session was shut down.
    async fn closed(&self) {
        // The sender lives as long as `self`, so the wait ends with the shutdown alone.
        let _ = self.0.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Refuses new requests and ends those under way, drops the token, and revokes it and all that were
    /// used before if they are the backend's own, until `deadline`.
    ///
    /// A token that its store cannot revoke at all, such as a batch token, does not count.
    ///
    /// # Cancel safety
    /// All but the revocation is done at the first poll.
    pub async fn shutdown(&self, deadline: Moment) -> ShutdownReport {
        let shared = &*self.0;
        let now = shared.clock.now();
        let (ours, errand, living) = {
            let mut state = shared.lock();
            let (live, errand) = state.end();
            let (mut ours, living) = state.leaving.take(now);
            ours.extend(live.and_then(|live| live.left(now)));
            (ours, errand, living)
        };
        shared.closed.send_replace(true);
        let errand = errand.filter(|errand| {
            errand.is_login && shared.store.issues_tokens() && !errand.flight.is_over(now)
        });
        let due = ours.len() + usize::from(errand.is_some());
        let results = Mutex::new(Vec::with_capacity(due));
        let note = |revoked: Option<bool>| {
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push(revoked);
        };
        let work = async {
            // The one in use first.
            for left in ours.iter().rev() {
                let revoked = shared.revoke(&left.secret).await;
                note(match revoked {
                    Ok(()) => Some(true),
                    Err(error) if left.is_dead(&error) => None,
                    Err(_) => Some(false),
                });
            }
            if let Some(errand) = errand {
                // A login that ends now revokes its own token.
                let _ = errand.flight.wait(&*shared.clock).await;
                note(shared.lock().late.take());
            }
        };
        let done = race::first(work, shared.clock.sleep_until(deadline)).await;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = |what| results.iter().filter(|&&revoked| revoked == what).count();
        let mut report = ShutdownReport::default();
        report.revoked = count(Some(true));
        // A login that is still under way may yet give a token that nobody revokes.
        report.not_revoked = living + count(Some(false)) + due - results.len();
        report.timed_out = done.is_none();
        report
    }
}

enum Look {
    Token(Arc<Token>),
    Wait(Wait),
}

struct Wait {
    flight: Flight,
    is_login: bool,
    /// Others have begun it, at another endpoint than that of this request.
    elsewhere: bool,
}

impl<S: Store> Shared<S> {
    /// Every critical section leaves the state whole at each step, so a poisoned lock is no reason
    /// to refuse.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S::Credentials>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if it may be sent; else what to wait for, which is started if need be.
    fn look(self: &Arc<Self>, endpoint: Option<usize>) -> Result<Look, Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.ended {
            return Err(error::closed());
        }
        let under_way = state.errand.take();
        let under_way = under_way.filter(|errand| !errand.flight.is_over(now));
        if let Some(live) = &state.live {
            if !live.life.is_over(now) {
                let token = Arc::clone(&live.token);
                let refresh = live.life.refresh_due(now);
                state.errand = under_way;
                // Nobody waits for it: the token is good meanwhile.
                if let Some(refresh) = refresh.filter(|_| state.errand.is_none()) {
                    let task = Arc::clone(self).refresh(refresh, Arc::clone(&token));
                    state.errand = Some(Errand {
                        flight: Flight::start(now, task)?,
                        is_login: refresh == Refresh::Login,
                        endpoint: None,
                    });
                }
                return Ok(Look::Token(token));
            }
            let number = live.token.number;
            state.bury(number, now);
        }
        let begun_by_others = under_way.is_some();
        let errand = match under_way {
            Some(errand) => errand,
            None => Errand {
                flight: Flight::start(now, Arc::clone(self).login(endpoint))?,
                is_login: true,
                endpoint,
            },
        };
        let wait = Wait {
            flight: errand.flight.clone(),
            is_login: errand.is_login,
            elsewhere: begun_by_others && errand.endpoint != endpoint,
        };
        state.errand = Some(errand);
        Ok(Look::Wait(wait))
    }

    async fn refresh(self: Arc<Self>, refresh: Refresh, token: Arc<Token>) -> Result<(), Error> {
        let outcome = match refresh {
            Refresh::Renew => self.renew(&token).await,
            Refresh::Login => Arc::clone(&self).login(None).await,
        };
        if let Err(error) = &outcome {
            // What the store refuses to renew must be replaced by a login; an outage may pass.
            let refused = !is_outage(error);
            let next = (refused && refresh == Refresh::Renew).then_some(Refresh::Login);
            let now = self.clock.now();
            if let Some(live) = self.lock().live_of(token.number) {
                live.life.postpone(now, next);
            }
            tracing::warn!(target: AUDIT, backend = S::NAME, %error, "token not refreshed; it is used while it lives");
        }
        outcome
    }

    async fn renew(self: &Arc<Self>, token: &Token) -> Result<(), Error> {
        let asked = self.clock.now();
        let grant = self.store.renew(token.secret()).await?;
        let life = self.lock().renewed(token.number, asked, grant);
        if let Some(life) = life {
            self.counts.renewals.fetch_add(1, Ordering::Relaxed);
            let life_seconds = life.seconds();
            let micros = self.micros_since(asked);
            tracing::info!(target: AUDIT, backend = S::NAME, life_seconds, micros, "token renewed");
        }
        // The store is back, if it was away.
        self.revoke_left();
        Ok(())
    }

    async fn login(self: Arc<Self>, endpoint: Option<usize>) -> Result<(), Error> {
        let credentials = self.store.load().await?;
        let asked = self.clock.now();
        self.lock().admit(&credentials, asked)?;
        self.counts.logins.fetch_add(1, Ordering::Relaxed);
        let outcome = match self.store.login(&credentials, endpoint).await {
            Ok(issued) => self.install(credentials, issued, asked).await,
            Err(error) => {
                self.lock().failed(credentials, &error, self.clock.now());
                Err(error)
            }
        };
        if let Err(error) = &outcome
            && error.kind() != ErrorKind::Closed
        {
            let (method, micros) = (self.store.method(), self.micros_since(asked));
            tracing::warn!(target: AUDIT, backend = S::NAME, method, %error, micros, "login failed");
        }
        outcome
    }

    /// Puts a token into use. One that is not fit for it, or comes after the shutdown, is revoked
    /// instead.
    async fn install(
        self: &Arc<Self>,
        credentials: S::Credentials,
        issued: Issued,
        asked: Moment,
    ) -> Result<(), Error> {
        let Issued {
            token: secret,
            grant,
            revocable,
            unfit,
        } = issued;
        let life = Life::begin(asked, grant);
        let now = self.clock.now();
        let issues = self.store.issues_tokens();
        if let Some(error) = unfit {
            if issues && revocable {
                self.lock().leaving.push(Left::new(secret, life.ends()));
            }
            self.lock().unfit(credentials, &error, !issues, now);
            self.revoke_left();
            return Err(error);
        }
        let new = New {
            secret: Arc::clone(&secret),
            life,
            revocable,
            given: (!issues).then_some(credentials),
        };
        if self.lock().install(new, now) {
            tracing::info!(
                target: AUDIT,
                backend = S::NAME,
                method = self.store.method(),
                micros = self.micros_since(asked),
                life_seconds = life.seconds(),
                renewable = grant.renewable,
                "logged in"
            );
            self.revoke_left();
            return Ok(());
        }
        if issues && revocable {
            let revoked = self.revoke(&secret).await.is_ok();
            self.lock().late = Some(revoked);
        }
        Err(error::closed())
    }

    /// Begins to revoke what is not used any more, unless that is under way.
    fn revoke_left(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut state = self.lock();
        let is_over = |flight: &Flight| flight.is_over(now);
        if state.ended
            || state.leaving.next(now).is_none()
            || !state.revoking.as_ref().is_none_or(is_over)
        {
            return;
        }
        // Without a runtime it is left for the shutdown.
        state.revoking = Flight::start(now, Arc::clone(self).revoke_each()).ok();
    }

    async fn revoke_each(self: Arc<Self>) -> Result<(), Error> {
        loop {
            let now = self.clock.now();
            let Some(left) = self.lock().leaving.next(now) else {
                return Ok(());
            };
            race::first(left.unused(), self.clock.sleep_until(now + STILL_USED)).await;
            match self.revoke(&left.secret).await {
                // It comes again with the next login or renewal, and at the shutdown.
                Err(error) if is_outage(&error) => return Err(error),
                Err(error) if !left.is_dead(&error) => self.lock().leaving.refuse(&left),
                _ => self.lock().leaving.remove(&left),
            }
        }
    }

    async fn revoke(&self, secret: &SecretBuf) -> Result<(), Error> {
        let revoked = self.store.revoke(secret).await;
        match &revoked {
            Ok(()) => tracing::info!(target: AUDIT, backend = S::NAME, "token revoked"),
            Err(error) => {
                tracing::warn!(target: AUDIT, backend = S::NAME, %error, "token not revoked; it dies with its life");
            }
        }
        revoked
    }

    fn micros_since(&self, moment: Moment) -> u64 {
        let took = self.clock.now().since(moment);
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Whether it says nothing of a credential or a token.
fn is_outage(error: &Error) -> bool {
    error.kind().permits().counts_for_breaker
}

impl<S: Store> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("store", &S::NAME)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
