//! JWT-SVIDs for the logins of one store.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{first, report};
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
/// time, and for all who wait. While one lives, nobody waits for more than a quarter of a second. Where the agent is away, gives no answer that can be used, or is not let through by the guard, the last one is
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
    /// Until when a denial is no news to the identity's other sources.
    known: Option<Moment>,
    /// Ends with the question that is under way.
    asking: Option<watch::Receiver<()>>,
}

struct Held {
    jwt: Jwt,
    ends: Moment,
    /// The same by the time of day, which may be set meanwhile; counted from 1970.
    expires: Duration,
    /// From then on another is asked for.
    again: Moment,
    /// How often the identity was withdrawn before it was asked for.
    withdrawals: u64,
}

/// The bound on one question.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a question is waited for while the last JWT-SVID lives. An agent that is well answers within milliseconds.
const BRIEF: Duration = Duration::from_millis(250);

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
        self.0.identity.check_process()?;
        let clock = &*self.0.identity.clock;
        if let Some((mut asking, patience)) = self.0.ask(clock.now()) {
            let end = async { while asking.changed().await.is_ok() {} };
            first(end, clock.sleep_until(clock.now() + patience)).await;
        }
        self.0.answer(clock.now())
    }
}

impl Source {
    /// What to wait for, and how long, where the agent has to be asked: then it is, unless it is being asked.
    fn ask(self: &Arc<Self>, now: Moment) -> Option<(watch::Receiver<()>, Duration)> {
        let mut last = lock(&self.last);
        self.drop_withdrawn(&mut last);
        let is_fresh = last
            .held
            .as_ref()
            .is_some_and(|held| held.is_good(now) && now < held.again);
        let has_failed = last.failed.as_ref().is_some_and(|(until, _)| now < *until);
        if is_fresh || has_failed {
            return None;
        }
        let patience = match last.held.as_ref().is_some_and(|held| held.is_good(now)) {
            true => BRIEF,
            // The question has its own end, which comes first unless its thread stands still.
            false => PATIENCE + Duration::from_secs(1),
        };
        let is_open = |asking: &&watch::Receiver<()>| asking.has_changed().is_ok();
        if let Some(asking) = last.asking.as_ref().filter(is_open) {
            return Some((asking.clone(), patience));
        }
        let (done, asking) = watch::channel(());
        last.asking = Some(asking.clone());
        let source = Arc::clone(self);
        self.worker.spawn(async move {
            let fetched = tokio::time::timeout(PATIENCE, source.fetch()).await;
            source.take(fetched.unwrap_or_else(|_| Err(source.late())));
            drop(done);
        });
        Some((asking, patience))
    }

    fn take(&self, fetched: Result<Held, Error>) {
        let error = match fetched {
            Ok(held) => {
                let (now, ends) = (self.identity.clock.now(), held.ends);
                let mut last = lock(&self.last);
                last.failed = None;
                last.held = Some(held);
                self.reports.updated(now);
                self.reports.ends(Some(ends));
                return self.drop_withdrawn(&mut last);
            }
            Err(error) => self.named(error),
        };
        // The agent's word that there is none; all else says nothing about the one that is held. It comes before the clock is asked, which
        // is foreign code. Said again and again, as for one audience, it is news to the other sources from time to time.
        let denied = error.kind() == ErrorKind::Unauthenticated;
        let known = lock(&self.last).known;
        if denied && known.is_none() {
            self.identity.withdrawn();
        }
        let now = self.identity.clock.now();
        if denied && known.is_some_and(|known| now >= known) {
            self.identity.withdrawn();
        }
        let mut last = lock(&self.last);
        if denied && known.is_none_or(|known| now >= known) {
            last.known = Some(now + pause::LONGEST);
        }
        last.failed = Some((now + pause::after(&error), error.clone()));
        if last
            .held
            .take_if(|held| denied || !held.is_good(now))
            .is_some()
        {
            self.reports.ends(None);
        }
        self.drop_withdrawn(&mut last);
        drop(last);
        self.reports.failed(&error, now);
        report(move || {
            tracing::warn!(%error, "no JWT-SVID comes from the agent; the last one, where there is one, is used to its end");
        });
    }

    /// What was asked for before the agent said that there is no such identity is used no more: the stream of X509-SVIDs, or another source,
    /// may have heard it first.
    fn drop_withdrawn(&self, last: &mut Last) {
        let withdrawals = self.identity.withdrawals();
        let is_withdrawn = |held: &mut Held| held.withdrawals != withdrawals;
        if last.held.take_if(is_withdrawn).is_some() {
            self.reports.ends(None);
        }
    }

    fn answer(&self, now: Moment) -> Result<Jwt, Error> {
        let mut last = lock(&self.last);
        self.drop_withdrawn(&mut last);
        match (&last.held, &last.failed) {
            (Some(held), _) if held.is_good(now) => Ok(held.jwt.clone()),
            (_, Some((_, error))) => Err(error.clone().of_credential()),
            (_, None) => Err(self.late().of_credential()),
        }
    }

    fn late(&self) -> Error {
        let what = "the agent gave no JWT-SVID in time";
        self.named(error::new(ErrorKind::Unavailable, what))
    }

    /// An error that says whose JWT-SVID is missing, and for which store.
    fn named(&self, error: Error) -> Error {
        let id = self.identity.id.to_string();
        let facts = format!("{id}, audience {}", self.audience);
        let facts = match error.detail() {
            Some(detail) if detail != id => format!("{facts}, {detail}"),
            _ => facts,
        };
        error.with_detail(facts)
    }

    async fn fetch(&self) -> Result<Held, Error> {
        let Inner { id, guard, .. } = &*self.identity;
        let withdrawals = self.identity.withdrawals();
        let client = agent::connect(guard).await?;
        let asked = client.fetch_jwt_token([&*self.audience], Some(id));
        let token = asked.await.map(Zeroizing::new);
        let token = token.map_err(|error| error::of_agent(&error, &id.to_string()))?;
        let now = self.identity.clock.now();
        let today = today()?;
        let left = claims::life(&token, &id.to_string(), &self.audience, today)?;
        let ends = now + left;
        let text = SecretBuf::from_slice(token.as_bytes())?;
        Ok(Held {
            jwt: Jwt::new(text).map_err(|_| claims::none())?.with_end(ends),
            ends,
            expires: today.saturating_add(left),
            again: now + left / 2,
            withdrawals,
        })
    }
}

impl Held {
    /// Whether it has not ended.
    fn is_good(&self, now: Moment) -> bool {
        now < self.ends && today().is_ok_and(|today| today < self.expires)
    }
}

impl JwtSource for SpiffeJwts {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::new(self.current())
    }

    /// Perhaps the store does not know the key that signed it, and does know that of the next.
    fn refused(&self, jwt: &Jwt) {
        if self.0.identity.check_process().is_err() {
            return;
        }
        let soon = self.0.identity.clock.now() + pause::LONGEST;
        let mut last = lock(&self.0.last);
        if let Some(held) = last.held.as_mut().filter(|held| held.jwt == *jwt) {
            held.again = held.again.min(soon);
        }
    }

    fn status(&self) -> Option<IdentityStatus> {
        self.0.identity.check_process().ok()?;
        self.0.drop_withdrawn(&mut lock(&self.0.last));
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
