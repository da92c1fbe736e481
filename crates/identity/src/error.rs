//! The errors that this crate makes. The texts of the agent and of the libraries below are dropped where they are met.

use secret_resolver::{Error, ErrorKind};
use spiffe::WorkloadApiError;
use spiffe::transport::{GrpcStatusCode, TransportError};

/// The name that errors and log lines carry.
pub(crate) const SOURCE: &str = "spiffe";

/// No store was asked: such an error says nothing about one, and there may be an identity soon.
pub(crate) fn new(kind: ErrorKind, what: &'static str) -> Error {
    Error::new(kind, what).with_backend(SOURCE).held_back()
}

pub(crate) fn misconfigured(what: &'static str) -> Error {
    new(ErrorKind::Misconfigured, what)
}

pub(crate) fn forked() -> Error {
    new(
        ErrorKind::Refused,
        "the identity was built before a fork; build it in the process that uses it, after daemonizing",
    )
}

/// What an error of the Workload API means, for the identity `id`.
pub(crate) fn of_agent(error: &WorkloadApiError, id: &str) -> Error {
    let no_identity = (
        ErrorKind::Unauthenticated,
        "the agent gives this workload no identity; is there an entry for it, and do its selectors fit?",
    );
    let (kind, what) = match code(error) {
        Some(GrpcStatusCode::PermissionDenied) => no_identity,
        Some(GrpcStatusCode::InvalidArgument) => (
            ErrorKind::Misconfigured,
            "the agent does not take the request; is this a Workload API?",
        ),
        Some(GrpcStatusCode::Unimplemented) => (
            ErrorKind::Misconfigured,
            "the agent does not have this part of the Workload API",
        ),
        // This is how our side says so.
        Some(GrpcStatusCode::OutOfRange) => (
            ErrorKind::Malformed,
            "the agent's message is too large: over 4 MiB",
        ),
        Some(GrpcStatusCode::ResourceExhausted) => (
            ErrorKind::Unavailable,
            "the agent is asked too much, or its message is too large: over 4 MiB",
        ),
        Some(_) => (ErrorKind::Unavailable, "the agent cannot answer now"),
        None => match error {
            WorkloadApiError::NoIdentityIssued | WorkloadApiError::PermissionDenied(_) => {
                no_identity
            }
            WorkloadApiError::EmptyResponse => (
                ErrorKind::Unavailable,
                "the agent has ended the stream, or has nothing for this workload",
            ),
            WorkloadApiError::Transport(_) => (
                ErrorKind::Unavailable,
                "there is no connection to the agent",
            ),
            _ => (
                ErrorKind::Malformed,
                "the agent's message is not what the Workload API says; it is passed over",
            ),
        },
    };
    new(kind, what).with_detail(id)
}

/// Whether no message follows it: any other is about one message.
pub(crate) fn ends_a_stream(error: &WorkloadApiError) -> bool {
    matches!(
        error,
        WorkloadApiError::Transport(_)
            | WorkloadApiError::NoIdentityIssued
            | WorkloadApiError::PermissionDenied(_)
    )
}

/// The status that the agent answered.
fn code(error: &WorkloadApiError) -> Option<GrpcStatusCode> {
    match error {
        WorkloadApiError::Transport(TransportError::Status(status)) => Some(status.code()),
        _ => None,
    }
}
