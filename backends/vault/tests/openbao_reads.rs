//! Reads from a real OpenBao: what is answered, and what each refusal is called.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::*;
use secret_resolver::backend::{NameRef, Request, SystemClock};
use secret_resolver::{
    ErrorKind, ExposeSecret, Resolver, SecretBuf, SecretResolver, SecretResolverExt, Version,
};
use secret_resolver_transport::{self as transport, Client, Method, Origin, Trust};
use secret_resolver_vault::{VaultBackend, VaultTarget};
use test_servers::{OpenBao, TestCa, Validity};

#[test]
fn a_field_is_read_and_the_others_are_of_its_version() {
    let (server, backend) = server_and_backend();
    server
        .put("app/db", &[("password", "one"), ("user", "first")])
        .unwrap();
    assert_eq!(
        server
            .put(
                "app/db",
                &[
                    ("password", "two"),
                    ("user", "second"),
                    ("value", "default")
                ]
            )
            .unwrap(),
        2
    );
    block_on(async {
        let password = backend.get("app/db#password").await.unwrap();
        assert_eq!(password.expose_secret(), b"two");
        assert_eq!(password.version(), &Version::number(2));
        let user = password.record().field("user").unwrap();
        assert_eq!(
            (user.expose_secret(), user.version()),
            (&b"second"[..], &Version::number(2))
        );
        assert_eq!(text(backend.get("app/db").await), "default");
        assert_eq!(
            refusal(&backend, "app/db#missing").await,
            ErrorKind::NotFound
        );
        assert_eq!(backend.stats().logins, 1);
    });
}

#[test]
fn values_come_back_byte_for_byte_whatever_json_makes_of_them() {
    let (server, backend) = server_and_backend();
    let values = [
        "",
        "\0\u{1}\u{1f}\u{7f}",
        "quote \" slash / backslash \\",
        "é😀\u{2028}</script>&",
        "\u{fffd}\u{ffff}\u{10ffff}",
        "\\u0041\\n",
        " \n",
    ];
    let large = "x\"\u{1}é".repeat(10_000);
    block_on(async {
        for value in values.into_iter().chain([large.as_str()]) {
            server
                .put_json(
                    "app/odd",
                    &serde_json::json!({ "value": value }).to_string(),
                )
                .unwrap();
            assert_eq!(text(backend.get("app/odd").await), value);
        }
    });
}

