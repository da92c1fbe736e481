//! What an answer means when it does not carry what was asked for. Only this file decides it: by its status, the
//! form of its body and the request.
//!
//! OpenBao and Vault answer every error with `{"errors":[…]}`. An answer of another form comes from
//! something before the store, a proxy or a page of some other server. It may say that nothing can be
//! answered now; about a secret, a token or a credential it says nothing. The texts are only
//! searched for conditions that pass by themselves, and then dropped: they may quote a secret. What each status means was
//! read from OpenBao's source and checked on a running 2.7.2 (`tests/openbao_answers.rs`); 408 and 421
//! are RFC 9110, 15.5.9 and 15.5.20, 425 is RFC 8470, 5.2.

use secret_resolver::{Error, ErrorKind};
use secret_resolver_json::Object;
use secret_resolver_transport::Reply;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{error, inline};

/// What a request was for: one answer means different things for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Login(By),
    Read,
    Lookup,
    Renewal,
    Revocation,
    /// What the identity may do.
    Rights,
}

/// What a login was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    AppRole,
    Cert,
    Jwt,
    Kubernetes,
}

/// The form of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// The store says nothing: this is how KV v2 answers for what is not there.
    Nothing,
    /// The metadata of a version that was deleted or destroyed.
    Deleted,
    /// The store says why.
    Reason,
    /// The store says why, and that it passes by itself.
    Passing,
    /// The store says that it is sealed.
    Sealed,
    /// The store says that an administrator has locked the namespace.
    Locked,
    /// The store says that what has logged in has no name.
    Nameless,
    /// It is not the store's.
    Foreign,
}

/// What the store says in a 400 that passes: while a KV store is turned into version 2, at itself and
/// at its standbys; at a standby that cannot write what a request makes it write; and while a store starts.
const PASSING: [&str; 3] = [
    "from non-versioned to versioned data",
    "cannot write to readonly storage",
    "cannot write to storage during setup",
];

/// What the store says in a 503.
const SEALED: &str = "is sealed";
const LOCKED: &str = "locked by an administrator";

/// What OpenBao says in a 500 to a login by a certificate without a common name.
const NAMELESS: &str = "missing name in alias";

/// The error for an answer that does not carry what was asked for.
pub(crate) fn error_of(asked: Asked, target: &str, reply: &Reply<'_>) -> Error {
    let status = reply.status();
    let asked = match inline::has_failed(reply) {
        true => Asked::Login(By::Jwt),
        false => asked,
    };
    let (kind, what) = meaning(asked, status, Body::of(reply.body()));
    let error = error::at(Error::new(kind, what), reply.place(target)).with_status(status);
    match reply.retry_after() {
        Some(delay) => error.with_retry_after(delay),
        None => error,
    }
}

/// The error for an answer with the right status that cannot be read, with what was asked, and where.
pub(crate) fn at_place(error: Error, target: &str, reply: &Reply<'_>) -> Error {
    match error.detail() {
        Some(_) => error,
        None => error::at(error, reply.place(target)),
    }
}

/// Whether the store itself refuses a request with a token: by a policy, or because the token is dead. A JWT that logs in with its request
/// is refused by a 400; a header says so, but a proxy may have dropped it.
pub(crate) fn is_refusal(reply: &Reply<'_>, is_inline: bool) -> bool {
    let body = || Body::of(reply.body());
    match reply.status() {
        403 => body() != Body::Foreign,
        400 => is_inline && body() == Body::Reason,
        _ => false,
    }
}

