//! Logins by each method, the life of tokens, and what a refusal costs.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use conjur_double::{CertService, ClientCertificates, ConjurDouble, Fault, Host, JwtService, Kind};
use secret_resolver::testing::{ManualClock, MockBackend};
use secret_resolver::{Error, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::{
    Auth, CertificateFiles, ConjurBackend, Credential, JwtFile, JwtFuture, JwtSource,
};

const WORKLOAD: &str = "workloads/spiffe://example.org/payments";
const SUBJECT: &str = "spiffe://example.org/payments";

#[test]
fn a_key_in_a_file_is_read_again_at_each_login() {
    let server = server(&[("v", b"x")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    // One line break at its end is not a part of the key.
    std::fs::write(&file, format!("{}\n", server.key_of(READER))).unwrap();
    let auth = Auth::api_key(READER, Credential::file(&file));
    let backend = ConjurBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        let key = server.rotate_key(READER);
        // A token outlives the key that it was bought with.
        assert_eq!(bytes(backend.get("v").await), b"x");
        std::fs::write(&file, key).unwrap();
        server.advance(Duration::from_secs(481));
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(server.count(Kind::Authenticate), 2);
}

#[test]
fn a_token_is_replaced_before_its_end_and_is_not_sent_after_it() {
    let server = server(&[("v", b"x")]);
    let clock = ManualClock::strict();
    let backend = builder(&server).with_clock(clock.clone()).build().unwrap();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        let ends = backend.login_ends().unwrap();
        assert!(ends <= secret_resolver::Moment::ZERO + Duration::from_secs(480));
        clock.advance(Duration::from_secs(481));
        server.advance(Duration::from_secs(481));
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    let refused = server
        .requests()
        .iter()
        .filter(|logged| logged.status == Some(401))
        .count();
    assert_eq!((refused, server.count(Kind::Authenticate)), (0, 2));
}

#[test]
fn a_token_that_the_store_does_not_take_any_more_costs_one_login_for_all_readers() {
    let server = server(&[("v", b"x")]);
    let backend = backend(&server);
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        // By the server's clock alone.
        server.advance(Duration::from_secs(481));
        let reads: Vec<_> = (0..50)
            .map(|_| {
                let backend = backend.clone();
                tokio::spawn(async move { backend.get("v").await })
            })
            .collect();
        for read in reads {
            assert_eq!(bytes(read.await.unwrap()), b"x");
        }
    });
    assert_eq!(server.count(Kind::Authenticate), 2);
}

#[test]
fn a_wrong_key_is_refused_and_the_login_is_held_back() {
    let server = server(&[("v", b"x")]);
    let auth = Auth::api_key(READER, credential("wrong-canary-key"));
    let backend = ConjurBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        for _ in 0..20 {
            let error = backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert!(!format!("{error:?} {error} {backend:?}").contains("canary"));
        }
    });
    assert!(
        server.count(Kind::Authenticate) <= 2,
        "{}",
        server.count(Kind::Authenticate)
    );
}

fn with_jwt_service() -> ConjurDouble {
    let server = server(&[]);
    server.add_authn_jwt("svc", &JwtService::default());
    let host = Host::new(WORKLOAD).annotation("authn-jwt/svc/sub", SUBJECT);
    server.add_host_with(&host);
    server.allow_login(&format!("host:{WORKLOAD}"), "authn-jwt/svc");
    server.add_variable("v");
    server.set("v", b"x");
    server.allow_read(&format!("host:{WORKLOAD}"), "v");
    server
}

#[test]
fn a_jwt_in_a_file_logs_in_and_is_read_again() {
    let server = with_jwt_service();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, server.jwt(SUBJECT).mint()).unwrap();
    let auth = Auth::jwt("svc", JwtFile::new(&file));
    let backend = ConjurBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        std::fs::write(&file, server.jwt(SUBJECT).claim("n", 2).mint()).unwrap();
        server.advance(Duration::from_secs(481));
        // Of the server's new time.
        std::fs::write(&file, server.jwt(SUBJECT).mint()).unwrap();
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(server.count(Kind::AuthenticateJwt), 2);
}

#[test]
fn a_jwt_that_is_a_moment_ahead_of_the_server_is_tried_once_more() {
    let server = with_jwt_service();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, server.jwt(SUBJECT).time("iat", 1).mint()).unwrap();
    let auth = Auth::jwt("svc", JwtFile::new(&file));
    let backend = ConjurBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(server.count(Kind::AuthenticateJwt), 2);
}

