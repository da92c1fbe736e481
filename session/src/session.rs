//! One token for all requests: fetched when it is first needed, kept alive while in use, revoked when
//! it is not used any more.
//!
//! # Invariants
//! A token whose life is over is not sent with a request. At most one login is under way at an endpoint, and
//! it is a task of its own, so no caller that leaves ends it. An outage is not a token's death: only the
//! store's own word that `verdict` has looked into is, or the end of its life. The state's lock is never
//! held across an await, nor while anything is traced.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::{Clock, Error, ErrorKind, Moment, ShutdownReport};
use tokio::sync::watch;

use crate::flight::Flight;
use crate::leaving::Left;
use crate::life::{Life, Refresh};
use crate::state::{Errand, Failed, Installed, New, State, Token};
use crate::store::{Issued, Store};
use crate::verdict::Verdicts;
use crate::{error, race};

/// Where the core's audit events go, too.
const AUDIT: &str = "secret_resolver::audit";

/// How many tokens may die while a request waits for one.
const DEATHS: usize = 3;

/// How long a request waits for a login that others have begun at another endpoint before it begins its own.
const PATIENCE: Duration = Duration::from_millis(500);

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
    /// Sent to with each token that is put into use.
    installed: watch::Sender<()>,
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

    /// A token that may be sent now. A login that it takes begins at `endpoint`, where the request goes, so
    /// that what fails there is put down to it. A login that others have begun at another endpoint is waited
    /// for, but not for long, and if it fails by an outage, this request's own endpoint is asked.
    ///
    /// To be polled on a tokio runtime. A login whose runtime stands still is waited for for 15 s.
    ///
    /// # Errors
    /// What the login failed with. While a refusal of the same credentials holds logins back, that refusal,
    /// with the time that is left as its [`retry_after`](Error::retry_after); [`ErrorKind::Closed`] after the
    /// shutdown.
    ///
    /// # Cancel safety
    /// A login that it waits for goes on, for others and for the next request.
    pub async fn token(&self, endpoint: Option<usize>) -> Result<Arc<Token>, Error> {
        let clock = &*self.0.clock;
        let mut installed = self.0.installed.subscribe();
        let patience = clock.now() + PATIENCE;
        let mut deaths = 0;
        loop {
            installed.mark_unchanged();
            let wait = match self.0.look(endpoint, patience)? {
                Look::Token(token) => return Ok(token),
                Look::Wait(wait) => wait,
            };
            let ended = race::first(wait.flight.wait(clock), async {
                // Any login will do.
                let changed = async {
                    let _ = installed.changed().await;
                };
                match wait.until {
                    None => changed.await,
                    Some(until) => {
                        race::first(changed, clock.sleep_until(until)).await;
                    }
                }
            });
            match ended.await {
                Some(Ok(())) if wait.is_own => deaths += 1,
                Some(Err(error)) if wait.is_own => {
                    // Another endpoint may have given a token meanwhile.
                    return self.0.live().ok_or(error);
                }
                // A renewal, or a login elsewhere: what it failed with is no answer here.
                _ => {}
            }
            if deaths > DEATHS {
                return Err(error::dead_again());
            }
        }
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
        let (ours, mut logins, lost, in_use) = {
            let mut state = shared.lock();
            let (live, errands) = state.end();
            let (mut ours, lost) = state.leaving.take(now);
            let in_use = live.as_ref().map(|live| Arc::clone(&live.token));
            ours.extend(live.and_then(|live| live.left(now)));
            (ours, errands, lost, in_use)
        };
        shared.closed.send_replace(true);
        let issues = shared.store.issues_tokens();
        logins.retain(|errand| issues && errand.is_login && !errand.flight.is_over(now));
        let due = ours.len() + logins.len();
        let results = Mutex::new(Vec::with_capacity(due));
        let note = |revoked: Option<bool>| {
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push(revoked);
        };
        let work = async {
            // Whether a refusal says anything of a token that may be gone.
            if ours.iter().any(Left::may_be_gone)
                && let Some(live) = &in_use
            {
                shared.learn(live).await;
            }
            // The one in use first.
            for left in ours.iter().rev() {
                note(shared.end_token(left, deadline).await);
            }
            for login in logins {
                // One that ends now revokes its own token.
                let _ = login.flight.wait(&*shared.clock).await;
                note(shared.lock().late.pop());
            }
        };
        let done = race::first(work, shared.clock.sleep_until(deadline)).await;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = |what| results.iter().filter(|&&revoked| revoked == what).count();
        let mut report = ShutdownReport::default();
        report.revoked = count(Some(true));
        // A login that is still under way may yet give a token that nobody revokes.
        report.not_revoked = lost + count(Some(false)) + due - results.len();
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
    /// Whether it is a login at this request's endpoint.
    is_own: bool,
    /// Until when it is waited for, where it is not.
    until: Option<Moment>,
}

