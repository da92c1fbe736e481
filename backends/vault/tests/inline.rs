//! A JWT with each read in place of a token: OpenBao's inline authentication.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use common::*;
use secret_resolver::backend::{NameRef, SystemClock};
use secret_resolver::testing::ManualClock;
use secret_resolver::{
    Clock, Error, ErrorKind, Resolver, SecretBuf, SecretResolver, SecretResolverExt,
};
use secret_resolver_vault::{
    Auth, Jwt, JwtFile, JwtFuture, JwtSource, Trust, VaultBackend, VaultTarget,
};
use test_servers::{OpenBao, Reply, ScriptedHttps, TestIssuer, Validity};

struct World {
    server: OpenBao,
    issuer: TestIssuer,
    folder: tempfile::TempDir,
}

impl World {
    fn new(mount: &str) -> Self {
        let server = OpenBao::start().unwrap();
        server.put("app/a", &[("value", "v")]).unwrap();
        server.put("other/a", &[("value", "v")]).unwrap();
        let issuer = TestIssuer::es256().unwrap();
        trust_issuer(&server, mount, &issuer);
        let folder = tempfile::tempdir().unwrap();
        let world = Self {
            server,
            issuer,
            folder,
        };
        world.renew(60);
        world
    }

    /// Another JWT in the file, which ends so many seconds from now.
    fn renew(&self, seconds: i64) -> String {
        let jwt = self.issuer.token(SUBJECT, AUDIENCE, seconds).unwrap();
        write(&self.folder.path().join("jwt"), &jwt);
        jwt
    }

    fn auth(&self) -> Auth {
        Auth::inline_jwt("billing", JwtFile::new(self.folder.path().join("jwt")))
    }

    fn backend(&self) -> VaultBackend {
        VaultBackend::builder(target(&self.server, self.auth()))
            .build()
            .unwrap()
    }
}

#[test]
fn a_read_with_a_jwt_leaves_no_token_at_the_store() {
    let world = World::new("ci/jwt");
    let target = target(&world.server, world.auth().with_mount("ci/jwt"));
    let backend = VaultBackend::builder(target).build().unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        for _ in 0..5 {
            assert_eq!(text(backend.get("app/a").await), "v");
        }
        assert_eq!(backend.stats().logins, 1);
        assert!(names_of_tokens(&world.server).is_empty());
        let name = [NameRef::parse("app/a").unwrap()];
        let error = backend.excess(&name).await.unwrap_err();
        assert!(error.to_string().contains("inline"), "{error}");
        let report = backend.shutdown(clock.now() + Duration::from_secs(5)).await;
        assert_eq!((report.revoked, backend.stats().renewals), (0, 0));
    });
}

#[test]
fn what_the_policy_denies_is_denied_and_what_is_not_there_is_not_found() {
    let world = World::new("jwt");
    let backend = world.backend();
    block_on(async {
        for _ in 0..2 {
            let error = backend.get("other/a").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        }
        let error = backend.get("app/none").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(backend.stats().logins, 1);
    });
}

#[test]
fn a_jwt_that_the_store_refuses_later_is_replaced_by_the_one_in_the_file_within_the_read() {
    let world = World::new("jwt");
    let backend = world.backend();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        let [other, third] = [(); 2].map(|()| TestIssuer::es256().unwrap());
        // No other issuer's JWTs are taken from then on.
        let take = |issuer: &TestIssuer| {
            let key = format!("jwt_validation_pubkeys={}", issuer.public_key_pem());
            let config = ["write", "auth/jwt/config", &key, "jwt_supported_algs=ES256"];
            world.server.run(&config).unwrap();
        };
        let file = world.folder.path().join("jwt");
        take(&other);
        let error = backend.get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(error.to_string().contains("has not ended"), "{error}");
        // The same JWT is not sent at once again.
        let logins = backend.stats().logins;
        let error = backend.get("app/a").await.unwrap_err();
        assert!(error.retry_after().is_some(), "{error}");
        assert_eq!(backend.stats().logins, logins);
        write(&file, &other.token(SUBJECT, AUDIENCE, 60).unwrap());
        assert_eq!(text(backend.get("app/a").await), "v");
        // Where the file has a good one already, no read fails.
        let backend = world.backend();
        assert_eq!(text(backend.get("app/a").await), "v");
        take(&third);
        write(&file, &third.token(SUBJECT, AUDIENCE, 60).unwrap());
        assert_eq!(text(backend.get("app/a").await), "v");
    });
}

#[test]
fn a_role_without_the_default_policy_is_said_at_the_start_and_is_no_refused_jwt_later() {
    let world = World::new("jwt");
    let backend = world.backend();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
        let role = ["write", "auth/jwt/role/billing", "role_type=jwt"];
        let subject = format!("bound_subject={SUBJECT}");
        let audience = format!("bound_audiences={AUDIENCE}");
        let others = [
            "user_claim=sub",
            "token_policies=reader",
            "token_no_default_policy=true",
        ];
        let write = [&role[..], &[&*subject, &*audience], &others];
        world.server.run(&write.concat()).unwrap();
        // It still logs in: a denial is a denial, and what may be read is read.
        let error = backend.get("other/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert_eq!(text(backend.get("app/a").await), "v");
        let error = world.backend().get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(error.to_string().contains("default policy"), "{error}");
    });
}