#[test]
fn a_jwt_that_is_refused_twice_is_an_error_and_an_expired_one_is_not_tried_again() {
    for (jwt, requests) in [
        (with_jwt_service().jwt(SUBJECT).mint(), 2),
        (String::new(), 1),
    ] {
        let server = with_jwt_service();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jwt");
        // Of another server's key, or expired.
        let jwt = if jwt.is_empty() {
            server.jwt(SUBJECT).expires_in(-10).mint()
        } else {
            jwt
        };
        std::fs::write(&file, jwt).unwrap();
        let auth = Auth::jwt("svc", JwtFile::new(&file));
        let backend = ConjurBackend::builder(target(&server, auth))
            .build()
            .unwrap();
        block_on(async {
            for _ in 0..5 {
                assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
            }
        });
        assert_eq!(server.count(Kind::AuthenticateJwt), requests);
        if requests == 1 {
            let shown = block_on(backend.get("v")).unwrap_err().to_string();
            assert!(shown.contains("the JWT has ended"), "{shown}");
        }
        // The next logins with it, each after a back-off, are one request each.
        block_on(async {
            while backend.logins() < 3 {
                assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
                tokio::time::sleep(SECOND / 20).await;
            }
        });
        assert_eq!(server.count(Kind::AuthenticateJwt), requests + 2);
    }
}

#[test]
fn an_unknown_service_is_refused_and_one_without_the_right_says_so() {
    let server = with_jwt_service();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    std::fs::write(&file, server.jwt(SUBJECT).mint()).unwrap();
    let log_in = |service: &str| {
        let auth = Auth::jwt(service, JwtFile::new(&file));
        let backend = ConjurBackend::builder(target(&server, auth))
            .build()
            .unwrap();
        block_on(async move { backend.get("v").await.unwrap_err() })
    };
    assert_eq!(log_in("nosuch").kind(), ErrorKind::Unauthenticated);
    let silent = "spiffe://example.org/silent";
    let host = Host::new("workloads/spiffe://example.org/silent");
    server.add_host_with(&host.annotation("authn-jwt/svc/sub", silent));
    std::fs::write(&file, server.jwt(silent).mint()).unwrap();
    let error = log_in("svc");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("authenticate"), "{error}");
}

#[test]
fn a_client_certificate_logs_in_in_both_modes() {
    let server = server(&[("v", b"x")]);
    server
        .set_client_certificates(ClientCertificates::Required)
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = |name: &str, cn: Option<&str>, uris: &[&str]| {
        let issued = server.client_ca().issue(cn, uris).unwrap();
        let (certificate, key) = (
            folder.path().join(format!("{name}.crt")),
            folder.path().join(format!("{name}.key")),
        );
        std::fs::write(&certificate, &issued.certificate_pem).unwrap();
        std::fs::write(&key, &issued.key_pem).unwrap();
        CertificateFiles::new(certificate, key).unwrap()
    };
    server.add_authn_cert(
        "spiffe",
        &CertService::Spiffe {
            trust_domain: "example.org".into(),
            identity_path: "workloads".into(),
        },
    );
    server.add_host("workloads/payments");
    server.allow_login("host:workloads/payments", "authn-cert/spiffe");
    server.allow_read("host:workloads/payments", "v");
    let by_id = target(&server, Auth::certificate("spiffe")).with_client_certificate(files(
        "spiffe",
        None,
        &["spiffe://example.org/payments"],
    ));
    server.add_authn_cert("cn", &CertService::Request);
    server.add_host_with(&Host::new("apps/named").annotation("authn-cert/cn", "named"));
    server.allow_login("host:apps/named", "authn-cert/cn");
    server.allow_read("host:apps/named", "v");
    let by_name = target(
        &server,
        Auth::certificate("cn").with_host("host/apps/named"),
    )
    .with_client_certificate(files("cn", Some("named"), &[]));
    block_on(async {
        for target in [by_id, by_name] {
            let backend = ConjurBackend::builder(target).build().unwrap();
            assert_eq!(bytes(backend.get("v").await), b"x");
        }
    });
    assert_eq!(server.count(Kind::AuthenticateCert), 2);
}

#[test]
fn a_token_of_a_sidecar_is_used_as_it_is_in_json_and_in_base64() {
    use base64::Engine as _;
    let server = server(&[("v", b"x")]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let json = server.token(READER);
    let base64 = base64::prelude::BASE64_STANDARD.encode(&json);
    for text in [json, base64] {
        std::fs::write(&file, text).unwrap();
        let target = target(&server, Auth::token_file(&file));
        let backend = ConjurBackend::builder(target).build().unwrap();
        block_on(async {
            assert_eq!(bytes(backend.get("v").await), b"x");
        });
    }
    assert_eq!(server.count(Kind::Authenticate), 0);
    std::fs::write(&file, "neither").unwrap();
    let backend = ConjurBackend::builder(target(&server, Auth::token_file(&file)))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Misconfigured);
    });
}

