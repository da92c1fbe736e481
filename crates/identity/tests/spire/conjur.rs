//! Logins to Conjur: by JWT-SVID, and with the X509-SVID as a client certificate.

use std::collections::HashSet;

use conjur_double::{CertService, ClientCertificates, ConjurDouble, Host, JwtService, Kind};
use secret_resolver::backend::SystemClock;
use secret_resolver::{Clock, ErrorKind, SecretResolver, SecretResolverExt};
use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget, Trust};
use test_servers::{Registration, Spire, SpireKey, SpireSettings};

use crate::stores::*;
use crate::support::*;

/// The authenticator's service, and the audience of its JWT-SVIDs.
pub(crate) const SERVICE: &str = "spire";
pub(crate) const CONJUR: &str = "conjur";
const ISSUER: &str = "https://spire.example.test";

/// A SPIRE whose JWT-SVIDs Conjur takes: signed with RSA, and with an issuer.
pub(crate) fn spire_for_conjur() -> Spire {
    let settings = SpireSettings::new("example.test").jwt_key(SpireKey::Rsa2048);
    settings.jwt_issuer(ISSUER).start().unwrap()
}

/// Lets the workload read `v`, by JWTs of this SPIRE.
pub(crate) fn conjur(spire: &Spire) -> ConjurDouble {
    let conjur = ConjurDouble::start().unwrap();
    conjur.add_variable("v");
    conjur.set("v", "x");
    let how = JwtService::default().issuer(Some(ISSUER));
    conjur.add_authn_jwt(SERVICE, &how.audience(Some(CONJUR)));
    let keys = spire.jwt_keys().unwrap();
    let keys = keys.iter().map(|key| (key.id.as_str(), key.pem.as_str()));
    conjur.set_public_keys(SERVICE, keys);
    let id = spire.id(PATH);
    let host = format!("workloads/{id}");
    conjur.add_host_with(&Host::new(&host).annotation("authn-jwt/spire/sub", &id));
    let host = format!("host:{host}");
    conjur.allow_login(&host, "authn-jwt/spire");
    conjur.allow_read(&host, "v");
    conjur
}

/// Demands certificates of this SPIRE, and lets the workload read `v` by them.
fn demanding(spire: &Spire) -> ConjurDouble {
    let conjur = ConjurDouble::start().unwrap();
    conjur.add_variable("v");
    conjur.set("v", "x");
    let mode = ClientCertificates::Required;
    conjur.set_client_certificates(mode).unwrap();
    let bundle = spire.x509_bundle().unwrap();
    conjur.trust_clients_of(&bundle).unwrap();
    let how = CertService::Spiffe {
        trust_domain: spire.trust_domain().to_owned(),
        identity_path: "workloads".to_owned(),
    };
    conjur.add_authn_cert(SERVICE, &how);
    let host = "host:workloads/billing";
    conjur.add_host("workloads/billing");
    conjur.allow_login(host, "authn-cert/spire");
    conjur.allow_read(host, "v");
    conjur
}

fn at_conjur(conjur: &ConjurDouble, auth: Auth) -> ConjurTarget {
    let trust = Trust::from_pem(conjur.ca_pem().as_bytes()).unwrap();
    ConjurTarget::new(conjur.origin(), trust, conjur.account(), auth)
}

pub(crate) fn backend(target: ConjurTarget) -> ConjurBackend {
    ConjurBackend::builder(target).build().unwrap()
}

#[test]
fn a_login_to_conjur_by_jwt_svid_reads_over_several_lives_of_it() {
    let spire = spire_for_conjur();
    let short = entry(&spire).jwt_ttl(SECOND * 5);
    spire.register(&short).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    let conjur = conjur(&spire);
    let source = identity(&spire).jwts(CONJUR).unwrap();
    let backend = backend(at_conjur(&conjur, Auth::jwt(SERVICE, source)));
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        let first = clock.now();
        while clock.now().since(first) < SECOND * 10 {
            let read = backend.get("v").await;
            assert_eq!(read.unwrap().expose_str().unwrap(), "x");
            // The token that Conjur gave lives for eight minutes, and is used no longer than the JWT-SVID.
            assert!(backend.login_ends().unwrap() <= clock.now() + SECOND * 5);
            tokio::time::sleep(SECOND / 20).await;
        }
    });
    let requests = conjur.requests();
    assert!(requests.iter().all(|it| it.status == Some(200)));
    let logins = requests
        .iter()
        .filter(|it| it.kind == Kind::AuthenticateJwt);
    let logins: Vec<_> = logins.map(|it| it.request.body.clone()).collect();
    let different: HashSet<_> = logins.iter().collect();
    assert!((3..=10).contains(&different.len()), "{}", different.len());
    assert!(logins.len() <= 12, "{}", logins.len());
}