#[test]
fn an_auth_mount_that_is_not_there_or_cannot_stand_in_a_header_is_said() {
    let world = World::new("jwt");
    let at = |mount: &str| {
        let target = target(&world.server, world.auth().with_mount(mount));
        VaultBackend::builder(target).build()
    };
    let error = block_on(at("nowhere").unwrap().get("app/a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert!(error.to_string().contains("auth mount"), "{error}");
    assert_eq!(at("é").unwrap_err().kind(), ErrorKind::Misconfigured);
}

#[test]
fn a_proxy_that_drops_the_header_of_a_refusal_hides_none() {
    let ca = new_ca();
    let certificate = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    // The JWT that is good, as it stands in the header.
    let good = Arc::new(Mutex::new(encoded("ab.cd.ef")));
    let wanted = Arc::clone(&good);
    let server = ScriptedHttps::start(&certificate, move |request| {
        let shown = request.header("X-Vault-Inline-Auth-Parameter-Jwt");
        match shown == Some(wanted.lock().unwrap().as_str()) {
            false => refused(400),
            true if request.target.ends_with("hash") => {
                Reply::json(200, r#"{"data":{"sum":"ca"}}"#)
            }
            true => Reply::json(
                200,
                r#"{"data":{"data":{"value":"v"},"metadata":{"version":1}}}"#,
            ),
        }
    })
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt");
    write(&path, "ab.cd.ef");
    let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let auth = Auth::inline_jwt("billing", JwtFile::new(&path));
    let target = VaultTarget::new(server.origin(), trust, auth);
    let backend = VaultBackend::builder(target).build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        *good.lock().unwrap() = encoded("ab.cd.gh");
        let error = backend.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        write(&path, "ab.cd.gh");
        assert_eq!(text(backend.get("a").await), "v");
    });
}

fn encoded(jwt: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"key":"jwt","value":"{jwt}"}}"#))
}

#[test]
fn a_wrong_jwt_is_sent_once_for_fifty_names() {
    let world = World::new("jwt");
    world.renew(-600);
    let backend = world.backend();
    let resolver = Resolver::builder(backend.clone()).build().unwrap();
    let names: Vec<_> = (0..50).map(|number| format!("app/{number}")).collect();
    block_on(async {
        for read in resolver.get_many(&names).await {
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
        assert_eq!(backend.stats().logins, 1);
    });
}

#[test]
fn a_server_without_inline_authentication_is_said_and_gets_no_token() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt");
    write(&path, "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmVk");
    fake.state().instead = Some(("tools/hash", refused(403)));
    let auth = Auth::inline_jwt("billing", JwtFile::new(&path));
    let backend = VaultBackend::builder(fake.target(auth)).build().unwrap();
    block_on(async {
        let error = backend.get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert!(error.to_string().contains("OpenBao 2.4"), "{error}");
        let requests = fake.server.requests();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].header("X-Vault-Token").is_none());
        let shown = format!("{backend:?} {error:?} {error}");
        assert!(
            !shown.contains("eyJ") && !shown.contains("c2lnbmVk"),
            "{shown}"
        );
    });
}

#[test]
fn a_page_that_claims_a_failed_login_says_nothing_about_the_jwt() {
    let world = World::new("jwt");
    let backend = world.backend();
    block_on(async {
        assert_eq!(text(backend.get("app/a").await), "v");
    });
    let fake = Fake::start();
    let page = Reply::status(400)
        .with_body("<html>")
        .with_header("X-Vault-Inline-Auth-Failed", "true");
    fake.state().instead = Some(("tools/hash", page));
    let backend = VaultBackend::builder(fake.target(world.auth()))
        .build()
        .unwrap();
    let error = block_on(backend.get("app/a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
}

/// A source that has a JWT with a known end, until it has none any more.
#[derive(Debug)]
struct Withdrawn(Mutex<Option<Jwt>>);

impl JwtSource for Withdrawn {
    fn jwt(&self) -> JwtFuture<'_> {
        let none = || Error::new(ErrorKind::Unauthenticated, "none, says this test").held_back();
        JwtFuture::ready(self.0.lock().unwrap().clone().ok_or_else(none))
    }
}

#[test]
fn a_jwt_that_its_source_does_not_stand_for_any_more_is_sent_for_ten_seconds_at_most() {
    let fake = Fake::start();
    let clock = ManualClock::strict();
    let jwt = Jwt::new(SecretBuf::from_slice(b"ab.cd.ef").unwrap()).unwrap();
    let jwt = jwt.with_end(clock.now() + Duration::from_secs(3600));
    let source = Arc::new(Withdrawn(Mutex::new(Some(jwt))));
    let ok = Reply::json(
        200,
        r#"{"data":{"sum":"ca","data":{"value":"v"},"metadata":{"version":1}}}"#,
    );
    fake.state().instead = Some(("", ok));
    let auth = Auth::inline_jwt("billing", Arc::clone(&source));
    let backend = VaultBackend::builder(fake.target(auth)).with_clock(clock.clone());
    let backend = backend.build().unwrap();
    block_on(async {
        assert_eq!(text(backend.get("a").await), "v");
        *source.0.lock().unwrap() = None;
        clock.advance(Duration::from_secs(10));
        let sent = fake.server.requests().len();
        let error = backend.get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        assert_eq!(fake.server.requests().len(), sent);
    });
}
