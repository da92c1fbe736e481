//! Logins that the store does not take, and what becomes of the requests that need one: a refusal is the
//! store's own word, holds back what it refuses and nothing else, and is never final.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use common::*;
use secret_resolver::backend::SystemClock;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Credential, VaultBackend};
use test_servers::Reply;

#[test]
fn an_outage_uses_up_no_cap_and_holds_back_no_login() {
    for outage in outages() {
        let (fake, clock) = (Fake::start(), ManualClock::strict());
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
        let (fake, backend, _) = single(role());
        fake.state().instead = Some(("/login", answer.clone()));
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
        let (fake, backend, clock) = single(role());
        fake.state().instead = Some(("/login", answer));
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
            // A resolver that knows nothing of the file yet.
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
        let clock = SystemClock::shared().unwrap();
        let begun = clock.now();
        resolver
            .require_within(&["a"], 60 * SECOND)
            .await
            .unwrap_err();
        assert!(clock.now().since(begun) < 20 * SECOND);
    });
}

#[test]
fn a_given_token_of_limited_use_is_looked_at_once_and_refused() {
    let (fake, backend, clock) = single(given());
    fake.state().uses = 2;
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
fn a_given_token_that_somebody_may_have_renewed_is_asked_about_when_its_life_is_over() {
    let (fake, backend, clock) = single(given());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(96 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        clock.advance(96 * SECOND);
        fake.state().instead = Some(("", Reply::status(503)));
        // Nobody has refused it, so an outage is an outage.
        for _ in 0..5 {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unavailable);
        }
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

/// What a store says to a wrong secret id, and to each login while the role is locked out.
const WRONG: &str = r#"{"errors":["invalid role or secret ID"]}"#;

#[test]
fn a_wrong_secret_id_is_sent_three_times_and_then_more_rarely_than_the_store_remembers_it() {
    let (fake, backend, clock) = single(role());
    fake.state().instead = Some(("/login", Reply::json(400, WRONG)));
    let mut sent = Vec::new();
    block_on(async {
        // Each second for two hours.
        for _ in 0..7200 {
            let before = fake.asked("/login");
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
            if fake.asked("/login") > before {
                sent.push(clock.now());
            }
            clock.advance(SECOND);
        }
    });
    // Five lock the role out, each less than 15 minutes after the one before.
    let apart: Vec<_> = sent.windows(2).map(|two| two[1].since(two[0])).collect();
    let (quick, rare) = apart.split_at(2);
    assert!(quick.iter().all(|apart| *apart < 10 * SECOND), "{apart:?}");
    assert!(rare.iter().all(|apart| *apart > 900 * SECOND), "{apart:?}");
    assert!((5..=8).contains(&rare.len()), "{apart:?}");
}

#[test]
fn several_endpoints_together_are_shown_a_wrong_secret_id_three_times() {
    // The other is away, or confirms.
    for (confirms, second_answers) in [(false, Reply::status(503)), (true, Reply::json(400, WRONG))]
    {
        let (first, second, backend, clock) = pair();
        first.state().instead = Some(("/login", Reply::json(400, WRONG)));
        second.state().instead = Some(("/login", second_answers));
        block_on(async {
            for _ in 0..900 {
                let _ = backend.get("a").await;
                clock.advance(SECOND);
            }
        });
        let confirmed = if confirms { second.asked("/login") } else { 0 };
        assert_eq!((first.asked("/login") + confirmed, confirms), (3, confirms));
    }
}

#[test]
fn a_changed_secret_id_is_tried_at_once_however_long_the_one_before_is_held_back() {
    let fake = Fake::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret-id");
    std::fs::write(&file, "wrong").unwrap();
    fake.state().instead = Some(("/login", Reply::json(400, WRONG)));
    let resolver = waiting(&fake, &file);
    block_on(async {
        while fake.asked("/login") < 3 {
            let _ = resolver.get("a").await;
            tokio::time::sleep(SECOND / 10).await;
        }
        // The refusal of `a` is remembered for a moment.
        let held = resolver.get("b").await.unwrap_err();
        assert!(held.is_held_back(), "{held}");
        assert!(held.retry_after().unwrap() > 900 * SECOND, "{held:?}");
        let required = resolver.require_within(&["b"], 20 * SECOND);
        let writes = async {
            tokio::time::sleep(SECOND).await;
            assert_eq!(fake.asked("/login"), 3);
            fake.state().instead = None;
            std::fs::write(&file, "secret").unwrap();
        };
        let (required, ()) = tokio::join!(required, writes);
        required.unwrap();
    });
    assert_eq!(fake.asked("/login"), 4);
}

#[test]
fn a_wrong_id_after_others_counts_with_them() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret-id");
    std::fs::write(&file, "wrong").unwrap();
    fake.state().instead = Some(("/login", Reply::json(400, WRONG)));
    let auth = Auth::approle(value("role"), Credential::file(&file));
    let backend = on_clock(fake.target(auth), &clock);
    let minute = async || {
        for _ in 0..60 {
            assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
            clock.advance(SECOND);
        }
        fake.asked("/login")
    };
    block_on(async {
        assert_eq!(minute().await, 3);
        std::fs::write(&file, "wrong again").unwrap();
        assert_eq!(minute().await, 4);
        // Once the store has forgotten them, it begins to count again.
        clock.advance(900 * SECOND);
        std::fs::write(&file, "still wrong").unwrap();
        assert_eq!(minute().await, 7);
    });
}

#[test]
fn a_403_after_wrong_ids_is_called_a_lockout_and_is_not_held_for_long() {
    let (fake, backend, clock) = single(role());
    let error = async || backend.get("a").await.unwrap_err().to_string();
    block_on(async {
        fake.state().instead = Some(("/login", refused(403)));
        let alone = error().await;
        assert!(alone.contains("whether the role is locked out"), "{alone}");
        clock.advance(SECOND);
        fake.state().instead = Some(("/login", Reply::json(400, WRONG)));
        let wrong = error().await;
        assert!(
            wrong.contains("check the role id") && !wrong.contains("locked"),
            "{wrong}"
        );
        clock.advance(2 * SECOND);
        fake.state().instead = Some(("/login", refused(403)));
        let locked = error().await;
        assert!(locked.contains("is probably locked out"), "{locked}");
        assert!(locked.contains("status 403, https://"), "{locked}");
        // It costs nothing to ask whether the lockout is over.
        fake.state().instead = None;
        clock.advance(30 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
    });
}

#[test]
fn what_says_nothing_of_a_credential_is_asked_once_and_its_refusal_no_more_than_twice() {
    let (fakes, backend) = cluster(6, role());
    for (number, fake) in fakes.iter().enumerate() {
        let answer = match number {
            1 | 4 | 5 => refused(400),
            _ => Reply::json(404, PAGE),
        };
        fake.state().instead = Some(("/login", answer));
    }
    let asked = || -> Vec<_> { fakes.iter().map(|fake| fake.asked("/login")).collect() };
    block_on(async {
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Unauthenticated);
        assert_eq!(asked(), [1, 1, 1, 1, 1, 0]);
        for fake in &fakes {
            fake.state().instead = Some(("/login", Reply::status(429)));
        }
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(refusal(&backend, "a").await, ErrorKind::Throttled);
        assert_eq!(asked(), [2, 2, 2, 2, 2, 1]);
    });
}

#[test]
fn an_endpoint_that_is_silent_holds_up_no_login_for_long() {
    let clock = ManualClock::strict();
    let fakes: Vec<_> = (0..4).map(|_| Fake::start()).collect();
    let backend = on_clock(target_of(&fakes.iter().collect::<Vec<_>>(), role()), &clock);
    fakes[0].state().instead = Some(("", Reply::json(404, PAGE)));
    for silent in &fakes[1..3] {
        silent.state().instead = Some(("", Reply::Silent));
    }
    block_on(async {
        let get = read_at(&backend, 0);
        for (silent, next) in fakes[1..3].iter().zip(&fakes[2..]) {
            until("it is asked", || silent.asked("/login") == 1).await;
            a_moment().await;
            // It is waited for alone until then.
            clock.advance(SECOND / 2 - Duration::from_millis(1));
            a_moment().await;
            assert_eq!(next.server.connections(), 0);
            clock.advance(Duration::from_millis(1));
        }
        until("the last is asked", || fakes[3].asked("/login") == 1).await;
        assert_eq!(get.await.unwrap(), Err(ErrorKind::Malformed));
        assert_eq!(backend.identity(), 1);
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
fn a_login_that_fails_at_the_endpoint_of_others_fails_no_request_for_another() {
    let (first, second, backend, _) = pair();
    let gate = first.hold("/login");
    first.state().instead = Some(("", Reply::status(503)));
    block_on(async {
        let here = read_at(&backend, 0);
        until("the first login was sent", || first.asked("/login") == 1).await;
        let there = read_at(&backend, 1);
        a_moment().await;
        gate.open();
        assert_eq!(here.await.unwrap(), Err(ErrorKind::Unavailable));
        assert_eq!(there.await.unwrap(), Ok(()));
    });
    assert_eq!((first.asked("/login"), second.asked("/login")), (1, 1));
}

#[test]
fn a_login_that_hangs_at_one_endpoint_holds_up_no_request_for_another() {
    let (first, second, backend, clock) = pair();
    first.state().instead = Some(("", Reply::Silent));
    block_on(async {
        let hangs = read_at(&backend, 0);
        until("its login was sent", || first.asked("/login") == 1).await;
        let others: Vec<_> = (0..20).map(|_| read_at(&backend, 1)).collect();
        a_moment().await;
        assert_eq!(second.server.requests().len(), 0);
        until_finished(&clock, &others.iter().collect::<Vec<_>>()).await;
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(()));
        }
        // The one that hangs goes on with the token of the other, once its login has ended.
        first.state().instead = None;
        clock.advance(4 * SECOND);
        assert_eq!(hangs.await.unwrap(), Err(ErrorKind::Timeout));
        assert_eq!(read_at(&backend, 0).await.unwrap(), Ok(()));
    });
    assert_eq!((first.asked("/login"), second.asked("/login")), (1, 1));
}

#[test]
fn a_read_whose_own_login_fails_takes_the_token_that_another_has_brought() {
    let (first, second, backend, clock) = pair();
    let gate = first.hold("/login");
    first.state().instead = Some(("/login", refused(400)));
    block_on(async {
        let late = read_at(&backend, 0);
        until("its login was sent", || first.asked("/login") == 1).await;
        let quick = read_at(&backend, 1);
        until_finished(&clock, &[&quick]).await;
        assert_eq!(quick.await.unwrap(), Ok(()));
        // As soon as there is a token, whichever login brought it.
        assert_eq!(late.await.unwrap(), Ok(()));
        second.state().instead = Some(("/login", Reply::status(503)));
        gate.open();
        // The refusal of the late one holds back nothing.
        until("its second opinion", || second.asked("/login") == 2).await;
        a_moment().await;
        second.state().instead = None;
        for fake in [&first, &second] {
            fake.state().dead.push("token-1".into());
        }
        first.state().instead = None;
        assert_eq!(read_at(&backend, 1).await.unwrap(), Ok(()));
    });
}

#[test]
fn a_renewal_that_hangs_holds_up_no_read() {
    let (fake, backend, clock) = single(role());
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        fake.state().instead = Some(("renew-self", Reply::Silent));
        clock.advance(75 * SECOND);
        assert_eq!(text(backend.get("a").await), "v");
        until("the renewal", || fake.asked("renew-self") == 1).await;
        fake.state().dead.push("token-1".into());
        let get = spawn_get(&backend, "a");
        until("the verdict", || backend.login_ends().is_none()).await;
        a_moment().await;
        clock.advance(SECOND / 2);
        let got = tokio::time::timeout(10 * SECOND, get).await;
        let got = got.expect("it waits for the renewal").unwrap();
        assert_eq!(text(got), "v");
    });
    assert_eq!(fake.asked("/login"), 2);
}

/// What is not an answer of the store about a credential.
#[test]
fn an_impossible_login_is_refused_before_anything_is_sent() {
    let fake = Fake::start();
    for auth in [
        Auth::token(value("t")).with_mount("approle"),
        Auth::approle(value("role"), value("secret")).with_mount("../sys"),
    ] {
        let refused = VaultBackend::builder(fake.target(auth)).build();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Misconfigured);
    }
}

fn outages() -> Vec<Reply> {
    let mut all: Vec<_> = [408, 412, 421, 500, 502, 503].map(Reply::status).into();
    all.extend([500, 503].map(refused));
    all.push(Reply::json(400, UPGRADING));
    all.push(Reply::json(502, PAGE));
    all.push(Reply::CloseAtOnce);
    all
}

/// A service on a real clock, whose secret id is in a file that does not exist yet.
fn waiting(fake: &Fake, secret_id: &std::path::Path) -> Resolver {
    let auth = Auth::approle(value("role"), Credential::file(secret_id));
    let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
    Resolver::builder(backend).build().unwrap()
}
