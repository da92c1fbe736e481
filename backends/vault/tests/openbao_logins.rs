//! Logins at a real OpenBao: how tokens are obtained, kept, replaced and given back.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use secret_resolver::backend::SystemClock;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, Resolver, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Credential, VaultBackend};
use test_servers::OpenBao;

/// Revokes all tokens that were issued by the AppRole mount, and no secret id.
fn revoke_all(server: &OpenBao) {
    server
        .run(&["lease", "revoke", "-prefix", "auth/approle/"])
        .unwrap();
}

/// The assembled stack on a clock that stands still, so that what its cache remembers does not end
/// by itself; and the backend in it, for what it counts.
fn stack_at_rest(server: &OpenBao) -> (Resolver, VaultBackend) {
    let (clock, role) = (ManualClock::strict(), reader(server, HOUR, HOUR));
    let backend = VaultBackend::builder(target(server, approle(&role)))
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let stack = Resolver::builder(backend.clone())
        .with_clock(clock)
        .build()
        .unwrap();
    (stack, backend)
}

/// Asserts that a get ends with `kind`, twice, and that the second asks nobody.
async fn assert_remembered(stack: &Resolver, name: &str, kind: ErrorKind) {
    assert_eq!(stack.get(name).await.unwrap_err().kind(), kind);
    let fetches = stack.status().fetches;
    assert_eq!(stack.get(name).await.unwrap_err().kind(), kind);
    assert_eq!(stack.status().fetches, fetches);
}

#[test]
fn a_denied_name_is_denied_and_causes_no_login() {
    let (server, backend) = server_and_backend();
    server.put("app/a", &[("value", "v")]).unwrap();
    server.put("other/b", &[("value", "hidden")]).unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        for _ in 0..20 {
            assert_eq!(refusal(&backend, "other/b").await, ErrorKind::Denied);
            assert_eq!(refusal(&backend, "other/absent").await, ErrorKind::Denied);
        }
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!((backend.stats().logins, live_logins(&server)), (1, 1));
    });
}

#[test]
fn a_revoked_token_costs_exactly_one_login_under_fifty_concurrent_gets() {
    let (server, backend) = server_and_backend();
    server.put("app/a", &[("value", "v")]).unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        revoke_all(&server);
        let gets: Vec<_> = (0..50)
            .map(|_| {
                let backend = backend.clone();
                tokio::spawn(async move { text(backend.get("app/a").await) })
            })
            .collect();
        for get in gets {
            assert_eq!(get.await.unwrap(), "v");
        }
        assert_eq!(backend.stats().logins, 2);
        assert_eq!(live_logins(&server), 1);
    });
}

#[test]
fn short_tokens_are_renewed_and_replaced_without_one_refused_request() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, Duration::from_secs(2), Duration::from_secs(5));
    let backend = VaultBackend::builder(target(&server, approle(&role)))
        .build()
        .unwrap();
    block_on(async {
        // A dead token would show in a lookup, which only a refused request causes.
        for _ in 0..1000 {
            assert_eq!(text(backend.get("app/a").await), "v");
            let stats = backend.stats();
            assert_eq!(stats.lookups, 0);
            if stats.logins >= 3 && stats.renewals >= 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "no three logins and renewals within 20 s: {:?}",
            backend.stats()
        );
    });
}

#[test]
fn a_wrong_secret_id_is_unauthenticated_and_the_next_attempt_is_held_back() {
    let server = OpenBao::start().unwrap();
    let role = reader(&server, HOUR, HOUR);
    let auth = Auth::approle(value(&role.role_id), value("not-the-secret-id"));
    let backend = VaultBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        let first = backend.get("app/a").await.unwrap_err();
        assert_eq!(
            (first.kind(), first.status(), first.retry_after()),
            (ErrorKind::Unauthenticated, Some(400), None)
        );
        let second = backend.get("app/a").await.unwrap_err();
        assert_eq!(second.kind(), ErrorKind::Unauthenticated);
        assert!(
            second
                .retry_after()
                .is_some_and(|wait| wait <= Duration::from_secs(1))
        );
        assert_eq!(backend.stats().logins, 1);
    });
}

