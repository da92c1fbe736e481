//! JWT-SVIDs for the logins of one store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secret_resolver::{Error, ErrorKind, IdentityStatus, Moment, SecretBuf};
use secret_resolver_session::{Jwt, JwtFuture, JwtSource};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::agent;
use crate::claims;
use crate::error;
use crate::identity::Inner;

/// JWT-SVIDs of one identity for one audience; from [`SpiffeIdentity::jwts`](crate::SpiffeIdentity::jwts). A clone shares the last one.
///
/// One is used again for half of the life that it had left when it came, and then the agent is asked for another; one question at a
/// time. While the agent is away, or the guard does not let through what is in its place, the last one is used to its end, and never after
/// it. What went wrong is answered to all who ask within the next second, so that however many ask, the agent is asked once; where it does
/// not take the request, for 24 seconds.
///
/// # Errors
/// Of a login: [`Unauthenticated`](ErrorKind::Unauthenticated) where the agent gives this workload no identity;
/// [`Refused`](ErrorKind::Refused) for what the socket's guard does not let through, and for a JWT-SVID of another identity or audience;
/// [`Unavailable`](ErrorKind::Unavailable) while the agent is away; [`Malformed`](ErrorKind::Malformed) for what is no JWT-SVID.
#[derive(Clone)]
pub struct SpiffeJwts {
    identity: Arc<Inner>,
    audience: Arc<str>,
    last: Arc<Mutex<Last>>,
}

#[derive(Default)]
struct Last {
    held: Option<Held>,
    /// What went wrong last, and until when that is the answer.
    failed: Option<(Moment, Error)>,
}

struct Held {
    jwt: Jwt,
    ends: Moment,
    /// From then on another is asked for.
    again: Moment,
}

/// Why there is no other JWT-SVID.
struct Failed {
    error: Error,
    /// The agent has said something of this identity. What the guard does not let through is not the agent: what that one gave stays good.
    is_verdict: bool,
}

impl Failed {
    fn unreached(error: Error) -> Self {
        Self {
            error,
            is_verdict: false,
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            is_verdict: error.kind() != ErrorKind::Unavailable,
            error,
        }
    }
}

/// The bound on one question.
const PATIENCE: Duration = Duration::from_secs(4);

impl SpiffeJwts {
    pub(crate) fn new(identity: Arc<Inner>, audience: String) -> Result<Self, Error> {
        match audience.is_empty() {
            true => Err(error::misconfigured(
                "a JWT-SVID needs an audience: the name by which the store knows itself",
            )),
            false => Ok(Self {
                identity,
                audience: Arc::from(audience),
                last: Arc::default(),
            }),
        }
    }

    async fn current(&self) -> Result<Jwt, Error> {
        let mut last = self.last.lock().await;
        let now = self.identity.clock.now();
        let is_fresh = last.held.as_ref().is_some_and(|held| now < held.again);
        let has_failed = last.failed.as_ref().is_some_and(|(until, _)| now < *until);
        if !is_fresh && !has_failed {
            self.ask(&mut last).await;
        }
        last.answer(self.identity.clock.now())
    }

    async fn ask(&self, last: &mut Last) {
        match self.fetch_in_time().await {
            Ok(held) => {
                self.identity.updated();
                last.held = Some(held);
                last.failed = None;
            }
            Err(Failed { error, is_verdict }) => {
                self.identity.failed(&error);
                tracing::warn!(%error, "no JWT-SVID comes from the agent; one that it still stands for is used on, to its end");
                let now = self.identity.clock.now();
                last.held.take_if(|held| is_verdict || held.ends <= now);
                last.failed = Some((now + error::pause_after(&error), error));
            }
        }
    }

    async fn fetch_in_time(&self) -> Result<Held, Failed> {
        let fetched = tokio::time::timeout(PATIENCE, self.fetch()).await;
        fetched.unwrap_or_else(|_| {
            Err(Failed::unreached(error::new(
                ErrorKind::Unavailable,
                "the agent gave no JWT-SVID in time",
            )))
        })
    }

    async fn fetch(&self) -> Result<Held, Failed> {
        let Inner { id, guard, .. } = &*self.identity;
        let client = agent::connect(guard).await.map_err(Failed::unreached)?;
        let asked = client.fetch_jwt_token([&*self.audience], Some(id));
        let token = asked.await.map(Zeroizing::new);
        let token = token.map_err(|error| error::of_agent(&error, &id.to_string()))?;
        let now = self.identity.clock.now();
        let left = claims::life(&token, &id.to_string(), &self.audience, today())?;
        let ends = now + left;
        let text = SecretBuf::from_slice(token.as_bytes())?;
        Ok(Held {
            jwt: Jwt::new(text).map_err(|_| claims::none())?.with_end(ends),
            ends,
            again: now + left / 2,
        })
    }
}

impl Last {
    fn answer(&self, now: Moment) -> Result<Jwt, Error> {
        match (&self.held, &self.failed) {
            (Some(held), _) if now < held.ends => Ok(held.jwt.clone()),
            (_, Some((_, error))) => Err(error.clone()),
            (_, None) => Err(claims::ended()),
        }
    }
}

/// Since 1970.
fn today() -> Duration {
    #[allow(
        clippy::disallowed_methods,
        reason = "a JWT-SVID ends at a time of day, set by the agent on this machine"
    )]
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    today.unwrap_or_default()
}

impl JwtSource for SpiffeJwts {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::new(self.current())
    }

    /// The end is that of the last JWT-SVID, and is not known while the agent is asked for another.
    fn status(&self) -> Option<IdentityStatus> {
        let last = self.last.try_lock().ok();
        let ends = last.and_then(|last| last.held.as_ref().map(|held| held.ends));
        Some(self.identity.status(ends))
    }
}

impl fmt::Debug for SpiffeJwts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeJwts")
            .field("identity", &self.identity)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}
