//! Logins that Conjur does not take, and what becomes of the requests that need one: a refusal holds back what it refuses and nothing else,
//! and is never final.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use conjur_double::{Answer, ConjurDouble, Fault, Host, JwtService, Kind, Where};
use secret_resolver::testing::{ManualClock, MockBackend};
use secret_resolver::{ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::{
    Auth, ConjurBackend, ConjurTarget, Credential, JwtFile, Origin, Trust,
};
use test_servers::{Reply, ScriptedHttps, TestCa, Validity};

/// A refusal is tried again after a second, for which a short deadline has no time: it is a refusal all the same.
#[test]
fn a_refused_jwt_is_no_outage_however_short_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, "ab.cd.ef").unwrap();
    let server = server(&[("v", b"x")]);
    server.add_authn_jwt("svc", &JwtService::default());
    only(&server, Kind::AuthenticateJwt, answer(401, ""));
    let auth = Auth::jwt("svc", JwtFile::new(file));
    // With versions each is read alone.
    let backend = ConjurBackend::builder(target(&server, auth)).with_versions();
    let names: Vec<_> = (0..30).map(|number| format!("v{number}")).collect();
    let mut fallback = MockBackend::new();
    for name in &names {
        fallback = fallback.with_value(name, "of the fallback");
    }
    let resolver = Resolver::builder(backend.build().unwrap()).with_deadline(SECOND * 2);
    let resolver = resolver.dangerous_fallback_to(fallback).build().unwrap();
    block_on(async {
        for answer in resolver.get_many(&names).await {
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert_eq!(error.status(), Some(401), "{error}");
        }
    });
    assert_eq!(resolver.status().fallback_answers, 0);
}

/// The store takes more than half of an attempt to say no, and the rest goes by before the second try.
#[test]
fn a_refused_jwt_is_no_outage_however_slow_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, "ab.cd.ef").unwrap();
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let server = ScriptedHttps::start(&own, |_| {
        std::thread::sleep(SECOND / 100 * 115);
        Reply::status(401)
    });
    let server = server.unwrap();
    let origin = Origin::parse(&server.origin()).unwrap();
    let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let target = ConjurTarget::new(origin, trust, "acc", Auth::jwt("svc", JwtFile::new(file)));
    let fallback = MockBackend::new().with_value("v", "of the fallback");
    let backend = ConjurBackend::builder(target).build().unwrap();
    let resolver = Resolver::builder(backend).with_attempts(1);
    let resolver = resolver.dangerous_fallback_to(fallback).build().unwrap();
    block_on(async {
        let error = resolver.get("v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert_eq!(error.status(), Some(401), "{error}");
    });
    assert_eq!(resolver.status().fallback_answers, 0);
}

/// One that is a moment ahead of the servers' clocks: the second try is the read's, however many endpoints there are.
#[test]
fn a_jwt_that_is_good_in_a_moment_costs_no_read() {
    for number in [1, 2] {
        let servers = endpoints(number);
        let folder = tempfile::tempdir().unwrap();
        let auth = by_jwt(&servers[0], &folder.path().join("jwt"));
        for server in &servers {
            server.fault_always(Kind::AuthenticateJwt, answer(401, ""));
        }
        let backend = ConjurBackend::builder(target_of(&servers, auth)).build();
        let resolver = Resolver::builder(backend.unwrap()).build().unwrap();
        block_on(async {
            let get = tokio::spawn(async move { resolver.get("v").await });
            // The first try of each, before the second, a second later.
            let refused = |server: &ConjurDouble| {
                let mut requests = server.requests().into_iter();
                requests.any(|request| request.status == Some(401))
            };
            while !servers.iter().any(refused) {
                tokio::time::sleep(SECOND / 100).await;
            }
            servers.iter().for_each(ConjurDouble::clear_faults);
            assert_eq!(bytes(get.await.unwrap()), b"x", "{number}");
        });
    }
}