#[test]
fn a_changed_secret_id_file_ends_the_back_off_and_is_read_again_at_each_login() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret-id");
    std::fs::write(&file, "wrong\n").unwrap();
    let auth = Auth::approle(value(&role.role_id), Credential::file(&file));
    let backend = VaultBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Unauthenticated);
        assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Unauthenticated);
        assert_eq!(backend.stats().logins, 1);
        std::fs::write(&file, format!("{}\n", role.secret_id)).unwrap();
        assert_eq!(text(backend.get("app/a").await), "v");
        // A second secret id, and the first is destroyed: the next login works by the file alone.
        let next = server
            .run(&[
                "write",
                "-force",
                "-field=secret_id",
                "auth/approle/role/reader/secret-id",
            ])
            .unwrap();
        let destroy = [
            "write",
            "auth/approle/role/reader/secret-id/destroy",
            &format!("secret_id={}", role.secret_id),
        ];
        server.run(&destroy).unwrap();
        std::fs::write(&file, next).unwrap();
        revoke_all(&server);
        assert_eq!(text(backend.get("app/a").await), "v");
        std::fs::remove_file(&file).unwrap();
        revoke_all(&server);
        let missing = backend.get("app/a").await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Unauthenticated);
        assert!(missing.to_string().contains("secret-id"), "{missing}");
    });
}

#[test]
fn without_the_default_policy_a_denied_name_costs_one_login_and_no_more() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    server
        .run(&[
            "write",
            "auth/approle/role/reader",
            "token_no_default_policy=true",
        ])
        .unwrap();
    let backend = VaultBackend::builder(target(&server, approle(&role)))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        for _ in 0..10 {
            assert_eq!(refusal(&backend, "other").await, ErrorKind::Denied);
        }
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(backend.stats().logins, 2);
    });
}

#[test]
fn a_plain_token_reads_and_a_root_token_lives_for_ever() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    reader(&server, HOUR, HOUR);
    for token in [
        server.root_token().to_owned(),
        server.token(&["reader"], HOUR).unwrap(),
    ] {
        let backend = VaultBackend::builder(target(&server, Auth::token(value(&token))))
            .build()
            .unwrap();
        block_on(async {
            assert_eq!(text(backend.get("app/a").await), "v");
            assert_eq!(text(backend.get("app/a").await), "v");
            assert_eq!(backend.stats().logins, 1);
        });
    }
}

#[test]
fn a_dead_plain_token_is_not_sent_again_until_its_file_holds_another() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    reader(&server, HOUR, HOUR);
    let (first, second) = (
        server.token(&["reader"], HOUR).unwrap(),
        server.token(&["reader"], HOUR).unwrap(),
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, &first).unwrap();
    let backend = VaultBackend::builder(target(&server, Auth::token(Credential::file(&file))))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        server.revoke(&first).unwrap();
        for _ in 0..3 {
            assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Unauthenticated);
        }
        assert_eq!(backend.stats().logins, 1);
        std::fs::write(&file, &second).unwrap();
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(backend.stats().logins, 2);
    });
}

#[test]
fn shutdown_revokes_the_logins_token_and_refuses_new_requests() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
    let backend = VaultBackend::builder(target(&server, approle(&role)))
        .with_clock(Arc::clone(&clock))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(live_logins(&server), 1);
        let report = backend
            .shutdown(clock.now() + Duration::from_secs(10))
            .await;
        assert_eq!(
            (report.revoked, report.not_revoked, report.timed_out),
            (1, 0, false)
        );
        assert_eq!(live_logins(&server), 0);
        assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Closed);
        assert_eq!(backend.shutdown(clock.now()).await.revoked, 0);
    });
}

#[test]
fn shutdown_leaves_a_plain_token_alone() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    reader(&server, HOUR, HOUR);
    let token = server.token(&["reader"], HOUR).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
    let backend = VaultBackend::builder(target(&server, Auth::token(value(&token))))
        .with_clock(Arc::clone(&clock))
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        let report = backend
            .shutdown(clock.now() + Duration::from_secs(10))
            .await;
        assert_eq!((report.revoked, report.not_revoked), (0, 0));
        assert!(server.run_as(&token, &["token", "lookup"]).is_ok());
    });
}

