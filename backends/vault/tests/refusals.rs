//! What the store refuses, what only looks so, and what becomes of the login: a refusal is the store's own
//! word, holds back what it refuses and nothing else, and is never final.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{
    Clock, ErrorKind, NameRef, Request, Resolver, SecretResolver, SecretResolverExt, SystemClock,
};
use secret_resolver_transport::{Origin, Trust};
use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
use test_servers::Reply;

const SECOND: Duration = Duration::from_secs(1);
const PAGE: &str = "<html><head><title>403 Forbidden</title></head></html>";
const UPGRADING: &str = r#"{"errors":["Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period and will resume service shortly."]}"#;

fn refused(status: u16) -> Reply {
    Reply::json(status, r#"{"errors":["permission denied"]}"#)
}

/// What is no answer of the store about a credential.
fn outages() -> Vec<Reply> {
    let mut all: Vec<_> = [408, 412, 421, 500, 502, 503].map(Reply::status).into();
    all.extend([500, 503].map(refused));
    all.push(Reply::json(400, UPGRADING));
    all.push(Reply::json(502, PAGE));
    all.push(Reply::CloseAtOnce);
    all
}

#[test]
fn an_outage_uses_up_no_cap_and_holds_back_no_login() {
    for outage in outages() {
        let (fake, clock) = (Fake::start(), ManualClock::new());
        let roles = fake.builder(&clock).build().unwrap();
        let given = fake.token_builder(&clock).build().unwrap();
        for (backend, login) in [(roles, "/login"), (given, "lookup-self")] {
            fake.state().instead = Some((login, outage.clone()));
            block_on(async {
                let before = fake.asked(login);
                for _ in 0..10 {
                    let error = backend.get("a").await.unwrap_err();
                    let shown = format!("{login} {outage:?}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{shown}");
                    assert!(!error.is_held_back(), "{shown}");
                }
                assert!(fake.asked(login) - before <= 10);
                assert_eq!(backend.stats().logins, 10);
                fake.state().instead = None;
                assert_eq!(text(backend.get("a").await), "v");
            });
        }
    }
}

#[test]
fn a_login_that_is_held_back_says_what_it_was_refused_for() {
    for (answer, kind) in [
        (refused(400), ErrorKind::Unauthenticated),
        (refused(403), ErrorKind::Unauthenticated),
        (refused(404), ErrorKind::Misconfigured),
        (Reply::status(429), ErrorKind::Throttled),
        (Reply::json(403, PAGE), ErrorKind::Malformed),
        (Reply::status(307), ErrorKind::Refused),
    ] {
        let (fake, clock) = (Fake::start(), ManualClock::new());
        fake.state().instead = Some(("/login", answer.clone()));
        let backend = fake.builder(&clock).build().unwrap();
        block_on(async {
            let first = backend.get("a").await.unwrap_err();
            assert_eq!(
                (first.kind(), first.is_held_back()),
                (kind, false),
                "{answer:?}"
            );
            let held = backend.get("a").await.unwrap_err();
            assert_eq!(
                (held.kind(), held.is_held_back()),
                (kind, true),
                "{answer:?}"
            );
            assert_eq!(
                (held.to_string(), held.status()),
                (first.to_string(), first.status())
            );
            assert!(held.retry_after().unwrap() <= SECOND);
            assert_eq!(fake.asked("/login"), 1);
        });
    }
}

#[test]
fn an_answer_that_is_not_the_stores_holds_logins_back_for_a_second_and_never_for_longer() {
    for answer in [
        Reply::json(403, PAGE),
        Reply::json(200, PAGE),
        Reply::status(307),
    ] {
        let (fake, clock) = (Fake::start(), ManualClock::new());
        fake.state().instead = Some(("/login", answer));
        let backend = fake.builder(&clock).build().unwrap();
        block_on(async {
            for asked in 1..8 {
                assert!(!backend.get("a").await.unwrap_err().is_held_back());
                assert!(backend.get("a").await.unwrap_err().is_held_back());
                assert_eq!(fake.asked("/login"), asked);
                clock.advance(SECOND);
            }
            fake.state().instead = None;
            assert_eq!(text(backend.get("a").await), "v");
        });
    }
}

/// A service on a real clock, whose secret id is in a file that does not exist yet.
fn waiting(fake: &Fake, secret_id: &std::path::Path) -> Resolver {
    let auth = Auth::approle(value("role"), Credential::file(secret_id));
    let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
    Resolver::builder(backend).build().unwrap()
}

#[test]
fn require_within_waits_for_a_credentials_file_and_a_get_sees_it_at_once() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    for content in [None, Some("")] {
        let file = directory.path().join("secret-id");
        let _ = std::fs::remove_file(&file);
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let resolver = waiting(&fake, &file);
        block_on(async {
            let missing = resolver.get("a").await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::Unauthenticated);
            assert!(missing.is_held_back(), "{missing}");
            let required = resolver.require_within(&["a"], 20 * SECOND);
            let writes = async {
                tokio::time::sleep(SECOND).await;
                std::fs::write(&file, "secret").unwrap();
            };
            let (required, ()) = tokio::join!(required, writes);
            required.unwrap();
            // A resolver that nobody has told of the file before.
            assert_eq!(text(resolver.get("b").await), "v");
        });
    }
}

