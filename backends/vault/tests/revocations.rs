//! What is left to be revoked while a backend is in use: tokens that are replaced, given up, unfit or late, and
//! what keeps one from its end.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{ErrorKind, SecretResolver, SecretResolverExt};
use secret_resolver_vault::VaultBackend;
use test_servers::Reply;

#[test]
fn a_token_that_is_replaced_is_revoked_once_no_read_uses_it() {
    let (fake, backend, clock) = single(role());
    // So short that the slow read has time enough.
    fake.state().lease = 4;
    fake.state().renewable = false;
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        let gate = fake.hold("/slow");
        let slow = spawn_get(&backend, "slow");
        until("the slow read was sent", || fake.asked("/slow") == 1).await;
        clock.advance(3 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        assert_eq!(text(backend.get("a").await), "v");
        // Time enough for a revocation that does not wait.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(fake.asked("revoke-self"), 0);
        gate.open();
        assert_eq!(text(slow.await.unwrap()), "v");
        until("the revocation", || fake.asked("revoke-self") == 1).await;
        a_while().await;
        assert_eq!(shut_down(&backend, &clock).await, (1, 0));
        assert_eq!(fake.asked("revoke-self"), 2);
    });
}

#[test]
fn a_token_of_ours_that_is_given_up_is_revoked() {
    let (fake, backend, _) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("lookup-self", refused(403)));
        // The policy denies, and the lookup is refused by something else: the token lives on.
        let _ = backend.get("denied").await;
        until("its revocation", || fake.asked("revoke-self") >= 1).await;
    });
    assert_eq!(fake.tokens_of_revocations()[0], "token-1");
}

#[test]
fn tokens_for_a_limited_number_of_uses_are_refused_and_given_back() {
    let (fake, backend, clock) = single(role());
    fake.state().uses = 3;
    block_on(async {
        for issued in 1..6 {
            let error = backend.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains("token_num_uses"), "{error}");
            until("its revocation", || fake.asked("revoke-self") == issued).await;
            assert_eq!(fake.asked("/login"), issued);
            a_while().await;
            clock.advance(30 * SECOND);
        }
        // A token that cannot be given back counts.
        fake.state().instead = Some(("revoke-self", refused(400)));
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Misconfigured);
        until("the attempt", || fake.asked("revoke-self") == 6).await;
        assert_eq!(shut_down(&backend, &clock).await, (0, 1));
    });
}

#[test]
fn a_login_answer_with_a_token_and_nonsense_is_refused_and_the_token_given_back() {
    let (fake, backend, _) = single(role());
    let body = r#"{"auth":{"client_token":"token-9","lease_duration":-1,"renewable":true}}"#;
    fake.state().instead = Some(("/login", Reply::json(200, body)));
    block_on(async {
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Malformed);
        until("the revocation", || fake.asked("revoke-self") == 1).await;
    });
}

#[test]
fn a_login_that_is_late_gives_its_token_back_where_another_was_quicker() {
    let (first, second, backend, clock) = pair();
    let gate = first.hold("/login");
    second.state().issued = 100;
    block_on(async {
        let late = read_at(&backend, 0);
        until("its login was sent", || first.asked("/login") == 1).await;
        let quick = read_at(&backend, 1);
        until_finished(&clock, &[&quick]).await;
        assert_eq!(quick.await.unwrap(), Ok(()));
        gate.open();
        assert_eq!(late.await.unwrap(), Ok(()));
        until("the revocation", || {
            first.asked("revoke-self") + second.asked("revoke-self") == 1
        })
        .await;
        assert_eq!(backend.identity(), 1);
    });
    let revoked = [first, second].map(|fake| fake.tokens_of_revocations());
    assert_eq!(revoked.concat(), ["token-1"]);
}

#[test]
fn a_token_whose_renewal_was_not_answered_is_revoked_after_its_end() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("renew-self", Reply::status(502)));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        // Once there is another, the answer to the first was read.
        until_polled("another renewal", &backend, || {
            clock.advance(SECOND / 10);
            fake.asked("renew-self") == 2
        })
        .await;
        clock.advance(25 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the revocation", || fake.asked("revoke-self") == 1).await;
    });
    assert_eq!(fake.tokens_of_revocations()[0], "token-1");
}