fn meaning(asked: Asked, status: u16, body: Body) -> (ErrorKind, &'static str) {
    use ErrorKind::{Malformed, Misconfigured, NotFound, Throttled, Unauthenticated, Unavailable};
    match (status, body, asked) {
        // These pass, even where a proxy says so.
        (429, _, _) => (Throttled, "the store's quota is used up; ask less often"),
        (412, _, _) => (
            Unavailable,
            "the endpoint is a standby that is behind; ask again",
        ),
        (408, _, _) => (
            Unavailable,
            "the server did not get the whole request in time; ask again",
        ),
        (425, _, _) => (
            Unavailable,
            "the server does not take the request yet; ask again",
        ),
        (421, _, _) => (
            Unavailable,
            "the connection led to a server that does not answer for this host; ask again",
        ),
        (503, Body::Sealed, _) => (Unavailable, "the store is sealed; unseal it"),
        (503, Body::Locked, _) => (
            Unavailable,
            "the namespace is locked by an administrator; unlock it",
        ),
        (500, Body::Nameless, Asked::Login(By::Cert)) => (
            Misconfigured,
            "the store takes no login by a certificate without a common name; issue one that has it",
        ),
        (500..=599, Body::Nothing | Body::Deleted | Body::Foreign, _) => (
            Unavailable,
            "the store, or a proxy before it, cannot answer now",
        ),
        (500..=599, _, _) => (
            Unavailable,
            "the store cannot answer now; does it have a leader?",
        ),
        (400, Body::Passing, _) => (
            Unavailable,
            "the store is being changed, or is a standby that cannot write; ask again",
        ),
        (304, _, _) => (
            Malformed,
            "the answer is that nothing has changed, which was not asked",
        ),
        // The rest counts only where the store says it.
        (_, Body::Foreign, _) => (
            Malformed,
            "the answer is not that of a Vault server; check what is listening there, or a proxy before it: does that take our client certificate?",
        ),
        (403, _, Asked::Login(By::AppRole)) => (
            Unauthenticated,
            "the login was refused; check the auth mount, and whether the role is locked out after logins with a wrong secret id, of this or another service",
        ),
        (400 | 401 | 403, _, Asked::Login(by)) => (Unauthenticated, by.is_refused()),
        (401 | 403, _, Asked::Lookup) => (
            Unauthenticated,
            "the token is dead, or its policies do not let it look itself up; give it a live one with the default policy",
        ),
        (401 | 403, _, _) => (Unauthenticated, "the token is not accepted"),
        (404, Body::Nothing | Body::Deleted, Asked::Read) => (
            NotFound,
            "no such secret or version, or it was deleted, or the mount is one of KV version 1",
        ),
        (404, _, _) => (
            Misconfigured,
            "the store has nothing at this mount or namespace; check both",
        ),
        (400, _, _) => (
            Misconfigured,
            "the store takes the request for a wrong one; check mount and path",
        ),
        _ => (
            Malformed,
            "a status that the protocol does not have; check what is listening there",
        ),
    }
}

impl By {
    /// What to check. The store says more, but it may quote what it was sent.
    fn is_refused(self) -> &'static str {
        match self {
            Self::AppRole => {
                "the login was refused; check the role id, the secret id and the auth mount"
            }
            Self::Cert => {
                "the login was refused; check the client certificate, what the role demands of it, the role's name and the auth mount"
            }
            Self::Jwt => {
                "the login was refused; check that the JWT has not ended, its issuer and audience, what the role demands of it, the role's name and the auth mount"
            }
            Self::Kubernetes => {
                "the login was refused; check that the JWT has not ended, that the store reaches the Kubernetes API and may review tokens there, what the role demands, the role's name and the auth mount"
            }
        }
    }
}

impl Body {
    fn of(body: &[u8]) -> Self {
        let Ok(Object(said)) = serde_json::from_slice::<Object<Said<'_>>>(body) else {
            return Self::Foreign;
        };
        match said {
            Said {
                errors: Some(errors),
                ..
            } => Self::of_errors(&errors),
            Said {
                data: Some(Object(Data { metadata: Some(_) })),
                ..
            } => Self::Deleted,
            _ => Self::Foreign,
        }
    }

    fn of_errors(errors: &[&RawValue]) -> Self {
        // As it is in the JSON, so that no copy is made: none of these texts has an escape.
        let says = |text: &str| errors.iter().any(|error| error.get().contains(text));
        let is_text = |error: &&RawValue| error.get().starts_with('"');
        match errors {
            [] => Self::Nothing,
            errors if !errors.iter().all(is_text) => Self::Foreign,
            _ if PASSING.iter().any(|text| says(text)) => Self::Passing,
            _ if says(LOCKED) => Self::Locked,
            _ if says(SEALED) => Self::Sealed,
            _ if says(NAMELESS) => Self::Nameless,
            _ => Self::Reason,
        }
    }
}

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    errors: Option<Vec<&'a RawValue>>,
    data: Option<Object<Data>>,
}

#[derive(Deserialize)]
struct Data {
    metadata: Option<Object<Metadata>>,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "version")]
    _version: u64,
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
#[cfg(test)]
mod tests;
