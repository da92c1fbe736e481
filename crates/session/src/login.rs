//! A login: the credentials as they are now, the endpoints that are asked, and what becomes of the token.
//!
//! One endpoint's first refusal is confirmed at one other, and an endpoint that says nothing about the credential is passed
//! over, however many there are. How long a refusal holds back the next login is decided
//! by `state`; `session` sees to it that only one login is under way at an endpoint.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use secret_resolver::backend::{contained, first, report};
use secret_resolver::{Clock as _, Error, ErrorKind, Moment};

use crate::error;
use crate::leaving::Left;
use crate::life::Life;
use crate::session::{AUDIT, Shared};
use crate::state::{Failed, Installed, New};
use crate::store::{Issued, Store};
use crate::waiting::Waiting;

/// What was so when a login was sent.
struct Sent {
    asked: Moment,
    certificate: u64,
}

impl<S: Store> Shared<S> {
    pub(crate) async fn login(
        self: Arc<Self>,
        endpoint: Option<usize>,
        waiting: Arc<Waiting>,
    ) -> Result<(), Error> {
        let late = error::credential_late(S::NAME);
        let load = waiting.wait(&*self.clock, late, self.load());
        let credentials = load.await?;
        let asked = self.clock.now();
        if self
            .store
            .ends(&credentials)
            .is_some_and(|end| end <= asked)
        {
            return Err(error::credential_ended());
        }
        // Before it is sent: a token is taken for one of an older certificate rather than of a newer.
        let certificate = self.store.certificate();
        self.lock().admit(&credentials, asked)?;
        let outcome = match self.login_at(&credentials, endpoint, &waiting).await {
            Ok((issued, at)) => {
                let sent = Sent { asked, certificate };
                self.install(credentials, issued, sent, at).await
            }
            Err(failed) => {
                let now = self.clock.now();
                self.lock().failed(credentials, &failed, asked, now);
                Err(failed.error)
            }
        };
        if let Err(error) = &outcome
            && error.kind() != ErrorKind::Closed
        {
            self.report(error, asked);
        }
        outcome
    }

    /// The credentials as they are now. What goes wrong with their source says nothing of the store, nor of a secret.
    async fn load(&self) -> Result<S::Credentials, Error> {
        let load = async {
            let loaded = contained(self.store.load()).await;
            loaded.unwrap_or_else(|| Err(error::credential_panicked()))
        };
        let end = async {
            let late = self.clock.sleep_until(self.clock.now() + Self::LOAD);
            match first(self.closed(), late).await {
                Some(()) => error::closed(),
                None => error::credential_late(S::NAME),
            }
        };
        let loaded = match select(pin!(load), pin!(end)).await {
            Either::Left((loaded, _)) => loaded,
            Either::Right((error, _)) => Err(error),
        };
        loaded.map_err(Error::of_credential)
    }

    /// How long a source of credentials is waited for: the end of a whole login, which looks like an outage, comes later.
    const LOAD: Duration = Duration::from_secs(12);

    /// One failed login in a second is a warning. In an outage each read may send one.
    fn report(&self, error: &Error, asked: Moment) {
        let (method, micros) = (self.store.method(), self.micros_since(asked));
        let warns = self.failures.warns(self.clock.now());
        let error = error.clone();
        report(move || match warns {
            Some(0) => {
                tracing::warn!(target: AUDIT, backend = S::NAME, method, %error, micros, "login failed");
            }
            Some(others) => {
                tracing::warn!(target: AUDIT, backend = S::NAME, method, %error, micros, others, "login failed, and others since the last warning");
            }
            None => {
                tracing::info!(target: AUDIT, backend = S::NAME, method, %error, micros, "login failed");
            }
        });
    }

