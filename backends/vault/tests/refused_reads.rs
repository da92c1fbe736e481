//! Reads that the store does not answer with a value, and what follows for the token: what only looks like a
//! refusal ends none, and no single answer is final.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Trust, VaultBackend, VaultTarget};
use test_servers::{Reply, RequestHead, ScriptedHttps, TestCa, Validity};

#[test]
fn what_passes_is_tried_again_within_a_get() {
    for answer in [
        Reply::status(408),
        Reply::status(421),
        Reply::json(400, UPGRADING),
        Reply::json(400, r#"{"errors":["cannot write to readonly storage"]}"#),
    ] {
        let fake = Fake::start();
        let backend = VaultBackend::builder(fake.target(role())).build().unwrap();
        let resolver = Resolver::builder(backend).build().unwrap();
        fake.state().instead = Some(("/data/a", answer));
        fake.state().instead_of = 1;
        block_on(async { assert_eq!(text(resolver.get("a").await), "v") });
        assert_eq!(fake.asked("/data/a"), 2);
    }
}

#[test]
fn an_unasked_304_is_neither_a_redirect_nor_an_answer() {
    let (fake, backend, _) = single(role());
    fake.state().instead = Some(("/data/a", Reply::status(304)));
    block_on(async {
        let error = backend.get("a").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::Malformed, Some(304))
        );
        assert!(!error.to_string().contains("redirect"), "{error}");
    });
}

#[test]
fn a_failing_server_is_an_outage_however_large_its_page_is() {
    let (fake, backend, _) = single(role());
    let page = "x".repeat(2 << 20);
    for ending in ["/login", "/data/a"] {
        fake.state().instead = Some((ending, Reply::json(502, &page)));
        block_on(async {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unavailable);
            fake.state().instead = None;
            assert_eq!(text(backend.get("a").await), "v");
        });
    }
}

#[test]
fn an_outage_of_many_endpoints_is_an_outage_for_every_read() {
    for number in 2..6 {
        for auth in [role(), given()] {
            let (fakes, backend) = cluster(number, auth);
            for (at, fake) in fakes.iter().enumerate() {
                let answers = [Reply::status(503), Reply::CloseAtOnce, Reply::status(502)];
                fake.state().instead = Some(("", answers[at % 3].clone()));
            }
            block_on(async {
                for _ in 0..10 {
                    let reads: Vec<_> = (0..30).map(|at| read_at(&backend, at % number)).collect();
                    for read in reads {
                        assert_eq!(read.await.unwrap(), Err(ErrorKind::Unavailable));
                    }
                }
                for fake in &fakes {
                    fake.state().instead = None;
                }
                assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
            });
        }
    }
}

#[test]
fn a_proxys_403_ends_no_token_and_is_not_a_denial() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let roles = fake.builder(&clock).build().unwrap();
    let given = fake.token_builder(&clock).build().unwrap();
    for backend in [roles, given] {
        block_on(async {
            assert_eq!(text(backend.get("a").await), "v");
            let identity = backend.identity();
            // On every path, on reads alone, and on lookups of what the store denies.
            for (path, name) in [("", "a"), ("/data/a", "a"), ("lookup-self", "denied")] {
                fake.state().instead = Some((path, Reply::json(403, PAGE)));
                for _ in 0..3 {
                    assert_eq!(
                        refusal(&backend, name).await,
                        ErrorKind::Malformed,
                        "{path}"
                    );
                }
                fake.state().instead = None;
                assert_eq!(text(backend.get("a").await), "v");
            }
            assert_eq!(backend.identity(), identity);
        });
    }
    assert_eq!((fake.asked("/login"), fake.asked("revoke-self")), (1, 0));
}

#[test]
fn a_given_token_that_is_called_dead_is_tried_again_and_again() {
    let (fake, backend, clock) = single(given());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        // A proxy that knows how the store refuses.
        fake.state().instead = Some(("", refused(403)));
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
        let asked = fake.server.requests().len();
        for _ in 0..10 {
            let held = backend.get("a").await.unwrap_err();
            assert_eq!(held.kind(), ErrorKind::Unauthenticated);
            assert!(held.retry_after().is_some() && held.is_held_back());
        }
        assert_eq!(fake.server.requests().len(), asked);
        // Each time it is asked about itself alone, less and less often.
        let mut lookups = 0;
        for _ in 0..600 {
            clock.advance(SECOND);
            lookups += usize::from(!backend.get("a").await.unwrap_err().is_held_back());
        }
        assert!((20..=32).contains(&lookups), "{lookups}");
        assert_eq!(fake.server.requests().len(), asked + lookups);
        assert_eq!(fake.tokens_of_reads().len(), 2);
        fake.state().instead = None;
        clock.advance(30 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
    });
}

