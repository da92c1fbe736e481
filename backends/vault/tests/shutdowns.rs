//! What a shutdown revokes, how long it asks for that, and what it counts.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{CertificateSource, ClientCertificate, VaultBackend};
use test_servers::Reply;
use tokio::sync::watch;

/// The certificate of an agent that may be away.
#[derive(Clone, Debug)]
struct OfAgent(watch::Sender<Result<ClientCertificate, Error>>);

impl CertificateSource for OfAgent {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        self.0.subscribe()
    }
}

#[test]
fn a_token_that_a_read_still_uses_at_the_shutdown_is_revoked_and_counted_once() {
    let (fake, backend, clock) = single(role());
    fake.state().lease = 4;
    fake.state().renewable = false;
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("/slow", Reply::Silent));
        let slow = spawn_get(&backend, "slow");
        until("the slow read was sent", || fake.asked("/slow") == 1).await;
        clock.advance(3 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        let report = backend.shutdown(clock.now() + SECOND / 2).await;
        let closed = slow.await.unwrap().unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
        assert_eq!((report.revoked, report.not_revoked), (2, 0));
        a_moment().await;
    });
    assert_eq!(fake.asked("revoke-self"), 2);
}

#[test]
fn an_unfit_token_that_comes_during_the_shutdown_is_revoked() {
    let (fake, backend, clock) = single(role());
    fake.state().uses = 5;
    let gate = fake.hold("/login");
    block_on(async {
        let waiter = spawn_get(&backend, "a");
        until("the login was sent", || fake.asked("login") == 1).await;
        let shutdown = tokio::spawn({
            let (backend, deadline) = (backend.clone(), clock.now() + SECOND);
            async move { backend.shutdown(deadline).await }
        });
        let closed = waiter.await.unwrap().unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
        gate.open();
        let report = shutdown.await.unwrap();
        assert_eq!((report.revoked, report.not_revoked), (1, 0));
    });
    assert_eq!(fake.asked("revoke-self"), 1);
}

#[test]
fn the_shutdown_revokes_at_any_endpoint_that_answers() {
    for answer in [Reply::status(503), Reply::CloseAtOnce, refused(403)] {
        let (first, second, backend, clock) = pair();
        block_on(async {
            assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
            first.state().instead = Some(("", answer));
            assert_eq!(shut_down(&backend, &clock).await, (1, 0));
        });
        assert_eq!(second.asked("revoke-self"), 1);
    }
}

#[test]
fn a_shutdown_asks_again_until_the_store_is_back() {
    for away in [
        Reply::status(503),
        Reply::CloseAtOnce,
        Reply::status(429),
        Reply::status(429).with_header("Retry-After", "3"),
        // It does not fit.
        Reply::status(429).with_header("Retry-After", "3600"),
    ] {
        let (first, second, backend, clock) = pair();
        block_on(async {
            assert_eq!(text(backend.get("a").await), "v");
            for fake in [&first, &second] {
                fake.state().instead = Some(("revoke-self", away.clone()));
            }
            let asked = || first.asked("revoke-self") + second.asked("revoke-self");
            let shutdown = shutdown_within(&backend, &clock, 10 * SECOND);
            until("a second time", || {
                clock.advance(SECOND / 50);
                asked() >= 4
            })
            .await;
            assert!(!shutdown.is_finished());
            second.state().instead = None;
            until("its end", || {
                clock.advance(SECOND / 50);
                shutdown.is_finished()
            })
            .await;
            let report = shutdown.await.unwrap();
            let counted = (report.revoked, report.not_revoked, report.timed_out);
            assert_eq!(counted, (1, 0, false), "{away:?}");
        });
    }
}

#[test]
fn a_shutdown_asks_a_store_that_is_away_in_moderation_and_ends_by_its_deadline() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        // Closed, so that no kept connection waits for a time on the clock.
        let away = refused(503).with_header("Connection", "close");
        fake.state().instead = Some(("revoke-self", away));
        let shutdown = shutdown_within(&backend, &clock, 2 * SECOND);
        for turn in 1..=8 {
            until("a turn", || fake.asked("revoke-self") == turn).await;
            let pause = Some(clock.now() + SECOND / 4);
            until("its answer was read", || clock.next_wake() == pause).await;
            clock.advance(SECOND / 5);
            a_moment().await;
            assert_eq!(fake.asked("revoke-self"), turn);
            assert!(!shutdown.is_finished());
            clock.advance(SECOND / 20);
        }
        let report = tokio::time::timeout(5 * SECOND, shutdown).await;
        let report = report.unwrap().unwrap();
        let counted = (report.revoked, report.not_revoked, report.timed_out);
        assert_eq!(counted, (0, 1, true));
    });
    assert_eq!(fake.asked("revoke-self"), 8);
}

#[test]
fn a_shutdown_ends_at_once_where_the_store_will_not_revoke() {
    for answer in [
        refused(403),
        refused(400),
        Reply::json(404, PAGE),
        Reply::status(302),
    ] {
        let (first, second, backend, clock) = pair();
        block_on(async {
            assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
            for fake in [&first, &second] {
                fake.state().instead = Some(("revoke-self", answer.clone()));
            }
            assert_eq!(shut_down(&backend, &clock).await, (0, 1), "{answer:?}");
        });
        let asked = [first, second].map(|fake| fake.asked("revoke-self"));
        assert_eq!(asked, [1, 1]);
    }
}