#[test]
fn values_that_are_not_strings_keep_their_json_text_and_null_is_not_a_field() {
    let (server, backend) = server_and_backend();
    server.put_json("app/types", r#"{"port": 5432, "on": true, "list": [1, "a"], "object": {"k": null}, "nothing": null}"#).unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/types#port").await), "5432");
        assert_eq!(text(backend.get("app/types#on").await), "true");
        assert_eq!(text(backend.get("app/types#list").await), r#"[1,"a"]"#);
        assert_eq!(text(backend.get("app/types#object").await), r#"{"k":null}"#);
        assert_eq!(
            refusal(&backend, "app/types#nothing").await,
            ErrorKind::NotFound
        );
    });
}

#[test]
fn an_absent_a_deleted_and_a_destroyed_version_are_not_found() {
    let (server, backend) = server_and_backend();
    server.put("app/gone", &[("value", "1")]).unwrap();
    server.put("app/gone", &[("value", "2")]).unwrap();
    let resolve = async |version: u64| {
        let version = Version::number(version);
        let request = Request::new(NameRef::parse("app/gone").unwrap()).with_version(&version);
        backend
            .resolve(request)
            .await
            .map(|record| record.version().clone())
            .map_err(|error| error.kind())
    };
    block_on(async {
        assert_eq!(refusal(&backend, "app/none").await, ErrorKind::NotFound);
        assert_eq!(resolve(1).await, Ok(Version::number(1)));
        assert_eq!(resolve(3).await, Err(ErrorKind::NotFound));
        assert_eq!(resolve(0).await, Err(ErrorKind::NotFound));
        server
            .run(&["kv", "delete", "-mount=secret", "app/gone"])
            .unwrap();
        assert_eq!(refusal(&backend, "app/gone").await, ErrorKind::NotFound);
        server
            .run(&["kv", "destroy", "-mount=secret", "-versions=2", "app/gone"])
            .unwrap();
        assert_eq!(refusal(&backend, "app/gone").await, ErrorKind::NotFound);
        assert_eq!(resolve(1).await, Ok(Version::number(1)));
    });
}

#[test]
fn paths_outside_the_grammar_are_read_by_alias_and_odd_ones_are_encoded() {
    let server = OpenBao::start().unwrap();
    let auth = secret_resolver_vault::Auth::token(value(server.root_token()));
    let backend = VaultBackend::builder(target(&server, auth))
        .with_alias("odd#pw", "k#h é?%&+", Some("a/b"))
        .with_alias("slashes", "a//b", None)
        .with_prefix("team")
        .build()
        .unwrap();
    server.put_json("k#h é?%&+", r#"{"a/b": "odd"}"#).unwrap();
    server
        .put("team/with space", &[("value", "spaced")])
        .unwrap();
    block_on(async {
        put_at(
            &server,
            "/v1/secret/data/a%2F%2Fb",
            br#"{"data": {"value": "between slashes"}}"#,
        )
        .await;
        assert_eq!(text(backend.get("slashes").await), "between slashes");
        assert_eq!(text(backend.get("odd#pw").await), "odd");
        assert_eq!(text(backend.get("with space").await), "spaced");
    });
}

/// Writes where the command line tool, which cleans paths up, does not.
async fn put_at(server: &OpenBao, target: &str, json: &[u8]) {
    let origin = Origin::parse(&server.origin()).unwrap();
    let clock = Arc::new(SystemClock::shared().unwrap());
    let client = Client::builder(Trust::from_file(server.ca_file()).unwrap(), clock)
        .allow(origin.clone())
        .build()
        .unwrap();
    let write = transport::Request::new(Method::Post, target).unwrap();
    let write = write
        .with_secret_header("X-Vault-Token", server.root_token().as_bytes())
        .unwrap();
    let write = write.with_body("application/json", SecretBuf::from_slice(json).unwrap());
    assert_eq!(client.send(&origin, write).await.unwrap().status(), 200);
}

#[test]
fn a_wrong_mount_or_namespace_is_misconfigured_and_a_kv1_mount_malformed() {
    let server = OpenBao::start().unwrap();
    server
        .run(&["secrets", "enable", "-version=1", "-path=old", "kv"])
        .unwrap();
    server.run(&["write", "old/data/a", "value=v"]).unwrap();
    let kind = |change: fn(VaultTarget) -> VaultTarget| {
        let auth = secret_resolver_vault::Auth::token(value(server.root_token()));
        let backend = VaultBackend::builder(change(target(&server, auth)))
            .build()
            .unwrap();
        block_on(refusal(&backend, "a"))
    };
    assert_eq!(
        kind(|target| target.with_mount("nowhere")),
        ErrorKind::Misconfigured
    );
    assert_eq!(
        kind(|target| target.with_namespace("nowhere")),
        ErrorKind::Misconfigured
    );
    assert_eq!(
        kind(|target| target.with_mount("old")),
        ErrorKind::Malformed
    );
}

#[test]
fn a_namespace_is_where_mount_and_login_are() {
    let server = OpenBao::start().unwrap();
    server.run(&["namespace", "create", "team"]).unwrap();
    server
        .run(&[
            "secrets",
            "enable",
            "-namespace=team",
            "-version=2",
            "-path=kv",
            "kv",
        ])
        .unwrap();
    let put = || {
        server
            .run(&[
                "kv",
                "put",
                "-namespace=team",
                "-mount=kv",
                "a",
                "value=in-team",
            ])
            .is_ok()
    };
    let auth = secret_resolver_vault::Auth::token(value(server.root_token()));
    let backend = VaultBackend::builder(
        target(&server, auth)
            .with_namespace("team")
            .with_mount("kv"),
    )
    .build()
    .unwrap();
    block_on(async {
        // A new store refuses writes while it turns itself into version 2.
        until("the store accepts a write", put).await;
        assert_eq!(text(backend.get("a").await), "in-team");
    });
}

#[test]
fn a_sealed_server_is_unavailable_and_serves_again_without_a_new_login() {
    let (server, backend) = server_and_backend();
    server.put("app/a", &[("value", "v")]).unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        server.seal().unwrap();
        assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Unavailable);
        server.unseal().unwrap();
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(backend.stats().logins, 1);
    });
}