#[test]
fn what_is_wrong_with_a_target_is_said_when_it_is_built() {
    let server = server(&[]);
    let key = || credential("key");
    let wrong = |target: secret_resolver_conjur::ConjurTarget| {
        let error = ConjurBackend::builder(target).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        error.to_string()
    };
    let of = |auth| target(&server, auth);
    assert!(wrong(of(Auth::api_key("admin", key()))).contains("dangerous_allow_admin"));
    for login in ["", ".", "a\nb"] {
        wrong(of(Auth::api_key(login, key())));
    }
    wrong(of(Auth::jwt("a/b", JwtFile::new("/nowhere"))));
    wrong(of(Auth::certificate("svc")));
    wrong(of(Auth::token_file("/nowhere").with_host("host/a")));
    for account in ["", "a/b", "a:b", ".."] {
        let auth = Auth::api_key(READER, key());
        wrong(secret_resolver_conjur::ConjurTarget::new(
            server.origin(),
            trust(&server),
            account,
            auth,
        ));
    }
    let auth = Auth::api_key(READER, key());
    wrong(secret_resolver_conjur::ConjurTarget::new(
        "http://conjur",
        trust(&server),
        "a",
        auth,
    ));
    let admin = of(Auth::api_key("admin", credential(&server.key_of("admin"))));
    server.add_variable("v");
    server.set("v", b"x");
    let backend = ConjurBackend::builder(admin)
        .dangerous_allow_admin()
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
}

#[test]
fn an_outage_is_an_outage_for_logins_too_and_holds_none_back() {
    let server = server(&[("v", b"x")]);
    let backend = backend(&server);
    block_on(async {
        server.set_outage(true);
        for _ in 0..3 {
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Unavailable);
        }
        server.set_outage(false);
        server.fault_next("/authn/", Fault::Close);
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Unavailable);
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
}

#[test]
fn the_administrator_reads_nothing_by_whichever_spelling_or_token_unless_it_is_allowed() {
    let server = server(&[("a", b"x")]);
    let key = || credential(&server.key_of("admin"));
    for login in ["admin", "user/admin"] {
        let of = |allowed: bool| {
            let builder = ConjurBackend::builder(target(&server, Auth::api_key(login, key())));
            match allowed {
                true => builder.dangerous_allow_admin(),
                false => builder,
            }
        };
        let error = of(false).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{login}");
        let backend = of(true).build().unwrap();
        block_on(async { assert_eq!(bytes(backend.get("a").await), b"x") });
    }
    // A token says whose it is.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, server.token("admin")).unwrap();
    let auth = || Auth::token_file(&path);
    let backend = ConjurBackend::builder(target(&server, auth()))
        .build()
        .unwrap();
    let before = server.count(Kind::Secret);
    block_on(async {
        let error = backend.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured);
        assert!(
            error.to_string().contains("dangerous_allow_admin"),
            "{error}"
        );
    });
    assert_eq!(server.count(Kind::Secret), before);
    let backend = ConjurBackend::builder(target(&server, auth())).dangerous_allow_admin();
    let backend = backend.build().unwrap();
    block_on(async { assert_eq!(bytes(backend.get("a").await), b"x") });
}

/// A source of JWTs that has none: it says so by an error of this kind, or panics.
#[derive(Debug)]
struct NoJwt(Option<ErrorKind>);

impl JwtSource for NoJwt {
    fn jwt(&self) -> JwtFuture<'_> {
        let kind = self.0.unwrap();
        JwtFuture::ready(Err(Error::new(kind, "of the test's own making")))
    }
}

#[test]
fn a_source_of_jwts_that_has_none_says_nothing_of_a_secret_and_nothing_of_the_store() {
    use ErrorKind::{Denied, Malformed, NotFound, Throttled, Timeout, Unavailable};
    let kinds = [Denied, Malformed, NotFound, Throttled, Timeout, Unavailable].map(Some);
    for says in kinds.into_iter().chain([None]) {
        let server = with_jwt_service();
        let auth = Auth::jwt("svc", NoJwt(says));
        let backend = ConjurBackend::builder(target(&server, auth))
            .build()
            .unwrap();
        let fallback = MockBackend::new().with_value("v", "of the fallback");
        let resolver = Resolver::builder(backend).dangerous_fallback_to(fallback);
        let resolver = resolver.build().unwrap();
        block_on(async {
            let error = resolver.get("v").await.unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Unauthenticated,
                "{says:?}: {error}"
            );
            assert!(
                error.is_held_back() && error.to_string().contains("source"),
                "{error}"
            );
            let status = resolver.status();
            assert_eq!(status.fallback_answers, 0);
            let endpoint = &status.stores[0].endpoints[0];
            assert_eq!(endpoint.breaker, secret_resolver::BreakerState::Closed);
        });
        assert_eq!(server.count(Kind::AuthenticateJwt), 0);
    }
}
