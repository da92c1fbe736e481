//! Reads that Conjur does not answer with a value, and what follows for the token: what only looks like a refusal ends none, and no single
//! answer is final.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use conjur_double::{Fault, Kind, Where};
use secret_resolver::{ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::ConjurBackend;

#[test]
fn what_passes_at_conjur_is_tried_again_within_a_get() {
    for fault in [
        answer(500, ""),
        answer(502, PAGE),
        answer(503, ""),
        answer(504, ""),
        answer(408, ""),
        answer(421, ""),
        Fault::Close,
    ] {
        for kind in [Kind::Authenticate, Kind::Secret] {
            let server = server(&[("v", b"x")]);
            let resolver = resolver(&server);
            server.fault_next(kind, fault.clone());
            block_on(async {
                assert_eq!(bytes(resolver.get("v").await), b"x", "{fault:?} {kind:?}")
            });
        }
    }
}

#[test]
fn an_unasked_304_of_conjur_is_neither_a_redirect_nor_an_answer() {
    let (server, backend, _) = single();
    only(&server, Kind::Secret, answer(304, ""));
    block_on(async {
        let error = backend.get("v").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Malformed, Some(304))
        );
        assert!(!error.to_string().contains("redirect"), "{error}");
    });
}

#[test]
fn a_conjur_that_fails_is_an_outage_however_large_its_page_is() {
    let (server, backend, _) = single();
    let page = "x".repeat(2 << 20);
    for kind in [Kind::Authenticate, Kind::Secret] {
        server.fault_next(kind, answer(502, &page));
        block_on(async {
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Unavailable);
            assert_eq!(bytes(backend.get("v").await), b"x");
        });
    }
}

#[test]
fn denials_of_conjur_cause_no_login_and_no_question() {
    let server = server(&[("v", b"x"), ("seen", b"x")]);
    server.revoke_all("host:apps/reader", "seen");
    server.grant("host:apps/reader", &["read"], "seen");
    let backend = backend(&server);
    block_on(async {
        for _ in 0..5 {
            assert_eq!(refusal(&backend, "seen").await, ErrorKind::Denied);
            assert_eq!(refusal(&backend, "none").await, ErrorKind::NotFound);
        }
        // A host that is no more is denied everything, although its token is known.
        server.fault_next(Kind::Secret, answer(403, ""));
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Denied);
    });
    assert_eq!(
        (server.count(Kind::Authenticate), server.count(Kind::Whoami)),
        (1, 0)
    );
}

#[test]
fn a_proxys_401_and_403_end_no_token_of_conjur_and_are_no_denials() {
    let (server, backend, _) = single();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        let identity = backend.identity();
        for status in [401, 403] {
            // On every path, and on reads alone.
            for place in [Where::Anywhere, Kind::Secret.into()] {
                only(&server, place, answer(status, PAGE));
                for _ in 0..3 {
                    assert_eq!(refusal(&backend, "v").await, ErrorKind::Malformed);
                }
                server.clear_faults();
                assert_eq!(bytes(backend.get("v").await), b"x");
            }
        }
        // And on questions about a token that the store refuses.
        only(&server, Kind::Whoami, answer(403, PAGE));
        server.fault_next(Kind::Secret, no_token());
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Malformed);
        assert_eq!(bytes(backend.get("v").await), b"x");
        assert_eq!(backend.identity(), identity);
    });
    assert_eq!(server.count(Kind::Authenticate), 1);
}

#[test]
fn an_outage_at_the_question_about_a_token_leaves_it_alone() {
    let (server, backend, _) = single();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        for outage in [answer(500, ""), answer(503, ""), Fault::Close] {
            server.fault_next(Kind::Secret, no_token());
            only(&server, Kind::Whoami, outage.clone());
            server.fault_next(Kind::Secret, no_token());
            let error = backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{outage:?}: {error}");
            server.clear_faults();
            assert_eq!(bytes(backend.get("v").await), b"x");
        }
    });
    assert_eq!(server.count(Kind::Authenticate), 1);
}

#[test]
fn a_dead_token_of_conjur_costs_one_question_and_one_login_for_all_that_read() {
    let (server, backend, _) = single();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        server.advance(481 * SECOND);
        let gate = hold(&server, Kind::Whoami);
        let gets: Vec<_> = (0..50).map(|_| spawn_get(&backend, "v")).collect();
        until("all reads were sent", || server.count(Kind::Secret) == 51).await;
        gate.open();
        for get in gets {
            assert_eq!(bytes(get.await.unwrap()), b"x");
        }
    });
    // The first was perhaps sent before some of the reads, and one more is about the new token.
    assert_eq!(server.count(Kind::Authenticate), 2);
    assert!(
        server.count(Kind::Whoami) <= 3,
        "{}",
        server.count(Kind::Whoami)
    );
}