    /// A login at `endpoint`, and where it succeeded. One endpoint's word is not enough to hold a credential
    /// back: the first refusal is confirmed at one other, and what says nothing about the credential is not an answer
    /// while others are left. A refusal costs more than a second opinion is worth where the store counts them,
    /// so no more than these two are asked.
    async fn login_at(
        &self,
        credentials: &S::Credentials,
        endpoint: Option<usize>,
        waiting: &Waiting,
    ) -> Result<(Issued, Option<usize>), Failed> {
        let login = async |endpoint| {
            self.counts.logins.fetch_add(1, Ordering::Relaxed);
            let issued = self.store.login(credentials, endpoint, waiting).await;
            if issued.as_ref().is_err_and(Error::is_held_back) {
                // It was not sent.
                self.counts.logins.fetch_sub(1, Ordering::Relaxed);
            }
            (endpoint, issued)
        };
        let counts = |error: &Error| !error.is_held_back() && self.store.may_lock_out(error);
        let number = self.store.endpoints().max(1);
        // Before it is asked: a request that fails meanwhile moves on.
        let start = endpoint.unwrap_or_else(|| self.store.endpoint());
        let mut failed = match login(endpoint).await {
            (_, Ok(issued)) => return Ok((issued, endpoint)),
            (_, Err(error)) => {
                let counts = counts(&error);
                Failed::first(error, counts)
            }
        };
        // Where it was not sent, each other endpoint would have the same from us.
        let not_sent = failed.error.is_held_back() && failed.error.kind() != ErrorKind::Overloaded;
        if error::is_outage(&failed.error) || not_sent {
            return Err(failed);
        }
        let calm = self.lock().is_calm(self.clock.now());
        let most = if calm { 2 } else { 1 };
        let mut others = 1..number;
        failed.unconfirmed = failed.refusals < most && !others.is_empty();
        let mut asked = FuturesUnordered::new();
        // The logins that are left when one has succeeded are dropped.
        while failed.refusals < most {
            if let Some(step) = others.next() {
                asked.push(login(Some((start + step) % number)));
            }
            // The last is bounded by the transport.
            let answer = match others.is_empty() {
                true => Some(asked.next().await),
                false => {
                    let end = self.clock.now() + Self::ALONE;
                    first(asked.next(), self.clock.sleep_until(end)).await
                }
            };
            match answer {
                Some(Some((other, Ok(issued)))) => {
                    report(move || {
                        tracing::warn!(
                            backend = S::NAME, endpoint, refused = %failed.error,
                            "an endpoint refuses a login that another takes"
                        );
                    });
                    return Ok((issued, other));
                }
                Some(Some((_, Err(error)))) => {
                    let counts = counts(&error);
                    failed.note(error, counts);
                }
                Some(None) => break,
                // It is silent: the next is asked beside it.
                None => {}
            }
        }
        Err(failed)
    }

    /// How long another endpoint is asked alone: a login has to end in time.
    const ALONE: Duration = Duration::from_millis(500);

    /// Puts a token into use. A token that is not fit for it, or comes after the shutdown, is revoked
    /// instead.
    async fn install(
        self: &Arc<Self>,
        credentials: S::Credentials,
        issued: Issued,
        Sent { asked, certificate }: Sent,
        endpoint: Option<usize>,
    ) -> Result<(), Error> {
        let Issued {
            token: secret,
            grant,
            revocable,
            unfit,
        } = issued;
        let life = Life::begin(asked, grant).bounded(asked, self.store.ends(&credentials));
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
                    certificate,
                    asked,
                },
                now,
            ),
        };
        match installed {
            Installed::Ended => {
                if issues && revocable {
                    self.end_late(&left).await;
                }
                return Err(error::closed());
            }
            Installed::Surplus => {}
            Installed::InUse(token) => {
                self.installed.send_replace(());
                let (method, micros) = (self.store.method(), self.micros_since(asked));
                let (life_seconds, renewable) = (life.seconds(), grant.renewable);
                report(move || {
                    tracing::info!(target: AUDIT, backend = S::NAME, method, micros, life_seconds, renewable, "logged in");
                });
                self.look_at_new(&token, endpoint).await;
            }
        }
        self.revoke_left(&mut self.lock(), true);
        unfit.map_or(Ok(()), Err)
    }
}
