//! The errors that this backend makes. What an answer means is `answers.rs`; the texts of servers, of serde
//! and of the system are dropped where they are met, because they may quote a secret.

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::Origin;

/// The name that errors, answers and log lines carry.
pub(crate) const BACKEND: &str = "vault";

/// A read answered 403 with a token that lives.
pub(crate) fn denied(place: String) -> Error {
    let what = "the policies of this login give no read on this path";
    at(Error::new(ErrorKind::Denied, what), place).with_status(403)
}

/// The question what this identity may do answered 403 with a token that lives.
pub(crate) fn may_not_ask() -> Error {
    let what = "the identity may not ask what it may do; allow it \"update\" on sys/capabilities-self and \"read\" on auth/token/lookup-self, as the policy default does";
    ours(Error::new(ErrorKind::Denied, what)).with_status(403)
}

/// A login answered 403 after others with 400: the store does not look at the credentials any more.
pub(crate) fn locked_out(error: Error) -> Error {
    let what = "the role is probably locked out for every service, after logins with a wrong secret id; correct the secret id, and wait (15 minutes by default) or unlock the role";
    let delay = error.retry_after();
    let place = error.detail().map(str::to_owned).unwrap_or_default();
    let locked = at(Error::new(ErrorKind::Unauthenticated, what), place).with_status(403);
    match delay {
        Some(delay) => locked.with_retry_after(delay),
        None => locked,
    }
}

/// The same question, where no token is kept to be asked about.
pub(crate) fn cannot_ask() -> Error {
    let what = "what an identity may do cannot be asked with inline authentication; ask it with Auth::jwt, as in a test, or do not demand least privilege";
    ours(Error::new(ErrorKind::Denied, what))
}

/// A 403 to the first request with a JWT that does not say that the login has failed.
pub(crate) fn no_inline(error: &Error) -> Error {
    let what = "the store does not take a JWT with a request; is it OpenBao 2.4 or later, does the role have the default policy, and may it log in from this address?";
    let place = error.detail().map(str::to_owned).unwrap_or_default();
    at(Error::new(ErrorKind::Unauthenticated, what), place).with_status(403)
}

pub(crate) fn no_such_version() -> Error {
    ours(Error::new(
        ErrorKind::NotFound,
        "versions of this store are numbers from 1",
    ))
}

/// One endpoint of several redirects. A standby does so with 307 when it forwards nothing to its leader, and
/// the leader may be another endpoint; any other redirect comes from a page.
pub(crate) fn redirected(error: Error, origin: &Origin) -> Error {
    if error.status() != Some(307) {
        return ours(error);
    }
    let what = "the endpoint is a standby that sends requests to its leader elsewhere; let it forward them, and list every node of the store";
    at(Error::new(ErrorKind::Unavailable, what), origin.to_string()).with_status(307)
}

/// Not what the protocol says. The parser's own error is dropped: it may quote the value.
pub(crate) fn malformed(what: &'static str) -> Error {
    ours(Error::new(ErrorKind::Malformed, what))
}

pub(crate) fn misconfigured(what: &'static str) -> Error {
    ours(Error::new(ErrorKind::Misconfigured, what))
}

/// Marks an error, which may be the transport's or the core's, as met by this backend.
pub(crate) fn ours(error: Error) -> Error {
    match error.backend() {
        Some(_) => error,
        None => error.with_backend(BACKEND),
    }
}

/// With what was asked, and where.
pub(crate) fn at(error: Error, place: String) -> Error {
    ours(error).with_detail(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_first_backend_that_met_it() {
        let inner = Error::new(ErrorKind::Unavailable, "x").with_backend("other");
        assert_eq!(ours(inner).backend(), Some("other"));
        assert_eq!(malformed("x").backend(), Some(BACKEND));
    }
}
