//! The life of a token on a clock that the test moves, against a scripted server that counts what
//! it is asked: what no real server can be made to show on time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use secret_resolver::backend::{NameRef, Request};
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Moment, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::Reply;

fn backend(fake: &Fake, clock: &ManualClock) -> VaultBackend {
    fake.builder(clock).build().unwrap()
}

#[test]
fn a_token_in_use_is_renewed_at_about_two_thirds_of_its_life_while_reads_go_on() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        // It falls due somewhere between 60 s and 73.3 s.
        clock.advance(59 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!(fake.asked("renew-self"), 0);
        let gate = fake.hold("renew-self");
        clock.advance(15 * SECOND);
        // No read waits for the renewal, and however many there are, it is one.
        for _ in 0..5 {
            assert_eq!(text(backend.get("a").await), "v");
        }
        until("the renewal was sent", || fake.asked("renew-self") == 1).await;
        gate.open();
        until("the renewal", || backend.stats().renewals == 1).await;
        // The new life counts: the old one would have ended at 95 s.
        clock.advance(50 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!((fake.asked("login"), fake.asked("renew-self")), (1, 1));
    });
}

#[test]
fn a_token_that_is_not_used_is_not_renewed_and_not_sent_after_its_end() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        // 100 s less the margin of 5 s, counted from before the login was sent.
        clock.advance(95 * SECOND);
        fake.state().dead.push("token-1".into());
        assert_eq!(text(backend.get("a").await), "v");
    });
    assert_eq!(fake.tokens_of_reads(), ["token-1", "token-2"]);
    assert_eq!(
        (fake.asked("renew-self"), fake.asked("lookup-self")),
        (0, 0)
    );
}

#[test]
fn a_renewal_that_is_cut_short_by_the_longest_life_is_followed_by_a_login_in_time() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().renewed_lease = 30;
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the renewal", || backend.stats().renewals == 1).await;
        // 75 s and 30 s less a tenth: it would die at 102 s, and is replaced before.
        clock.advance(23 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        assert!(
            fake.tokens_of_reads()
                .iter()
                .all(|token| token == "token-1")
        );
        until_polled("the new token", &backend, || {
            fake.tokens_of_reads()
                .last()
                .is_some_and(|token| token == "token-2")
        })
        .await;
        assert_eq!(fake.asked("login"), 2);
        assert_eq!(fake.asked("renew-self"), 1);
    });
}

#[test]
fn a_token_that_cannot_be_renewed_is_replaced_before_its_end() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().renewable = false;
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(75 * SECOND);
        until_polled("the login", &backend, || {
            fake.tokens_of_reads()
                .last()
                .is_some_and(|token| token == "token-2")
        })
        .await;
        assert_eq!((fake.asked("renew-self"), fake.asked("login")), (0, 2));
    });
}

#[test]
fn a_renewal_that_is_refused_is_followed_by_a_login_while_the_token_lives() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().renewed_lease = 0;
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(75 * SECOND);
        // Small steps, far from the end at 95 s: it is a refresh that replaces the token.
        until_polled("the new token", &backend, || {
            clock.advance(SECOND / 20);
            fake.tokens_of_reads()
                .last()
                .is_some_and(|token| token == "token-2")
        })
        .await;
        assert!(clock.now().since(Moment::ZERO) < 95 * SECOND);
        assert_eq!((fake.asked("renew-self"), fake.asked("login")), (1, 2));
    });
}

#[test]
fn an_outage_at_renewal_is_not_the_tokens_death() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some((
            "renew-self",
            Reply::json(503, r#"{"errors":["Vault is sealed"]}"#),
        ));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the renewal", || fake.asked("renew-self") == 1).await;
        for _ in 0..3 {
            assert_eq!(text(backend.get("a").await), "v");
        }
        // It is tried again later, and not at each read.
        assert_eq!(fake.asked("renew-self"), 1);
        fake.state().instead = None;
        clock.advance(10 * SECOND);
        // In small steps: it is put off from when the answer was read, perhaps after the advance.
        until_polled("another renewal", &backend, || {
            clock.advance(SECOND / 50);
            fake.asked("renew-self") == 2
        })
        .await;
        assert_eq!((fake.asked("login"), fake.asked("lookup-self")), (1, 0));
    });
}

#[test]
fn an_outage_at_the_lookup_of_a_403_leaves_the_token_alone() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("lookup-self", Reply::status(500)));
        assert_eq!(refusal(&backend, "denied").await, ErrorKind::Unavailable);
        fake.state().instead = None;
        assert_eq!(refusal(&backend, "denied").await, ErrorKind::Denied);
        assert_eq!(fake.asked("login"), 1);
    });
}