#[test]
fn require_within_waits_for_a_hold_and_not_for_a_refusal() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret-id");
    std::fs::write(&file, "secret").unwrap();
    let resolver = waiting(&fake, &file);
    fake.state().instead = Some(("/login", refused(400)));
    block_on(async {
        let error = resolver.get("a").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_held_back()),
            (ErrorKind::Unauthenticated, false)
        );
        // The role is corrected at the store while the login is held back.
        fake.state().instead = None;
        resolver.require_within(&["b"], 20 * SECOND).await.unwrap();
    });
    let resolver = waiting(&fake, &file);
    fake.state().instead = Some(("/login", refused(400)));
    block_on(async {
        let clock = SystemClock::start().unwrap();
        let begun = clock.now();
        resolver
            .require_within(&["a"], 60 * SECOND)
            .await
            .unwrap_err();
        assert!(clock.now().since(begun) < 20 * SECOND);
    });
}

#[test]
fn a_proxys_403_ends_no_token_and_is_no_denial() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
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
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.token_builder(&clock).build().unwrap();
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
fn a_token_of_ours_that_is_given_up_is_revoked() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("lookup-self", refused(403)));
        // The policy denies, and the lookup is refused by something else: the token lives on.
        let _ = backend.get("denied").await;
        until("its revocation", || fake.asked("revoke-self") >= 1).await;
    });
    let requests = fake.server.requests();
    let revoked = requests
        .iter()
        .find(|request| request.target.ends_with("revoke-self"));
    assert_eq!(revoked.unwrap().header("X-Vault-Token"), Some("token-1"));
}

#[test]
fn a_token_that_is_replaced_is_revoked_once_no_read_uses_it() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    // So short that the slow read has time enough.
    fake.state().lease = 4;
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        let barrier = Arc::new(Barrier::new(2));
        fake.state().waits = Some(("/slow", Arc::clone(&barrier)));
        let slow = tokio::spawn({
            let backend = backend.clone();
            async move { text(backend.get("slow").await) }
        });
        until("the slow read was sent", || fake.asked("/slow") == 1).await;
        clock.advance(3 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        assert_eq!(text(backend.get("a").await), "v");
        // Time enough for a revocation that does not wait.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(fake.asked("revoke-self"), 0);
        fake.state().waits = None;
        barrier.wait();
        assert_eq!(slow.await.unwrap(), "v");
        until("the revocation", || fake.asked("revoke-self") == 1).await;
        let report = backend.shutdown(clock.now() + SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (1, 0));
        assert_eq!(fake.asked("revoke-self"), 2);
    });
}

