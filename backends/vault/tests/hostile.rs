//! Answers that no honest store gives: each is one kind of error, none a panic, a hang or a leak.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use secret_resolver::backend::{NameRef, Request, SystemClock};
use secret_resolver::testing::ManualClock;
use secret_resolver::{ErrorKind, SecretResolver, SecretResolverExt as _, Version};
use secret_resolver_vault::VaultBackend;
use test_servers::Reply;

const CANARY: &str = "canary-7f3a91";

/// The error of a read that gets this answer; its error's texts must not quote the answer.
fn answered(reply: Reply) -> ErrorKind {
    let fake = Fake::start();
    fake.state().instead = Some(("/data/a", reply));
    let backend = fake
        .builder(&ManualClock::strict())
        .with_clock(SystemClock::shared().unwrap())
        .with_response_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let request = Request::new(NameRef::parse("a").unwrap());
    let error = block_on(backend.resolve(request)).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    assert_eq!(error.backend(), Some("vault"));
    error.kind()
}

#[test]
fn answers_that_are_not_kv_v2_are_malformed_and_not_quoted() {
    let bodies = [
        String::new(),
        format!("<html>{CANARY}</html>"),
        format!(r#""{CANARY}""#),
        format!(r#"{{"data":{{"data":{{"value":"{CANARY}"#),
        format!(r#"{{"data":{{"data":{{"value":"{CANARY}"}}}}}}"#),
        format!(r#"{{"data":{{"data":"{CANARY}","metadata":{{"version":1}}}}}}"#),
        format!(
            r#"{{"data":{{"data":{{"value":"{CANARY}"}},"metadata":{{"version":"{CANARY}"}}}}}}"#
        ),
        format!(
            r#"{{"data":{{"data":{{"value":"{CANARY}","value":"{CANARY}"}},"metadata":{{"version":1}}}}}}"#
        ),
        format!(r#"{{"data":{{"data":{{"value":"{CANARY}\ud800"}},"metadata":{{"version":1}}}}}}"#),
        format!(
            r#"{{"data":{{"data":{{"value":"{CANARY}"}},"metadata":{{"version":1}}}}}} {CANARY}"#
        ),
        "[".repeat(500_000),
    ];
    for body in bodies {
        assert_eq!(
            answered(Reply::json(200, &body)),
            ErrorKind::Malformed,
            "{:.80}",
            body
        );
    }
    // And not everything that answers 404 is a store without the secret.
    for body in ["", "<html>Not Found</html>", "{}", r#"{"data":null}"#] {
        assert_eq!(
            answered(Reply::json(404, body)),
            ErrorKind::Malformed,
            "{body}"
        );
    }
}

#[test]
fn statuses_are_reported_by_kind_and_their_bodies_are_not_read() {
    let errors = format!(r#"{{"errors":["{CANARY}"]}}"#);
    for (status, kind) in [
        (204, ErrorKind::Malformed),
        (400, ErrorKind::Misconfigured),
        (401, ErrorKind::Unauthenticated),
        (404, ErrorKind::Misconfigured),
        (405, ErrorKind::Malformed),
        (412, ErrorKind::Unavailable),
        (429, ErrorKind::Throttled),
        (473, ErrorKind::Malformed),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        assert_eq!(answered(Reply::json(status, &errors)), kind, "{status}");
    }
}

#[test]
fn cut_endless_and_slow_answers_end() {
    let head = r#"{"data":{"data":{"value":"#.to_owned() + "\"" + CANARY;
    assert_eq!(
        answered(Reply::Truncated {
            declared: 1000,
            body: head.into()
        }),
        ErrorKind::Unavailable
    );
    assert_eq!(answered(Reply::Endless), ErrorKind::Malformed);
    let large = format!("{CANARY}{}", "x".repeat(100 << 20));
    assert_eq!(answered(Reply::json(200, &large)), ErrorKind::Malformed);
    assert_eq!(
        answered(Reply::DripHead {
            byte_every: Duration::from_millis(100)
        }),
        ErrorKind::Timeout
    );
    assert_eq!(answered(Reply::Silent), ErrorKind::Timeout);
    assert_eq!(answered(Reply::CloseAtOnce), ErrorKind::Unavailable);
}

#[test]
fn a_value_over_the_bound_is_refused_with_its_record() {
    let body = |len: usize| {
        format!(
            r#"{{"data":{{"data":{{"value":"{}","user":"u"}},"metadata":{{"version":1}}}}}}"#,
            "x".repeat(len)
        )
    };
    assert_eq!(
        answered(Reply::json(200, &body((64 << 10) + 1))),
        ErrorKind::Overloaded
    );
    let fake = Fake::start();
    fake.state().instead = Some(("/data/a", Reply::json(200, &body(5))));
    let read = |limit| {
        let backend = fake
            .builder(&ManualClock::strict())
            .with_value_limit(limit)
            .build()
            .unwrap();
        let request = Request::new(NameRef::parse("a").unwrap());
        block_on(backend.resolve(request))
            .map(drop)
            .map_err(|error| error.kind())
    };
    assert_eq!(read(5), Ok(()));
    assert_eq!(read(4), Err(ErrorKind::Overloaded));
}

#[test]
fn another_version_than_the_one_asked_for_is_malformed() {
    let fake = Fake::start();
    let backend = fake.builder(&ManualClock::strict()).build().unwrap();
    let wanted = Version::number(2);
    let request = Request::new(NameRef::parse("a").unwrap()).with_version(&wanted);
    assert_eq!(
        block_on(backend.resolve(request)).unwrap_err().kind(),
        ErrorKind::Malformed
    );
    assert!(
        fake.server
            .requests()
            .iter()
            .any(|request| request.target == "/v1/secret/data/a?version=2")
    );
}

#[test]
fn a_login_answer_without_a_usable_token_is_malformed_and_held_back() {
    for body in [
        "",
        "{}",
        r#"{"auth":{"client_token":"a\nb","lease_duration":1,"renewable":true}}"#,
    ] {
        let fake = Fake::start();
        fake.state().instead = Some(("/login", Reply::json(200, body)));
        let backend: VaultBackend = fake.builder(&ManualClock::strict()).build().unwrap();
        block_on(async {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Malformed, "{body}");
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Malformed, "{body}");
        });
        assert_eq!(fake.asked("login"), 1, "{body}");
    }
}

#[test]
fn a_builder_shows_its_target_and_no_credential_and_asks_for_the_field_that_was_chosen() {
    let fake = Fake::start();
    let builder = fake
        .token_builder(&ManualClock::strict())
        .with_clock(SystemClock::shared().unwrap())
        .with_default_field("password");
    let shown = format!("{builder:?}");
    let port = fake.server.origin().rsplit(':').next().unwrap().to_owned();
    assert!(shown.contains(&port), "{shown}");
    assert!(!shown.contains("given"), "{shown}");
    let backend = builder.build().unwrap();
    let request = |name| Request::new(NameRef::parse(name).unwrap());
    // The store's record has the field `value` alone.
    let record = block_on(backend.resolve(request("a#value"))).unwrap();
    assert_eq!(text(record.into_secret()), "v");
    let error = block_on(backend.get("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("password"), "{error}");
}

#[test]
fn the_bounds_of_a_builder_are_those_of_its_connections() {
    let fake = Fake::start();
    let builder = || fake.builder(&ManualClock::strict());
    for refused in [
        builder().with_connect_timeout(Duration::ZERO),
        builder().with_response_timeout(Duration::ZERO),
    ] {
        assert_eq!(
            refused.build().unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
    }
    // No answer of the store is that short.
    let backend = builder().with_body_limit(10).build().unwrap();
    assert_eq!(block_on(refusal(&backend, "a")), ErrorKind::Malformed);
    let backend = builder().with_body_limit(10_000).build().unwrap();
    assert_eq!(text(block_on(backend.get("a"))), "v");
}