#[test]
fn many_denied_reads_at_once_share_a_lookup() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        let gate = fake.hold("lookup-self");
        let gets: Vec<_> = (0..50)
            .map(|_| {
                let backend = backend.clone();
                tokio::spawn(async move { refusal(&backend, "denied").await })
            })
            .collect();
        // The first lookup was perhaps sent before some of the reads, and proves nothing for
        // them; the second comes after all.
        until("all reads were sent", || fake.asked("denied") == 50).await;
        // Perhaps it has waited for its place behind them.
        until("a lookup was sent", || fake.asked("lookup-self") == 1).await;
        gate.open();
        for get in gets {
            assert_eq!(get.await.unwrap(), ErrorKind::Denied);
        }
        assert!((1..=2).contains(&fake.asked("lookup-self")));
        assert_eq!(fake.asked("login"), 1);
    });
}

#[test]
fn a_403_after_an_older_lookup_is_looked_into_again() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    block_on(async {
        assert_eq!(refusal(&backend, "denied").await, ErrorKind::Denied);
        fake.state().dead.push("token-1".into());
        assert_eq!(text(backend.get("a").await), "v");
    });
    assert_eq!((fake.asked("lookup-self"), fake.asked("login")), (2, 2));
}

#[test]
fn concurrent_first_reads_share_one_login_and_a_caller_that_leaves_does_not_end_it() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let gate = fake.hold("/login");
    let backend = backend(&fake, &clock);
    let begun = Arc::new(AtomicUsize::new(0));
    block_on(async {
        // The first caller leaves; the login that it began is what the others wait for.
        let left = tokio::spawn({
            let backend = backend.clone();
            async move { backend.get("a").await }
        });
        until("the login was sent", || fake.asked("login") == 1).await;
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
        let gets: Vec<_> = (0..20)
            .map(|_| {
                let (backend, begun) = (backend.clone(), Arc::clone(&begun));
                tokio::spawn(async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    text(backend.get("a").await)
                })
            })
            .collect();
        until("all have begun", || begun.load(Ordering::SeqCst) == 20).await;
        gate.open();
        for get in gets {
            assert_eq!(get.await.unwrap(), "v");
        }
        assert_eq!(fake.asked("login"), 1);
    });
}

#[test]
fn a_runtime_that_is_dropped_during_a_login_leaves_no_waiter_behind() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().instead = Some(("/login", Reply::Silent));
    let backend = backend(&fake, &clock);
    let lost = runtime();
    lost.spawn({
        let backend = backend.clone();
        async move { backend.get("a").await }
    });
    assert!(fake.server.wait_for_requests(1, 20 * SECOND));
    let here = runtime();
    let waiter = here.spawn({
        let backend = backend.clone();
        async move { refusal(&backend, "a").await }
    });
    // Whether it waits already or comes later, it must not wait for the lost login.
    lost.shutdown_background();
    fake.state().instead = None;
    here.block_on(async {
        let ended = tokio::time::timeout(20 * SECOND, waiter).await.unwrap();
        assert!(ended.is_err() || ended.unwrap() == ErrorKind::Unavailable);
        assert_eq!(text(backend.get("a").await), "v");
    });
}

#[test]
fn refused_logins_are_backed_off_up_to_thirty_seconds() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().instead = Some(("/login", refused(403)));
    let backend = backend(&fake, &clock);
    block_on(async {
        // Ten times a second for ten minutes.
        for _ in 0..6000 {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND / 10);
        }
    });
    // 1, 2, 4, 8, 16 and then at most 30 s, each a little early.
    assert!(
        (24..=32).contains(&fake.asked("login")),
        "{} logins",
        fake.asked("login")
    );
}

#[test]
fn tokens_that_die_at_once_cost_no_more_than_one_login_a_second() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = backend(&fake, &clock);
    let tokens = (1..200).map(|number| format!("token-{number}"));
    fake.state().dead.extend(tokens);
    fake.state().instead = Some((
        "lookup-self",
        Reply::json(
            200,
            r#"{"data":{"ttl":100,"renewable":true,"expire_time":"x"}}"#,
        ),
    ));
    block_on(async {
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Denied);
        fake.state().instead = None;
        for _ in 0..100 {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND / 10);
        }
    });
    assert!(
        (8..=14).contains(&fake.asked("login")),
        "{} logins",
        fake.asked("login")
    );
}

#[test]
fn a_store_that_throttles_logins_is_not_asked_again_before_its_delay() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().instead = Some((
        "/login",
        Reply::status(429).with_header("Retry-After", "10"),
    ));
    let backend = backend(&fake, &clock);
    block_on(async {
        let error = backend.get("a").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry_after()),
            (ErrorKind::Throttled, Some(10 * SECOND))
        );
        clock.advance(7 * SECOND);
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Throttled);
        assert_eq!(fake.asked("login"), 1);
    });
}