#[test]
fn a_second_refusal_of_one_read_is_not_a_third_login() {
    let (server, backend, clock) = single();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        // A store that takes no token, its own newest neither.
        server.fault_always(Kind::Secret, no_token());
        server.fault_always(Kind::Whoami, no_token());
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
        assert_eq!(server.count(Kind::Authenticate), 2);
        for _ in 0..100 {
            assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND / 10);
        }
        // One a second at most, in the long run.
        assert!(server.count(Kind::Authenticate) <= 14);
        server.clear_faults();
        clock.advance(SECOND);
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
}

#[test]
fn one_endpoints_word_against_anothers_ends_no_token_of_conjur() {
    let (first, second, backend, _) = pair();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        // As a follower whose clock is wrong.
        only(&first, Where::Anywhere, no_token());
        let error = backend.get("v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        for _ in 0..3 {
            assert_eq!(read_at(&backend, 1).await.unwrap().unwrap(), b"x");
            assert_eq!(
                read_at(&backend, 0).await.unwrap(),
                Err(ErrorKind::Unavailable)
            );
        }
        assert_eq!((backend.identity(), backend.logins()), (1, 1));
        // Where the other is away, one word has to do.
        first.clear_faults();
        first.advance(481 * SECOND);
        only(&second, Where::Anywhere, answer(503, ""));
        assert_eq!(read_at(&backend, 0).await.unwrap().unwrap(), b"x");
    });
    assert_eq!(backend.logins(), 2);
}

#[test]
fn an_endpoint_of_three_that_knows_a_token_settles_it() {
    let servers = endpoints(3);
    let backend = backend_of(&servers);
    let resolver = Resolver::builder(backend.clone()).build().unwrap();
    block_on(async {
        assert_eq!(bytes(resolver.get("v").await), b"x");
        for bad in &servers[..2] {
            only(bad, Where::Anywhere, no_token());
        }
        for at in [0, 1, 2, 0, 1, 2] {
            let answer = read_at(&backend, at).await.unwrap();
            match at {
                2 => assert_eq!(answer.unwrap(), b"x"),
                _ => assert_eq!(answer, Err(ErrorKind::Unavailable)),
            }
        }
        // A get finds the one that is well.
        resolver.invalidator().invalidate("v").unwrap();
        assert_eq!(bytes(resolver.get("v").await), b"x");
        assert_eq!(backend.identity(), 1);
    });
}

#[test]
fn a_question_that_hangs_at_the_reads_endpoint_is_answered_by_another() {
    let (first, second, backend, clock) = pair();
    block_on(async {
        assert_eq!(read_at(&backend, 0).await.unwrap().unwrap(), b"x");
        only(&first, Kind::Whoami, Fault::Hang);
        first.advance(481 * SECOND);
        let refused = read_at(&backend, 0);
        until("the question was sent", || {
            first.count_here(Kind::Whoami) == 1
        })
        .await;
        clock.advance(SECOND / 2);
        until("the other was asked", || {
            second.count_here(Kind::Whoami) == 1
        })
        .await;
        // The first may still say that it knows the token.
        clock.advance(SECOND / 2);
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Timeout));
        until("the verdict", || {
            clock.advance(SECOND / 10);
            backend.login_ends().is_none()
        })
        .await;
        first.clear_faults();
        assert_eq!(read_at(&backend, 0).await.unwrap().unwrap(), b"x");
    });
}

#[test]
fn an_outage_of_many_endpoints_of_conjur_is_an_outage_for_every_read() {
    for number in 2..5 {
        let servers = endpoints(number);
        let backend: ConjurBackend = backend_of(&servers);
        for (at, server) in servers.iter().enumerate() {
            let faults = [
                answer(503, ""),
                Fault::Close,
                answer(500, ""),
                answer(405, ""),
            ];
            only(server, Where::Anywhere, faults[at].clone());
        }
        block_on(async {
            for _ in 0..5 {
                let reads: Vec<_> = (0..30).map(|at| read_at(&backend, at % number)).collect();
                for read in reads {
                    assert_eq!(read.await.unwrap(), Err(ErrorKind::Unavailable));
                }
            }
            servers
                .iter()
                .for_each(conjur_double::ConjurDouble::clear_faults);
            assert_eq!(read_at(&backend, 0).await.unwrap().unwrap(), b"x");
        });
    }
}
