//! What is copied is worth nothing without the certificate: before Conjur, nginx demands it. An OpenBao that demands it itself is in
//! `certificates`.

use conjur_double::{ClientCa, ConjurDouble, Kind};
use secret_resolver::{ErrorKind, SecretResolverExt};
use secret_resolver_conjur::{Auth, CertificateFiles, ConjurTarget, JwtFile, Trust};
use test_servers::Nginx;

use crate::conjur::{CONJUR, SERVICE, backend, conjur, spire_for_conjur};
use crate::stores::*;
use crate::support::*;

/// A JWT and an access token as Conjur got them.
fn captured(conjur: &ConjurDouble) -> (String, String) {
    let requests = conjur.requests();
    let of = |kind| {
        let found = requests.iter().find(|it| it.kind == kind);
        &found.unwrap().request
    };
    let form = String::from_utf8(of(Kind::AuthenticateJwt).body.clone()).unwrap();
    let header = of(Kind::Secret).header("authorization").unwrap();
    let token = header.strip_prefix("Token token=\"").unwrap();
    (
        form.strip_prefix("jwt=").unwrap().to_owned(),
        token.strip_suffix('"').unwrap().to_owned(),
    )
}

#[test]
fn a_copied_jwt_svid_and_a_copied_token_of_conjur_are_worth_nothing_without_the_certificate() {
    let spire = spire_for_conjur();
    register(&spire);
    let conjur = conjur(&spire);
    let bundle = spire.x509_bundle().unwrap();
    let proxy = Nginx::demanding_before(&conjur.origin(), &bundle).unwrap();
    let through = |auth| {
        let trust = Trust::from_file(proxy.ca_file()).unwrap();
        ConjurTarget::new(proxy.origin(), trust, conjur.account(), auth)
    };
    let source = identity(&spire);
    let own = source.certificates().unwrap();
    let auth = Auth::jwt(SERVICE, source.jwts(CONJUR).unwrap());
    let service = backend(through(auth).with_client_certificate(own.clone()));
    block_on(async {
        until("a read", async || service.get("v").await.is_ok()).await;
        let (jwt, token) = captured(&conjur);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        // It says that it is the same workload, and another authority has signed it.
        let another = ClientCa::new().unwrap();
        let another = another
            .issue(Some("billing.test"), &[&spire.id(PATH)])
            .unwrap();
        let another = CertificateFiles::new(
            file("tls.crt", &another.certificate_pem),
            file("tls.key", &another.key_pem),
        )
        .unwrap();
        for auth in [
            Auth::jwt(SERVICE, JwtFile::new(file("jwt", &jwt))),
            Auth::token_file(file("token", &token)),
        ] {
            let before = conjur.requests().len();
            let without = through(auth.clone());
            let with_another = through(auth.clone()).with_client_certificate(another.clone());
            for target in [without, with_another] {
                let error = backend(target).get("v").await.unwrap_err();
                // It is the proxy that says no, with a page of its own.
                assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
            }
            assert_eq!(conjur.requests().len(), before, "nothing reached the store");
            let with = backend(through(auth).with_client_certificate(own.clone()));
            let read = with.get("v").await;
            assert_eq!(read.unwrap().expose_str().unwrap(), "x");
        }
    });
}