#[test]
fn a_batch_token_is_not_asked_to_end_and_is_not_a_failure() {
    let (fake, backend, clock) = single(role());
    fake.state().token_type = "batch";
    fake.state().renewable = false;
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        assert_eq!(shut_down(&backend, &clock).await, (0, 0));
    });
    assert_eq!(fake.asked("revoke-self"), 0);
}

#[test]
fn what_could_not_be_revoked_is_tried_again_when_the_store_is_back() {
    let (fake, backend, clock) = single(role());
    fake.state().lease = 3600;
    fake.state().renewable = false;
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().lease = 100;
        fake.state().renewable = true;
        fake.state().instead = Some(("revoke-self", Reply::status(503)));
        clock.advance(2650 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        until("the attempt", || fake.asked("revoke-self") == 1).await;
        fake.state().instead = None;
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the renewal", || backend.stats().renewals == 1).await;
        until_next(&fake, &backend, &clock).await;
        a_while().await;
        assert_eq!(fake.tokens_of_revocations(), ["token-1", "token-1"]);
        // The first is given back; at the end the second is.
        assert_eq!(shut_down(&backend, &clock).await, (1, 0));
        assert_eq!(fake.asked("revoke-self"), 3);
    });
}

#[test]
fn a_revocation_that_is_answered_by_somebody_else_is_tried_again() {
    for answer in [
        Reply::status(429),
        Reply::json(403, PAGE),
        refused(403),
        Reply::json(404, PAGE),
        Reply::status(302),
        refused(400),
    ] {
        block_on(async {
            let (fake, backend, clock) = replaced(answer.clone()).await;
            fake.state().instead = None;
            a_moment().await;
            clock.advance(11 * SECOND);
            until_next(&fake, &backend, &clock).await;
            a_while().await;
            assert_eq!(shut_down(&backend, &clock).await, (1, 0), "{answer:?}");
            assert_eq!(fake.asked("revoke-self"), 3, "{answer:?}");
        });
    }
}

#[test]
fn a_revocation_that_a_proxy_refuses_after_an_outage_is_made_good_at_the_shutdown() {
    block_on(async {
        let (fake, backend, clock) = replaced(Reply::status(502)).await;
        fake.state().instead = Some(("revoke-self", refused(403)));
        a_moment().await;
        clock.advance(11 * SECOND);
        until_next(&fake, &backend, &clock).await;
        a_while().await;
        fake.state().instead = None;
        assert_eq!(shut_down(&backend, &clock).await, (2, 0));
    });
}

#[test]
fn a_revocation_whose_answer_was_lost_counts_for_nothing() {
    block_on(async {
        let (fake, backend, clock) = replaced(Reply::status(502)).await;
        // It was revoked behind the proxy anyway.
        fake.state().instead = None;
        fake.state().dead.push("token-1".into());
        a_moment().await;
        assert_eq!(shut_down(&backend, &clock).await, (1, 0));
    });
}

/// A store with a first token that was replaced, whose revocation it answers with `answer` until the test
/// says otherwise.
async fn replaced(answer: Reply) -> (Fake, VaultBackend, ManualClock) {
    let (fake, backend, clock) = single(role());
    fake.state().renewable = false;
    assert_eq!(text(backend.get("a").await), "v");
    fake.state().lease = 3600;
    fake.state().instead = Some(("revoke-self", answer));
    clock.advance(75 * SECOND);
    assert_eq!(text(backend.get("a").await), "v");
    until("the new token", || backend.identity() == 2).await;
    until("the attempt", || fake.asked("revoke-self") == 1).await;
    (fake, backend, clock)
}

/// Until a revocation is tried the second time. In small steps: it is put off from when the first answer was read, perhaps
/// after the clock was moved.
async fn until_next(fake: &Fake, backend: &VaultBackend, clock: &ManualClock) {
    until_polled("the second attempt", backend, || {
        clock.advance(SECOND / 50);
        fake.asked("revoke-self") == 2
    })
    .await;
}