#[test]
fn a_stopped_server_is_unavailable_and_a_suspended_one_times_out() {
    let mut server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let backend = VaultBackend::builder(target(&server, approle(&role)))
        .with_response_timeout(std::time::Duration::from_millis(500))
        .build()
        .unwrap();
    // One runtime, so that the connection of the first read is kept and the next is sent on it.
    let runtime = runtime();
    assert_eq!(text(runtime.block_on(backend.get("app/a"))), "v");
    server.suspend().unwrap();
    assert_eq!(
        runtime.block_on(refusal(&backend, "app/a")),
        ErrorKind::Timeout
    );
    server.resume().unwrap();
    assert_eq!(text(runtime.block_on(backend.get("app/a"))), "v");
    server.stop();
    assert_eq!(
        runtime.block_on(refusal(&backend, "app/a")),
        ErrorKind::Unavailable
    );
    assert_eq!(backend.stats().logins, 1);
}

#[test]
fn a_server_of_another_ca_is_refused_before_a_credential_is_sent() {
    let server = OpenBao::start().unwrap();
    let other = TestCa::new(Validity::CURRENT).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let trust = Trust::from_pem(other.pem().as_bytes()).unwrap();
    let target = VaultTarget::new(server.origin(), trust, approle(&role));
    let backend = VaultBackend::builder(target).build().unwrap();
    assert_eq!(block_on(refusal(&backend, "app/a")), ErrorKind::Refused);
    // The status shows it, and where.
    let resolver = Resolver::builder(backend).build().unwrap();
    let error = resolver.get_blocking("app/a").unwrap_err().to_string();
    assert!(
        error.contains(&server.origin()) && error.contains("subject"),
        "{error}"
    );
    let status = resolver.status();
    let endpoint = &status.stores[0].endpoints[0];
    assert_eq!(endpoint.origin.as_deref(), Some(&*server.origin()));
    let failure = endpoint.last_failure.as_ref().unwrap();
    assert_eq!(failure.kind, ErrorKind::Refused);
    assert!(failure.what.contains("vouches"), "{failure}");
    assert_eq!(endpoint.last_success, None);
}

#[test]
fn an_error_says_which_place_was_asked_and_for_which_field() {
    let (server, backend) = server_and_backend();
    server.put("app/db", &[("user", "app")]).unwrap();
    let resolver = Resolver::builder(backend).build().unwrap();
    let said = |name: &str| resolver.get_blocking(name).unwrap_err().to_string();
    let place = format!("{}/v1/secret/data/app/none", server.origin());
    assert!(
        said("app/none#x").contains(&place),
        "{}",
        said("app/none#x")
    );
    assert!(said("app/db#password").contains("field \"password\""));
    // Without a name for it: the default.
    assert!(
        said("app/db").contains("field \"value\""),
        "{}",
        said("app/db")
    );
    // From memory, too.
    assert!(said("app/db").contains("field \"value\""));
    let scoped = resolver.scoped("app").unwrap();
    let error = scoped.get_blocking("none#x").unwrap_err().to_string();
    assert!(!error.contains("app/none"), "{error}");
    resolver.get_blocking("app/db#user").unwrap();
    let status = resolver.status();
    assert!(status.stores[0].endpoints[0].last_success.is_some());
    assert!(status.stores[0].login_ends.is_some() && status.is_ready());
    resolver.ready().unwrap();
}
