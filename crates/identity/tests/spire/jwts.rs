//! JWT-SVIDs for logins.

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, ErrorKind, SecretResolver, SecretResolverExt};
use secret_resolver_session::{Jwt, JwtSource as _};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::{Authority, OpenBao, Registration};

use crate::stores::*;
use crate::support::*;

#[test]
fn a_jwt_svid_is_kept_to_half_of_its_life_and_is_of_this_identity_and_audience() {
    let spire = spire();
    register(&spire);
    let source = identity(&spire).jwts(AUDIENCE).unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        let first = jwt(&source).await.unwrap();
        let came = clock.now();
        let left = first.ends().unwrap().since(came);
        assert!(left > SECOND * 5 && left <= SECOND * 20, "{left:?}");
        // All who ask meanwhile get the same, and the agent is not asked.
        let asked = source.status().unwrap().last_update;
        for _ in 0..10 {
            assert_eq!(jwt(&source).await.unwrap(), first);
        }
        assert_eq!(source.status().unwrap().last_update, asked);
        until("another JWT-SVID", async || {
            let next = jwt(&source).await.unwrap();
            assert!(clock.now() < next.ends().unwrap());
            next != first
        })
        .await;
        // The agent keeps one for half of its life, too, so the next question may bring the same.
        let kept = clock.now().since(came);
        assert!(kept >= left / 2 - SECOND, "{kept:?} of {left:?}");
        assert_ne!(source.status().unwrap().last_update, asked);
    });
}

#[test]
fn inline_authentication_reads_by_jwt_svid_and_leaves_no_token() {
    let spire = spire();
    register(&spire);
    let server = OpenBao::start().unwrap();
    trust(&server, &spire);
    let inline = |audience| {
        let source = identity(&spire).jwts(audience).unwrap();
        let target = target(&server, Auth::inline_jwt("billing", source));
        VaultBackend::builder(target).build().unwrap()
    };
    let accessors = || server.run(&["list", "auth/token/accessors"]).unwrap();
    let before = accessors();
    block_on(async {
        let right = inline(AUDIENCE);
        for _ in 0..5 {
            let read = right.get("app/a").await.unwrap();
            assert_eq!(read.expose_str().unwrap(), "v");
        }
        let error = inline("another").get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    });
    assert_eq!(accessors(), before);
}

/// The head of a JWT, which names its key.
fn head(jwt: &Jwt) -> Vec<u8> {
    let mut parts = jwt.secret().expose().split(|byte| *byte == b'.');
    parts.next().unwrap().to_vec()
}

#[test]
fn another_key_of_the_server_for_jwts_fails_no_read_where_the_store_learns_it_in_time() {
    let spire = spire();
    register(&spire);
    let server = OpenBao::start().unwrap();
    trust(&server, &spire);
    let source = identity(&spire).jwts(AUDIENCE).unwrap();
    let backends = [
        Auth::jwt("billing", source.clone()),
        Auth::inline_jwt("billing", source.clone()),
    ]
    .map(|auth| {
        let target = target(&server, auth);
        VaultBackend::builder(target).build().unwrap()
    });
    block_on(async {
        let first = head(&jwt(&source).await.unwrap());
        let next = spire.prepare(Authority::Jwt).unwrap();
        trust_keys(&server, &spire);
        spire.activate(Authority::Jwt, &next).unwrap();
        let reads = async || {
            for backend in &backends {
                let read = backend.get("app/a").await.unwrap();
                assert_eq!(read.expose_str().unwrap(), "v");
            }
        };
        until("a JWT-SVID of the other key", async || {
            reads().await;
            head(&jwt(&source).await.unwrap()) != first
        })
        .await;
        // The login by the last one of the old key ends with it.
        let logins = backends[0].stats().logins;
        until("another login", async || {
            reads().await;
            backends[0].stats().logins > logins
        })
        .await;
        reads().await;
    });
}

