//! A login: the credentials as they are now, the endpoints that are asked, and what becomes of the token.
//!
//! One endpoint's refusal is confirmed at one other. How long a refusal holds back the next login is the
//! state's to decide; that only one login is under way at an endpoint is the session's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use secret_resolver::{Error, ErrorKind, Moment};

use crate::error;
use crate::leaving::Left;
use crate::life::Life;
use crate::session::{AUDIT, Shared};
use crate::state::{Failed, Installed, New};
use crate::store::{Issued, Store};

impl<S: Store> Shared<S> {
    pub(crate) async fn login(self: Arc<Self>, endpoint: Option<usize>) -> Result<(), Error> {
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
            Err(error) if error::is_outage(&error) => return Err(failed(error, 0, false)),
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
                Err(error) if error::is_outage(&error) => {}
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
                    self.end_late(&left).await;
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
}
