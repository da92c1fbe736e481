//! The whole table, and what no answer may ever be taken for.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::*;
use ErrorKind::{Malformed, Misconfigured, NotFound, Throttled, Unauthenticated, Unavailable};

const ASKED: [Asked; 8] = [
    Asked::Login(By::AppRole),
    Asked::Login(By::Cert),
    Asked::Login(By::Jwt),
    Asked::Login(By::Kubernetes),
    Asked::Read,
    Asked::Lookup,
    Asked::Renewal,
    Asked::Revocation,
];

/// Recorded from OpenBao 2.7.2.
const DENIED: &str = r#"{"errors":["permission denied"]}"#;
const DENIED_TOO: &str = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
const IS_SEALED: &str = r#"{"errors":["Vault is sealed"]}"#;
const IS_LOCKED: &str = r#"{"errors":["API access to this namespace has been locked by an administrator - \"team/\" must be unlocked to gain access."]}"#;
const UPGRADING: &str = r#"{"errors":["Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly."]}"#;
const READ_ONLY: &str = r#"{"errors":["cannot write to readonly storage"]}"#;
const NOTHING: &str = r#"{"errors":[]}"#;
const DELETED: &str = r#"{"data":{"data":null,"metadata":{"version":1}}}"#;

/// Not from a store.
const FOREIGN: [&str; 14] = [
    "",
    "<html><head><title>403 Forbidden</title></head></html>",
    "{}",
    "null",
    "[]",
    r#"[["permission denied"]]"#,
    r#"[null,{"metadata":{"version":1}}]"#,
    r#"{"data":[{"version":1}]}"#,
    r#"{"error":"forbidden"}"#,
    r#"{"errors":null}"#,
    r#"{"errors":"permission denied"}"#,
    r#"{"errors":[{"code":403,"message":"permission denied"}]}"#,
    r#"{"data":{}}"#,
    r#"{"data":{"metadata":{"version":null}}}"#,
];

fn kind(asked: Asked, status: u16, body: &str) -> ErrorKind {
    meaning(asked, status, Body::of(body.as_bytes())).0
}

#[test]
fn the_stores_own_answers_are_judged_by_what_was_asked() {
    for asked in ASKED {
        let kind = |status, body| kind(asked, status, body);
        for body in [DENIED, DENIED_TOO] {
            assert_eq!(kind(401, body), Unauthenticated, "{asked:?}");
            assert_eq!(kind(403, body), Unauthenticated, "{asked:?}");
            assert_eq!(kind(404, body), Misconfigured, "{asked:?}");
            let bad_request = match asked {
                Asked::Login(_) => Unauthenticated,
                _ => Misconfigured,
            };
            assert_eq!(kind(400, body), bad_request, "{asked:?}");
            for status in [200, 201, 204, 299, 405, 418, 472, 473, 600] {
                assert_eq!(kind(status, body), Malformed, "{asked:?} {status}");
            }
        }
        for body in [UPGRADING, READ_ONLY] {
            assert_eq!(kind(400, body), Unavailable, "{asked:?}");
        }
        let absent = match asked {
            Asked::Read => NotFound,
            _ => Misconfigured,
        };
        for body in [NOTHING, DELETED] {
            assert_eq!(kind(404, body), absent, "{asked:?}");
        }
    }
}

#[test]
fn a_503_says_what_is_to_be_done() {
    let page = FOREIGN[1];
    for (body, part) in [
        (IS_SEALED, "unseal"),
        (IS_LOCKED, "unlock"),
        (DENIED, "leader"),
        (page, "a proxy"),
    ] {
        for asked in ASKED {
            let (kind, text) = meaning(asked, 503, Body::of(body.as_bytes()));
            assert!(kind == Unavailable && text.contains(part), "{text}");
            // A proxy's answer is not taken for the store's.
            assert_eq!(text.contains("a proxy"), body == page);
        }
    }
    let (_, absent) = meaning(Asked::Read, 404, Body::of(NOTHING.as_bytes()));
    assert!(absent.contains("KV version 1"), "{absent}");
}

#[test]
fn what_passes_does_so_in_any_form() {
    let bodies = [DENIED, IS_SEALED, IS_LOCKED, UPGRADING, NOTHING, DELETED];
    for body in FOREIGN.into_iter().chain(bodies) {
        for asked in ASKED {
            assert_eq!(kind(asked, 429, body), Throttled);
            for status in [408, 412, 421, 425, 500, 501, 502, 503, 504, 530, 599] {
                assert_eq!(kind(asked, status, body), Unavailable, "{status} {body}");
            }
            assert_eq!(kind(asked, 304, body), Malformed);
        }
    }
}

#[test]
fn only_the_stores_own_form_speaks_of_a_secret_a_token_or_a_credential() {
    for body in FOREIGN {
        for asked in ASKED {
            for status in [200, 204, 400, 401, 403, 404, 405, 413, 418, 431, 473] {
                assert_eq!(kind(asked, status, body), Malformed, "{status} {body}");
            }
        }
    }
}

/// Any bytes at any status: a kind that the table has, and nothing that only the store can say unless
/// the body has its form.
#[test]
fn no_bytes_are_taken_for_what_only_the_store_can_say() {
    let parts: [&[u8]; 16] = [
        b"{\"errors\":[",
        b"]}",
        b"\"permission denied\"",
        b"{\"data\":",
        b"{\"metadata\":{\"version\":1}}",
        b"}",
        b",",
        b"null",
        b"\xff\xfe",
        b"<html>",
        b"\"errors\"",
        b":",
        b"[[[[[[[[",
        b"\"\\u0041\"",
        b"\"from non-versioned to versioned data\"",
        b" ",
    ];
    let random = BuildHasherDefault::<DefaultHasher>::default();
    for round in 0_u64..200_000 {
        let mut bits = random.hash_one(round);
        let status = 100 + u16::try_from(bits % 900).unwrap();
        let asked = ASKED[usize::try_from(bits >> 10).unwrap() % ASKED.len()];
        let mut body = Vec::new();
        for _ in 0..bits % 7 {
            bits = random.hash_one(bits);
            body.extend_from_slice(parts[usize::try_from(bits % 16).unwrap()]);
        }
        let form = Body::of(&body);
        let (kind, _) = meaning(asked, status, form);
        let well_formed = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let has_form = well_formed
            .is_some_and(|json| json["errors"].is_array() || json["data"]["metadata"].is_object());
        let of_the_store = matches!(kind, NotFound | Unauthenticated | Misconfigured);
        assert!(has_form || !of_the_store, "{status} {body:?}");
        assert!(has_form || form == Body::Foreign, "{body:?}");
    }
}

#[test]
fn a_refused_token_is_explained_by_what_was_asked() {
    for status in [401, 403] {
        let said = |asked| meaning(asked, status, Body::of(DENIED.as_bytes())).1;
        let login = said(Asked::Login(By::AppRole));
        // What a role that is locked out answers.
        let words = if status == 403 {
            "locked out"
        } else {
            "role id"
        };
        assert!(login.contains(words), "{login}");
        assert!(said(Asked::Lookup).contains("let it look itself up"));
        for asked in [Asked::Read, Asked::Renewal, Asked::Revocation] {
            assert_eq!(said(asked), "the token is not accepted");
        }
    }
}