const SUBJECT: &str = "spiffe://example.org/payments";

fn outages() -> Vec<Fault> {
    let mut all: Vec<_> = [405, 500, 502, 503, 504]
        .map(|status| answer(status, ""))
        .into();
    all.push(answer(502, PAGE));
    all.push(Fault::Close);
    all
}

/// A key in a file, and a backend on a clock that logs in with it.
fn with_file(
    server: &ConjurDouble,
    clock: &ManualClock,
) -> (tempfile::TempDir, PathBuf, ConjurBackend) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let auth = Auth::api_key(READER, Credential::file(&file));
    let backend = on_clock(target(server, auth), clock);
    (folder, file, backend)
}

/// A service whose identity is in a JWT, and that reads `v`.
fn with_jwt(file: &Path) -> (ConjurDouble, Auth) {
    let server = server(&[("v", b"x")]);
    let auth = by_jwt(&server, file);
    (server, auth)
}

fn by_jwt(server: &ConjurDouble, file: &Path) -> Auth {
    server.add_authn_jwt("svc", &JwtService::default());
    let workload = format!("workloads/{SUBJECT}");
    server.add_host_with(&Host::new(&workload).annotation("authn-jwt/svc/sub", SUBJECT));
    let workload = format!("host:{workload}");
    server.allow_login(&workload, "authn-jwt/svc");
    server.allow_read(&workload, "v");
    std::fs::write(file, server.jwt(SUBJECT).mint()).unwrap();
    Auth::jwt("svc", JwtFile::new(file))
}

#[test]
fn an_outage_of_conjur_uses_up_no_cap_and_holds_back_no_login() {
    for outage in outages() {
        let (server, backend, _) = single();
        only(&server, Kind::Authenticate, outage.clone());
        block_on(async {
            for _ in 0..10 {
                let error = backend.get("v").await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{outage:?}: {error}");
                assert!(!error.is_held_back(), "{outage:?}");
            }
            server.clear_faults();
            assert_eq!(bytes(backend.get("v").await), b"x");
        });
    }
}

#[test]
fn a_login_of_conjur_that_is_held_back_says_what_it_was_refused_for() {
    let throttled = Answer::new(429).with_header("Retry-After", "1");
    for (fault, kind) in [
        (answer(401, ""), ErrorKind::Unauthenticated),
        (answer(403, ""), ErrorKind::Unauthenticated),
        (answer(404, ""), ErrorKind::Misconfigured),
        (answer(400, ""), ErrorKind::Misconfigured),
        (Fault::Answer(throttled), ErrorKind::Throttled),
        (answer(401, PAGE), ErrorKind::Malformed),
        (answer(200, PAGE), ErrorKind::Malformed),
        (answer(307, ""), ErrorKind::Refused),
    ] {
        let (server, backend, _) = single();
        only(&server, Kind::Authenticate, fault.clone());
        block_on(async {
            let first = backend.get("v").await.unwrap_err();
            assert_eq!(
                (first.kind(), first.is_held_back()),
                (kind, false),
                "{fault:?}"
            );
            let held = backend.get("v").await.unwrap_err();
            assert_eq!(
                (held.kind(), held.is_held_back()),
                (kind, true),
                "{fault:?}"
            );
            assert_eq!(
                (held.to_string(), held.status()),
                (first.to_string(), first.status())
            );
            assert!(held.retry_after().unwrap() <= SECOND);
        });
        assert_eq!(server.count(Kind::Authenticate), 1);
    }
}

#[test]
fn a_known_bad_key_is_sent_more_and_more_rarely() {
    let (server, clock) = (server(&[("v", b"x")]), ManualClock::strict());
    let (_folder, file, backend) = with_file(&server, &clock);
    std::fs::write(&file, "wrong").unwrap();
    block_on(async {
        // Ten times a second for ten minutes.
        for _ in 0..6000 {
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND / 10);
        }
    });
    // After 1, 2, 4, 8, 16 and then at most 30 s, each a little early.
    let logins = server.count(Kind::Authenticate);
    assert!((24..=32).contains(&logins), "{logins} logins");
}

