//! X509-SVIDs as client certificates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, Error, ErrorKind, Resolver, SecretResolverExt};
use secret_resolver_spiffe::{SpiffeCertificates, SpiffeIdentity};
use secret_resolver_transport::{
    CertificateSource, Client, ClientCertificate, Method, Origin, Request, Trust,
};
use secret_resolver_vault::{Auth, VaultBackend};
use test_servers::{Authority, OpenBao, Reply, ScriptedHttps, Spire, TestCa, Validity};
use tokio::sync::watch;

use crate::stores::*;
use crate::support::*;

pub(crate) fn shown(
    source: &SpiffeCertificates,
) -> watch::Receiver<Result<ClientCertificate, Error>> {
    source.subscribe()
}

/// An OpenBao that takes no connection without a certificate of this SPIRE.
fn demanding(spire: &Spire) -> OpenBao {
    let admin = TestCa::new(Validity::CURRENT).unwrap();
    let server = OpenBao::start_demanding_also(&admin, &spire.x509_bundle().unwrap()).unwrap();
    trust(&server, spire);
    server
}

/// A resolver that logs in by the X509-SVID, and each change of that.
fn by_certificate(
    identity: &SpiffeIdentity,
    server: &OpenBao,
) -> (Resolver, watch::Receiver<Result<ClientCertificate, Error>>) {
    let certificates = identity.certificates().unwrap();
    let changes = shown(&certificates);
    let auth = Auth::cert().with_role("billing");
    let target = target(server, auth).with_client_certificate(certificates);
    let resolver = Resolver::builder(VaultBackend::builder(target).build().unwrap());
    (resolver.build().unwrap(), changes)
}

/// Reads without a pause until `done`; returns how often. Each read is one of the store.
async fn reads(resolver: Resolver, done: Arc<AtomicBool>) -> usize {
    let mut gets = 0;
    while !done.load(Ordering::Acquire) {
        let _ = resolver.invalidator().invalidate("app/a").unwrap();
        let answer = resolver.get("app/a").await;
        assert_eq!(answer.unwrap().expose_str().unwrap(), "v", "get {gets}");
        gets += 1;
    }
    gets
}

#[test]
fn svids_rotate_twenty_times_under_load_without_a_failed_get() {
    let spire = spire();
    // So short that the agent replaces it whenever it looks, and that the first have ended before the test has.
    let life = SECOND * 12;
    spire.register(&entry(&spire).x509_ttl(life)).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    let server = demanding(&spire);
    let identity = identity(&spire);
    let (resolver, changes) = by_certificate(&identity, &server);
    // Another server, which says what it was shown. It takes no certificate past its end either.
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let own = ca.issue(&["127.0.0.1"], Validity::CURRENT).unwrap();
    let bundle = spire.x509_bundle().unwrap();
    let witness = ScriptedHttps::start_demanding_of(&own, &bundle, |_| Reply::status(200)).unwrap();
    let origin = Origin::parse(&witness.origin()).unwrap();
    let clock = SystemClock::shared().unwrap();
    let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
    let client = Client::builder(trust, Arc::new(clock.clone())).allow(origin.clone());
    let client = client.with_client_certificate(identity.certificates().unwrap());
    let client = client.build().unwrap();
    block_on(async {
        until("an SVID", async || changes.borrow().is_ok()).await;
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| tokio::spawn(reads(resolver.clone(), Arc::clone(&done))))
            .collect();
        let begun = clock.now();
        let newest = || changes.borrow().clone().unwrap();
        // Each SVID that the source showed, and what the handshakes showed meanwhile.
        let mut seen: Vec<(ClientCertificate, Vec<u8>)> = Vec::new();
        while seen.len() <= 20 || clock.now().since(begun) < life * 2 {
            assert!(clock.now().since(begun) < SECOND * 90, "{}", seen.len());
            let before = newest();
            let request = Request::new(Method::Get, "/").unwrap();
            assert_eq!(client.send(&origin, request).await.unwrap().status(), 200);
            let shown = witness.requests().pop().unwrap().client.unwrap();
            // One that rotated during this request may have come before or after its handshake.
            if before == newest() {
                for (svid, leaf) in &seen {
                    let rotations = seen.len() - 1;
                    assert_eq!(*svid == before, *leaf == shown, "{rotations} rotations");
                }
                if !seen.iter().any(|(svid, _)| *svid == before) {
                    seen.push((before, shown));
                }
            }
            tokio::time::sleep(SECOND / 50).await;
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            let gets = reader.await.unwrap();
            assert!(gets >= 20, "{gets}");
        }
    });
    // The resolver shows it, for each store.
    let status = resolver.status().stores[0].identity.clone().unwrap();
    assert_eq!(status, identity.status());
    assert_eq!(status.name, spire.id(PATH));
    assert!(status.ends.is_some() && status.last_update.is_some());
}

#[test]
fn a_copied_token_is_worth_nothing_without_the_certificate() {
    let spire = spire();
    register(&spire);
    let server = demanding(&spire);
    let source = identity(&spire);
    let certificates = source.certificates().unwrap();
    block_on(async {
        let changes = shown(&certificates);
        until("an SVID", async || changes.borrow().is_ok()).await;
        // A JWT and a token of the store, as somebody who reads them elsewhere has them.
        let copied = source.jwts(AUDIENCE).unwrap();
        let token = server.token(&["reader"], SECOND * 600).unwrap();
        let token = || {
            let text = secret_resolver::SecretBuf::from_slice(token.as_bytes()).unwrap();
            Auth::token(secret_resolver_vault::Credential::value(text))
        };
        for auth in [Auth::jwt("billing", copied.clone()), token()] {
            let without = VaultBackend::builder(target(&server, auth))
                .build()
                .unwrap();
            let error = without.get("app/a").await.unwrap_err();
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::Unauthenticated | ErrorKind::Refused
                ),
                "{error}"
            );
        }
        for auth in [Auth::jwt("billing", copied), token()] {
            let target = target(&server, auth).with_client_certificate(certificates.clone());
            let with = VaultBackend::builder(target).build().unwrap();
            assert_eq!(with.get("app/a").await.unwrap().expose_str().unwrap(), "v");
        }
    });
}