#[test]
fn a_login_by_jwt_svid_reads_and_needs_no_stored_credential() {
    let spire = spire();
    register(&spire);
    let server = OpenBao::start().unwrap();
    trust(&server, &spire);
    let auth = Auth::jwt("billing", identity(&spire).jwts(AUDIENCE).unwrap());
    let backend = VaultBackend::builder(target(&server, auth))
        .build()
        .unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        // Without a client certificate, the JWT-SVID is what proves who asks.
        drop(backend.get("app/a").await.unwrap());
        let status = backend.identity_status().unwrap();
        assert_eq!(status.name, spire.id(PATH));
        assert!(status.ends.unwrap() <= clock.now() + SECOND * 20);
        // Over more than one life of a JWT-SVID: a token is not used past the end of the one that it was given for.
        let begun = clock.now();
        while clock.now().since(begun) < SECOND * 25 {
            assert_eq!(
                backend.get("app/a").await.unwrap().expose_str().unwrap(),
                "v"
            );
            let ends = backend.login_ends().unwrap();
            assert!(ends <= clock.now() + SECOND * 20);
            tokio::time::sleep(SECOND / 10).await;
        }
        let logins = backend.stats().logins;
        assert!((2..=8).contains(&logins), "{logins}");
    });
}

#[test]
fn a_workload_without_an_entry_gets_nothing_and_one_that_lost_it_nothing_more() {
    let spire = spire();
    let source = identity(&spire).jwts(AUDIENCE).unwrap();
    block_on(async {
        let error = jwt(&source).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.is_held_back());
        let shown = error.to_string();
        assert!(
            shown.contains(&spire.id(PATH)) && shown.contains("entry"),
            "{shown}"
        );
        let entry = register(&spire);
        until("a JWT-SVID", async || jwt(&source).await.is_ok()).await;
        spire.delete(&entry).unwrap();
        // What is held is used to half of its life, and then the agent says no.
        until("none", async || {
            kind(&source).await == Some(ErrorKind::Unauthenticated)
        })
        .await;
    });
}

#[test]
fn an_identity_that_this_workload_does_not_have_is_not_replaced_by_one_that_it_has() {
    let spire = spire();
    register(&spire);
    let other = Registration::new("/other", spire.uid());
    spire.register(&other).unwrap();
    drop(spire.until_issued(spire.uid(), "/other").unwrap());
    let source = identity_of(&spire, "/third").jwts(AUDIENCE).unwrap();
    let wrong = identity_of(&spire, "/third").certificates().unwrap();
    block_on(async {
        assert!(jwt(&source).await.is_err());
        let shown = crate::certificates::shown(&wrong);
        until("an answer of the agent", async || {
            matches!(&*shown.borrow(), Err(error) if error.to_string().contains("other identities"))
        })
        .await;
        // Of two that it has, the configured one is taken, whichever the agent names first.
        for path in [PATH, "/other"] {
            let source = identity_of(&spire, path).jwts(AUDIENCE).unwrap();
            assert!(jwt(&source).await.is_ok(), "{path}");
        }
    });
}

#[test]
fn while_the_agent_is_away_the_last_jwt_svid_is_used_to_its_end_and_not_after_it() {
    let mut spire = spire();
    register(&spire);
    let source = identity(&spire).jwts(AUDIENCE).unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        let first = jwt(&source).await.unwrap();
        spire.stop_agent();
        let ends = first.ends().unwrap();
        loop {
            match jwt(&source).await {
                Ok(held) => assert!(held == first && clock.now() < ends + SECOND),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
                    assert!(clock.now() >= ends);
                    break;
                }
            }
            tokio::time::sleep(SECOND / 5).await;
        }
        spire.start_agent().unwrap();
        until("another", async || jwt(&source).await.is_ok()).await;
        // One that is frozen is one that is away.
        spire.suspend_agent().unwrap();
        let silent = identity(&spire).jwts("another").unwrap();
        assert_eq!(kind(&silent).await, Some(ErrorKind::Unauthenticated));
        spire.resume_agent().unwrap();
    });
}
