//! What an answer means that is not what was asked for: one table.
//!
//! Conjur's errors have no body as a rule, whatever their Content-Type says. A body that is neither empty nor Conjur's own is another
//! program's page: it speaks of no secret and of no token.

use secret_resolver::{Error, ErrorKind};
use secret_resolver_json::{Object, parse};
use secret_resolver_transport::Reply;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Login,
    Read,
    /// Many variables, by the service's own way.
    Batch,
    Whoami,
    /// What the identity may do.
    Rights,
}

/// Texts that come without JSON, before the routing.
const PLAIN: [&[u8]; 5] = [
    b"Authorization missing",
    b"Malformed authorization token",
    b"Unauthorized: Invalid token",
    b"token contains unrecognized claims",
    b"IP address rejected",
];

#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow, rename = "error")]
    _error: &'a RawValue,
}

pub(crate) fn is_conjurs_own(body: &[u8]) -> bool {
    let plain = body.trim_ascii();
    plain.is_empty() || PLAIN.contains(&plain) || parse::<Object<Said<'_>>>(body, "").is_ok()
}

/// Whether the store refuses the token of a read.
pub(crate) fn is_refusal(reply: &Reply<'_>) -> bool {
    reply.status() == 401 && is_conjurs_own(reply.body())
}

/// Whether a 200 is a variable's value, which may be any bytes. Conjur says that they are binary, of whatever kind; another program's page
/// says that it is HTML, or nothing.
pub(crate) fn is_value(reply: &Reply<'_>) -> bool {
    let kind = reply.header("Content-Type").unwrap_or("text/html");
    says_value(kind, reply.header("Content-Transfer-Encoding"))
}

fn says_value(kind: &str, encoding: Option<&str>) -> bool {
    let is_page = kind
        .get(..9)
        .is_some_and(|start| start.eq_ignore_ascii_case("text/html"));
    encoding == Some("binary") || !is_page
}

/// The error that an answer is; `path` is what was asked for.
pub(crate) fn error_of(asked: Asked, path: &str, reply: &Reply<'_>) -> Error {
    let (kind, what) = meaning(asked, reply.status(), is_conjurs_own(reply.body()));
    let error = error::new(kind, what).with_status(reply.status());
    let error = match reply.retry_after() {
        Some(delay) if matches!(kind, ErrorKind::Throttled | ErrorKind::Unavailable) => {
            error.with_retry_after(delay)
        }
        _ => error,
    };
    error.with_detail(reply.place(path))
}

fn meaning(asked: Asked, status: u16, is_own: bool) -> (ErrorKind, &'static str) {
    use ErrorKind::{
        Denied, Malformed, Misconfigured, NotFound, Throttled, Unauthenticated, Unavailable,
    };
    match (status, asked) {
        (429, _) => (Throttled, "the store asks for fewer requests"),
        (500, _) => (Unavailable, "the store failed; is its database there?"),
        // The first two are a proxy's: of a connection that was kept for too long, or is another host's.
        (408 | 421 | 501..=599, _) => (
            Unavailable,
            "the store, or a proxy before it, is not available",
        ),
        (405, _) => (
            Unavailable,
            "the endpoint is a follower that does not take this request; list one that does",
        ),
        _ if !is_own => (
            Malformed,
            "the answer is not Conjur's; check what is listening there, or a proxy before it: does that take our client certificate?",
        ),
        (401, Asked::Login) => (
            Unauthenticated,
            "the login was refused: check the login, its credential, the service, its restrictions, and whether the address needs \"/api\"; Conjur does not say which",
        ),
        (401, _) => (Unauthenticated, "the store does not take the token"),
        (403, Asked::Login) => (
            Unauthenticated,
            "the identity may not use this authenticator; give it the privilege \"authenticate\"",
        ),
        (403, Asked::Rights) => (
            Denied,
            "the identity may not ask what it may do; does it exist, and may it come from this network?",
        ),
        (403, _) => (
            Denied,
            "the identity may see the variable and not read it, or does not exist any more, or may not come from this network",
        ),
        (404, Asked::Read) => (
            NotFound,
            "no such variable, no value, no such version, or nothing that this identity may see; Conjur does not say which",
        ),
        (404, Asked::Batch) => (
            Misconfigured,
            "the store has no batches of this kind; leave with_saas_batches out, or give its address \"/api\"",
        ),
        (404, Asked::Rights) => (
            Misconfigured,
            "the endpoint does not say what an identity may do; an Edge does not",
        ),
        (404, _) => (
            Misconfigured,
            "the store has no such authenticator or path; check the service, and whether the appliance's address needs \"/api\"",
        ),
        (400, Asked::Login) => (Misconfigured, "the store takes the login for an empty one"),
        (400, _) => (
            Misconfigured,
            "the store takes the request for a wrong one: an id that is not UTF-8, or too long a list",
        ),
        (422, _) => (
            Misconfigured,
            "the store takes an argument for a wrong one; check the id",
        ),
        _ => (
            Malformed,
            "a status that the protocol does not have; check what is listening there",
        ),
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{
        Denied, Malformed, Misconfigured, NotFound, Throttled, Unauthenticated, Unavailable,
    };

    #[test]
    fn conjurs_own_bodies_are_empty_or_json_or_one_of_a_few_texts() {
        for own in [
            "",
            "\n",
            "Authorization missing",
            "IP address rejected",
            r#"{"error":{"code":"not_found","message":"CONJ00076E …"}}"#,
        ] {
            assert!(is_conjurs_own(own.as_bytes()), "{own}");
        }
        for foreign in [
            "<html></html>",
            "{}",
            "[]",
            "null",
            r#"["error"]"#,
            "Authorization",
            "{",
        ] {
            assert!(!is_conjurs_own(foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn a_page_of_another_program_speaks_of_no_secret_and_no_token() {
        for asked in [Asked::Login, Asked::Read, Asked::Whoami] {
            for status in [400, 401, 403, 404, 406, 418, 422] {
                assert_eq!(meaning(asked, status, false).0, Malformed);
            }
        }
    }

    #[test]
    fn a_page_of_another_program_is_no_value() {
        for (kind, encoding, is_value) in [
            ("application/octet-stream", Some("binary"), true),
            ("text/html", Some("binary"), true),
            // An Edge may say less.
            ("application/octet-stream", None, true),
            ("application/json", None, true),
            ("text/html", None, false),
            ("Text/HTML; charset=utf-8", None, false),
            ("text/html", Some("8bit"), false),
            ("", None, true),
        ] {
            assert_eq!(says_value(kind, encoding), is_value, "{kind} {encoding:?}");
        }
    }

    #[test]
    fn every_status_means_what_the_table_says() {
        for (status, login, read) in [
            (400, Misconfigured, Misconfigured),
            (401, Unauthenticated, Unauthenticated),
            (403, Unauthenticated, Denied),
            (404, Misconfigured, NotFound),
            (405, Unavailable, Unavailable),
            (408, Unavailable, Unavailable),
            (421, Unavailable, Unavailable),
            (406, Malformed, Malformed),
            (422, Misconfigured, Misconfigured),
            (429, Throttled, Throttled),
            (500, Unavailable, Unavailable),
            (502, Unavailable, Unavailable),
            (503, Unavailable, Unavailable),
            (504, Unavailable, Unavailable),
            (204, Malformed, Malformed),
            (600, Malformed, Malformed),
        ] {
            assert_eq!(meaning(Asked::Login, status, true).0, login, "{status}");
            assert_eq!(meaning(Asked::Read, status, true).0, read, "{status}");
        }
    }
}