impl<S: Store> Shared<S> {
    /// Every critical section leaves the state whole at each step, so a poisoned lock is no reason
    /// to refuse.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S::Credentials>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if it may be sent; else what to wait for, which is started if need be.
    fn look(self: &Arc<Self>, endpoint: Option<usize>, patience: Moment) -> Result<Look, Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        if state.ended {
            return Err(error::closed());
        }
        state.errands.retain(|errand| !errand.flight.is_over(now));
        if let Some(live) = &state.live {
            if !live.life.is_over(now) {
                let token = Arc::clone(&live.token);
                // Nobody waits for it: the token is good meanwhile.
                if let Some(refresh) = live.life.refresh_due(now)
                    && state.errands.is_empty()
                {
                    let task = Arc::clone(self).refresh(refresh, Arc::clone(&token));
                    state.errands.push(Errand {
                        flight: Flight::start(now, task)?,
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
            return Ok(Look::Wait(Wait {
                flight: errand.flight.clone(),
                is_own: true,
                until: None,
            }));
        }
        let until = |errand: &Errand| patience.min(errand.began + PATIENCE);
        let young = |errand: &&Errand| now < until(errand);
        if let Some(errand) = state.errands.iter().find(young) {
            return Ok(Look::Wait(Wait {
                flight: errand.flight.clone(),
                is_own: false,
                until: Some(until(errand)),
            }));
        }
        let flight = Flight::start(now, Arc::clone(self).login(endpoint))?;
        state.errands.push(Errand {
            flight: flight.clone(),
            is_login: true,
            endpoint,
            began: now,
        });
        Ok(Look::Wait(Wait {
            flight,
            is_own: true,
            until: None,
        }))
    }

    /// The token in use, if there is one.
    fn live(&self) -> Option<Arc<Token>> {
        let now = self.clock.now();
        let state = self.lock();
        let live = state.live.as_ref().filter(|live| !live.life.is_over(now));
        live.map(|live| Arc::clone(&live.token))
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
                if !refused && refresh == Refresh::Renew {
                    live.life.renewal_unanswered();
                }
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
        self.revoke_left(&mut self.lock(), true);
        Ok(())
    }

    async fn login(self: Arc<Self>, endpoint: Option<usize>) -> Result<(), Error> {
        let credentials = self.store.load().await?;
        let asked = self.clock.now();
        self.lock().admit(&credentials, asked)?;
        let outcome = match self.login_at(&credentials, endpoint).await {
            Ok((issued, at)) => self.install(credentials, issued, asked, at).await,
            Err(failed) => {
                let now = self.clock.now();
                self.lock().failed(credentials, &failed, asked, now);
                Err(failed.error)
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

    /// A login at `endpoint`, and where it succeeded. One endpoint's word is not enough to hold a credential
    /// back: the first refusal is confirmed at one other, and nonsense is no answer while others are left.
    /// A refusal costs more than a second opinion is worth where the store counts them, so no more than that.
    async fn login_at(
        &self,
        credentials: &S::Credentials,
        endpoint: Option<usize>,
    ) -> Result<(Issued, Option<usize>), Failed> {
        let login = |endpoint| {
            self.counts.logins.fetch_add(1, Ordering::Relaxed);
            self.store.login(credentials, endpoint)
        };
        let failed = |error, answers, unconfirmed| Failed {
            error,
            answers,
            unconfirmed,
        };
        let first = match login(endpoint).await {
            Ok(issued) => return Ok((issued, endpoint)),
            Err(error) if is_outage(&error) => return Err(failed(error, 0, false)),
            Err(error) => error,
        };
        let number = self.store.endpoints();
        // Nothing is said of the credential.
        let is_nonsense = |error: &Error| {
            use ErrorKind::{Malformed, Overloaded, Refused, Throttled};
            matches!(error.kind(), Malformed | Overloaded | Refused | Throttled)
        };
        let others = match is_nonsense(&first) || self.lock().is_calm() {
            true => (number.saturating_sub(1)).min(Self::OPINIONS),
            false => 0,
        };
        let (mut refused, mut answers) = (first, 1);
        let mut unconfirmed = others > 0;
        for step in 1..=others {
            let other = Some((endpoint.unwrap_or_default() + step) % number);
            match login(other).await {
                Ok(issued) => {
                    tracing::warn!(
                        backend = S::NAME, endpoint, %refused,
                        "an endpoint refuses a login that another takes"
                    );
                    return Ok((issued, other));
                }
                Err(error) if is_outage(&error) => {}
                Err(error) if is_nonsense(&error) => unconfirmed = false,
                // Refused twice, or by the first that made sense.
                Err(error) => {
                    if is_nonsense(&refused) {
                        refused = error;
                    }
                    answers += 1;
                    unconfirmed = false;
                    break;
                }
            }
        }
        Err(failed(refused, answers, unconfirmed))
    }

    /// So many other endpoints are asked at most: a login has to end in time.
    const OPINIONS: usize = 2;

    /// Puts a token into use. One that is not fit for it, or comes after the shutdown, is revoked
    /// instead.
    async fn install(
        self: &Arc<Self>,
        credentials: S::Credentials,
        issued: Issued,
        asked: Moment,
        endpoint: Option<usize>,
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
        let left = Left::new(Arc::clone(&secret), life.dead_by());
        let installed = match &unfit {
            Some(error) => {
                let mut state = self.lock();
                if issues && revocable && !state.ended {
                    state.leaving.push(left.clone());
                }
                state.unfit(credentials, error, !issues, now);
                match state.ended {
                    true => Installed::Ended,
                    false => Installed::Surplus,
                }
            }
            None => self.lock().install(
                New {
                    secret,
                    life,
                    revocable,
                    given: (!issues).then_some(credentials),
                    asked,
                },
                now,
            ),
        };
        match installed {
            Installed::Ended => {
                if issues && revocable {
                    let end = self.clock.now() + STILL_USED;
                    let revoked = self.end_token(&left, end).await;
                    self.lock().late.push(revoked != Some(false));
                }
                return Err(error::closed());
            }
            Installed::Surplus => {}
            Installed::InUse(token) => {
                tracing::info!(
                    target: AUDIT,
                    backend = S::NAME,
                    method = self.store.method(),
                    micros = self.micros_since(asked),
                    life_seconds = life.seconds(),
                    renewable = grant.renewable,
                    "logged in"
                );
                self.installed.send_replace(());
                self.look_at_new(&token, endpoint).await;
            }
        }
        self.revoke_left(&mut self.lock(), true);
        unfit.map_or(Ok(()), Err)
    }

    /// Begins to revoke what is not used any more, if it is time for it and not under way; `answers` says
    /// that the store has just answered.
    fn revoke_left(self: &Arc<Self>, state: &mut State<S::Credentials>, answers: bool) {
        let now = self.clock.now();
        let is_over = |flight: &Flight| flight.is_over(now);
        let idle = state.revoking.as_ref().is_none_or(is_over);
        if idle && !state.ended && state.leaving.is_due(answers, now) {
            // Without a runtime it is left for the shutdown.
            state.revoking = Flight::start(now, Arc::clone(self).revoke_each()).ok();
        }
    }

    async fn revoke_each(self: Arc<Self>) -> Result<(), Error> {
        let all = self.lock().leaving.all();
        for left in all {
            let end = self.clock.now() + STILL_USED;
            race::first(left.unused(), self.clock.sleep_until(end)).await;
            {
                let mut state = self.lock();
                if state.ended {
                    // The shutdown does it.
                    return Ok(());
                }
                state.leaving.sent(&left);
            }
            let revoked = self.revoke(&left, None).await;
            let can_look = self.verdicts.can_look();
            let now = self.clock.now();
            let mut state = self.lock();
            match revoked {
                Ok(()) => state.leaving.revoked(&left),
                Err(error) => {
                    state.leaving.failed(&left, &error, can_look, now);
                    if is_outage(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Revokes a token at any endpoint, for the shutdown: whether it could be; `None` when it is gone
    /// already.
    async fn end_token(&self, left: &Left, deadline: Moment) -> Option<bool> {
        let number = self.store.endpoints().max(1);
        let mut gone = false;
        for endpoint in 0..number {
            let now = self.clock.now();
            let share = deadline.since(now) / u32::try_from(number - endpoint).unwrap_or(1);
            let revocation = self.revoke(left, Some(endpoint));
            let revoked = match endpoint + 1 == number {
                // It ends with the shutdown.
                true => Some(revocation.await),
                false => race::first(revocation, self.clock.sleep_until(now + share)).await,
            };
            match revoked {
                Some(Ok(())) => return Some(true),
                // Another may know it.
                Some(Err(error)) => gone |= left.is_gone(&error, self.verdicts.can_look()),
                None => {}
            }
        }
        (!gone).then_some(false)
    }

    async fn revoke(&self, left: &Left, endpoint: Option<usize>) -> Result<(), Error> {
        let revoked = self.store.revoke(&left.secret, endpoint).await;
        match &revoked {
            Ok(()) => tracing::info!(target: AUDIT, backend = S::NAME, "token revoked"),
            Err(error) => {
                tracing::warn!(target: AUDIT, backend = S::NAME, %error, "token not revoked");
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