#[test]
fn a_changed_key_is_tried_at_once_however_long_the_one_before_is_held_back() {
    let (server, clock) = (server(&[("v", b"x")]), ManualClock::strict());
    let (_folder, file, backend) = with_file(&server, &clock);
    std::fs::write(&file, "wrong").unwrap();
    block_on(async {
        for _ in 0..600 {
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND / 10);
        }
        let held = backend.get("v").await.unwrap_err();
        assert!(held.retry_after().unwrap() > 5 * SECOND, "{held:?}");
        let before = server.count(Kind::Authenticate);
        std::fs::write(&file, server.rotate_key(READER)).unwrap();
        assert_eq!(bytes(backend.get("v").await), b"x");
        assert_eq!(server.count(Kind::Authenticate), before + 1);
    });
}

#[test]
fn an_answer_that_is_not_conjurs_holds_logins_back_for_a_second_and_never_for_longer() {
    for fault in [
        answer(401, PAGE),
        answer(200, PAGE),
        answer(200, "{}"),
        answer(307, ""),
    ] {
        let (server, backend, clock) = single();
        only(&server, Kind::Authenticate, fault);
        block_on(async {
            for asked in 1..8 {
                assert!(!backend.get("v").await.unwrap_err().is_held_back());
                assert!(backend.get("v").await.unwrap_err().is_held_back());
                assert_eq!(server.count(Kind::Authenticate), asked);
                clock.advance(SECOND);
            }
            server.clear_faults();
            assert_eq!(bytes(backend.get("v").await), b"x");
        });
    }
}

#[test]
fn a_login_that_one_endpoint_of_conjur_refuses_is_tried_at_another() {
    for fault in [
        answer(401, ""),
        answer(403, ""),
        answer(404, ""),
        answer(401, PAGE),
        answer(429, ""),
    ] {
        let (first, second, backend, _) = pair();
        only(&first, Kind::Authenticate, fault.clone());
        block_on(async {
            assert_eq!(bytes(backend.get("v").await), b"x", "{fault:?}");
        });
        let asked = [&first, &second].map(|it| it.count_here(Kind::Authenticate));
        assert_eq!(asked, [1, 1], "{fault:?}");
    }
}

#[test]
fn a_refused_key_is_shown_to_two_endpoints_and_then_to_one() {
    let servers = endpoints(5);
    let clock = ManualClock::strict();
    let auth = Auth::api_key(READER, credential("wrong"));
    let backend = on_clock(target_of(&servers, auth), &clock);
    block_on(async {
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
        assert_eq!(servers[0].count(Kind::Authenticate), 2);
        clock.advance(SECOND);
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
        assert_eq!(servers[0].count(Kind::Authenticate), 3);
    });
}

#[test]
fn an_endpoint_that_has_not_the_new_key_yet_refuses_no_login_that_another_takes() {
    let servers = endpoints(3);
    // The first is behind, and refuses the key that the others know.
    servers[0].set_lagging(true);
    let key = servers[0].rotate_key(READER);
    let target = target_of(&servers, Auth::api_key(READER, credential(&key)));
    let resolver = Resolver::builder(ConjurBackend::builder(target).build().unwrap());
    let resolver = resolver.build().unwrap();
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"x");
    });
    let asked: Vec<_> = servers
        .iter()
        .map(|it| it.count_here(Kind::Authenticate))
        .collect();
    assert_eq!(asked, [1, 1, 0]);
}

