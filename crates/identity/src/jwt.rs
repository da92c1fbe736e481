//! JWT-SVIDs for the logins of one store.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secret_resolver::{Error, ErrorKind, IdentityStatus, Moment, SecretBuf};
use secret_resolver_json::{self as json, Object};
use secret_resolver_session::{Jwt, JwtFuture, JwtSource};
use serde::Deserialize;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::agent;
use crate::error;
use crate::identity::Inner;

/// JWT-SVIDs of one identity for one audience; from [`SpiffeIdentity::jwts`](crate::SpiffeIdentity::jwts). A clone shares the last one.
///
/// One is used again for half of the life that it had left when it came, and then the agent is asked for another; one question at a
/// time. While the agent is away, or the guard does not let through what is in its place, the last one is used to its end, and never after
/// it.
///
/// # Errors
/// Of a login: [`Unauthenticated`](ErrorKind::Unauthenticated) where the agent gives this workload no identity;
/// [`Refused`](ErrorKind::Refused) for what the socket's guard does not let through, and for a JWT-SVID of another identity or audience;
/// [`Unavailable`](ErrorKind::Unavailable) while the agent is away; [`Malformed`](ErrorKind::Malformed) for what is no JWT-SVID.
#[derive(Clone)]
pub struct SpiffeJwts {
    identity: Arc<Inner>,
    audience: Arc<str>,
    last: Arc<Mutex<Option<Held>>>,
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
        if let Some(held) = last.as_ref().filter(|held| now < held.again) {
            return Ok(held.jwt.clone());
        }
        let fetched = match tokio::time::timeout(PATIENCE, self.fetch()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Failed::unreached(error::new(
                ErrorKind::Unavailable,
                "the agent gave no JWT-SVID in time",
            ))),
        };
        match fetched {
            Ok(held) => {
                self.identity.updated();
                let jwt = held.jwt.clone();
                *last = Some(held);
                Ok(jwt)
            }
            Err(Failed { error, is_verdict }) => {
                self.identity.failed(&error);
                let now = self.identity.clock.now();
                let living = last.as_ref().filter(|held| now < held.ends);
                match living.filter(|_| !is_verdict) {
                    Some(held) => {
                        tracing::warn!(%error, "no other JWT-SVID; the last one is used on, to its end");
                        Ok(held.jwt.clone())
                    }
                    // Whatever was held, the agent does not stand for it any more.
                    None => {
                        *last = None;
                        Err(error)
                    }
                }
            }
        }
    }

    async fn fetch(&self) -> Result<Held, Failed> {
        let Inner { id, guard, .. } = &*self.identity;
        let client = agent::connect(guard).await.map_err(Failed::unreached)?;
        let asked = client.fetch_jwt_token([&*self.audience], Some(id));
        let token = asked.await.map(Zeroizing::new);
        let token = token.map_err(|error| error::of_agent(&error, &id.to_string()))?;
        let now = self.identity.clock.now();
        let left = self.life_of(&token)?;
        let ends = now + left;
        let text = SecretBuf::from_slice(token.as_bytes())?;
        Ok(Held {
            jwt: Jwt::new(text).map_err(|_| not_one())?.with_end(ends),
            ends,
            again: now + left / 2,
        })
    }

    /// How long it lives, if it is one of this identity for this audience alone.
    fn life_of(&self, token: &str) -> Result<Duration, Error> {
        let payload = token.split('.').nth(1).unwrap_or_default();
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map(Zeroizing::new);
        let payload = payload.map_err(|_| not_one())?;
        let claims: Object<Claims> = json::parse(&payload, "").map_err(|_| not_one())?;
        let Object(Claims { sub, aud, exp }) = claims;
        if sub != self.identity.id.to_string() {
            return Err(error::new(
                ErrorKind::Refused,
                "the agent gave a JWT-SVID of another identity",
            ));
        }
        if aud.only() != Some(&*self.audience) {
            return Err(error::new(
                ErrorKind::Refused,
                "the agent gave a JWT-SVID for another audience, or for several",
            ));
        }
        #[allow(
            clippy::disallowed_methods,
            reason = "the end is a time of day, set by the agent on this machine"
        )]
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let today = today.unwrap_or_default();
        let left = Duration::from_secs(exp).saturating_sub(today);
        match left.is_zero() {
            true => Err(error::new(
                ErrorKind::Unavailable,
                "the agent gave a JWT-SVID that has ended; check the system clock",
            )),
            false => Ok(left),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    exp: u64,
}

/// One, or a list (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// The audience, if there is one alone.
    fn only(&self) -> Option<&str> {
        match self {
            Self::One(audience) => Some(audience),
            Self::Several(audiences) => match &audiences[..] {
                [audience] => Some(audience),
                _ => None,
            },
        }
    }
}

fn not_one() -> Error {
    error::new(
        ErrorKind::Malformed,
        "the agent's answer is no JWT-SVID; is this a Workload API?",
    )
}

impl JwtSource for SpiffeJwts {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::new(self.current())
    }

    /// The end is that of the last JWT-SVID, and is not known while the agent is asked for another.
    fn status(&self) -> Option<IdentityStatus> {
        let last = self.last.try_lock().ok();
        let ends = last.and_then(|last| last.as_ref().map(|held| held.ends));
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
