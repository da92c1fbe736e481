//! Two endpoints of one Conjur: which of them a request goes to, and where a login begins.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Kind, Where};
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{ErrorKind, Resolver, SecretResolver, Version};
use secret_resolver_conjur::{ConjurBackend, ConjurTarget};

/// A value of its own, which tells who has answered.
fn says(server: &ConjurDouble, value: &str) {
    let answer = Answer::new(200)
        .with_header("Content-Type", "application/octet-stream")
        .with_header("ETag", "W/\"mark\"")
        .with_body(value);
    only(server, Kind::Secret, Fault::Answer(answer));
}

/// A read of `v`, directed or not.
async fn read(backend: &ConjurBackend, endpoint: Option<usize>) -> Result<Vec<u8>, ErrorKind> {
    let request = Request::new(NameRef::parse("v").unwrap());
    let directed = endpoint.map(|endpoint| request.at_endpoint(endpoint));
    let record = backend.resolve(directed.unwrap_or(request)).await;
    let record = record.map_err(|error| error.kind())?;
    Ok(bytes(record.into_secret()))
}

fn asked(servers: [&ConjurDouble; 2], kind: Kind) -> [usize; 2] {
    servers.map(|server| server.count_here(kind))
}

#[test]
fn a_directed_read_of_conjur_goes_to_its_endpoint_and_to_no_other() {
    let (first, second, backend, _) = pair();
    says(&first, "of the first");
    says(&second, "of the second");
    block_on(async {
        let mut reads = [0, 0];
        // Both orders, and each endpoint twice in a row.
        for endpoint in [1, 0, 0, 1, 1, 0] {
            let expected = ["of the first", "of the second"][endpoint];
            let value = read(&backend, Some(endpoint)).await.unwrap();
            assert_eq!(value, expected.as_bytes());
            reads[endpoint] += 1;
            assert_eq!(asked([&first, &second], Kind::Secret), reads);
        }
    });
}

#[test]
fn each_request_of_a_directed_read_goes_to_its_endpoint() {
    let (first, second) = (server(&[("v", b"x")]), ManualClock::strict());
    let follower = first.follower().unwrap();
    let servers = [first, follower];
    let target = || target_of(&servers, by_key(&servers[0]));
    let versions = ConjurBackend::builder(target()).with_versions();
    let versions = versions.with_clock(second.clone()).build().unwrap();
    let plain = on_clock(target(), &second);
    let (number, mark) = (Version::number(1), Version::tag(b"W/\"mark\""));
    let request = || Request::new(NameRef::parse("v").unwrap()).at_endpoint(1);
    block_on(async {
        for (backend, request) in [
            (&plain, request()),
            (&plain, request().with_held(&mark)),
            (&plain, request().with_version(&number)),
            (&versions, request()),
            (&versions, request().with_held(&number)),
        ] {
            backend.resolve(request).await.unwrap();
        }
        // And what follows a refusal.
        servers[0].advance(481 * SECOND);
        plain.resolve(request()).await.unwrap();
    });
    let elsewhere: Vec<_> = servers[0]
        .requests()
        .into_iter()
        .filter(|it| it.endpoint == 0)
        .collect();
    // That the token is dead is asked of the other, too.
    assert!(
        elsewhere.iter().all(|it| it.kind == Kind::Whoami),
        "{elsewhere:?}"
    );
    assert!(elsewhere.len() <= 1);
}

#[test]
fn a_directed_read_of_conjur_that_fails_is_not_tried_at_another_endpoint() {
    let (first, second, backend, _) = pair();
    says(&first, "of the first");
    block_on(async {
        for (fault, kind) in [
            (answer(500, ""), ErrorKind::Unavailable),
            (answer(503, ""), ErrorKind::Unavailable),
            (answer(405, ""), ErrorKind::Unavailable),
            (answer(429, ""), ErrorKind::Throttled),
            (answer(302, ""), ErrorKind::Refused),
            (answer(307, ""), ErrorKind::Refused),
            (answer(403, PAGE), ErrorKind::Malformed),
            (Fault::Close, ErrorKind::Unavailable),
        ] {
            only(&second, Kind::Secret, fault.clone());
            assert_eq!(read(&backend, Some(1)).await, Err(kind), "{fault:?}");
        }
    });
    assert_eq!(first.count_here(Kind::Secret), 0);
}

