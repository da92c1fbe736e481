//! The life of a token of Conjur on a clock that the test moves: replaced in time and beside the reads, not sent after its end, and no
//! outage is its death.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use conjur_double::{ConjurDouble, Fault, Kind};
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::ConjurBackend;

/// Both clocks, as they go on together.
fn advance(server: &ConjurDouble, clock: &ManualClock, seconds: u32) {
    server.advance(seconds * SECOND);
    clock.advance(seconds * SECOND);
}

/// A backend whose requests may be under way while the clock is moved.
fn steered() -> (ConjurDouble, ConjurBackend, ManualClock) {
    let (server, clock) = (server(&[("v", b"x")]), ManualClock::strict());
    let builder = builder(&server).with_clock(clock.clone());
    let builder = builder.with_connect_timeout(3600 * SECOND);
    let backend = builder.with_response_timeout(3600 * SECOND).build();
    (server, backend.unwrap(), clock)
}

/// The different tokens that reads were sent with.
fn tokens_of_reads(server: &ConjurDouble) -> usize {
    let requests = server.requests();
    let reads = requests
        .iter()
        .filter(|it| matches!(it.kind, Kind::Secret | Kind::Batch));
    let tokens: HashSet<_> = reads
        .filter_map(|it| it.request.header("Authorization"))
        .collect();
    tokens.len()
}

fn refused(server: &ConjurDouble) -> usize {
    let requests = server.requests();
    requests.iter().filter(|it| it.status == Some(401)).count()
}

/// As `until`, reading again each time: what is due is begun by a read.
async fn until_polled(what: &str, backend: &ConjurBackend, mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        assert_eq!(bytes(backend.get("v").await), b"x");
        if done() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("not within 10 s: {what}");
}

#[test]
fn a_token_of_conjur_in_use_is_replaced_at_two_thirds_of_its_life_beside_the_reads() {
    let (server, backend, clock) = steered();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        advance(&server, &clock, 280);
        assert_eq!(bytes(backend.get("v").await), b"x");
        assert_eq!(server.count(Kind::Authenticate), 1);
        // It falls due between 288 s and 352 s. No read waits for the login, and however many there are, it is one.
        advance(&server, &clock, 80);
        let gate = hold(&server, Kind::Authenticate);
        for _ in 0..5 {
            assert_eq!(bytes(backend.get("v").await), b"x");
        }
        until("the login was sent", || {
            server.count(Kind::Authenticate) == 2
        })
        .await;
        assert_eq!(tokens_of_reads(&server), 1);
        gate.open();
        until_polled("the new token", &backend, || tokens_of_reads(&server) == 2).await;
    });
    assert_eq!((server.count(Kind::Authenticate), refused(&server)), (2, 0));
}

#[test]
fn a_token_that_ends_while_idle_is_not_sent_by_a_get_or_a_batch() {
    let (server, clock) = (
        server(&[("a", b"1"), ("b", b"2"), ("c", b"3")]),
        ManualClock::new(),
    );
    let backend = on_clock(target(&server, by_key(&server)), &clock);
    let resolver = Resolver::builder(backend)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    block_on(async {
        for round in 1..4 {
            let answers = get_together(&server, &resolver, &["a", "b", "c"]).await;
            let values: Vec<_> = answers.into_iter().map(bytes).collect();
            assert_eq!(values, [b"1", b"2", b"3"]);
            assert_eq!(server.count(Kind::Authenticate), round);
            // An hour in which nobody asks.
            advance(&server, &clock, 3600);
        }
    });
    assert_eq!((refused(&server), server.count(Kind::Whoami)), (0, 0));
}

#[test]
fn a_short_token_is_replaced_without_one_refused_read() {
    let (server, backend, clock) = steered();
    server.set_token_life(10 * SECOND);
    block_on(async {
        for _ in 0..120 {
            assert_eq!(bytes(backend.get("v").await), b"x");
            advance(&server, &clock, 1);
        }
    });
    assert_eq!(refused(&server), 0);
    let logins = server.count(Kind::Authenticate);
    assert!((12..=24).contains(&logins), "{logins}");
}