/// Two endpoints of one store, each played by a server.
fn pair() -> (Fake, Fake, VaultBackend, ManualClock) {
    let (first, second) = (Fake::start(), Fake::start());
    let both = [first.ca.pem(), second.ca.pem()].concat();
    let trust = Trust::from_pem(both.as_bytes()).unwrap();
    let auth = Auth::approle(value("role"), value("secret"));
    let target = VaultTarget::new(Origin::parse(&first.server.origin()).unwrap(), trust, auth)
        .with_endpoint(Origin::parse(&second.server.origin()).unwrap());
    let clock = ManualClock::new();
    let backend = VaultBackend::builder(target)
        .with_clock(Arc::new(clock.clone()))
        .build()
        .unwrap();
    (first, second, backend, clock)
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
fn a_login_that_fails_at_the_endpoint_of_others_fails_no_request_for_another() {
    let (first, second, backend, _) = pair();
    let barrier = Arc::new(Barrier::new(2));
    first.state().waits = Some(("/login", Arc::clone(&barrier)));
    first.state().instead = Some(("", Reply::status(503)));
    block_on(async {
        let here = read(&backend, 0);
        until("the first login was sent", || first.asked("/login") == 1).await;
        let there = read(&backend, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        barrier.wait();
        assert_eq!(here.await.unwrap(), Err(ErrorKind::Unavailable));
        assert_eq!(there.await.unwrap(), Ok(()));
    });
    assert_eq!((first.asked("/login"), second.asked("/login")), (1, 1));
}

#[test]
fn tokens_for_a_limited_number_of_uses_are_refused_and_given_back() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().uses = 3;
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        for issued in 1..6 {
            let error = backend.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(error.to_string().contains("token_num_uses"), "{error}");
            until("its revocation", || fake.asked("revoke-self") == issued).await;
            assert_eq!(fake.asked("/login"), issued);
            clock.advance(30 * SECOND);
        }
        // One that cannot be given back counts.
        fake.state().instead = Some(("revoke-self", Reply::status(503)));
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Misconfigured);
        until("the attempt", || fake.asked("revoke-self") == 6).await;
        let report = backend.shutdown(clock.now() + SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (0, 1));
    });
}

#[test]
fn what_could_not_be_revoked_is_tried_again_when_the_store_is_back() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().lease = 3600;
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
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
        until("the revocation", || fake.asked("revoke-self") == 2).await;
        // Until its answer is read.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let requests = fake.server.requests();
        let revocations = requests
            .iter()
            .filter(|request| request.target.ends_with("revoke-self"));
        let mut tokens = revocations.filter_map(|request| request.header("X-Vault-Token"));
        assert!(tokens.all(|token| token == "token-1"));
        // The first is given back; at the end the second is.
        let report = backend.shutdown(clock.now() + SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (1, 0));
        assert_eq!(fake.asked("revoke-self"), 3);
    });
}

#[test]
fn a_given_token_of_limited_use_is_looked_at_once_and_refused() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().uses = 2;
    let backend = fake.token_builder(&clock).build().unwrap();
    block_on(async {
        for _ in 0..20 {
            let error = backend.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(
                error.to_string().contains("limited number of times"),
                "{error}"
            );
            clock.advance(60 * SECOND);
        }
    });
    assert_eq!(fake.server.requests().len(), 1);
}

#[test]
fn a_batch_token_is_not_asked_to_end_and_is_no_failure() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().token_type = "batch";
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        let report = backend.shutdown(clock.now() + SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (0, 0));
    });
    assert_eq!(fake.asked("revoke-self"), 0);
}

#[test]
fn what_passes_is_tried_again_within_a_get() {
    for answer in [
        Reply::status(408),
        Reply::status(421),
        Reply::json(400, UPGRADING),
        Reply::json(400, r#"{"errors":["cannot write to readonly storage"]}"#),
    ] {
        let fake = Fake::start();
        let auth = Auth::approle(value("role"), value("secret"));
        let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
        let resolver = Resolver::builder(backend).build().unwrap();
        fake.state().instead = Some(("/data/a", answer));
        fake.state().instead_of = 1;
        block_on(async { assert_eq!(text(resolver.get("a").await), "v") });
        assert_eq!(fake.asked("/data/a"), 2);
    }
}

#[test]
fn an_unasked_304_is_no_redirect_and_no_answer() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
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

/// A read at one endpoint, as a breaker directs it.
fn read(backend: &VaultBackend, endpoint: usize) -> tokio::task::JoinHandle<Result<(), ErrorKind>> {
    let backend = backend.clone();
    tokio::spawn(async move {
        let request = Request::new(NameRef::parse("a").unwrap()).at_endpoint(endpoint);
        let answer = backend.resolve(request).await;
        answer.map(drop).map_err(|error| error.kind())
    })
}

#[test]
fn a_login_that_hangs_at_one_endpoint_holds_up_no_request_for_another() {
    let (first, second, backend, clock) = pair();
    first.state().instead = Some(("", Reply::Silent));
    block_on(async {
        let hangs = read(&backend, 0);
        until("its login was sent", || first.asked("/login") == 1).await;
        let others: Vec<_> = (0..20).map(|_| read(&backend, 1)).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(second.server.requests().len(), 0);
        clock.advance(SECOND / 2);
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(()));
        }
        // The one that hangs goes on with the token of the other, once its login has ended.
        first.state().instead = None;
        clock.advance(4 * SECOND);
        assert_eq!(hangs.await.unwrap(), Err(ErrorKind::Timeout));
        assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
    });
    assert_eq!((first.asked("/login"), second.asked("/login")), (1, 1));
}

