//! Credentials that others renew while the backend is in use: client certificates and JWTs that end. A login outlasts nothing that it was
//! made with.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use conjur_double::{
    CertService, ClientCa, ClientCertificates, ConjurDouble, Host, JwtService, Kind,
};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, SecretBuf, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::{Auth, CertificateFiles, ConjurBackend, Jwt, JwtFuture, JwtSource};

const SUBJECT: &str = "spiffe://example.org/payments";

/// A server that demands certificates, the files of one, and a backend that logs in by it.
struct Site {
    server: ConjurDouble,
    folder: tempfile::TempDir,
    clock: ManualClock,
    backend: ConjurBackend,
}

impl Site {
    fn start(auth: impl Fn(&ConjurDouble) -> Auth) -> Self {
        let server = server(&[("v", b"x")]);
        server
            .set_client_certificates(ClientCertificates::Required)
            .unwrap();
        server.add_authn_cert("svc", &CertService::Request);
        server.add_host_with(&Host::new("apps/named").annotation("authn-cert/cn", "named"));
        server.allow_login("host:apps/named", "authn-cert/svc");
        server.allow_read("host:apps/named", "v");
        let (folder, clock) = (tempfile::tempdir().unwrap(), ManualClock::strict());
        write(&folder, server.client_ca());
        let path = |name| -> PathBuf { folder.path().join(name) };
        let files = CertificateFiles::new(path("tls.crt"), path("tls.key")).unwrap();
        let target = target(&server, auth(&server)).with_client_certificate(files);
        let builder = ConjurBackend::builder(target).with_clock(clock.clone());
        // Requests are under way while the clock is moved.
        let builder = builder.with_connect_timeout(3600 * SECOND);
        let backend = builder
            .with_response_timeout(3600 * SECOND)
            .build()
            .unwrap();
        Self {
            server,
            folder,
            clock,
            backend,
        }
    }

    fn by_certificate() -> Self {
        Self::start(|_| Auth::certificate("svc").with_host("host/apps/named"))
    }

    fn renew(&self) {
        write(&self.folder, self.server.client_ca());
    }

    /// How many certificates were shown.
    fn shown(&self) -> usize {
        let shown: HashSet<_> = self.server.peer_certificates().into_iter().collect();
        shown.len()
    }

    /// Reads while time goes on, a second each, until it is done.
    async fn reads_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        for _ in 0..2000 {
            assert_eq!(bytes(self.backend.get("v").await), b"x");
            if done() {
                return;
            }
            self.clock.advance(SECOND / 10);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("it does not happen: {what}");
    }
}

fn write(folder: &tempfile::TempDir, authority: &ClientCa) {
    let issued = authority.issue(Some("named"), &[]).unwrap();
    std::fs::write(folder.path().join("tls.crt"), &issued.certificate_pem).unwrap();
    std::fs::write(folder.path().join("tls.key"), &issued.key_pem).unwrap();
}

#[test]
fn a_certificate_of_conjur_that_is_renewed_logs_in_again_and_the_old_one_is_shown_no_more() {
    let site = Site::by_certificate();
    block_on(async {
        assert_eq!(bytes(site.backend.get("v").await), b"x");
        for generation in 2..5 {
            let before = site.server.connections().len();
            site.renew();
            site.reads_until("a login with the new one", || {
                site.server.count(Kind::AuthenticateCert) == generation
            })
            .await;
            // Connections that were made with the old one end.
            site.reads_until("their end", || {
                site.server.connections()[..before]
                    .iter()
                    .all(|it| !it.open)
            })
            .await;
            assert_eq!(site.shown(), generation);
        }
    });
    // The token in use was good meanwhile.
    let requests = site.server.requests();
    assert!(requests.iter().all(|it| it.status == Some(200)));
    assert!(site.server.connections().iter().all(|it| !it.resumed));
}

#[test]
fn a_certificate_vouches_for_no_login_by_key() {
    let site = Site::start(by_key);
    block_on(async {
        assert_eq!(bytes(site.backend.get("v").await), b"x");
        site.renew();
        site.reads_until("a connection with the new one", || site.shown() == 2)
            .await;
    });
    assert_eq!(site.server.count(Kind::Authenticate), 1);
}

#[test]
fn a_certificate_that_conjur_does_not_trust_is_refused_until_there_is_another() {
    let site = Site::by_certificate();
    block_on(async {
        write(&site.folder, &ClientCa::new().unwrap());
        site.clock.advance(20 * SECOND);
        let error = site.backend.get("v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(site.server.requests().is_empty());
        // Another one is tried at once, whatever the old one holds back.
        site.renew();
        site.clock.advance(20 * SECOND);
        assert_eq!(bytes(site.backend.get("v").await), b"x");
    });
}

/// Gives a new JWT each time, which is known to end after this time.
#[derive(Debug)]
struct Ending {
    server: Arc<ConjurDouble>,
    clock: ManualClock,
    life: Duration,
}

impl JwtSource for Ending {
    fn jwt(&self) -> JwtFuture<'_> {
        let text = self.server.jwt(SUBJECT).mint();
        let jwt = Jwt::new(SecretBuf::from_slice(text.as_bytes()).unwrap());
        JwtFuture::ready(jwt.map(|jwt| jwt.with_end(self.clock.now() + self.life)))
    }
}

fn by_jwt(life: Duration) -> (Arc<ConjurDouble>, ManualClock, ConjurBackend) {
    let (server, clock) = (Arc::new(server(&[("v", b"x")])), ManualClock::strict());
    server.add_authn_jwt("svc", &JwtService::default());
    let host = format!("workloads/{SUBJECT}");
    server.add_host_with(&Host::new(&host).annotation("authn-jwt/svc/sub", SUBJECT));
    server.allow_login(&format!("host:{host}"), "authn-jwt/svc");
    server.allow_read(&format!("host:{host}"), "v");
    let source = Ending {
        server: Arc::clone(&server),
        clock: clock.clone(),
        life,
    };
    let backend = on_clock(target(&server, Auth::jwt("svc", source)), &clock);
    (server, clock, backend)
}

#[test]
fn a_token_of_conjur_is_replaced_before_the_end_of_the_jwt_that_it_was_given_for() {
    let (server, clock, backend) = by_jwt(60 * SECOND);
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        let ends = backend.login_ends().unwrap();
        assert_eq!(ends.since(clock.now()), 55 * SECOND);
        clock.advance(30 * SECOND);
        assert_eq!(bytes(backend.get("v").await), b"x");
        assert_eq!(server.count(Kind::AuthenticateJwt), 1);
        clock.advance(15 * SECOND);
        assert_eq!(bytes(backend.get("v").await), b"x");
        until("a second login", || backend.identity() == 2).await;
        clock.advance(60 * SECOND);
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(server.count(Kind::AuthenticateJwt), 3);
    assert!(server.requests().iter().all(|it| it.status == Some(200)));
}

#[test]
fn a_jwt_that_has_ended_is_not_sent_to_conjur() {
    let (server, _, backend) = by_jwt(Duration::ZERO);
    block_on(async {
        let error = backend.get("v").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_held_back()),
            (ErrorKind::Unauthenticated, true)
        );
    });
    assert!(server.requests().is_empty());
}
