//! What goes out, and where to: listed origins only, no redirect, nothing in plain.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use secret_resolver::{ErrorKind, SecretBuf};
use secret_resolver_transport::{Method, Origin, Request};
use test_servers::{Reply, ScriptedHttps, Validity};

use crate::support::{CANARY, Relay, World, builder, fails, get, real_clock, request};

/// In a process of its own, where no other test has installed one.
#[tokio::test]
#[ignore = "run in a process of its own by the test after it"]
async fn child_that_sends_without_a_provider() {
    let world = World::answering(Reply::json(200, "{}"));
    assert_eq!(world.get(&world.client()).await.unwrap().status(), 200);
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn no_provider_has_to_be_installed_and_none_is() {
    crate::environment::run_child("egress::child_that_sends_without_a_provider", &[]);
}

#[cfg(feature = "aws-lc-rs")]
#[tokio::test]
async fn a_provider_that_another_crate_installs_for_the_process_is_not_used() {
    // A provider that can do nothing.
    let mut installed = rustls::crypto::aws_lc_rs::default_provider();
    installed.cipher_suites.clear();
    installed.install_default().unwrap();
    let world = World::answering(Reply::json(200, "{}"));
    let response = world.get(&world.client()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_get_brings_status_headers_and_body() {
    let world = World::answering(Reply::json(418, "{\"a\":1}").with_header("X-Thing", "seen"));
    let response = world.get(&world.client()).await.unwrap();
    assert_eq!(
        (response.status(), response.header("x-thing")),
        (418, Some("seen"))
    );
    assert_eq!(response.body(), b"{\"a\":1}");
    let body = response.into_body();
    // The length was announced, so the buffer was made to measure.
    assert_eq!(
        (body.expose(), body.capacity()),
        (b"{\"a\":1}".as_slice(), 7)
    );
}

#[tokio::test]
async fn a_request_arrives_with_what_was_given_and_nothing_else() {
    let world = World::answering(Reply::status(204));
    let client = world.client();
    let login = Request::new(Method::Post, "/v1/auth/jwt/login?a=%20b")
        .and_then(|request| request.with_header("X-Vault-Namespace", "team"))
        .and_then(|request| request.with_secret_header("X-Vault-Token", b"first"))
        .and_then(|request| request.with_secret_header("x-vault-token", b"second"))
        .unwrap()
        .with_body(
            "application/json",
            SecretBuf::from_slice(b"{\"jwt\":\"x\"}").unwrap(),
        );
    assert_eq!(
        client.send(&world.origin, login).await.unwrap().status(),
        204
    );
    let asked = &world.server.requests()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/v1/auth/jwt/login?a=%20b")
    );
    assert_eq!(asked.body, b"{\"jwt\":\"x\"}");
    let mut headers: Vec<_> = asked
        .headers
        .iter()
        .map(|(k, v)| (k.to_lowercase(), v.as_str()))
        .collect();
    headers.sort();
    let host = format!("127.0.0.1:{}", world.server.port());
    let expected = [
        ("content-length", "11"),
        ("content-type", "application/json"),
        ("host", &host),
        (
            "user-agent",
            concat!("secret-resolver/", env!("CARGO_PKG_VERSION")),
        ),
        ("x-vault-namespace", "team"),
        ("x-vault-token", "second"),
    ];
    assert_eq!(headers, expected.map(|(k, v)| (k.to_owned(), v)));
}

#[tokio::test]
async fn every_method_is_sent_as_named_and_a_head_has_no_body() {
    let world = World::answering(Reply::status(200).with_body(CANARY));
    let client = world.client();
    for (method, name) in [
        (Method::Get, "GET"),
        (Method::Post, "POST"),
        (Method::Put, "PUT"),
    ] {
        let response = client.send(&world.origin, request(method)).await.unwrap();
        assert_eq!(response.body(), CANARY.as_bytes());
        assert_eq!(world.server.requests().last().unwrap().method, name);
    }
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 << 20);
    let world = World::answering(Reply::Raw(length.into_bytes()));
    let response = world
        .client()
        .send(&world.origin, request(Method::Head))
        .await
        .unwrap();
    assert!(response.body().is_empty());
}

#[tokio::test]
async fn an_origin_that_is_not_on_the_list_sees_no_connection() {
    let listed = World::answering(Reply::status(200));
    let other = ScriptedHttps::start(
        &listed.ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap(),
        |_| Reply::status(200),
    )
    .unwrap();
    let client = listed.client();
    let same_host = Origin::parse(&other.origin()).unwrap();
    let same_server =
        Origin::parse(&format!("https://localhost:{}", listed.server.port())).unwrap();
    for origin in [same_host, same_server] {
        fails(client.send(&origin, get()).await, ErrorKind::Refused);
    }
    assert_eq!((other.connections(), listed.server.connections()), (0, 0));
}

#[tokio::test]
async fn a_redirect_is_refused_and_never_followed() {
    for status in [300, 301, 302, 303, 307, 308, 399] {
        let ca = World::answering(Reply::status(200));
        let to = format!("{}/{CANARY}", ca.server.origin());
        let from = World::answering(
            Reply::status(status)
                .with_header("Location", &to)
                .with_body(CANARY),
        );
        // Even a target that is on the list, of the same authority, is not contacted.
        let client = builder(&from.ca, real_clock())
            .allow(from.origin.clone())
            .allow(ca.origin.clone())
            .build()
            .unwrap();
        for method in [Method::Get, Method::Post] {
            let error = fails(
                client.send(&from.origin, request(method)).await,
                ErrorKind::Refused,
            );
            assert_eq!(error.status(), Some(status));
        }
        assert_eq!(
            (ca.server.connections(), from.server.requests().len()),
            (0, 2),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_no_byte_of_the_request() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut seen = vec![0; 64 << 10];
        let count = client.read(&mut seen).unwrap();
        client
            .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        seen.truncate(count);
        let _ = client.read_to_end(&mut seen);
        seen
    });
    let world = World::answering(Reply::status(200));
    let origin = Origin::parse(&format!("https://127.0.0.1:{port}")).unwrap();
    let client = world.builder().allow(origin.clone()).build().unwrap();
    fails(client.send(&origin, get()).await, ErrorKind::Malformed);
    let seen = plain.join().unwrap();
    assert!(
        !seen
            .windows(CANARY.len())
            .any(|bytes| bytes == CANARY.as_bytes())
    );
}

#[tokio::test]
async fn a_host_name_is_resolved_and_its_addresses_are_tried_in_turn() {
    // It may stand for ::1 first, where nobody listens.
    let world = World::with_certificate(&["localhost"], Validity::CURRENT, |_| Reply::status(200));
    let origin = Origin::parse(&format!("https://localhost:{}", world.server.port())).unwrap();
    let client = world.builder().allow(origin.clone()).build().unwrap();
    assert_eq!(client.send(&origin, get()).await.unwrap().status(), 200);
    let host = world.server.requests()[0]
        .header("host")
        .unwrap()
        .to_owned();
    assert_eq!(format!("https://{host}"), origin.to_string());
}

#[tokio::test]
async fn an_ipv6_address_is_reached_and_checked_against_the_certificate() {
    let world = World::with_certificate(&["::1"], Validity::CURRENT, |_| Reply::status(200));
    let relay = Relay::start("::1", world.server.port());
    let origin = Origin::parse(&format!("https://[::1]:{}", relay.port)).unwrap();
    let client = world.builder().allow(origin.clone()).build().unwrap();
    assert_eq!(client.send(&origin, get()).await.unwrap().status(), 200);
    assert_eq!(
        world.server.requests()[0].header("host"),
        Some(&*format!("[::1]:{}", relay.port))
    );
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    let closed = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let world = World::answering(Reply::status(200));
    for origin in [
        format!("https://127.0.0.1:{closed}"),
        "https://nobody.invalid".into(),
    ] {
        let origin = Origin::parse(&origin).unwrap();
        let client = world.builder().allow(origin.clone()).build().unwrap();
        fails(client.send(&origin, get()).await, ErrorKind::Unavailable);
    }
}

#[test]
fn a_client_is_built_outside_a_runtime_and_refuses_to_send_there() {
    let world = World::answering(Reply::status(200));
    let client = world.client();
    let mut send = pin!(client.send(&world.origin, get()));
    let Poll::Ready(result) = send.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits for a runtime that is not there");
    };
    fails(result, ErrorKind::Misconfigured);
}

#[test]
fn a_client_without_an_origin_or_without_time_is_not_built() {
    let world = World::answering(Reply::status(200));
    let zero = std::time::Duration::ZERO;
    for builder in [
        builder(&world.ca, real_clock()),
        world.builder().with_connect_timeout(zero),
        world.builder().with_response_timeout(zero),
    ] {
        assert_eq!(
            builder.build().unwrap_err().kind(),
            ErrorKind::Misconfigured
        );
    }
}
