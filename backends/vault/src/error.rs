//! The only place where what a server, a parser or the system says becomes an [`Error`] of ours.
//!
//! Status codes are judged by what was asked; the texts of servers, of serde and of the system are
//! dropped here, because they may quote a secret. What each code means was read from OpenBao's
//! source and checked on a running 2.7.2.

use std::io;
use std::path::Path;
use std::time::Duration;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::Origin;

use crate::client::Reply;

/// The name that errors, answers and log lines carry.
pub(crate) const BACKEND: &str = "vault";

/// What a request was for: one status code means different things for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Login,
    Read,
    Lookup,
    Renewal,
    Revocation,
}

/// The error for an answer that does not carry what was asked for.
pub(crate) fn of_reply(asked: Asked, reply: &Reply<'_>) -> Error {
    let status = reply.status();
    let error = at(of_status(asked, status), reply.origin()).with_status(status);
    match reply.retry_after() {
        Some(delay) => error.with_retry_after(delay),
        None => error,
    }
}

fn of_status(asked: Asked, status: u16) -> Error {
    use ErrorKind::{Malformed, Misconfigured, Throttled, Unauthenticated, Unavailable};
    let (kind, what) = match (status, asked) {
        (429, _) => (Throttled, "the store's quota is used up; ask less often"),
        (412, _) => (
            Unavailable,
            "the endpoint is a standby that is behind; ask again",
        ),
        (503, _) => (Unavailable, "the store is sealed or has no leader"),
        (500..=599, _) => (Unavailable, "the store cannot answer now"),
        (400 | 401 | 403, Asked::Login) => (
            Unauthenticated,
            "the login was refused; check the role id, the secret id and the auth mount",
        ),
        (401 | 403, Asked::Lookup) => (
            Unauthenticated,
            "the token is dead, or its policies do not let it look itself up; give it a live one with the default policy",
        ),
        (401 | 403, _) => (Unauthenticated, "the token is not accepted"),
        (400, _) => (
            Misconfigured,
            "the store takes the request for a wrong one; check mount and path",
        ),
        (404, _) => (
            Misconfigured,
            "the store has nothing at this mount or namespace; check both",
        ),
        _ => (
            Malformed,
            "a status that the protocol does not have; check what is listening there",
        ),
    };
    ours(Error::new(kind, what))
}

/// A read answered 403 with a token that lives.
pub(crate) fn denied(origin: &Origin) -> Error {
    at(
        ours(Error::new(
            ErrorKind::Denied,
            "the policies of this login give no read on this path",
        )),
        origin,
    )
    .with_status(403)
}

/// A read answered 403, and so did the one after a new login, whose token is dead by now.
pub(crate) fn dead_again() -> Error {
    unauthenticated("the store ends this login's tokens as soon as they are issued")
}

/// 404 from a KV v2 store that knows the mount.
pub(crate) fn absent(origin: &Origin) -> Error {
    at(
        ours(Error::new(
            ErrorKind::NotFound,
            "no such secret or version, or it was deleted",
        )),
        origin,
    )
    .with_status(404)
}

pub(crate) fn no_such_version() -> Error {
    ours(Error::new(
        ErrorKind::NotFound,
        "versions of this store are numbers from 1",
    ))
}

/// Not what the protocol says. The parser's own error is dropped: it may quote the value.
pub(crate) fn malformed(what: &'static str) -> Error {
    ours(Error::new(ErrorKind::Malformed, what))
}

pub(crate) fn misconfigured(what: &'static str) -> Error {
    ours(Error::new(ErrorKind::Misconfigured, what))
}

pub(crate) fn unauthenticated(what: &'static str) -> Error {
    ours(Error::new(ErrorKind::Unauthenticated, what))
}

pub(crate) fn value_too_large() -> Error {
    ours(Error::new(
        ErrorKind::Overloaded,
        "a value of the record is larger than the bound on one value; raise it with with_value_limit",
    ))
}

pub(crate) fn held_back(what: &'static str, wait: Duration) -> Error {
    unauthenticated(what).with_retry_after(wait)
}

pub(crate) fn closed() -> Error {
    ours(Error::new(ErrorKind::Closed, "the backend was shut down"))
}

pub(crate) fn deadline() -> Error {
    ours(Error::new(
        ErrorKind::Timeout,
        "the caller's deadline passed",
    ))
}

pub(crate) fn no_runtime() -> Error {
    misconfigured(
        "the future must be polled within a tokio runtime that has its I/O driver enabled",
    )
}

/// The task of a login ended without a result: its runtime was dropped, or it panicked.
pub(crate) fn login_abandoned() -> Error {
    ours(Error::new(
        ErrorKind::Unavailable,
        "the login's runtime ended; the next request logs in again",
    ))
}

pub(crate) fn login_late() -> Error {
    ours(Error::new(
        ErrorKind::Timeout,
        "the login did not end in time; the next request logs in again",
    ))
}

/// Why a credential's file cannot be used. What the system said tells nothing more than its kind does.
pub(crate) fn of_file(error: &io::Error, path: &Path) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "the credential's file does not exist",
        io::ErrorKind::PermissionDenied => "the credential's file may not be read by this process",
        _ => "the credential's file cannot be read",
    };
    in_file(unauthenticated(what), path)
}

pub(crate) fn in_file(error: Error, path: &Path) -> Error {
    error.with_detail(path.display().to_string())
}

/// Marks an error, which may be the transport's or the core's, as met by this backend.
pub(crate) fn ours(error: Error) -> Error {
    match error.backend() {
        Some(_) => error,
        None => error.with_backend(BACKEND),
    }
}

fn at(error: Error, origin: &Origin) -> Error {
    error.with_detail(origin.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_judged_by_what_was_asked() {
        use ErrorKind::{Malformed, Misconfigured, Throttled, Unauthenticated, Unavailable};
        for asked in [
            Asked::Login,
            Asked::Read,
            Asked::Lookup,
            Asked::Renewal,
            Asked::Revocation,
        ] {
            let kind = |status| of_status(asked, status).kind();
            assert_eq!(kind(429), Throttled, "{asked:?}");
            for status in [412, 500, 502, 503, 504, 599] {
                assert_eq!(kind(status), Unavailable, "{asked:?} {status}");
            }
            for status in [100, 201, 204, 299, 405, 418, 472, 473, 600] {
                assert_eq!(kind(status), Malformed, "{asked:?} {status}");
            }
            assert_eq!(kind(401), Unauthenticated, "{asked:?}");
            assert_eq!(kind(403), Unauthenticated, "{asked:?}");
            assert_eq!(kind(404), Misconfigured, "{asked:?}");
            let bad_request = if asked == Asked::Login {
                Unauthenticated
            } else {
                Misconfigured
            };
            assert_eq!(kind(400), bad_request, "{asked:?}");
        }
    }

    #[test]
    fn an_error_names_the_first_backend_that_met_it() {
        let inner = Error::new(ErrorKind::Unavailable, "x").with_backend("other");
        assert_eq!(ours(inner).backend(), Some("other"));
        assert_eq!(closed().backend(), Some(BACKEND));
    }
}