#[test]
fn a_login_that_is_late_gives_its_token_back_where_another_was_quicker() {
    let (first, second, backend, clock) = pair();
    let barrier = Arc::new(Barrier::new(2));
    first.state().waits = Some(("/login", Arc::clone(&barrier)));
    second.state().issued = 100;
    block_on(async {
        let late = read(&backend, 0);
        until("its login was sent", || first.asked("/login") == 1).await;
        let quick = read(&backend, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.advance(SECOND / 2);
        assert_eq!(quick.await.unwrap(), Ok(()));
        barrier.wait();
        assert_eq!(late.await.unwrap(), Ok(()));
        until("the revocation", || {
            first.asked("revoke-self") + second.asked("revoke-self") == 1
        })
        .await;
        assert_eq!(backend.identity(), 1);
    });
    let requests = [first.server.requests(), second.server.requests()].concat();
    let revoked = requests
        .iter()
        .find(|request| request.target.ends_with("revoke-self"));
    assert_eq!(revoked.unwrap().header("X-Vault-Token"), Some("token-1"));
}

#[test]
fn a_verdict_goes_on_without_the_read_that_asked_for_it_and_is_shared() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        let barrier = Arc::new(Barrier::new(2));
        fake.state().waits = Some(("lookup-self", Arc::clone(&barrier)));
        fake.state().dead.push("token-1".into());
        let gets: Vec<_> = (0..50)
            .map(|_| {
                let backend = backend.clone();
                tokio::spawn(async move { backend.get("a").await })
            })
            .collect();
        until("the lookup was sent", || fake.asked("lookup-self") == 1).await;
        until("all reads were sent", || fake.asked("/data/a") == 51).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        // Longer than any of them waits, also one that was slow to begin.
        for _ in 0..2 {
            clock.advance(SECOND);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for get in gets {
            let error = get.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            // Of the endpoint, which has answered, it is no evidence.
            assert!(error.is_held_back(), "{error}");
        }
        fake.state().waits = None;
        barrier.wait();
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
        let (fake, clock) = (Fake::start(), ManualClock::new());
        let backend = fake.builder(&clock).build().unwrap();
        block_on(async {
            assert_eq!(text(backend.get("a").await), "v");
            fake.state().instead = Some(("lookup-self", answer));
            let barrier = Arc::new(Barrier::new(2));
            fake.state().waits = Some(("lookup-self", Arc::clone(&barrier)));
            let gets: Vec<_> = (0..100)
                .map(|_| {
                    let backend = backend.clone();
                    tokio::spawn(async move { backend.get("denied").await.unwrap_err().kind() })
                })
                .collect();
            until("all reads were sent", || fake.asked("denied") == 100).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            fake.state().waits = None;
            barrier.wait();
            for get in gets {
                assert_ne!(get.await.unwrap(), ErrorKind::Denied);
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
fn another_endpoint_that_is_silent_keeps_no_dead_token_in_use() {
    let (first, second, backend, clock) = pair();
    block_on(async {
        assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
        second.state().instead = Some(("", Reply::Silent));
        first.state().dead.push("token-1".into());
        let refused = read(&backend, 0);
        until("the other was asked", || second.asked("lookup-self") == 1).await;
        clock.advance(SECOND);
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Timeout));
        clock.advance(SECOND);
        until("the verdict", || backend.login_ends().is_none()).await;
        assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
    });
    assert_eq!(first.asked("/login"), 2);
}

/// `number` endpoints of one store, and what reads at each of them.
fn cluster(number: usize, auth: Auth) -> (Vec<Fake>, VaultBackend) {
    let fakes: Vec<_> = (0..number).map(|_| Fake::start()).collect();
    let pem: String = fakes.iter().map(|fake| fake.ca.pem()).collect();
    let trust = Trust::from_pem(pem.as_bytes()).unwrap();
    let origin = |fake: &Fake| Origin::parse(&fake.server.origin()).unwrap();
    let target = VaultTarget::new(origin(&fakes[0]), trust, auth);
    let target = fakes[1..]
        .iter()
        .fold(target, |target, fake| target.with_endpoint(origin(fake)));
    let backend = VaultBackend::builder(target).build().unwrap();
    (fakes, backend)
}

#[test]
fn an_outage_of_many_endpoints_is_an_outage_for_every_read() {
    for number in 2..6 {
        for auth in [
            Auth::approle(value("role"), value("secret")),
            Auth::token(value("given")),
        ] {
            let (fakes, backend) = cluster(number, auth);
            for (at, fake) in fakes.iter().enumerate() {
                let answers = [Reply::status(503), Reply::CloseAtOnce, Reply::status(502)];
                fake.state().instead = Some(("", answers[at % 3].clone()));
            }
            block_on(async {
                for _ in 0..10 {
                    let reads: Vec<_> = (0..30).map(|at| read(&backend, at % number)).collect();
                    for read in reads {
                        assert_eq!(read.await.unwrap(), Err(ErrorKind::Unavailable));
                    }
                }
                for fake in &fakes {
                    fake.state().instead = None;
                }
                assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
            });
        }
    }
}

#[test]
fn one_endpoint_that_knows_a_token_settles_it_however_many_do_not() {
    for auth in [
        Auth::approle(value("role"), value("secret")),
        Auth::token(value("given")),
    ] {
        let (fakes, backend) = cluster(3, auth);
        block_on(async {
            assert_eq!(read(&backend, 2).await.unwrap(), Ok(()));
            for bad in &fakes[..2] {
                bad.state().instead = Some(("", refused(403)));
            }
            for at in [0, 1, 2, 0, 1, 2] {
                let answer = read(&backend, at).await.unwrap();
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
    let barrier = Arc::new(Barrier::new(2));
    block_on(async {
        assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
        first.state().instead = Some(("", refused(403)));
        second.state().waits = Some(("lookup-self", Arc::clone(&barrier)));
        let refused = read(&backend, 0);
        until("the other was asked", || second.asked("lookup-self") == 1).await;
        clock.advance(SECOND * 3 / 4);
        barrier.wait();
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Unavailable));
        assert_eq!(backend.identity(), 1);
    });
}

#[test]
fn a_lookup_that_hangs_at_the_reads_endpoint_is_answered_by_another() {
    let (first, second, backend, clock) = pair();
    block_on(async {
        assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
        first.state().instead = Some(("lookup-self", Reply::Silent));
        for fake in [&first, &second] {
            fake.state().dead.push("token-1".into());
        }
        let refused = read(&backend, 0);
        until("the lookup was sent", || first.asked("lookup-self") == 1).await;
        clock.advance(SECOND / 2);
        until("the other was asked", || second.asked("lookup-self") == 1).await;
        // The first may yet say that it knows the token.
        clock.advance(SECOND / 2);
        assert_eq!(refused.await.unwrap(), Err(ErrorKind::Timeout));
        clock.advance(SECOND);
        until("the verdict", || backend.login_ends().is_none()).await;
        assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
    });
}

#[test]
fn a_refusal_is_confirmed_once_and_a_refused_credential_is_not_shown_to_all() {
    let (fakes, backend) = cluster(5, Auth::approle(value("role"), value("wrong")));
    for fake in &fakes {
        fake.state().instead = Some(("/login", refused(400)));
    }
    block_on(async {
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
        let asked = || -> usize { fakes.iter().map(|fake| fake.asked("/login")).sum() };
        assert_eq!((asked(), backend.stats().logins), (2, 2));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
        assert_eq!((asked(), backend.stats().logins), (3, 3));
    });
}

#[test]
fn a_refusal_that_no_other_endpoint_could_confirm_is_not_held_for_long() {
    let (first, second, backend, clock) = pair();
    first.state().instead = Some(("/login", refused(403)));
    second.state().instead = Some(("/login", Reply::status(503)));
    block_on(async {
        for _ in 0..60 {
            let _ = backend.get("a").await;
            clock.advance(SECOND);
        }
        second.state().instead = None;
        clock.advance(2 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
    });
}

#[test]
fn a_renewal_that_hangs_holds_up_no_read() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("renew-self", Reply::Silent));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the renewal", || fake.asked("renew-self") == 1).await;
        fake.state().dead.push("token-1".into());
        let get = tokio::spawn({
            let backend = backend.clone();
            async move { text(backend.get("a").await) }
        });
        until("the verdict", || backend.login_ends().is_none()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.advance(SECOND / 2);
        let got = tokio::time::timeout(10 * SECOND, get).await;
        assert_eq!(got.expect("it waits for the renewal").unwrap(), "v");
    });
    assert_eq!(fake.asked("/login"), 2);
}

#[test]
fn a_read_whose_own_login_fails_takes_the_token_that_another_has_brought() {
    let (first, second, backend, clock) = pair();
    let barrier = Arc::new(Barrier::new(2));
    first.state().waits = Some(("/login", Arc::clone(&barrier)));
    first.state().instead = Some(("/login", refused(400)));
    block_on(async {
        let late = read(&backend, 0);
        until("its login was sent", || first.asked("/login") == 1).await;
        let quick = read(&backend, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.advance(SECOND / 2);
        assert_eq!(quick.await.unwrap(), Ok(()));
        // As soon as there is a token, whichever login brought it.
        assert_eq!(late.await.unwrap(), Ok(()));
        second.state().instead = Some(("/login", Reply::status(503)));
        barrier.wait();
        // What the late one is refused for holds back nothing.
        until("its second opinion", || second.asked("/login") == 2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        second.state().instead = None;
        for fake in [&first, &second] {
            fake.state().dead.push("token-1".into());
        }
        first.state().instead = None;
        first.state().waits = None;
        assert_eq!(read(&backend, 1).await.unwrap(), Ok(()));
    });
}

#[test]
fn a_revocation_that_a_proxy_refuses_after_an_outage_is_made_good_at_the_shutdown() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().lease = 3600;
        fake.state().instead = Some(("revoke-self", Reply::status(502)));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the first attempt", || fake.asked("revoke-self") == 1).await;
        fake.state().instead = Some(("revoke-self", refused(403)));
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.advance(11 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the second attempt", || fake.asked("revoke-self") == 2).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.state().instead = None;
        let report = backend.shutdown(clock.now() + SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (2, 0));
    });
}

#[test]
fn a_token_that_a_read_still_uses_at_the_shutdown_is_revoked_and_counted_once() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().lease = 4;
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("/slow", Reply::Silent));
        let slow = tokio::spawn({
            let backend = backend.clone();
            async move { refusal(&backend, "slow").await }
        });
        until("the slow read was sent", || fake.asked("/slow") == 1).await;
        clock.advance(3 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the new token", || backend.identity() == 2).await;
        let report = backend.shutdown(clock.now() + SECOND / 2).await;
        assert_eq!(slow.await.unwrap(), ErrorKind::Closed);
        assert_eq!((report.revoked, report.not_revoked), (2, 0));
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    assert_eq!(fake.asked("revoke-self"), 2);
}

#[test]
fn a_given_token_that_somebody_may_have_renewed_is_asked_about_when_its_life_is_over() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.token_builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(96 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(96 * SECOND);
        fake.state().instead = Some(("", Reply::status(503)));
        // Nobody has refused it: an outage is one.
        for _ in 0..5 {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unavailable);
        }
    });
}