#[test]
fn a_refusal_beside_an_endpoint_that_is_away_ends_nothing_before_the_deadline() {
    for back in [true, false] {
        let (first, second, backend, clock) = pair();
        block_on(async {
            assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
            // So that it is known that tokens can look themselves up.
            assert_eq!(refusal(&backend, "denied").await, ErrorKind::Denied);
            first.state().instead = Some(("revoke-self", Reply::status(503)));
            second.state().instead = Some(("revoke-self", refused(403)));
            if back {
                first.state().instead_of = 2;
            }
            let shutdown = shutdown_within(&backend, &clock, 5 * SECOND);
            until("its end", || {
                clock.advance(SECOND / 50);
                shutdown.is_finished()
            })
            .await;
            let report = shutdown.await.unwrap();
            let counted = (report.revoked, report.not_revoked, report.timed_out);
            let expected = if back { (1, 0, false) } else { (0, 1, true) };
            assert_eq!(counted, expected);
        });
        let asked = first.asked("revoke-self");
        assert!(if back { asked == 3 } else { asked > 4 }, "{asked}");
    }
}

#[test]
fn a_token_that_is_gone_when_the_store_is_back_counts_for_nothing() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        assert_eq!(refusal(&backend, "denied").await, ErrorKind::Denied);
        fake.state().instead = Some(("revoke-self", Reply::status(502)));
        let shutdown = shutdown_within(&backend, &clock, 10 * SECOND);
        until("it is asked", || fake.asked("revoke-self") == 1).await;
        // It was revoked behind the proxy anyway.
        fake.state().dead.push("token-1".into());
        fake.state().instead = None;
        until("its end", || {
            clock.advance(SECOND / 50);
            shutdown.is_finished()
        })
        .await;
        let report = shutdown.await.unwrap();
        let counted = (report.revoked, report.not_revoked, report.timed_out);
        assert_eq!(counted, (0, 0, false));
    });
}

#[test]
fn a_login_that_ends_late_asks_again_until_its_token_is_revoked() {
    let (fake, backend, clock) = single(role());
    let gate = fake.hold("/login");
    block_on(async {
        let waiter = spawn_get(&backend, "a");
        until("the login was sent", || fake.asked("login") == 1).await;
        let shutdown = shutdown_within(&backend, &clock, 4 * SECOND);
        let closed = waiter.await.unwrap().unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
        {
            let mut state = fake.state();
            state.instead = Some(("revoke-self", Reply::status(503)));
            state.instead_of = 3;
        }
        gate.open();
        until("its end", || {
            clock.advance(SECOND / 100);
            shutdown.is_finished()
        })
        .await;
        let report = shutdown.await.unwrap();
        assert_eq!((report.revoked, report.not_revoked), (1, 0));
    });
    assert_eq!(fake.asked("revoke-self"), 4);
}

#[test]
fn a_shutdown_asks_no_sooner_than_the_store_wants() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        let wish = Reply::status(429).with_header("Retry-After", "3");
        fake.state().instead = Some(("revoke-self", wish));
        let shutdown = shutdown_within(&backend, &clock, 10 * SECOND);
        until("the first time", || fake.asked("revoke-self") == 1).await;
        a_moment().await;
        clock.advance(3 * SECOND - SECOND / 50);
        a_moment().await;
        assert_eq!(fake.asked("revoke-self"), 1);
        fake.state().instead = None;
        until("its end", || {
            clock.advance(SECOND / 50);
            shutdown.is_finished()
        })
        .await;
        assert_eq!(shutdown.await.unwrap().revoked, 1);
    });
    assert_eq!(fake.asked("revoke-self"), 2);
}

#[test]
fn what_could_not_be_sent_for_want_of_a_certificate_says_nothing_about_a_token() {
    let clients = new_ca();
    let fake = Fake::start_demanding(&clients);
    fake.state().renewable = false;
    let issued = client(&clients, "billing");
    let (chain, key) = (&issued.certificate_pem, &issued.key_pem);
    let certificate = ClientCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let agent = OfAgent(watch::Sender::new(Ok(certificate.clone())));
    let target = fake.target(role()).with_client_certificate(agent.clone());
    let clock = ManualClock::strict();
    let backend = VaultBackend::builder(target).with_clock(clock.clone());
    let backend = backend.build().unwrap();
    let away = || {
        let away = Error::new(ErrorKind::Unavailable, "away, says this test");
        let _ = agent.0.send_replace(Err(away));
    };
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        // A denial: whether the token is dead cannot be asked.
        let denied = Reply::json(403, r#"{"errors":["permission denied"]}"#);
        fake.state().instead = Some(("/denied", denied));
        let gate = fake.hold("/denied");
        let read = spawn_get(&backend, "denied");
        until("the read was sent", || fake.asked("/denied") == 1).await;
        away();
        gate.open();
        assert!(read.await.unwrap().is_err());
        let _ = agent.0.send_replace(Ok(certificate));
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!(backend.stats().logins, 1);
        // A token whose revocation was not answered may be gone; and a shutdown that cannot ask.
        fake.state().instead = Some(("revoke-self", Reply::status(503)));
        clock.advance(SECOND * 75);
        assert_eq!(text(backend.get("a").await), "v");
        until("another login", || fake.asked("/login") == 2).await;
        assert_eq!(text(backend.get("a").await), "v");
        until("a revocation", || fake.asked("revoke-self") >= 1).await;
        a_moment().await;
        away();
        fake.state().instead = None;
        let asked = fake.asked("revoke-self");
        let report = shutdown_within(&backend, &clock, SECOND);
        for _ in 0..40 {
            tokio::time::sleep(SECOND / 50).await;
            clock.advance(SECOND / 20);
        }
        let report = report.await.unwrap();
        assert_eq!((report.revoked, report.not_revoked), (0, 2));
        assert!(report.timed_out);
        assert_eq!(fake.asked("revoke-self"), asked);
    });
}