#[test]
fn conjur_takes_no_jwt_svid_for_another_audience_or_of_an_identity_that_it_does_not_know() {
    let spire = spire_for_conjur();
    register(&spire);
    spire
        .register(&Registration::new("/other", spire.uid()))
        .unwrap();
    drop(spire.until_issued(spire.uid(), "/other").unwrap());
    let conjur = conjur(&spire);
    block_on(async {
        for (path, audience) in [(PATH, "another"), ("/other", CONJUR)] {
            let source = identity_of(&spire, path).jwts(audience).unwrap();
            let backend = backend(at_conjur(&conjur, Auth::jwt(SERVICE, source)));
            let error = backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(!error.to_string().contains("eyJ"), "{error}");
        }
    });
    let requests = conjur.requests();
    assert!(!requests.is_empty());
    let refused = |kind| kind == Kind::AuthenticateJwt;
    let all = requests.iter();
    assert!(
        all.map(|it| (it.kind, it.status))
            .all(|(kind, status)| refused(kind) && status == Some(401))
    );
}

#[test]
fn a_login_to_conjur_by_x509_svid_is_made_again_at_each_rotation_and_never_past_its_end() {
    // The agent replaces so short a life whenever it asks its server.
    let settings = SpireSettings::new("example.test").sync(SECOND);
    let mut spire = settings.start().unwrap();
    spire.register(&entry(&spire).x509_ttl(SECOND * 5)).unwrap();
    drop(spire.until_issued(spire.uid(), PATH).unwrap());
    let conjur = demanding(&spire);
    let source = identity(&spire);
    let certificates = source.certificates().unwrap();
    let mut changes = crate::certificates::shown(&certificates);
    let new = || {
        let target = at_conjur(&conjur, Auth::certificate(SERVICE));
        backend(target.with_client_certificate(certificates.clone()))
    };
    let with_token = new();
    let clock = SystemClock::shared().unwrap();
    block_on(async {
        until("an SVID", async || changes.borrow().is_ok()).await;
        for rotation in 0..4 {
            changes.changed().await.unwrap();
            let shown = certificates_of_logins(&conjur).len();
            until("a login with the next SVID", async || {
                let read = with_token.get("v").await;
                assert!(read.is_ok(), "rotation {rotation}: {read:?}");
                certificates_of_logins(&conjur).len() > shown
            })
            .await;
        }
        spire.stop_agent();
        until("its end", async || {
            let ends = source.status().ends;
            let read = with_token.get("v").await;
            assert!(read.is_ok() || ends.is_none_or(|ends| clock.now() + SECOND >= ends));
            changes.borrow().is_err()
        })
        .await;
        let connections = conjur.connections().len();
        let requests = conjur.requests().len();
        // Neither a read with the token that lives on, nor a login.
        for backend in [&with_token, &new()] {
            let error = backend.get("v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert!(error.to_string().contains(&spire.id(PATH)), "{error}");
        }
        assert_eq!(conjur.connections().len(), connections);
        assert_eq!(conjur.requests().len(), requests);
    });
    // Nothing that was sent was refused, and no handshake failed.
    let requests = conjur.requests();
    assert!(requests.iter().all(|it| it.status == Some(200)));
    assert!(conjur.connections().iter().all(|it| it.established));
}

/// The different certificates by which logins were made.
fn certificates_of_logins(conjur: &ConjurDouble) -> HashSet<Vec<u8>> {
    let connections = conjur.connections();
    let requests = conjur.requests();
    let logins = requests
        .iter()
        .filter(|it| it.kind == Kind::AuthenticateCert);
    let of = |number| connections.iter().find(|it| it.number == number);
    logins
        .filter_map(|login| of(login.connection)?.peer_certificate.clone())
        .collect()
}
