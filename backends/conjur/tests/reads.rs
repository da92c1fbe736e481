//! Single reads: exact bytes, odd ids, versions, conditional reads, and what each answer means.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, Fault, Kind};
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::{ErrorKind, Resolver, SecretResolver, SecretResolverExt, Version};
use secret_resolver_conjur::ConjurBackend;

#[test]
fn a_value_comes_back_byte_for_byte_whatever_it_is() {
    let every: Vec<u8> = (0..=255).collect();
    let values: [(&str, &[u8]); 4] = [
        ("prod/db/password", b"s3cr3t"),
        ("prod/db/binary", &every),
        ("prod/db/lines", b"one\ntwo\n"),
        ("prod/token", "pässwörd – ключ".as_bytes()),
    ];
    let server = server(&values);
    let backend = backend(&server);
    block_on(async {
        assert_eq!(bytes(backend.get("prod/db#password").await), b"s3cr3t");
        assert_eq!(bytes(backend.get("prod/db/password").await), b"s3cr3t");
        assert_eq!(bytes(backend.get("prod/db#binary").await), every);
        assert_eq!(bytes(backend.get("prod/db#lines").await), b"one\ntwo\n");
        assert_eq!(
            bytes(backend.get("prod/token").await),
            "pässwörd – ключ".as_bytes()
        );
    });
    // One login for all.
    assert_eq!(server.count(Kind::Authenticate), 1);
}

#[test]
fn an_id_of_any_characters_is_reached_as_it_is() {
    let odd = [
        "odd/with space",
        "odd/plus+sign",
        "odd/100%",
        "odd/comma,in,id",
        "odd/ключ",
        "odd//double",
        "odd/trailing/",
        "odd/q?a=b&c#d",
        "odd/colon:in:id",
        "a/../b",
        "%2F",
        "-._~",
    ];
    let server = server(&[]);
    let mut builder = builder(&server);
    for (number, id) in odd.iter().enumerate() {
        store(&server, id, id.as_bytes());
        builder = builder.with_alias(format!("alias/{number}"), *id);
    }
    let resolver = Resolver::builder(builder.build().unwrap()).build().unwrap();
    block_on(async {
        // One by one, and together.
        for (number, id) in odd.iter().enumerate() {
            let value = resolver.get(&format!("alias/{number}")).await;
            assert_eq!(bytes(value), id.as_bytes());
        }
        resolver.invalidator().invalidate_all().unwrap();
        let names: Vec<_> = (0..odd.len())
            .map(|number| format!("alias/{number}"))
            .collect();
        for (id, value) in odd.iter().zip(resolver.get_many(&names).await) {
            assert_eq!(bytes(value), id.as_bytes());
        }
    });
}

#[test]
fn what_is_not_there_and_what_is_hidden_is_not_found_and_what_may_not_be_read_is_denied() {
    let server = server(&[]);
    server.add_variable("unset");
    server.allow_read("host:apps/reader", "unset");
    server.add_variable("hidden");
    server.set("hidden", b"x");
    server.add_variable("visible");
    server.set("visible", b"x");
    server.grant("host:apps/reader", &["read"], "visible");
    let backend = backend(&server);
    block_on(async {
        for name in ["nosuch", "unset", "hidden"] {
            let error = backend.get(name).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
            assert!(error.to_string().contains("does not say which"), "{error}");
        }
        assert_eq!(refusal(&backend, "visible").await, ErrorKind::Denied);
    });
    // None of it is a matter of the token.
    assert_eq!((backend.logins(), server.count(Kind::Whoami)), (1, 0));
}

#[test]
fn an_exact_version_is_read_as_it_was() {
    let server = server(&[("v", b"one")]);
    server.set("v", b"two");
    let backend = backend(&server);
    let read = |version: Version| {
        let backend = backend.clone();
        async move {
            let request = Request::new(NameRef::parse("v").unwrap());
            backend.resolve(request.with_version(&version)).await
        }
    };
    block_on(async {
        for (number, value) in [(1, "one"), (2, "two")] {
            let record = read(Version::number(number)).await.unwrap();
            assert_eq!(record.version(), &Version::number(number));
            assert_eq!(bytes(record.into_secret()), value.as_bytes());
        }
        for none in [Version::number(3), Version::number(0), Version::tag(b"x")] {
            assert_eq!(read(none).await.unwrap_err().kind(), ErrorKind::NotFound);
        }
    });
}