#[test]
fn a_denial_that_is_remembered_does_not_outlast_the_login_that_was_denied() {
    let server = OpenBao::start().unwrap();
    for (path, value) in [("app/a", "v"), ("app/b", "w"), ("other/c", "granted")] {
        server.put(path, &[("value", value)]).unwrap();
    }
    let (stack, backend) = stack_at_rest(&server);
    block_on(async {
        // The login, so that the denial is of an identity that lasts until the next.
        assert_eq!(text(stack.get("app/a").await), "v");
        assert_remembered(&stack, "other/c", ErrorKind::Denied).await;
        // Tokens of the role may read it from now on, but the one in use has no such policy.
        let policy = r#"path "secret/data/other/*" { capabilities = ["read"] }"#;
        server.policy("wider", policy).unwrap();
        server
            .approle("reader", &["reader", "wider"], HOUR, HOUR)
            .unwrap();
        assert_remembered(&stack, "other/c", ErrorKind::Denied).await;
        assert_eq!(backend.stats().logins, 1);
        revoke_all(&server);
        assert_eq!(text(stack.get("app/b").await), "w");
        assert_eq!(backend.stats().logins, 2);
        assert_eq!(text(stack.get("other/c").await), "granted");
        assert_eq!(backend.stats().logins, 2);
    });
}

#[test]
fn an_absence_that_is_remembered_does_not_outlast_the_login_that_got_that_answer() {
    let server = OpenBao::start().unwrap();
    for (path, value) in [("app/a", "v"), ("app/b", "w")] {
        server.put(path, &[("value", value)]).unwrap();
    }
    let (stack, backend) = stack_at_rest(&server);
    block_on(async {
        assert_eq!(text(stack.get("app/a").await), "v");
        assert_remembered(&stack, "app/late", ErrorKind::NotFound).await;
        server.put("app/late", &[("value", "there")]).unwrap();
        assert_remembered(&stack, "app/late", ErrorKind::NotFound).await;
        revoke_all(&server);
        assert_eq!(text(stack.get("app/b").await), "w");
        assert_eq!(backend.stats().logins, 2);
        assert_eq!(text(stack.get("app/late").await), "there");
    });
}

#[test]
fn tokens_for_a_limited_number_of_uses_do_not_stay_alive() {
    let server = OpenBao::start().unwrap();
    let role = reader(&server, HOUR, HOUR);
    let limited = ["write", "auth/approle/role/reader", "token_num_uses=3"];
    server.run(&limited).unwrap();
    let backend = VaultBackend::builder(target(&server, approle(&role)));
    let resolver = Resolver::builder(backend.build().unwrap()).build().unwrap();
    block_on(async {
        for number in 0..5 {
            let error = resolver.get(&format!("app/{number}")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
            tokio::time::sleep(Duration::from_millis(1100)).await;
        }
        let report = resolver.shutdown_within(Duration::from_secs(5)).await;
        assert_eq!(report.not_revoked, 0);
    });
    assert_eq!(live_logins(&server), 0);
}

#[test]
fn a_given_token_of_limited_use_keeps_all_its_uses_except_one() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    reader(&server, HOUR, HOUR);
    let create = [
        "token",
        "create",
        "-field=token",
        "-policy=reader",
        "-use-limit=3",
    ];
    let token = server.run(&create).unwrap();
    let auth = Auth::token(value(&token));
    let backend = VaultBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    block_on(async {
        for _ in 0..10 {
            assert_eq!(refusal(&backend, "app/a").await, ErrorKind::Misconfigured);
        }
    });
    assert!(server.run_as(&token, &["token", "lookup"]).is_ok());
}

#[test]
fn batch_tokens_read_and_are_not_a_failure_at_the_end() {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    let role = reader(&server, HOUR, HOUR);
    let batch = ["write", "auth/approle/role/reader", "token_type=batch"];
    server.run(&batch).unwrap();
    let backend = VaultBackend::builder(target(&server, approle(&role)));
    let resolver = Resolver::builder(backend.build().unwrap()).build().unwrap();
    block_on(async {
        assert_eq!(text(resolver.get("app/a").await), "v");
        let report = resolver.shutdown_within(Duration::from_secs(5)).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.revoked, 0);
    });
}
