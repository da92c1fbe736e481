//! JWT-SVIDs for the logins of one store.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::first;
use secret_resolver::{Error, ErrorKind, IdentityStatus, Moment, SecretBuf};
use secret_resolver_session::{Jwt, JwtFuture, JwtSource};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::identity::{Inner, lock};
use crate::reports::Reports;
use crate::today::today;
use crate::worker::Worker;
use crate::{agent, claims, error, pause};

/// JWT-SVIDs of one identity for one audience; from [`SpiffeIdentity::jwts`](crate::SpiffeIdentity::jwts). A clone shares the last one.
///
/// One is used again for half of the life that it had left when it came, and then the agent is asked for another; one question at a
/// time, and for all who wait. Where the agent is away, gives no answer that can be used, or is not let through by the guard, the last one is
/// used to its end, and never after it; where the agent says that there is no such identity, none is used any more. What went wrong is
/// answered to all who ask within the next second, so that however many ask, the agent is asked once; where it does not take the request,
/// for 24 seconds. One that the store refuses is used for 24 seconds more at most.
///
/// # Errors
/// Of a login: [`Unauthenticated`](ErrorKind::Unauthenticated) where the agent gives this workload no identity or another one, is away, or
/// gives what is no JWT-SVID; [`Refused`](ErrorKind::Refused) for what the socket's guard does not let through, and for a JWT-SVID for another
/// audience; [`Misconfigured`](ErrorKind::Misconfigured) where the agent does not take the request. All are marked by
/// [`held_back`](Error::held_back), because no store was asked, and none is an outage of a store, which alone permits exceptions.
///
/// # Cancel safety
/// A question to the agent goes on, for others; it ends after 4 s.
#[derive(Clone)]
pub struct SpiffeJwts(Arc<Source>);

struct Source {
    identity: Arc<Inner>,
    audience: String,
    reports: Reports,
    last: Mutex<Last>,
    worker: Arc<Worker>,
}

#[derive(Default)]
struct Last {
    held: Option<Held>,
    /// What went wrong last, and until when that is the answer.
    failed: Option<(Moment, Error)>,
    /// Ends with the question that is under way.
    asking: Option<watch::Receiver<()>>,
}

struct Held {
    jwt: Jwt,
    ends: Moment,
    /// From then on another is asked for.
    again: Moment,
    /// How often the identity was withdrawn before it was asked for.
    withdrawals: u64,
}

/// The bound on one question.
const PATIENCE: Duration = Duration::from_secs(4);

impl SpiffeJwts {
    pub(crate) fn new(identity: Arc<Inner>, audience: String) -> Result<Self, Error> {
        if audience.is_empty() {
            return Err(error::misconfigured(
                "a JWT-SVID needs an audience: the name by which the store knows itself",
            ));
        }
        let worker = identity.worker()?;
        Ok(Self(Arc::new(Source {
            identity,
            audience,
            reports: Reports::default(),
            last: Mutex::default(),
            worker,
        })))
    }

    async fn current(&self) -> Result<Jwt, Error> {
        let clock = &*self.0.identity.clock;
        if let Some(mut asking) = self.0.ask(clock.now()) {
            let end = async { while asking.changed().await.is_ok() {} };
            // The question has its own end, which comes first unless its thread stands still.
            let late = clock.sleep_until(clock.now() + PATIENCE + Duration::from_secs(1));
            first(end, late).await;
        }
        lock(&self.0.last).answer(clock.now())
    }
}

