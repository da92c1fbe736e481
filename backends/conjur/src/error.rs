//! The errors that this backend makes. What an answer means is `answers.rs`; the texts of servers and of parsers are dropped where they
//! are met, because they may quote a secret.

use secret_resolver::{Error, ErrorKind};

/// The name that errors, answers and log lines carry.
pub(crate) const BACKEND: &str = "conjur";

pub(crate) fn new(kind: ErrorKind, what: &'static str) -> Error {
    Error::new(kind, what).with_backend(BACKEND)
}

pub(crate) fn malformed(what: &'static str) -> Error {
    new(ErrorKind::Malformed, what)
}

pub(crate) fn misconfigured(what: &'static str) -> Error {
    new(ErrorKind::Misconfigured, what)
}

pub(crate) fn no_such_version() -> Error {
    new(
        ErrorKind::NotFound,
        "versions of this store are numbers from 1",
    )
}

pub(crate) fn value_too_large() -> Error {
    new(
        ErrorKind::Overloaded,
        "the value is larger than the bound on one value; raise it with with_value_limit",
    )
}

/// Marks an error, which may be the transport's or the core's, as met by this backend.
pub(crate) fn ours(error: Error) -> Error {
    match error.backend() {
        Some(_) => error,
        None => error.with_backend(BACKEND),
    }
}
