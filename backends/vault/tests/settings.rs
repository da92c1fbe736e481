//! Settings that cannot work are refused when the backend is built, with a text that says which and why; and what
//! an error says about where it was met.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use secret_resolver::{ErrorKind, Resolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultBuilder, VaultTarget};
use test_servers::Reply;

type Change = fn(VaultBuilder) -> VaultBuilder;

#[test]
fn a_setting_that_leaves_no_way_to_read_is_refused_when_the_backend_is_built() {
    let fake = Fake::start();
    let build = |change: Change, auth: Auth| {
        let error = change(VaultBackend::builder(fake.target(auth))).build();
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        error.to_string()
    };
    let settings: [(Change, &str); 9] = [
        (|builder| builder.with_value_limit(0), "a value"),
        (|builder| builder.with_body_limit(0), "the body"),
        (
            |builder| builder.with_connect_timeout(Duration::ZERO),
            "timeout of zero",
        ),
        (
            |builder| builder.with_response_timeout(Duration::ZERO),
            "timeout of zero",
        ),
        (|builder| builder.with_connections(0), "1 to 1,024"),
        (|builder| builder.with_default_field(""), "default field"),
        (
            |builder| builder.with_default_field("no/such\nfield"),
            "default field",
        ),
        (|builder| builder.with_prefix("team/*"), "no '*'"),
        (|builder| builder.with_prefix("team/"), "slash at its end"),
    ];
    for (change, part) in settings {
        let error = build(change, role());
        assert!(error.contains(part), "{part}: {error}");
        assert!(!error.contains("such"), "{error}");
    }
    for (text, part) in [
        ("", "empty"),
        (" ", "a blank"),
        ("tok\n", "a line end"),
        ("\ttok", "a blank"),
    ] {
        for auth in [
            Auth::token(value(text)),
            Auth::approle(value(text), value("secret")),
            Auth::approle(value("role"), value(text)),
        ] {
            let error = build(|builder| builder, auth);
            assert!(error.contains(part) && !error.contains("file"), "{error}");
        }
    }
    let error = build(|builder| builder, Auth::token(value("a b")));
    assert!(
        error.contains("no token has") && !error.contains("file"),
        "{error}"
    );
}

#[test]
fn an_endpoint_that_is_wrong_is_numbered_and_one_that_is_there_twice_is_named() {
    let fake = Fake::start();
    let good = fake.server.origin();
    let fails = |more: &[&str]| {
        let target = fake.target(role());
        let add = |target: VaultTarget, endpoint: &&str| target.with_endpoint(*endpoint);
        let target = more.iter().fold(target, add);
        let error = VaultBackend::builder(target).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        error.to_string()
    };
    let numbered = fails(&["https://vault-2", "http://vault-3"]);
    assert!(
        numbered.contains("begin with https:// (endpoint 3)"),
        "{numbered}"
    );
    let twice = fails(&["https://vault-2", &good]);
    assert!(
        twice.contains("given twice") && twice.contains(&*good),
        "{twice}"
    );
}

#[test]
fn endpoints_and_files_may_be_borrowed() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, fake.ca.pem()).unwrap();
    let (origin, path) = (fake.server.origin(), file.to_str().unwrap().to_owned());
    let auth = || Auth::token(Credential::text("given").unwrap());
    for target in [
        VaultTarget::new(&origin, &file, auth()),
        VaultTarget::new(&origin, &path, auth()),
    ] {
        let backend = VaultBackend::builder(target).build().unwrap();
        assert_eq!(text(block_on(backend.get("a"))), "v");
    }
}

#[test]
fn an_answer_that_cannot_be_read_names_what_was_asked_and_where() {
    for (auth, ending, path) in [
        (role as fn() -> Auth, "/login", "/v1/auth/approle/login"),
        (given, "lookup-self", "/v1/auth/token/lookup-self"),
        (role, "/data/a", "/v1/secret/data/a"),
    ] {
        let (fake, backend, _) = single(auth());
        fake.state().instead = Some((ending, Reply::json(200, PAGE)));
        block_on(async {
            let error = backend.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            let place = format!("{}{path}", fake.server.origin());
            assert!(error.to_string().contains(&place), "{error}");
        });
    }
}

#[test]
fn a_timeout_names_the_origin_that_did_not_answer() {
    let (fake, backend, clock) = single(role());
    fake.state().instead = Some(("/data/a", Reply::Silent));
    let resolver = Resolver::builder(backend)
        .with_clock(clock.clone())
        .with_attempts(1)
        .build()
        .unwrap();
    block_on(async {
        let get = tokio::spawn({
            let resolver = resolver.clone();
            async move { resolver.get("a").await }
        });
        until("the read was sent", || fake.asked("/data/a") == 1).await;
        clock.advance(2 * SECOND);
        let error = get.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let origin = fake.server.origin();
        assert!(error.to_string().contains(&*origin), "{error} {origin}");
    });
}