#[test]
fn an_endpoint_that_is_silent_at_a_login_holds_up_no_read_for_another() {
    let (first, second, backend, clock) = pair();
    only(&first, Where::Anywhere, Fault::Hang);
    block_on(async {
        let hangs = read_at(&backend, 0);
        until("its login was sent", || {
            first.count_here(Kind::Authenticate) == 1
        })
        .await;
        let others: Vec<_> = (0..20).map(|_| read_at(&backend, 1)).collect();
        // They wait for the login that is under way, half a second at most.
        until("they have logged in", || {
            clock.advance(SECOND / 200);
            others.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), b"x");
        }
        hangs.abort();
    });
    assert_eq!(second.count_here(Kind::Authenticate), 1);
}

#[test]
fn require_within_waits_for_a_keys_file_and_for_a_hold_and_not_for_a_refusal() {
    let server = server(&[("v", b"x"), ("w", b"y")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let stack = || {
        let auth = Auth::api_key(READER, Credential::file(&file));
        let backend = ConjurBackend::builder(target(&server, auth)).build();
        Resolver::builder(backend.unwrap()).build().unwrap()
    };
    block_on(async {
        let resolver = stack();
        let missing = resolver.get("v").await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Unauthenticated);
        assert!(
            missing.is_held_back() && missing.to_string().contains("key"),
            "{missing}"
        );
        assert!(server.requests().is_empty());
        let waiting = resolver.clone();
        let required =
            tokio::spawn(async move { waiting.require_within(&["v"], 20 * SECOND).await });
        std::fs::write(&file, server.key_of(READER)).unwrap();
        required.await.unwrap().unwrap();
        // A wrong one is refused at once, and what it holds back is waited for.
        std::fs::write(&file, "wrong").unwrap();
        let resolver = stack();
        resolver
            .require_within(&["v"], 60 * SECOND)
            .await
            .unwrap_err();
        only(&server, Kind::Authenticate, answer(401, ""));
        std::fs::write(&file, server.key_of(READER)).unwrap();
        let resolver = stack();
        assert!(!resolver.get("v").await.unwrap_err().is_held_back());
        server.clear_faults();
        resolver.require_within(&["w"], 20 * SECOND).await.unwrap();
    });
}

#[test]
fn a_jwt_that_a_lagging_clock_refuses_at_one_endpoint_is_taken_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let (server, auth) = with_jwt(&folder.path().join("jwt"));
    let second = server.endpoint_too().unwrap();
    only(&server, Kind::AuthenticateJwt, answer(401, ""));
    let (servers, clock) = ([server, second], ManualClock::strict());
    let backend = on_clock(target_of(&servers, auth), &clock);
    block_on(async {
        let get = spawn_get(&backend, "v");
        // The first is asked a second time after a second, as it may be behind.
        until("its end", || {
            clock.advance(SECOND / 200);
            get.is_finished()
        })
        .await;
        assert_eq!(bytes(get.await.unwrap()), b"x");
    });
    let asked = [0, 1].map(|at: usize| servers[at].count_here(Kind::AuthenticateJwt));
    assert_eq!(asked, [2, 1]);
}

#[test]
fn a_refused_jwt_is_not_sent_again_before_the_file_has_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    let (server, auth) = with_jwt(&file);
    std::fs::write(&file, server.jwt("spiffe://example.org/other").mint()).unwrap();
    let clock = ManualClock::strict();
    let backend = on_clock(target(&server, auth), &clock);
    block_on(async {
        let get = spawn_get(&backend, "v");
        until("its end", || {
            clock.advance(SECOND / 200);
            get.is_finished()
        })
        .await;
        assert_eq!(
            get.await.unwrap().unwrap_err().kind(),
            ErrorKind::Unauthenticated
        );
        assert_eq!(server.count(Kind::AuthenticateJwt), 2);
        assert!(backend.get("v").await.unwrap_err().is_held_back());
        std::fs::write(&file, server.jwt(SUBJECT).mint()).unwrap();
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(server.count(Kind::AuthenticateJwt), 3);
    assert!(backend.login_ends().is_some());
}