#[test]
fn a_plain_token_past_its_end_is_never_sent() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().renewable = false;
    let auth = Auth::token(value("given"));
    let backend = VaultBackend::builder(fake.target(auth))
        .with_clock(clock.clone())
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(96 * SECOND);
        let before = fake.server.requests().len();
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
        assert_eq!(fake.server.requests().len(), before);
    });
}

#[test]
fn a_requests_deadline_ends_the_wait_and_not_the_login() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    fake.state().instead = Some(("/login", Reply::Silent));
    let backend = fake
        .builder(&clock)
        .with_response_timeout(10 * SECOND)
        .build()
        .unwrap();
    block_on(async {
        let waiter = tokio::spawn({
            let (backend, deadline) = (backend.clone(), clock.now() + SECOND);
            async move {
                let request = Request::new(NameRef::parse("a").unwrap()).with_deadline(deadline);
                backend.resolve(request).await.unwrap_err().kind()
            }
        });
        until("the login was sent", || fake.asked("login") == 1).await;
        clock.advance(SECOND);
        assert_eq!(waiter.await.unwrap(), ErrorKind::Timeout);
        assert_eq!(backend.stats().logins, 1);
    });
}

#[test]
fn shutdown_ends_waiting_requests_and_is_bounded_by_its_deadline() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("/slow", Reply::Silent));
        let waiter = tokio::spawn({
            let backend = backend.clone();
            async move { refusal(&backend, "slow").await }
        });
        until("the read was sent", || fake.asked("/slow") == 1).await;
        fake.state().instead = Some(("revoke-self", Reply::Silent));
        let shutdown = tokio::spawn({
            let (backend, deadline) = (backend.clone(), clock.now() + SECOND);
            async move { backend.shutdown(deadline).await }
        });
        assert_eq!(waiter.await.unwrap(), ErrorKind::Closed);
        until("the revocation was sent", || fake.asked("revoke-self") == 1).await;
        clock.advance(SECOND);
        let report = shutdown.await.unwrap();
        assert_eq!(
            (report.revoked, report.not_revoked, report.timed_out),
            (0, 1, true)
        );
    });
}

#[test]
fn a_login_that_ends_after_the_shutdown_gives_its_token_back() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let gate = fake.hold("/login");
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        let waiter = tokio::spawn({
            let backend = backend.clone();
            async move { refusal(&backend, "a").await }
        });
        until("the login was sent", || fake.asked("login") == 1).await;
        let shutdown = tokio::spawn({
            let (backend, deadline) = (backend.clone(), clock.now() + SECOND);
            async move { backend.shutdown(deadline).await }
        });
        assert_eq!(waiter.await.unwrap(), ErrorKind::Closed);
        gate.open();
        let report = shutdown.await.unwrap();
        assert_eq!(
            (report.revoked, report.not_revoked, report.timed_out),
            (1, 0, false)
        );
    });
    let last = fake.server.requests().pop().unwrap();
    assert_eq!(last.target, "/v1/auth/token/revoke-self");
    assert_eq!(last.header("X-Vault-Token"), Some("token-1"));
}

#[test]
fn a_standby_that_redirects_is_passed_over_and_never_followed() {
    let (standby, active, backend, _) = pair();
    let elsewhere = Fake::start();
    let location = format!("{}/v1/secret/data/a", elsewhere.server.origin());
    let redirect = Reply::status(307).with_header("Location", &location);
    standby.state().instead = Some(("", redirect.clone()));
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!(
            (standby.server.requests().len(), active.asked("login")),
            (1, 1)
        );
        active.state().instead = Some(("", redirect));
        let refused = backend.get("a").await.unwrap_err();
        assert_eq!(
            (refused.kind(), refused.status()),
            (ErrorKind::Refused, Some(307))
        );
    });
    assert_eq!(elsewhere.server.connections(), 0);
}

#[test]
fn after_an_outage_the_next_attempt_goes_to_the_next_endpoint() {
    let (first, second, backend, _) = pair();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        for answer in [Reply::status(503), Reply::status(412), Reply::CloseAtOnce] {
            first.state().instead = Some(("", answer.clone()));
            assert_eq!(
                refusal(&backend, "a").await,
                ErrorKind::Unavailable,
                "{answer:?}"
            );
            assert_eq!(text(backend.get("a").await), "v");
            first.state().instead = None;
            second.state().instead = Some(("", answer));
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unavailable);
            second.state().instead = None;
            assert_eq!(text(backend.get("a").await), "v");
        }
    });
}
