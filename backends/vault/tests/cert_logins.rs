//! Client certificates against a real OpenBao: logins by `auth/cert`, and connections that need one whatever the
//! login is (`tls_require_and_verify_client_cert`).

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, SecretResolver, SecretResolverExt};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, VaultBackend, VaultTarget};
use test_servers::{OpenBao, ServerCert, Validity};

/// The target, with the client certificate of these files.
fn with_pair(server: &OpenBao, auth: Auth, pair: &Pair) -> VaultTarget {
    target(server, auth).with_client_certificate(pair.files())
}

fn steered(target: VaultTarget) -> (VaultBackend, ManualClock) {
    let clock = ManualClock::strict();
    let builder = VaultBackend::builder(target)
        .with_clock(clock.clone())
        // Requests are under way while the clock is moved.
        .with_connect_timeout(HOUR)
        .with_response_timeout(HOUR);
    (builder.build().unwrap(), clock)
}

#[test]
fn a_client_certificate_logs_in_and_another_one_logs_in_again_without_a_renewal() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let clients = new_ca();
    trust_clients(&server, &clients);
    let pair = Pair::of(&client(&clients, "first"));
    let auth = Auth::cert().with_role("billing");
    let (backend, clock) = steered(with_pair(&server, auth, &pair));
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(names_of_tokens(&server), ["first"]);
        // Renewed with the same one.
        clock.advance(Duration::from_secs(2800));
        assert_eq!(text(backend.get("app/a").await), "v");
        until("a renewal", || backend.stats().renewals == 1).await;
        // And due for another, when the certificate is another.
        pair.write(&client(&clients, "second"));
        clock.advance(Duration::from_secs(2800));
        for _ in 0..2000 {
            // The login, and the revocation of the token before, happen beside reads.
            assert_eq!(text(backend.get("app/a").await), "v");
            if backend.stats().logins == 2 && names_of_tokens(&server) == ["second"] {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(names_of_tokens(&server), ["second"]);
        let stats = backend.stats();
        assert_eq!((stats.logins, stats.lookups), (2, 0));
    });
}

#[test]
fn a_login_by_certificate_is_refused_in_words_that_say_why() {
    let server = OpenBao::start().unwrap();
    let clients = new_ca();
    trust_clients(&server, &clients);
    // None at all: said before anything is sent.
    let none = VaultBackend::builder(target(&server, Auth::cert())).build();
    let error = none.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("with_client_certificate"));
    let (strange, nameless) = (client(&new_ca(), "x"), clients.issue_nameless().unwrap());
    let good = client(&clients, "good");
    let role = |name: &str| Auth::cert().with_role(name);
    for (issued, auth, kind, status, words) in [
        (
            &strange,
            Auth::cert(),
            ErrorKind::Unauthenticated,
            400,
            "client certificate",
        ),
        (
            &good,
            role("nobody"),
            ErrorKind::Unauthenticated,
            400,
            "client certificate",
        ),
        (
            &nameless,
            Auth::cert(),
            ErrorKind::Misconfigured,
            500,
            "common name",
        ),
        (
            &good,
            Auth::cert().with_mount("none"),
            ErrorKind::Unauthenticated,
            403,
            "auth mount",
        ),
    ] {
        let pair = Pair::of(issued);
        let backend = VaultBackend::builder(with_pair(&server, auth, &pair)).build();
        let error = block_on(backend.unwrap().get("app/a")).unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (kind, Some(status)),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_role_is_for_logins_that_have_one() {
    let server = OpenBao::start().unwrap();
    let approle = Auth::approle(value("a"), value("b")).with_role("r");
    let token = Auth::token(value("t")).with_role("r");
    for auth in [
        approle,
        token,
        Auth::jwt("", secret_resolver_vault::JwtFile::new("x")),
    ] {
        let refused = VaultBackend::builder(target(&server, auth)).build();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misconfigured);
    }
}

#[test]
fn a_listener_that_demands_certificates_takes_every_login_with_one_and_none_without() {
    let clients = new_ca();
    let server = OpenBao::start_demanding(&clients).unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    trust_clients(&server, &clients);
    let token = server.token(&["reader"], HOUR).unwrap();
    let pair = Pair::of(&client(&clients, "billing"));
    for auth in [approle(&role), Auth::cert(), Auth::token(value(&token))] {
        let backend = VaultBackend::builder(with_pair(&server, auth, &pair)).build();
        assert_eq!(text(block_on(backend.unwrap().get("app/a"))), "v");
    }
    // The token alone, as somebody would have it that has copied it.
    let copied = Auth::token(value(&token));
    let backend = VaultBackend::builder(target(&server, copied.clone())).build();
    let error = block_on(backend.unwrap().get("app/a")).unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Unauthenticated, None)
    );
    assert!(error.to_string().contains("client certificate"), "{error}");
    // With a certificate of another authority, and with one that is out of its dates.
    let stranger = Pair::of(&client(&new_ca(), "billing"));
    let backend = VaultBackend::builder(with_pair(&server, copied, &stranger)).build();
    let error = block_on(backend.unwrap().get("app/a")).unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Unauthenticated, None)
    );
    let old = clients.issue_client("billing", Validity::EXPIRED).unwrap();
    pair.write(&old);
    let read =
        secret_resolver_vault::CertificateFiles::new(pair.path("tls.crt"), pair.path("tls.key"));
    let error = read.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("is expired"), "{error}");
}