#[test]
fn a_role_that_loses_the_right_to_look_costs_a_few_logins_and_what_lives_is_counted() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        // Tokens of it were seen to look themselves up.
        assert_eq!(refusal(&backend, "denied").await, ErrorKind::Denied);
        fake.state().dead.push("token-1".into());
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("-self", refused(403)));
        for _ in 0..300 {
            let _ = backend.get("a").await;
            let _ = backend.get("denied").await;
            clock.advance(SECOND / 10);
        }
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!(refusal(&backend, "denied").await, ErrorKind::Denied);
        let logins = fake.asked("/login");
        assert!(logins <= 5, "{logins}");
        let report = backend.shutdown(clock.now() + SECOND).await;
        // The first is dead, the others live on: what may not look may not end itself, either.
        assert_eq!(report.revoked, 0);
        assert!(report.not_revoked >= logins - 1, "{report:?}");
    });
}

#[test]
fn a_verdict_goes_on_without_the_read_that_asked_for_it_and_is_shared() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        let gate = fake.hold("lookup-self");
        fake.state().dead.push("token-1".into());
        let gets: Vec<_> = (0..50).map(|_| spawn_get(&backend, "a")).collect();
        until("the lookup was sent", || fake.asked("lookup-self") == 1).await;
        until("all reads were sent", || fake.asked("/data/a") == 51).await;
        // In small steps, as one that is slow to begin waits for longer.
        until("none waits any more", || {
            clock.advance(SECOND / 50);
            gets.iter().all(|get| get.is_finished())
        })
        .await;
        for get in gets {
            let error = get.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            // It is not evidence about the endpoint, which has answered.
            assert!(error.is_held_back(), "{error}");
        }
        gate.open();
        until("the verdict", || backend.login_ends().is_none()).await;
        assert_eq!(text(backend.get("a").await), "v");
    });
    // One more is of the new token: the first was never seen to look itself up.
    assert_eq!(fake.asked("/login"), 2);
    assert!(
        fake.asked("lookup-self") <= 3,
        "{}",
        fake.asked("lookup-self")
    );
}

#[test]
fn a_lookup_that_fails_is_one_for_all_reads_that_wait_for_it() {
    for answer in [
        Reply::status(503),
        Reply::json(403, PAGE),
        Reply::status(429),
    ] {
        let (fake, backend, _) = single(role());
        block_on(async {
            assert_eq!(text(backend.get("a").await), "v");
            fake.state().instead = Some(("lookup-self", answer));
            let gate = fake.hold("lookup-self");
            let gets: Vec<_> = (0..100).map(|_| spawn_get(&backend, "denied")).collect();
            until("all reads were sent", || fake.asked("denied") == 100).await;
            // Perhaps it has waited for its place behind them.
            until("a lookup was sent", || fake.asked("lookup-self") == 1).await;
            a_moment().await;
            gate.open();
            for get in gets {
                assert_ne!(get.await.unwrap().unwrap_err().kind(), ErrorKind::Denied);
            }
        });
        // The first was perhaps sent before some of the reads, and proves nothing for them.
        assert!(
            (1..=2).contains(&fake.asked("lookup-self")),
            "{}",
            fake.asked("lookup-self")
        );
        assert_eq!(fake.asked("/login"), 1);
    }
}

#[test]
fn one_endpoints_word_against_anothers_ends_no_token() {
    let (first, second, backend, _) = pair();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        first.state().instead = Some(("", refused(403)));
        let error = backend.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        // The next attempt goes to the other, with the same token.
        for _ in 0..3 {
            assert_eq!(text(backend.get("a").await), "v");
        }
        assert_eq!((backend.identity(), backend.stats().logins), (1, 1));
        // Where the other is away, one word has to do; it costs a login.
        first.state().instead = None;
        first.state().dead.push("token-1".into());
        second.state().instead = Some(("", Reply::status(503)));
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unavailable);
        assert_eq!(text(backend.get("a").await), "v");
        assert_eq!(backend.stats().logins, 2);
    });
}

