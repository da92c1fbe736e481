//! The errors that a session makes itself, and which of a store's are an outage. They name no backend: the
//! backend adds its own name.

use std::io;
use std::path::Path;

use secret_resolver::{Error, ErrorKind};

/// Whether it says nothing about a credential or a token.
pub(crate) fn is_outage(error: &Error) -> bool {
    error.kind().permits().counts_for_breaker
}

/// Whether a login's failure says something about the credential. An outage does not, nor does an answer of something that is
/// not the store, is not trusted or wants to be left alone, nor what was not sent.
pub(crate) fn is_refusal(error: &Error) -> bool {
    use ErrorKind::{Malformed, Overloaded, Refused, Throttled};
    let is_nonsense = matches!(error.kind(), Malformed | Overloaded | Refused | Throttled);
    !is_outage(error) && !is_nonsense && !error.is_held_back()
}

/// Whether it passes by itself. What was not sent says nothing.
pub(crate) fn passes(error: &Error) -> bool {
    let may_pass = matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Overloaded);
    may_pass || is_outage(error) || error.is_held_back()
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the backend was shut down")
}

pub(crate) fn deadline() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "no answer within the deadline; check the store, or allow more time",
    )
}

pub(crate) fn no_runtime() -> Error {
    misconfigured(
        "the future must be polled within a tokio runtime that has its I/O driver enabled",
    )
}

/// A panic says nothing about the store: it permits no exception.
pub(crate) fn login_panicked() -> Error {
    unauthenticated("code of the login has panicked; the next request logs in again").held_back()
}

/// The task of a login ended without a result: its runtime was dropped.
pub(crate) fn login_abandoned() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the login's runtime ended; the next request logs in again",
    )
}

pub(crate) fn login_late() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the login did not end in time; the next request logs in again",
    )
}

/// A read was refused, and so was the one after a new login, whose token is dead by now.
pub(crate) fn dead_again() -> Error {
    unauthenticated("the store ends this login's tokens as soon as they are issued")
}

/// More logins were answered than the cap allows, and none was refused.
pub(crate) fn too_many() -> Error {
    unauthenticated(
        "tokens end faster than logins may follow each other, one a second; check how long they live",
    )
}

/// The store does not say whether it knows a token.
pub(crate) fn no_verdict() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the read was refused, and the store does not say in time whether by a policy or because the token is dead",
    )
}

/// A token that was given is dead, as far as the store says.
pub(crate) fn given_is_dead() -> Error {
    unauthenticated(
        "the token that was given has died, or may not look itself up; another is taken at once, the same is tried again from time to time",
    )
}

/// One endpoint does not know a token that another knows.
pub(crate) fn stranger() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the endpoint refuses a token that another endpoint knows; it is behind, or is not the store",
    )
}

/// No outage: that would be the store's, and permits exceptions.
pub(crate) fn credential_late(backend: &'static str) -> Error {
    let what = "the source of the login's credential gives none in time; does what it asks hang, or is it slow?";
    unauthenticated(what).with_backend(backend).held_back()
}

pub(crate) fn credential_panicked() -> Error {
    unauthenticated("the source of the login's credential panicked")
}

/// A text that was given as a JWT. Nothing of it is told.
pub(crate) fn no_jwt() -> Error {
    misconfigured("this is no signed JWT: three parts in base64url with dots between them")
}

/// What a login would be made with has ended. The store was not asked, and a source may have another soon.
pub(crate) fn credential_ended() -> Error {
    unauthenticated("the JWT for the login has ended, and its source has no newer one").held_back()
}

pub(crate) fn misconfigured(what: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, what)
}

pub(crate) fn unauthenticated(what: &'static str) -> Error {
    Error::new(ErrorKind::Unauthenticated, what)
}

/// Why a credential's file cannot be used. The system's text says no more than its kind.
/// The store was not asked, and a file may appear at any time.
pub(crate) fn of_file(error: &io::Error, path: &Path) -> Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "the credential's file does not exist",
        io::ErrorKind::PermissionDenied => "the credential's file may not be read by this process",
        _ => "the credential's file cannot be read",
    };
    in_file(unauthenticated(what).held_back(), path)
}

pub(crate) fn in_file(error: Error, path: &Path) -> Error {
    error.with_detail(path.display().to_string())
}
