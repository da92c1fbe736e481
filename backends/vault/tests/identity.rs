//! Who asks: what the store said to the holder of one token is not held against the next, and the status shows the identity.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::*;
use secret_resolver::testing::ManualClock;
use secret_resolver::{Clock, Error, ErrorKind, Failure, IdentityStatus, Resolver};
use secret_resolver_vault::{
    Auth, CertificateSource, ClientCertificate, JwtFuture, JwtSource, VaultBackend,
};
use test_servers::Reply;
use tokio::sync::watch;

#[test]
fn a_denial_during_a_login_is_not_remembered_for_the_token_that_it_brings() {
    let (fake, clock) = (Fake::start(), ManualClock::strict());
    // A token that cannot be renewed is replaced by a login while it lives.
    fake.state().renewable = false;
    let backend = fake.builder(&clock).build().unwrap();
    let stack = Resolver::builder(backend)
        .with_clock(clock.clone())
        .with_ttl(SECOND)
        .build()
        .unwrap();
    block_on(async {
        assert_eq!(text(stack.get("a").await), "v");
        clock.advance(75 * SECOND);
        let gate = fake.hold("/login");
        assert_eq!(text(stack.get("a").await), "v");
        until("the login is sent", || fake.asked("/login") == 2).await;
        // Under the old token, while the new one is on its way.
        let denied = stack.get("denied").await.unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Denied);
        gate.open();
        let new = || {
            let ends = stack.status().login_ends;
            ends.is_some_and(|ends| ends.since(clock.now()) > 80 * SECOND)
        };
        until("the new token is in use", new).await;
        let body = r#"{"data":{"data":{"value":"granted"},"metadata":{"version":1}}}"#;
        fake.state().instead = Some(("/data/denied", Reply::json(200, body)));
        assert_eq!(text(stack.get("denied").await), "granted");
    });
}

/// A source that has nothing, and says whose it is.
#[derive(Debug)]
struct Named(&'static str);

impl Named {
    fn error() -> Error {
        Error::new(ErrorKind::Unauthenticated, "nothing, says this test").held_back()
    }

    fn identity(&self) -> IdentityStatus {
        let mut status = IdentityStatus::new(self.0);
        status.last_failure = Some(Failure::of(&Self::error(), secret_resolver::Moment::ZERO));
        status
    }
}

impl JwtSource for Named {
    fn jwt(&self) -> JwtFuture<'_> {
        JwtFuture::ready(Err(Self::error()))
    }

    fn status(&self) -> Option<IdentityStatus> {
        Some(self.identity())
    }
}

impl CertificateSource for Named {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        watch::channel(Err(Self::error())).1
    }

    fn status(&self) -> Option<IdentityStatus> {
        Some(self.identity())
    }
}

#[test]
fn the_status_shows_the_identity_of_the_certificate_or_else_of_the_jwts() {
    let fake = Fake::start();
    let shown = |target| {
        let backend = VaultBackend::builder(target).build().unwrap();
        let stack = Resolver::builder(backend).build().unwrap();
        stack.status().stores[0].identity.clone()
    };
    for auth in [
        Auth::jwt("r", Named("jwt")),
        Auth::inline_jwt("r", Named("jwt")),
        Auth::kubernetes("r", Named("jwt")),
    ] {
        let target = fake.target(auth);
        let of_both = target.clone().with_client_certificate(Named("certificate"));
        assert_eq!(shown(target), Some(Named("jwt").identity()));
        assert_eq!(shown(of_both), Some(Named("certificate").identity()));
    }
    assert_eq!(shown(fake.target(given())), None);
}