#[test]
fn a_role_that_loses_the_right_to_look_costs_a_few_logins_and_what_lives_is_counted() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
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
fn a_revocation_that_is_answered_by_somebody_else_is_tried_again() {
    for answer in [
        Reply::status(429),
        Reply::json(403, PAGE),
        refused(403),
        Reply::json(404, PAGE),
        Reply::status(302),
        refused(400),
    ] {
        let (fake, clock) = (Fake::start(), ManualClock::new());
        fake.state().renewable = false;
        let backend = fake.builder(&clock).build().unwrap();
        block_on(async {
            assert_eq!(text(backend.get("a").await), "v");
            fake.state().lease = 3600;
            fake.state().instead = Some(("revoke-self", answer.clone()));
            clock.advance(75 * SECOND);
            assert_eq!(text(backend.get("a").await), "v");
            until("the new token", || backend.identity() == 2).await;
            until("the attempt", || fake.asked("revoke-self") == 1).await;
            fake.state().instead = None;
            tokio::time::sleep(Duration::from_millis(100)).await;
            clock.advance(11 * SECOND);
            assert_eq!(text(backend.get("a").await), "v");
            until("the next", || fake.asked("revoke-self") == 2).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let report = backend.shutdown(clock.now() + SECOND).await;
            assert_eq!((report.revoked, report.not_revoked), (1, 0), "{answer:?}");
            assert_eq!(fake.asked("revoke-self"), 3, "{answer:?}");
        });
    }
}