impl Source {
    /// What to wait for, where the agent has to be asked: then it is, unless it is being asked.
    fn ask(self: &Arc<Self>, now: Moment) -> Option<watch::Receiver<()>> {
        let mut last = lock(&self.last);
        let withdrawals = self.identity.withdrawals();
        // The stream of X509-SVIDs has heard it first.
        last.held.take_if(|held| held.withdrawals != withdrawals);
        let is_fresh = last.held.as_ref().is_some_and(|held| now < held.again);
        let has_failed = last.failed.as_ref().is_some_and(|(until, _)| now < *until);
        if is_fresh || has_failed {
            return None;
        }
        let is_open = |asking: &&watch::Receiver<()>| asking.has_changed().is_ok();
        if let Some(asking) = last.asking.as_ref().filter(is_open) {
            return Some(asking.clone());
        }
        let (done, asking) = watch::channel(());
        last.asking = Some(asking.clone());
        let source = Arc::clone(self);
        self.worker.spawn(async move {
            let fetched = tokio::time::timeout(PATIENCE, source.fetch()).await;
            source.take(fetched.unwrap_or_else(|_| Err(late())));
            drop(done);
        });
        Some(asking)
    }

    fn take(&self, fetched: Result<Held, Error>) {
        let error = match fetched {
            Ok(held) => {
                self.reports.updated(self.identity.clock.now());
                self.reports.ends(Some(held.ends));
                let mut last = lock(&self.last);
                last.held = Some(held);
                last.failed = None;
                return;
            }
            Err(error) => error,
        };
        // The agent's word that there is none. All else says nothing about the one that is held. It comes before the clock is asked, and
        // before anything is said of it, without the lock: foreign code may block, or panic.
        if error.kind() == ErrorKind::Unauthenticated {
            self.identity.withdrawn();
        }
        let now = self.identity.clock.now();
        let mut last = lock(&self.last);
        let withdrawals = self.identity.withdrawals();
        let is_over = |held: &mut Held| held.withdrawals != withdrawals || held.ends <= now;
        last.held.take_if(is_over);
        let has_none = last.held.is_none();
        last.failed = Some((now + pause::after(&error), error.clone()));
        drop(last);
        if has_none {
            self.reports.ends(None);
        }
        self.reports.failed(&error, now);
        tracing::warn!(%error, "no JWT-SVID comes from the agent; one that it still stands for is used on, to its end");
    }

    async fn fetch(&self) -> Result<Held, Error> {
        let Inner { id, guard, .. } = &*self.identity;
        let withdrawals = self.identity.withdrawals();
        let client = agent::connect(guard).await?;
        let asked = client.fetch_jwt_token([&*self.audience], Some(id));
        let token = asked.await.map(Zeroizing::new);
        let token = token.map_err(|error| error::of_agent(&error, &id.to_string()))?;
        let now = self.identity.clock.now();
        let left = claims::life(&token, &id.to_string(), &self.audience, today()?)?;
        let ends = now + left;
        let text = SecretBuf::from_slice(token.as_bytes())?;
        Ok(Held {
            jwt: Jwt::new(text).map_err(|_| claims::none())?.with_end(ends),
            ends,
            again: now + left / 2,
            withdrawals,
        })
    }
}

impl Last {
    fn answer(&self, now: Moment) -> Result<Jwt, Error> {
        match (&self.held, &self.failed) {
            (Some(held), _) if now < held.ends => Ok(held.jwt.clone()),
            (_, Some((_, error))) => Err(error.clone().of_credential()),
            (_, None) => Err(late().of_credential()),
        }
    }
}

fn late() -> Error {
    error::new(ErrorKind::Unavailable, "the agent gave no JWT-SVID in time")
}

impl JwtSource for SpiffeJwts {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::new(self.current())
    }

    /// Perhaps the store does not know the key that signed it, and does know that of the next.
    fn refused(&self, jwt: &Jwt) {
        let soon = self.0.identity.clock.now() + pause::LONGEST;
        let mut last = lock(&self.0.last);
        if let Some(held) = last.held.as_mut().filter(|held| held.jwt == *jwt) {
            held.again = held.again.min(soon);
        }
    }

    fn status(&self) -> Option<IdentityStatus> {
        Some(self.0.reports.status(&self.0.identity.id))
    }
}

impl fmt::Debug for SpiffeJwts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeJwts")
            .field("identity", &self.0.identity)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}
