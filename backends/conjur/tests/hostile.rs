//! Answers that no honest Conjur gives: each is one kind of error, none a panic, a hang, a leak or a value. Batches are in `sick_batches`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, Engine as _};
use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Kind};
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::ConjurBackend;

const CANARY: &str = "canary-7f3a91";

/// A value as the store sends it, with this body.
fn value(body: &[u8]) -> Answer {
    Answer::new(200)
        .with_header("Content-Type", "application/octet-stream")
        .with_header("Content-Transfer-Encoding", "binary")
        .with_body(body)
}

fn raw(head: &str, body: &str) -> Fault {
    let head = format!("HTTP/1.1 {head}\r\nContent-Type: application/octet-stream\r\n");
    Fault::Raw(format!("{head}\r\n{body}").into_bytes())
}

/// The error of a get that meets this fault; it must not quote the answer.
async fn meets(
    server: &ConjurDouble,
    backend: &ConjurBackend,
    kind: Kind,
    fault: Fault,
) -> ErrorKind {
    only(server, kind, fault);
    let error = backend.get("v").await.unwrap_err();
    server.clear_faults();
    assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    assert_eq!(error.backend(), Some("conjur"));
    error.kind()
}

#[test]
fn an_answer_to_a_read_that_is_cut_or_breaks_the_rules_of_http_is_no_value() {
    let server = server(&[("v", b"x")]);
    let backend = backend(&server);
    let cut = raw("200 OK\r\nContent-Length: 1000", CANARY);
    let chunked = "200 OK\r\nTransfer-Encoding: chunked";
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        for (fault, kind) in [
            (cut, ErrorKind::Unavailable),
            (
                raw(chunked, "d\r\ncanary-7f3a91\r\n"),
                ErrorKind::Unavailable,
            ),
            (raw(chunked, "zz\r\ncanary"), ErrorKind::Malformed),
            (
                raw("200 OK\r\nContent-Length: 6\r\nContent-Length: 3", "canary"),
                ErrorKind::Malformed,
            ),
            (
                raw("200 OK\r\nContent-Length: -6", "canary"),
                ErrorKind::Malformed,
            ),
            (Fault::Raw(b"canary-7f3a91".to_vec()), ErrorKind::Malformed),
            (Fault::Raw(vec![0x16; 4096]), ErrorKind::Malformed),
            (Fault::Close, ErrorKind::Unavailable),
        ] {
            let shown = format!("{fault:?}");
            assert_eq!(
                meets(&server, &backend, Kind::Secret, fault).await,
                kind,
                "{shown}"
            );
        }
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(backend.logins(), 1);
}

#[test]
fn a_huge_or_empty_answer_to_a_read_is_no_value() {
    let server = server(&[("v", b"x")]);
    let backend = backend(&server);
    let huge = Fault::Answer(value(&vec![b'x'; 64 << 20]));
    let endless = raw(
        "200 OK\r\nTransfer-Encoding: chunked",
        &format!("{:x}\r\n{}", 32 << 20, "x".repeat(32 << 20)),
    );
    // It ends with the connection.
    let unbounded = raw("200 OK", &"x".repeat(8 << 20));
    let large = Fault::Answer(value(&[7; (64 << 10) + 1]));
    // Conjur stores none.
    let empty = Fault::Answer(value(b""));
    block_on(async {
        for (fault, kind) in [
            (huge, ErrorKind::Malformed),
            (endless, ErrorKind::Malformed),
            (unbounded, ErrorKind::Malformed),
            (large, ErrorKind::Overloaded),
            (empty, ErrorKind::Malformed),
        ] {
            assert_eq!(meets(&server, &backend, Kind::Secret, fault).await, kind);
        }
    });
}

#[test]
fn what_an_answer_has_after_its_end_is_not_the_answer_to_the_next_read() {
    let server = server(&[("v", b"x"), ("w", b"y")]);
    let backend = backend(&server);
    let one = "200 OK\r\nContent-Length: 1";
    let two = "xHTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 6\r\n\r\ncanary";
    block_on(async {
        server.fault_next(Kind::Secret, raw(one, two));
        let first = backend.get("v").await;
        assert!(first.is_err() || bytes(first) == b"x");
        assert_eq!(bytes(backend.get("w").await), b"y");
    });
}