#[test]
fn an_outage_when_a_token_is_to_be_replaced_is_not_its_death() {
    for outage in [
        answer(500, ""),
        answer(503, ""),
        Fault::Close,
        answer(405, ""),
    ] {
        let (server, backend, clock) = steered();
        block_on(async {
            assert_eq!(bytes(backend.get("v").await), b"x");
            only(&server, Kind::Authenticate, outage.clone());
            advance(&server, &clock, 360);
            assert_eq!(bytes(backend.get("v").await), b"x");
            until("the login was tried", || {
                server.count(Kind::Authenticate) >= 2
            })
            .await;
            for _ in 0..5 {
                assert_eq!(bytes(backend.get("v").await), b"x");
            }
            server.clear_faults();
            // It is tried again while the old one lives.
            until_polled("the new token", &backend, || {
                advance(&server, &clock, 1);
                tokens_of_reads(&server) == 2
            })
            .await;
        });
        assert_eq!(refused(&server), 0, "{outage:?}");
    }
}

#[test]
fn a_refused_login_while_a_token_lives_ends_no_read() {
    let (server, backend, clock) = steered();
    block_on(async {
        assert_eq!(bytes(backend.get("v").await), b"x");
        // The key was rotated, and this process still has the old one.
        server.rotate_key(READER);
        advance(&server, &clock, 360);
        assert_eq!(bytes(backend.get("v").await), b"x");
        until("the login was refused", || refused(&server) == 1).await;
        for _ in 0..10 {
            assert_eq!(bytes(backend.get("v").await), b"x");
            advance(&server, &clock, 10);
        }
        advance(&server, &clock, 20);
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Unauthenticated);
    });
    let reads = server
        .requests()
        .into_iter()
        .filter(|it| it.kind == Kind::Secret);
    assert!(reads.into_iter().all(|it| it.status == Some(200)));
}

#[test]
fn first_reads_of_conjur_share_one_login_and_a_caller_that_leaves_does_not_end_it() {
    let (server, backend, _) = single();
    let gate = hold(&server, Kind::Authenticate);
    let begun = Arc::new(AtomicUsize::new(0));
    block_on(async {
        let left = spawn_get(&backend, "v");
        until("the login was sent", || {
            server.count(Kind::Authenticate) == 1
        })
        .await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        let gets: Vec<_> = (0..20)
            .map(|_| {
                let (backend, begun) = (backend.clone(), Arc::clone(&begun));
                tokio::spawn(async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    bytes(backend.get("v").await)
                })
            })
            .collect();
        until("all have begun", || begun.load(Ordering::SeqCst) == 20).await;
        gate.open();
        for get in gets {
            assert_eq!(get.await.unwrap(), b"x");
        }
    });
    assert_eq!(server.count(Kind::Authenticate), 1);
}

#[test]
fn a_conjur_that_throttles_logins_is_not_asked_again_before_its_delay() {
    let (server, backend, clock) = single();
    let throttled = conjur_double::Answer::new(429).with_header("Retry-After", "10");
    only(&server, Kind::Authenticate, Fault::Answer(throttled));
    block_on(async {
        let error = backend.get("v").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry_after()),
            (ErrorKind::Throttled, Some(10 * SECOND))
        );
        clock.advance(7 * SECOND);
        assert_eq!(refusal(&backend, "v").await, ErrorKind::Throttled);
    });
    assert_eq!(server.count(Kind::Authenticate), 1);
}

#[test]
fn a_deadline_ends_the_wait_for_a_login_of_conjur_and_not_the_login() {
    let (server, backend, clock) = single();
    let gate = hold(&server, Kind::Authenticate);
    block_on(async {
        let waiter = tokio::spawn({
            let (backend, deadline) = (backend.clone(), clock.now() + SECOND);
            async move {
                let request = Request::new(NameRef::parse("v").unwrap()).with_deadline(deadline);
                backend.resolve(request).await.unwrap_err().kind()
            }
        });
        until("the login was sent", || {
            server.count(Kind::Authenticate) == 1
        })
        .await;
        clock.advance(SECOND);
        assert_eq!(waiter.await.unwrap(), ErrorKind::Timeout);
        gate.open();
        assert_eq!(bytes(backend.get("v").await), b"x");
    });
    assert_eq!(server.count(Kind::Authenticate), 1);
}

#[test]
fn no_clock_of_the_server_has_to_be_right() {
    for (ahead, behind) in [(86_400, 0), (0, 86_400)] {
        let (server, backend, clock) = single();
        server.advance(ahead * SECOND);
        server.set_back(behind * SECOND);
        block_on(async {
            assert_eq!(bytes(backend.get("v").await), b"x");
            let ends = backend.login_ends().unwrap();
            assert_eq!(ends.since(clock.now()), 475 * SECOND);
            advance(&server, &clock, 480);
            assert_eq!(bytes(backend.get("v").await), b"x");
        });
        assert_eq!(refused(&server), 0);
    }
}
