//! A shutdown while requests of each kind are under way: they end, nothing more is sent, and no token is left to be revoked, because
//! Conjur revokes none.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Fault, Kind};
use secret_resolver::{ErrorKind, Resolver, SecretResolverExt};

#[test]
fn a_shutdown_ends_reads_of_conjur_that_are_under_way_and_sends_nothing() {
    let (server, backend, clock) = single();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        only(&server, Kind::Secret, Fault::Hang);
        let reads: Vec<_> = (0..5).map(|_| spawn_get(&backend, "v")).collect();
        until("they were sent", || server.count(Kind::Secret) == 6).await;
        let sent = server.requests().len();
        let report = shut_down(&backend, &clock).await;
        assert_eq!(
            (report.revoked, report.not_revoked, report.timed_out),
            (0, 0, false)
        );
        for read in reads {
            assert_eq!(read.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        }
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Closed);
        assert_eq!(server.requests().len(), sent);
    });
    assert!(server.wait_for_open_connections(0, 20 * SECOND));
}

#[test]
fn a_shutdown_ends_a_login_and_a_question_about_a_token() {
    for kind in [Kind::Authenticate, Kind::Whoami] {
        let (server, backend, clock) = single();
        block_on(async {
            if kind == Kind::Whoami {
                assert_eq!(bytes(backend.get("v").await), b"x");
                server.advance(481 * SECOND);
            }
            let gate = hold(&server, kind);
            let get = spawn_get(&backend, "v");
            until("it was sent", || server.count(kind) == 1).await;
            let shutdown = tokio::spawn({
                let (backend, clock) = (backend.clone(), clock.clone());
                async move { shut_down(&backend, &clock).await }
            });
            assert_eq!(
                get.await.unwrap().unwrap_err().kind(),
                ErrorKind::Closed,
                "{kind:?}"
            );
            gate.open();
            // The token that it may have brought is not ours to end.
            until("its end", || {
                clock.advance(SECOND / 200);
                shutdown.is_finished()
            })
            .await;
            let report = shutdown.await.unwrap();
            assert_eq!((report.revoked, report.not_revoked), (0, 0), "{kind:?}");
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Closed);
        });
        assert_eq!(server.count(Kind::Authenticate), 1, "{kind:?}");
    }
}

#[test]
fn a_shutdown_of_the_resolver_ends_a_batch_and_all_that_wait_for_it() {
    let server = server(&[("a", b"1"), ("b", b"2"), ("c", b"3")]);
    for kind in [Kind::Secret, Kind::Batch] {
        let resolver = resolver(&server);
        server.forget_requests();
        // The one that leads, or the batch of those that wait for it.
        let first = hold(&server, Kind::Secret);
        if kind == Kind::Batch {
            server.fault_next(Kind::Batch, Fault::Hang);
        }
        block_on(async {
            let asked = resolver.clone();
            let batch = tokio::spawn(async move { asked.get_many(&["a", "b", "c"]).await });
            until("all wait", || {
                format!("{resolver:#?}").contains("waiting: 2,")
            })
            .await;
            if kind == Kind::Batch {
                first.open();
            }
            until("it was sent", || server.count(kind) == 1).await;
            resolver.shutdown_within(5 * SECOND).await;
            let answers = batch.await.unwrap();
            let closed = |error: &secret_resolver::Error| error.kind() == ErrorKind::Closed;
            assert!(
                answers
                    .iter()
                    .skip(1)
                    .all(|it| it.as_ref().is_err_and(closed))
            );
            assert_eq!(
                resolver.get("a").await.unwrap_err().kind(),
                ErrorKind::Closed
            );
        });
        first.open();
        assert!(server.wait_for_open_connections(0, 20 * SECOND));
    }
}

#[test]
fn a_shutdown_while_conjur_is_away_ends_at_once() {
    let (server, backend, clock) = single();
    let resolver = Resolver::builder(backend.clone())
        .with_clock(clock.clone())
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"x");
        server.stop();
        // No time passes on its clock.
        let report = resolver.shutdown_within(SECOND).await;
        assert_eq!(
            (report.revoked, report.not_revoked, report.timed_out),
            (0, 0, false)
        );
        assert_eq!(
            backend.get("v").await.unwrap_err().kind(),
            ErrorKind::Closed
        );
    });
}

#[test]
fn a_clone_of_a_backend_is_shut_down_with_it_and_another_for_the_same_store_is_not() {
    let (server, one, clock) = single();
    let (clone, other) = (one.clone(), backend(&server));
    block_on(async {
        assert_eq!(bytes(clone.get("v").await), b"x");
        shut_down(&one, &clock).await;
        assert_eq!(refusal(&clone, "v").await, ErrorKind::Closed);
        assert_eq!(bytes(other.get("v").await), b"x");
    });
}