#[test]
fn one_endpoint_that_knows_a_token_settles_it_however_many_do_not() {
    for auth in [role(), given()] {
        let (fakes, backend) = cluster(3, auth);
        block_on(async {
            assert_eq!(read_at(&backend, 2).await.unwrap(), Ok(()));
            for bad in &fakes[..2] {
                bad.state().instead = Some(("", refused(403)));
            }
            for at in [0, 1, 2, 0, 1, 2] {
                let answer = read_at(&backend, at).await.unwrap();
                let right = if at == 2 {
                    Ok(())
                } else {
                    Err(ErrorKind::Unavailable)
                };
                assert_eq!(answer, right, "at {at}");
            }
            assert_eq!(backend.identity(), 1);
        });
    }
}

#[test]
fn an_endpoint_that_answers_slowly_still_settles_that_a_token_lives() {
    let (first, second, backend, clock) = pair();
    block_on(async {
        assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
        first.state().instead = Some(("", refused(403)));
        let gate = second.hold("lookup-self");
        let refused = read_at(&backend, 0);
        until("the other was asked", || second.asked("lookup-self") == 1).await;
        clock.advance(SECOND * 3 / 4);
        gate.open();
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Unavailable));
        assert_eq!(backend.identity(), 1);
    });
}

#[test]
fn a_lookup_that_hangs_at_the_reads_endpoint_is_answered_by_another() {
    let (first, second, backend, clock) = pair();
    block_on(async {
        assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
        first.state().instead = Some(("lookup-self", Reply::Silent));
        for fake in [&first, &second] {
            fake.state().dead.push("token-1".into());
        }
        let refused = read_at(&backend, 0);
        until("the lookup was sent", || first.asked("lookup-self") == 1).await;
        clock.advance(SECOND / 2);
        until("the other was asked", || second.asked("lookup-self") == 1).await;
        // The first may still say that it knows the token.
        clock.advance(SECOND / 2);
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Timeout));
        clock.advance(SECOND);
        until("the verdict", || backend.login_ends().is_none()).await;
        assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
    });
}

#[test]
fn another_endpoint_that_is_silent_keeps_no_dead_token_in_use() {
    let (first, second, backend, clock) = pair();
    block_on(async {
        assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
        second.state().instead = Some(("", Reply::Silent));
        first.state().dead.push("token-1".into());
        let refused = read_at(&backend, 0);
        until("the other was asked", || second.asked("lookup-self") == 1).await;
        clock.advance(SECOND);
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Timeout));
        clock.advance(SECOND);
        until("the verdict", || backend.login_ends().is_none()).await;
        assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
    });
    assert_eq!(first.asked("/login"), 2);
}

#[test]
fn a_lookup_that_failed_since_a_read_was_sent_is_not_made_again_for_it() {
    let (fake, backend, _) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().dead.push("token-1".to_owned());
        fake.state().instead = Some(("lookup-self", Reply::status(503)));
        let gate = fake.hold("/data/late");
        let late = spawn_get(&backend, "late");
        until("it was sent", || fake.asked("/data/late") == 1).await;
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unavailable);
        assert_eq!(fake.asked("lookup-self"), 1);
        gate.open();
        let error = late.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    });
    assert_eq!(fake.asked("lookup-self"), 1);
}

#[test]
fn a_dead_token_at_a_slow_store_costs_no_read() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let state = Arc::new(Mutex::new((0, "none")));
    let script = Arc::clone(&state);
    // The refused read, the look at the token, the login and the read take longer than an attempt.
    let server = ScriptedHttps::start(&certificate, move |request: &RequestHead| {
        std::thread::sleep(SECOND * 6 / 10);
        let (issued, dead) = &mut *script.lock().unwrap();
        if request.target.ends_with("/login") {
            *issued += 1;
            let auth = serde_json::json!({"client_token": format!("token-{issued}"), "lease_duration": 3600,
                "renewable": false, "num_uses": 0, "token_type": "service"});
            return Reply::json(200, &serde_json::json!({ "auth": auth }).to_string());
        }
        match request.header("X-Vault-Token") {
            Some(token) if token == *dead => {
                Reply::json(403, r#"{"errors":["permission denied"]}"#)
            }
            _ => Reply::json(
                200,
                r#"{"data":{"data":{"value":"v"},"metadata":{"version":1}}}"#,
            ),
        }
    })
    .unwrap();
    let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let auth = Auth::approle(value("role"), value("secret"));
    let backend = VaultBackend::builder(VaultTarget::new(server.origin(), trust, auth));
    let resolver = Resolver::builder(backend.build().unwrap()).build().unwrap();
    block_on(async {
        assert_eq!(text(resolver.get("a").await), "v");
        state.lock().unwrap().1 = "token-1";
        assert_eq!(text(resolver.get("b").await), "v");
    });
}
