//! Logins by JWT against a real OpenBao: `auth/jwt` with keys made here, and `auth/kubernetes`, for which OpenBao
//! asks a double of the Kubernetes API.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use secret_resolver::backend::SystemClock;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, ErrorKind, SecretBuf, SecretResolver, SecretResolverExt};
use secret_resolver_vault::{Auth, Jwt, JwtFile, JwtFuture, JwtSource, VaultBackend};
use test_servers::{OpenBao, Reply, RequestHead, ScriptedHttps, TestIssuer};

fn server() -> OpenBao {
    let server = OpenBao::start().unwrap();
    server.put("app/a", &[("value", "v")]).unwrap();
    server
}

fn backend(server: &OpenBao, auth: Auth) -> VaultBackend {
    VaultBackend::builder(target(server, auth)).build().unwrap()
}

#[test]
fn a_jwt_of_a_file_logs_in_and_its_token_is_revoked_at_the_end() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bao.jwt");
    let issuers = [
        ("jwt", TestIssuer::es256().unwrap()),
        ("ci/jwt", TestIssuer::rs256().unwrap()),
    ];
    for (mount, issuer) in issuers {
        trust_issuer(&server, mount, &issuer);
        let jwt = issuer.token(SUBJECT, AUDIENCE, 60).unwrap();
        write(&path, &format!("{jwt}\n"));
        let mut auth = Auth::jwt("billing", JwtFile::new(&path));
        if mount != "jwt" {
            auth = auth.with_mount(mount);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::shared().unwrap());
        let backend = VaultBackend::builder(target(&server, auth))
            .with_clock(Arc::clone(&clock))
            .build()
            .unwrap();
        block_on(async {
            assert_eq!(text(backend.get("app/a").await), "v");
            assert_eq!(text(backend.get("app/a").await), "v");
            assert_eq!(backend.stats().logins, 1);
            assert_eq!(names_of_tokens(&server).len(), 1);
            let report = backend.shutdown(clock.now() + Duration::from_secs(10));
            assert_eq!(report.await.revoked, 1);
            assert!(names_of_tokens(&server).is_empty());
        });
    }
}

#[test]
fn a_jwt_that_the_store_refuses_is_held_back_until_the_file_has_another() {
    let server = server();
    let issuer = TestIssuer::es256().unwrap();
    trust_issuer(&server, "jwt", &issuer);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bao.jwt");
    let stranger = TestIssuer::es256().unwrap();
    let refused = [
        ("ended", issuer.token(SUBJECT, AUDIENCE, -600).unwrap()),
        ("audience", issuer.token(SUBJECT, "other", 60).unwrap()),
        ("subject", issuer.token("other", AUDIENCE, 60).unwrap()),
        ("signature", stranger.token(SUBJECT, AUDIENCE, 60).unwrap()),
    ];
    for (what, jwt) in refused {
        let backend = backend(&server, Auth::jwt("billing", JwtFile::new(&path)));
        write(&path, &jwt);
        block_on(async {
            let error = backend.get("app/a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{what}: {error}");
            assert!(error.to_string().contains("has not ended"), "{error}");
            let again = backend.get("app/a").await.unwrap_err();
            assert!(again.retry_after().is_some(), "{what}");
            assert_eq!(backend.stats().logins, 1, "{what}");
            write(&path, &issuer.token(SUBJECT, AUDIENCE, 60).unwrap());
            assert_eq!(text(backend.get("app/a").await), "v");
            assert_eq!(backend.stats().logins, 2, "{what}");
        });
    }
    let backend = backend(&server, Auth::jwt("nobody", JwtFile::new(&path)));
    let error = block_on(backend.get("app/a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[test]
fn a_file_that_holds_no_jwt_is_told_by_its_path_and_nothing_is_sent() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bao.jwt");
    let auth = Auth::jwt("billing", JwtFile::new(&path));
    let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
    block_on(async {
        for (content, kind) in [
            (None, ErrorKind::Unauthenticated),
            (Some(""), ErrorKind::Unauthenticated),
            (Some("canary-7f3a"), ErrorKind::Misconfigured),
        ] {
            if let Some(content) = content {
                write(&path, content);
            }
            let error = backend.get("app/a").await.unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("bao.jwt"), "{shown}");
            assert!(!shown.contains("canary"), "{shown}");
        }
        assert_eq!(fake.server.connections(), 0);
        // It is looked at again at once.
        write(&path, "ab.cd.ef");
        assert_eq!(text(backend.get("app/a").await), "v");
    });
    let login = &fake.server.requests()[0];
    assert_eq!(login.target, "/v1/auth/jwt/login");
    assert_eq!(login.body, br#"{"role":"billing","jwt":"ab.cd.ef"}"#);
}

/// A source that counts, and knows when its JWTs end.
#[derive(Debug)]
struct Ending {
    clock: ManualClock,
    life: Duration,
    given: Mutex<u64>,
}

impl JwtSource for Ending {
    fn jwt(&self) -> JwtFuture<'_> {
        let mut given = self.given.lock().unwrap();
        *given += 1;
        let text = format!("ab.cd.{:04}", *given);
        let text = SecretBuf::from_slice(text.as_bytes()).unwrap();
        let jwt = Jwt::new(text).map(|jwt| jwt.with_end(self.clock.now() + self.life));
        JwtFuture::ready(jwt)
    }
}

#[test]
fn a_token_is_replaced_before_the_end_of_the_jwt_that_it_was_given_for() {
    let fake = Fake::start();
    fake.state().lease = 3600;
    fake.state().renewed_lease = 3600;
    let clock = ManualClock::strict();
    let source = Arc::new(Ending {
        clock: clock.clone(),
        life: Duration::from_secs(300),
        given: Mutex::new(0),
    });
    let backend = VaultBackend::builder(fake.target(Auth::jwt("r", Arc::clone(&source))))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        // Nothing is due before three fifths of the JWT's life.
        clock.advance(Duration::from_secs(170));
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(fake.asked("/login"), 1);
        // It is replaced beside the reads; renewed it is not, though the store would.
        clock.advance(Duration::from_secs(60));
        assert_eq!(text(backend.get("app/a").await), "v");
        until("a second login", || backend.stats().logins == 2).await;
        until("its token", || backend.identity() == 2).await;
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(fake.tokens_of_reads().last().unwrap(), "token-2");
        assert_eq!(fake.asked("renew-self"), 0);
        // Left alone for longer than the JWT lives, it is not sent any more, though the store's lease goes on.
        clock.advance(Duration::from_secs(296));
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(fake.tokens_of_reads().last().unwrap(), "token-3");
    });
}