#[test]
fn a_refresh_is_conditional_and_carries_no_value_unless_it_has_changed() {
    let server = server(&[("v", b"one")]);
    let backend = backend(&server);
    block_on(async {
        let request = || Request::new(NameRef::parse("v").unwrap());
        let held = backend.resolve(request()).await.unwrap();
        let held = held.version().clone();
        assert_eq!(format!("{held:?}"), "Version([tag])");
        let same = backend.resolve(request().with_held(&held)).await.unwrap();
        assert_eq!(same.field_names().count(), 0);
        server.set("v", b"two");
        let other = backend.resolve(request().with_held(&held)).await.unwrap();
        assert_eq!(bytes(other.into_secret()), b"two");
        // The right to read is checked first.
        server.revoke_all("host:apps/reader", "v");
        let error = backend
            .resolve(request().with_held(&held))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
    let statuses: Vec<_> = server
        .requests()
        .iter()
        .filter(|logged| logged.kind == Kind::Secret)
        .map(|logged| logged.status)
        .collect();
    assert_eq!(statuses, [200, 304, 200, 404].map(Some));
}

#[test]
fn with_versions_each_value_says_its_number_and_a_refresh_proves_the_right_to_read() {
    let server = server(&[("v", b"one")]);
    server.set("v", b"two");
    let backend = builder(&server).with_versions().build().unwrap();
    let resolver = Resolver::builder(backend.clone()).build().unwrap();
    block_on(async {
        let secret = resolver.get("v").await.unwrap();
        assert_eq!(secret.version(), &Version::number(2));
        assert_eq!(bytes(Ok(secret)), b"two");
        server.add_variable("unset");
        server.allow_read("host:apps/reader", "unset");
        assert_eq!(refusal(&backend, "unset").await, ErrorKind::NotFound);
    });
    assert_eq!(
        (server.count(Kind::Resource), server.count(Kind::Secret)),
        (2, 1)
    );
}

#[test]
fn every_failure_has_the_kind_of_the_table_and_shows_no_text_of_the_server() {
    const CANARY: &str = "canary-7f3a91";
    let server = server(&[("v", b"x")]);
    let backend = backend(&server);
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        let page = format!("<html>{CANARY}</html>");
        for (status, body, kind) in [
            (500, "", ErrorKind::Unavailable),
            (500, &page, ErrorKind::Unavailable),
            (502, &page, ErrorKind::Unavailable),
            (503, "", ErrorKind::Unavailable),
            (504, "", ErrorKind::Unavailable),
            (
                405,
                "Write operations are not allowed",
                ErrorKind::Unavailable,
            ),
            (429, "", ErrorKind::Throttled),
            (400, "", ErrorKind::Misconfigured),
            (422, "", ErrorKind::Misconfigured),
            (403, "", ErrorKind::Denied),
            (403, &page, ErrorKind::Malformed),
            (401, &page, ErrorKind::Malformed),
            (404, &page, ErrorKind::Malformed),
            (418, "", ErrorKind::Malformed),
            (204, "", ErrorKind::Malformed),
            (302, "", ErrorKind::Refused),
        ] {
            let answer = Answer::new(status)
                .with_header("X-Shown", CANARY)
                .with_body(body);
            server.fault_next("/secrets/", Fault::Answer(answer));
            let error = backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
            assert_eq!(error.backend(), Some("conjur"));
        }
        for fault in [Fault::Close, Fault::Truncate(0)] {
            server.fault_always("/secrets/", fault);
            let kind = refusal(&backend, "v").await;
            assert!(
                matches!(kind, ErrorKind::Unavailable | ErrorKind::Malformed),
                "{kind:?}"
            );
            server.clear_faults();
        }
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(backend.logins(), 1);
}

#[test]
fn a_value_over_the_bound_is_refused() {
    let server = server(&[("v", &[7; 101]), ("w", &[7; 100])]);
    let backend: ConjurBackend = builder(&server).with_value_limit(100).build().unwrap();
    block_on(async {
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Overloaded);
        assert_eq!(bytes(backend.get("w").await), [7; 100]);
    });
}

#[test]
fn a_dynamic_secret_has_no_versions_and_is_read_with_them_too() {
    let server = server(&[("a", b"x")]);
    server.add_dynamic("data/dynamic/db", SECOND * 60);
    server.allow_read("host:apps/reader", "data/dynamic/db");
    let backend = builder(&server).with_versions().build().unwrap();
    block_on(async {
        drop(backend.get("data/dynamic/db").await.unwrap());
        let plain = backend.get("a").await.unwrap();
        assert_eq!(plain.version(), &Version::number(1));
    });
}

#[test]
fn a_bound_on_a_body_that_leaves_no_room_for_a_value_is_refused() {
    let server = server(&[]);
    let wrong = builder(&server)
        .with_value_limit(4 << 20)
        .build()
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Misconfigured);
    assert!(wrong.to_string().contains("with_body_limit"), "{wrong}");
    let right = builder(&server)
        .with_value_limit(4 << 20)
        .with_body_limit(5 << 20);
    assert!(right.build().is_ok());
}