#[test]
fn without_an_svid_and_after_its_withdrawal_no_connection_is_made() {
    let spire = spire();
    let server = demanding(&spire);
    let source = identity(&spire);
    let certificates = source.certificates().unwrap();
    let auth = Auth::cert().with_role("billing");
    let target = target(&server, auth).with_client_certificate(certificates.clone());
    let backend = VaultBackend::builder(target).build().unwrap();
    block_on(async {
        let changes = shown(&certificates);
        until("the agent's no", async || {
            matches!(&*changes.borrow(), Err(error) if error.to_string().contains("entry"))
        })
        .await;
        let error = backend.get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.to_string().contains(&spire.id(PATH)), "{error}");
        let entry = register(&spire);
        until("a read", async || backend.get("app/a").await.is_ok()).await;
        spire.delete(&entry).unwrap();
        until("the withdrawal", async || changes.borrow().is_err()).await;
        // A connection that was made with it is not used any more.
        let error = backend.get("app/a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
        let status = source.status();
        assert_eq!(status.ends, None);
        assert_eq!(status.name, spire.id(PATH));
        let failure = status.last_failure.unwrap();
        assert_eq!(failure.kind, ErrorKind::Unauthenticated);
    });
}

#[test]
fn while_the_agent_is_away_the_last_svid_is_shown_to_its_end_and_not_after_it() {
    let mut spire = spire();
    spire
        .register(&entry(&spire).x509_ttl(SECOND * 12))
        .unwrap();
    let source = identity(&spire);
    let certificates = source.certificates().unwrap();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        let changes = shown(&certificates);
        until("an SVID", async || changes.borrow().is_ok()).await;
        spire.stop_agent();
        // What the agent sent last may come after its own end.
        let mut ends = source.status().ends.unwrap();
        until("its end", async || {
            ends = source.status().ends.unwrap_or(ends);
            let is_shown = changes.borrow().is_ok();
            assert!(is_shown || clock.now() + SECOND >= ends);
            assert!(!is_shown || clock.now() < ends + SECOND);
            !is_shown
        })
        .await;
        // That it has ended, or already why there is no other.
        let error = changes.borrow().clone().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        assert!(error.to_string().contains(&spire.id(PATH)), "{error}");
        // A restarted agent has new keys, and is found again.
        spire.start_agent().unwrap();
        until("another SVID", async || changes.borrow().is_ok()).await;
    });
}

#[test]
fn another_authority_of_the_server_changes_the_svid_and_gets_go_on() {
    let spire = spire();
    // Long enough that only the authority is a reason for another.
    spire
        .register(&entry(&spire).x509_ttl(SECOND * 3600))
        .unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    let old = spire.authorities(Authority::X509).unwrap().active.unwrap();
    let new = spire.prepare(Authority::X509).unwrap();
    // The store trusts both.
    let server = demanding(&spire);
    let (resolver, mut changes) = by_certificate(&identity(&spire), &server);
    block_on(async {
        until("an SVID", async || changes.borrow().is_ok()).await;
        drop(resolver.get("app/a").await.unwrap());
        changes.mark_unchanged();
        spire.activate(Authority::X509, &new).unwrap();
        spire.taint(Authority::X509, &old).unwrap();
        // For a moment the agent may say that there is none: it has dropped the tainted one, and not got the next.
        let mut failed = Vec::new();
        until("an SVID of the other authority", async || {
            let _ = resolver.invalidator().invalidate("app/a").unwrap();
            if let Err(error) = resolver.get("app/a").await {
                failed.push(error.kind());
            }
            changes.has_changed().unwrap() && changes.borrow().is_ok()
        })
        .await;
        let no = ErrorKind::Unauthenticated;
        assert!(failed.iter().all(|kind| *kind == no), "{failed:?}");
        until("a read", async || {
            let _ = resolver.invalidator().invalidate("app/a").unwrap();
            resolver.get("app/a").await.is_ok()
        })
        .await;
    });
}

#[test]
fn a_planned_change_of_the_authority_fails_no_get() {
    let spire = spire();
    let short = entry(&spire).x509_ttl(SECOND * 12);
    spire.register(&short).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    // In the bundle, and so at the store, before it is used.
    let new = spire.prepare(Authority::X509).unwrap();
    let server = demanding(&spire);
    let (resolver, mut changes) = by_certificate(&identity(&spire), &server);
    block_on(async {
        until("an SVID", async || changes.borrow().is_ok()).await;
        spire.activate(Authority::X509, &new).unwrap();
        // The first may have been signed before that.
        for _ in 0..2 {
            changes.mark_unchanged();
            until("the next SVID", async || {
                let _ = resolver.invalidator().invalidate("app/a").unwrap();
                drop(resolver.get("app/a").await.unwrap());
                changes.has_changed().unwrap()
            })
            .await;
            assert!(changes.borrow().is_ok());
        }
    });
}