#[test]
fn an_unfit_token_that_comes_during_the_shutdown_is_revoked() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let barrier = Arc::new(Barrier::new(2));
    fake.state().uses = 5;
    fake.state().waits = Some(("/login", Arc::clone(&barrier)));
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
        barrier.wait();
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
            assert_eq!(read(&backend, 0).await.unwrap(), Ok(()));
            first.state().instead = Some(("", answer));
            let report = backend.shutdown(clock.now() + SECOND).await;
            assert_eq!((report.revoked, report.not_revoked), (1, 0));
        });
        assert_eq!(second.asked("revoke-self"), 1);
    }
}

#[test]
fn a_revocation_whose_answer_was_lost_counts_for_nothing() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().lease = 3600;
        fake.state().instead = Some(("revoke-self", Reply::status(502)));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the attempt", || fake.asked("revoke-self") == 1).await;
        // It was revoked behind the proxy all the same.
        fake.state().instead = None;
        fake.state().dead.push("token-1".into());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let report = backend.shutdown(clock.now() + SECOND).await;
        assert_eq!((report.revoked, report.not_revoked), (1, 0));
    });
}

#[test]
fn a_token_whose_renewal_was_not_answered_is_revoked_after_its_end() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("renew-self", Reply::status(502)));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the renewal", || fake.asked("renew-self") == 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        clock.advance(25 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the revocation", || fake.asked("revoke-self") == 1).await;
    });
    let requests = fake.server.requests();
    let revoked = requests
        .iter()
        .find(|request| request.target.ends_with("revoke-self"));
    assert_eq!(revoked.unwrap().header("X-Vault-Token"), Some("token-1"));
}