#[test]
fn a_jwt_that_has_ended_is_not_sent() {
    let fake = Fake::start();
    let clock = ManualClock::strict();
    let source = Ending {
        clock: clock.clone(),
        life: Duration::ZERO,
        given: Mutex::new(0),
    };
    let backend = VaultBackend::builder(fake.target(Auth::jwt("r", source)))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .build()
        .unwrap();
    block_on(async {
        for _ in 0..3 {
            let error = backend.get("app/a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert!(error.to_string().contains("has ended"), "{error}");
        }
    });
    assert_eq!(fake.server.connections(), 0);
}

/// The Kubernetes API as OpenBao sees it: the tokens that it vouches for, and what it was asked.
fn kubernetes(server: &OpenBao, good: &'static str) -> (ScriptedHttps, test_servers::TestCa) {
    let ca = new_ca();
    let certificate = ca
        .issue(&["127.0.0.1"], test_servers::Validity::CURRENT)
        .unwrap();
    let api = ScriptedHttps::start(&certificate, move |request| review(request, good)).unwrap();
    policy(server);
    server.run(&["auth", "enable", "kubernetes"]).unwrap();
    let host = format!("kubernetes_host={}", api.origin());
    let authority = format!("kubernetes_ca_cert={}", ca.pem());
    let config = ["write", "auth/kubernetes/config", &host, &authority];
    server
        .run(&[&config[..], &["disable_local_ca_jwt=true"]].concat())
        .unwrap();
    let role = [
        "write",
        "auth/kubernetes/role/billing",
        "bound_service_account_names=billing",
        "bound_service_account_namespaces=prod",
        "token_policies=reader",
        "token_ttl=1h",
    ];
    server.run(&role).unwrap();
    (api, ca)
}

/// What a `TokenReview` answers (Kubernetes API reference, authentication.k8s.io/v1).
fn review(request: &RequestHead, good: &str) -> Reply {
    assert_eq!(
        request.target,
        "/apis/authentication.k8s.io/v1/tokenreviews"
    );
    let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let token = asked["spec"]["token"].as_str().unwrap();
    let status = match token == good {
        false => serde_json::json!({"authenticated": false, "error": "not known"}),
        true => serde_json::json!({
            "authenticated": true,
            "audiences": asked["spec"]["audiences"],
            "user": {
                "username": "system:serviceaccount:prod:billing",
                "uid": "3f8e0b4c-0000-4000-8000-000000000000",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:prod"],
            },
        }),
    };
    let answer = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "status": status,
    });
    Reply::json(201, &answer.to_string())
}

#[test]
fn a_service_accounts_token_logs_in_at_kubernetes_and_another_is_refused() {
    let server = server();
    let issuer = TestIssuer::rs256().unwrap();
    let good = issuer.service_account("prod", "billing", 600).unwrap();
    let other = TestIssuer::rs256().unwrap();
    let other = other.service_account("prod", "billing", 600).unwrap();
    let (api, _ca) = kubernetes(&server, good.clone().leak());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    write(&path, &other);
    let backend = backend(&server, Auth::kubernetes("billing", JwtFile::new(&path)));
    block_on(async {
        let error = backend.get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(
            error.to_string().contains("auth/kubernetes/login"),
            "{error}"
        );
        write(&path, &good);
        assert_eq!(text(backend.get("app/a").await), "v");
        assert_eq!(names_of_tokens(&server), ["kubernetes-prod-billing"]);
        // OpenBao does not tell a refusal from an API that it cannot reach; the error names both.
        drop(api);
        server
            .run(&["lease", "revoke", "-prefix", "auth/kubernetes/"])
            .unwrap();
        let error = backend.get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert_eq!(error.status(), Some(403), "{error}");
        assert!(error.to_string().contains("reaches the Kubernetes API"));
    });
}