/// The connections to a port of 127.0.0.1 that are open at their server's end, by the ports of their clients.
fn connections_to(port: u16) -> Vec<u16> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!("0100007F:{port:04X}");
    let of_port = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_open = words.get(3) == Some(&"01") && *words.get(1)? == local;
        let peer = words.get(2)?.split_once(':')?.1;
        is_open
            .then(|| u16::from_str_radix(peer, 16).ok())
            .flatten()
    });
    of_port.collect()
}

/// Reads without a pause while `during` runs; how many reads there were, and none may fail.
async fn reads_while(
    backend: &VaultBackend,
    names: usize,
    during: impl Future<Output = ()>,
) -> usize {
    let (stop, read) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let tasks: Vec<_> = (0..names)
        .map(|number| {
            let (stop, read) = (Arc::clone(&stop), Arc::clone(&read));
            let backend = backend.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(text(backend.get(&format!("app/{number}")).await), "v");
                    read.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    during.await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    read.load(Ordering::Relaxed)
}

#[test]
fn a_pair_is_rotated_under_load_without_a_failed_get_and_old_connections_end() {
    let clients = new_ca();
    let server = OpenBao::start_demanding(&clients).unwrap();
    for number in 0..4 {
        server
            .put(&format!("app/{number}"), &[("value", "v")])
            .unwrap();
    }
    trust_clients(&server, &clients);
    let pair = Pair::of(&client(&clients, "generation-0"));
    let (backend, clock) = steered(with_pair(&server, Auth::cert(), &pair));
    block_on(async {
        let reads = reads_while(&backend, 4, async {
            for generation in 1..=5 {
                until("connections", || !connections_to(server.port()).is_empty()).await;
                let before = connections_to(server.port());
                let name = format!("generation-{generation}");
                pair.write(&client(&clients, &name));
                clock.advance(Duration::from_secs(10));
                until("a login with the new one", || {
                    backend.stats().logins > generation && names_of_tokens(&server).contains(&name)
                })
                .await;
                until("the end of old connections", || {
                    let now = connections_to(server.port());
                    before.iter().all(|port| !now.contains(port))
                })
                .await;
            }
        });
        let reads = reads.await;
        assert!(reads > 5, "{reads}");
        // One login a certificate: the token is used until there is another.
        assert_eq!(backend.stats().logins, 6);
        assert_eq!(backend.stats().renewals, 0);
        let report = backend.shutdown(clock.now() + HOUR).await;
        assert_eq!((report.not_revoked, report.timed_out), (0, false));
    });
    assert!(names_of_tokens(&server).is_empty());
}

#[test]
fn other_authorities_close_the_connections_to_the_store() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let own = std::fs::read_to_string(server.ca_file()).unwrap();
    write(&path, &own);
    let target = VaultTarget::new(
        Origin::parse(&server.origin()).unwrap(),
        Trust::from_file(&path).unwrap(),
        approle(&role),
    );
    let (backend, clock) = steered(target);
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        let before = connections_to(server.port());
        assert!(!before.is_empty());
        write(&path, &format!("{own}{}", new_ca().pem()));
        for _ in 0..3 {
            clock.advance(Duration::from_secs(20));
            assert_eq!(text(backend.get("app/a").await), "v");
        }
        until("the end of old connections", || {
            let now = connections_to(server.port());
            before.iter().all(|port| !now.contains(port))
        })
        .await;
        assert_eq!(text(backend.get("app/a").await), "v");
    });
}

#[test]
fn another_client_certificate_ends_a_back_off_whatever_the_login_is() {
    let clients = new_ca();
    let server = OpenBao::start_demanding(&clients).unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let pair = Pair::of(&client(&new_ca(), "billing"));
    let (backend, clock) = steered(with_pair(&server, approle(&role), &pair));
    block_on(async {
        for _ in 0..3 {
            assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Unauthenticated);
            clock.advance(Duration::from_secs(30));
        }
        assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Unauthenticated);
        let held = backend.get("app/a").await.unwrap_err();
        assert!(
            held.retry_after()
                .is_some_and(|wait| wait > Duration::from_secs(4))
        );
        pair.write(&client(&clients, "billing"));
        clock.advance(Duration::from_secs(1));
        assert_eq!(text(backend.get("app/a").await), "v");
    });
}

#[test]
fn a_renewal_is_not_sent_with_another_client_certificate() {
    const ROUNDS: usize = 6;
    let clients = new_ca();
    let fake = Fake::start_demanding(&clients);
    let issued: Vec<_> = (0..=ROUNDS).map(|_| client(&clients, "billing")).collect();
    let pair = Pair::of(&issued[0]);
    let target = fake.target(Auth::cert());
    let (backend, clock) = steered(target.with_client_certificate(pair.files()));
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        for (round, next) in issued.iter().enumerate().skip(1) {
            // A renewal is due, and the connection that is made for it may find another pair.
            pair.write(next);
            clock.advance(Duration::from_secs(74));
            for _ in 0..2000 {
                assert_eq!(text(backend.get("app/a").await), "v");
                if backend.identity() == round as u64 + 1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let requests = fake.server.requests();
    let logins: Vec<_> = requests
        .iter()
        .filter(|one| one.target.ends_with("/login"))
        .map(|one| one.client.as_deref().unwrap())
        .collect();
    let of_all: Vec<_> = issued.iter().map(ServerCert::der).collect();
    assert!(logins == of_all);
    assert_eq!(requests[0].body, b"{}");
    // Each with the certificate that its token was issued to.
    for renewal in requests
        .iter()
        .filter(|one| one.target.ends_with("renew-self"))
    {
        let token = renewal.header("X-Vault-Token").unwrap();
        let number: usize = token.strip_prefix("token-").unwrap().parse().unwrap();
        assert!(renewal.client.as_deref() == Some(logins[number - 1]));
    }
}