#[test]
fn a_login_that_one_endpoint_refuses_is_tried_at_another() {
    for answer in [
        refused(403),
        refused(400),
        refused(404),
        Reply::json(403, PAGE),
        Reply::status(429),
    ] {
        let (first, second, backend, _) = pair();
        first.state().instead = Some(("/login", answer.clone()));
        block_on(async {
            assert_eq!(text(backend.get("a").await), "v", "{answer:?}");
            second.state().instead = Some(("/login", refused(400)));
            second.state().dead.push("token-1".into());
            first.state().dead.push("token-1".into());
            let error = backend.get("a").await.unwrap_err();
            assert!(!error.is_held_back() && !error.kind().permits().counts_for_breaker);
            assert!(backend.get("a").await.unwrap_err().is_held_back());
        });
        assert_eq!((first.asked("/login"), second.asked("/login")), (2, 2));
    }
}

#[test]
fn a_login_answer_with_a_token_and_nonsense_is_refused_and_the_token_given_back() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let body = r#"{"auth":{"client_token":"token-9","lease_duration":-1,"renewable":true}}"#;
    fake.state().instead = Some(("/login", Reply::json(200, body)));
    let backend = fake.builder(&clock).build().unwrap();
    block_on(async {
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Malformed);
        until("the revocation", || fake.asked("revoke-self") == 1).await;
    });
}

#[test]
fn a_token_file_that_holds_no_token_is_named() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vault-token");
    for content in ["given\n\n", "two words", "\u{feff}given", "gi\0ven", " "] {
        std::fs::write(&file, content).unwrap();
        let backend = VaultBackend::builder(fake.target(Auth::token(Credential::file(&file))));
        let backend = backend.build().unwrap();
        block_on(async {
            let error = backend.get("a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{content:?}");
            assert!(error.to_string().contains("vault-token"), "{error}");
        });
    }
    assert_eq!(fake.server.requests().len(), 0);
}

#[test]
fn a_failing_server_is_an_outage_however_large_its_page_is() {
    let (fake, clock) = (Fake::start(), ManualClock::new());
    let backend = fake.builder(&clock).build().unwrap();
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
