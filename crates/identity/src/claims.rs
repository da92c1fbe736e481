//! What a JWT-SVID says of itself (SPIFFE, JWT-SVID 3): whose it is, for whom, and until when. Its signature is for the store to verify.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secret_resolver::{Error, ErrorKind};
use secret_resolver_json::{self as json, Object};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error;

#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Audience,
    /// In seconds since 1970, which may have a fraction (RFC 7519, 2).
    exp: f64,
}

/// One, or a list (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// How long a JWT-SVID lives from `today` on, which is counted from 1970, if it is one of this identity for this audience alone.
pub(crate) fn life(
    token: &str,
    id: &str,
    audience: &str,
    today: Duration,
) -> Result<Duration, Error> {
    let Claims { sub, aud, exp } = read(token)?;
    if sub != id {
        // As where it says that there is no such identity.
        return Err(error::new(
            ErrorKind::Unauthenticated,
            "the agent gave a JWT-SVID of another identity",
        ));
    }
    if aud.only() != Some(audience) {
        return Err(error::new(
            ErrorKind::Refused,
            "the agent gave a JWT-SVID for another audience, or for several",
        ));
    }
    let left = exp - today.as_secs_f64();
    match left > 0.0 {
        // One that ends after all clocks do has no end.
        true => Ok(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)),
        false => Err(ended()),
    }
}

fn read(token: &str) -> Result<Claims, Error> {
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map(Zeroizing::new);
    let payload = payload.map_err(|_| none())?;
    let claims = json::parse(&payload, "").map_err(|_| none());
    claims.map(|Object(claims)| claims)
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

pub(crate) fn ended() -> Error {
    error::new(
        ErrorKind::Unavailable,
        "the agent gave a JWT-SVID that has ended; check the system clock",
    )
}

pub(crate) fn none() -> Error {
    error::new(
        ErrorKind::Malformed,
        "the agent's answer is no JWT-SVID; is this a Workload API?",
    )
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