#[test]
fn an_undirected_read_of_conjur_stays_with_the_endpoint_that_answers_it() {
    let (first, second, backend, _) = pair();
    says(&first, "of the first");
    says(&second, "of the second");
    block_on(async {
        for _ in 0..3 {
            assert_eq!(read(&backend, None).await.unwrap(), b"of the first");
        }
        only(&first, Kind::Secret, answer(503, ""));
        assert_eq!(read(&backend, None).await, Err(ErrorKind::Unavailable));
        for _ in 0..3 {
            assert_eq!(read(&backend, None).await.unwrap(), b"of the second");
            // What a directed read meets elsewhere is not a reason to leave the one that answers.
            assert_eq!(read(&backend, Some(0)).await, Err(ErrorKind::Unavailable));
        }
        // The return of the first is not one either.
        says(&first, "of the first");
        assert_eq!(read(&backend, None).await.unwrap(), b"of the second");
        only(&second, Kind::Secret, answer(405, ""));
        assert_eq!(read(&backend, None).await, Err(ErrorKind::Unavailable));
        assert_eq!(read(&backend, None).await.unwrap(), b"of the first");
    });
}

#[test]
fn a_redirect_of_conjur_is_passed_over_and_never_followed() {
    let (servers, elsewhere) = (endpoints(2), ConjurDouble::start().unwrap());
    let location = format!("{}/secrets/myorg/variable/v", elsewhere.origin());
    let redirect = Answer::new(307).with_header("Location", &location);
    only(
        &servers[0],
        Where::Anywhere,
        Fault::Answer(redirect.clone()),
    );
    let backend = backend_of(&servers);
    block_on(async {
        assert_eq!(read(&backend, None).await.unwrap(), b"x");
        only(&servers[1], Where::Anywhere, Fault::Answer(redirect));
        assert_eq!(read(&backend, None).await, Err(ErrorKind::Refused));
    });
    assert!(elsewhere.connections().is_empty());
}

#[test]
fn a_login_begins_at_the_endpoint_of_the_read_that_needs_it() {
    let (first, second, backend, _) = pair();
    // So that a login there would be an outage of the wrong endpoint.
    only(&first, Kind::Authenticate, answer(500, ""));
    block_on(async {
        assert_eq!(read(&backend, Some(1)).await.unwrap(), b"x");
    });
    assert_eq!(asked([&first, &second], Kind::Authenticate), [0, 1]);
}

#[test]
fn a_token_of_one_endpoint_is_good_at_each_other() {
    let servers = endpoints(3);
    let backend = backend_of(&servers);
    block_on(async {
        for endpoint in [0, 1, 2, 2, 1, 0] {
            assert_eq!(read(&backend, Some(endpoint)).await.unwrap(), b"x");
        }
    });
    assert_eq!(servers[0].count(Kind::Authenticate), 1);
}

#[test]
fn an_endpoint_that_needs_the_api_prefix_is_reached_by_every_request() {
    use conjur_double::Prefix;
    let server = server(&[("v", b"x"), ("w", b"y"), ("u", b"z")]);
    server.set_prefix(Prefix::Required);
    let target = || -> ConjurTarget { target(&server, by_key(&server)).with_api_prefix() };
    let versions = ConjurBackend::builder(target())
        .with_versions()
        .build()
        .unwrap();
    let resolver = Resolver::builder(ConjurBackend::builder(target()).build().unwrap());
    let resolver = resolver.build().unwrap();
    block_on(async {
        assert_eq!(read(&versions, None).await.unwrap(), b"x");
        let answers = get_together(&server, &resolver, &["v", "w", "u"]).await;
        let values: Vec<_> = answers.into_iter().map(bytes).collect();
        assert_eq!(values, [b"x", b"y", b"z"]);
        server.advance(481 * SECOND);
        assert_eq!(read(&versions, None).await.unwrap(), b"x");
    });
    assert_eq!(server.count(Kind::Batch), 1);
    assert!(server.count(Kind::Whoami) > 0);
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|it| it.request.target.starts_with("/api/"))
    );
    // Without it the error says where to look.
    let plain = backend(&server);
    let error = block_on(async {
        plain
            .resolve(Request::new(NameRef::parse("v").unwrap()))
            .await
    });
    let error = error.unwrap_err();
    assert!(error.to_string().contains("/api"), "{error}");
}