#[test]
fn a_silent_conjur_is_a_timeout_wherever_it_falls_silent() {
    for kind in [Kind::Authenticate, Kind::Secret, Kind::Resource] {
        let (server, _, clock) = single();
        let builder = builder(&server).with_versions().with_clock(clock.clone());
        let backend = builder.with_response_timeout(2 * SECOND).build().unwrap();
        only(&server, kind, Fault::Hang);
        block_on(async {
            let get = spawn_get(&backend, "v");
            until("it was sent", || server.count(kind) == 1).await;
            until("its end", || {
                clock.advance(SECOND / 10);
                get.is_finished()
            })
            .await;
            assert_eq!(
                get.await.unwrap().unwrap_err().kind(),
                ErrorKind::Timeout,
                "{kind:?}"
            );
        });
    }
}

#[test]
fn metadata_that_are_not_conjurs_tell_no_version() {
    let server = server(&[("v", b"x")]);
    let backend = builder(&server).with_versions().build().unwrap();
    let deep = format!(r#"{{"secrets":{}"#, "[".repeat(200_000));
    let many = format!(
        r#"{{"secrets":[{}{{"version":"canary"}}]}}"#,
        r#"{"version":1},"#.repeat(10_000)
    );
    block_on(async {
        for body in [
            "",
            PAGE,
            "[]",
            "{}",
            r#"{"secrets":null}"#,
            r#"{"secrets":"canary"}"#,
            r#"{"secrets":[["canary"]]}"#,
            r#"{"secrets":[{"version":-1}]}"#,
            r#"{"secrets":[{"version":1.5}]}"#,
            r#"{"secrets":[{"version":"1"}]}"#,
            r#"{"secrets":[{"version":18446744073709551616}]}"#,
            r#"{"secrets":[{"version":1,"version":2}]}"#,
            r#"{"secrets":[{"version":1}],"secrets":[]}"#,
            r#"{"secrets":[{"version":1}]} canary"#,
            r#"{"secrets":[{"version":1}"#,
            &deep,
            &many,
        ] {
            let fault = Fault::Answer(Answer::json(200, body));
            let kind = meets(&server, &backend, Kind::Resource, fault).await;
            assert_eq!(kind, ErrorKind::Malformed, "{body:.60}");
        }
        // Honest in form: there is no such version.
        for body in [
            r#"{"secrets":[]}"#,
            r#"{"secrets":[{"version":9223372036854775807}]}"#,
        ] {
            let fault = Fault::Answer(Answer::json(200, body));
            let kind = meets(&server, &backend, Kind::Resource, fault).await;
            assert_eq!(kind, ErrorKind::NotFound, "{body}");
        }
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
}

/// A token with these claims, in the form that is asked for.
fn token(claims: &str) -> String {
    let part = |text: &str| BASE64_URL_SAFE.encode(text);
    let json = format!(
        r#"{{"protected":"{}","payload":"{}","signature":"{}"}}"#,
        part("{}"),
        part(claims),
        part(CANARY)
    );
    BASE64_STANDARD.encode(json)
}

#[test]
fn an_answer_to_a_login_that_is_no_token_is_malformed_held_back_and_not_quoted() {
    let long = BASE64_STANDARD.encode(CANARY.repeat(4096));
    let deep = format!(r#"{{"protected":{}"#, "[".repeat(15_000));
    for body in [
        "",
        PAGE,
        "{}",
        CANARY,
        "canary\r\nX-Injected: yes",
        r#"{"protected":"a","payload":"b"}"#,
        r#"{"protected":"a","payload":"b","signature":"canary\ud800"}"#,
        r#"{"protected":"a","protected":"a","payload":"b","signature":"canary"}"#,
        "Y2FuYXJ5",
        "Y2FuYXJ5=",
        &long,
        &deep,
    ] {
        let server = server(&[("v", b"x")]);
        let backend = backend(&server);
        block_on(async {
            let kind = meets(&server, &backend, Kind::Authenticate, answer(200, body)).await;
            assert_eq!(kind, ErrorKind::Malformed, "{body:.60}");
            assert!(backend.get("v").await.unwrap_err().is_held_back());
        });
        assert_eq!(server.count(Kind::Secret), 0);
    }
}

#[test]
fn a_tokens_claims_are_believed_for_its_life_alone_and_never_too_long() {
    for claims in [
        "",
        "{",
        "[]",
        r#"{"iat":1}"#,
        r#"{"iat":2,"exp":1}"#,
        r#"{"iat":"canary","exp":1}"#,
        r#"{"iat":0,"exp":18446744073709551615}"#,
        r#"{"iat":-1,"exp":99999999999999999999}"#,
    ] {
        let (server, backend, clock) = single();
        server.fault_next(Kind::Authenticate, answer(200, &token(claims)));
        server.fault_next(Kind::Secret, Fault::Answer(value(b"y")));
        block_on(async {
            // It is used, and where it says no life, for eight minutes at most.
            assert_eq!(bytes(backend.get("v").await), b"y", "{claims}");
            let ends = backend.login_ends().unwrap();
            let is_long = claims.contains("18446744073709551615");
            assert!(
                is_long || ends.since(secret_resolver::Moment::ZERO) <= 480 * SECOND,
                "{claims}"
            );
            // However long it says, the store's word ends it.
            clock.advance(SECOND);
            assert_eq!(bytes(backend.get("v").await), b"x", "{claims}");
        });
        assert_eq!(server.count(Kind::Authenticate), 2);
    }
}

#[test]
fn tokens_that_are_dead_when_they_come_cost_one_login_a_second_and_no_read() {
    let (server, backend, clock) = single();
    server.set_token_life(std::time::Duration::ZERO);
    block_on(async {
        for _ in 0..100 {
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND / 10);
        }
        assert!(
            server.count(Kind::Authenticate) <= 14,
            "{}",
            server.count(Kind::Authenticate)
        );
        assert_eq!(server.count(Kind::Secret), 0);
        server.set_token_life(480 * SECOND);
        clock.advance(2 * SECOND);
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
}

#[test]
fn a_mark_that_is_odd_breaks_no_read_and_no_refresh() {
    for mark in [
        None,
        Some(""),
        Some("*"),
        Some("canary, \"a\""),
        Some(&*"x".repeat(8000)),
    ] {
        let server = server(&[("v", b"x")]);
        let backend = backend(&server);
        let odd = match mark {
            Some(mark) => value(b"y").with_header("ETag", mark),
            None => value(b"y"),
        };
        server.fault_next(Kind::Secret, Fault::Answer(odd));
        block_on(async {
            let request = || Request::new(NameRef::parse("v").unwrap());
            let held = backend.resolve(request()).await.unwrap();
            let version = held.version().clone();
            assert_eq!(bytes(held.into_secret()), b"y");
            let refreshed = backend
                .resolve(request().with_held(&version))
                .await
                .unwrap();
            assert_eq!(bytes(refreshed.into_secret()), b"x");
        });
    }
}

#[test]
fn a_dynamic_secret_is_used_for_no_longer_than_it_says_and_for_a_moment_where_it_says_nothing() {
    let day = 86_400;
    for (minted, lives) in [
        (r#"{"ttl":60,"password":"x"}"#, 60),
        (r#"{"ttl":0,"password":"x"}"#, 0),
        (r#"{"password":"x"}"#, 1),
        (r#"{"ttl":-1}"#, 1),
        (r#"{"ttl":"60"}"#, 1),
        (r#"{"ttl":60,"ttl":3600}"#, 1),
        ("not json", 1),
        // No longer than anything else.
        (r#"{"ttl":18446744073709551615}"#, 3600),
    ] {
        let (server, clock) = (server(&[]), ManualClock::new());
        let backend = on_clock(target(&server, by_key(&server)), &clock);
        let resolver = Resolver::builder(backend).with_clock(clock.clone());
        let resolver = resolver.with_ttl(3600 * SECOND).build().unwrap();
        server.fault_always(Kind::Secret, Fault::Answer(value(minted.as_bytes())));
        block_on(async {
            let _ = resolver.get("data/dynamic/db").await;
            // A refresh before its end would bring another.
            only(&server, Kind::Secret, Fault::Hang);
            let began = clock.now();
            let mut lived = 0;
            while resolver.peek("data/dynamic/db").is_ok() && lived < day {
                clock.advance(SECOND / 4);
                lived = u32::try_from(clock.now().since(began).as_secs()).unwrap();
            }
            assert!(lived <= lives, "{minted}: {lived}");
            // A little less, so that what uses it is in time.
            assert!(lived * 10 >= lives * 8, "{minted}: {lived}");
        });
    }
}
