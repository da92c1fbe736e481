//! Keys that are too short, and keys that are another's. What real servers with other faults get is in
//! `tests/loopback`.

use rustls::SupportedProtocolVersion;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::version::{TLS12, TLS13};
use rustls::{SignatureAlgorithm, SignatureScheme};
use test_servers::{TestCa, Validity};

use super::*;
use crate::error::of_tls;
use crate::tls::tests::{serve, shake_hands};
use crate::trust::Trust;

// No library that these tests have makes keys of 1,024 bits: OpenSSL has made them, and none of their private keys is kept.
const AUTHORITY: &str = include_str!("../../tests/short-keys/authority.pem");
const SHORT_KEY: &str = include_str!("../../tests/short-keys/short-key.pem");
const SHORT_AUTHORITY: &str = include_str!("../../tests/short-keys/short-authority.pem");
const OF_SHORT_AUTHORITY: &str = include_str!("../../tests/short-keys/of-short-authority.pem");

/// A server that pretends to have the key of any certificate.
#[derive(Debug)]
struct Pretends(SignatureScheme, SignatureAlgorithm);

const RSA_KEY: Pretends = Pretends(SignatureScheme::RSA_PSS_SHA256, SignatureAlgorithm::RSA);
const ECDSA_KEY: Pretends = Pretends(
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureAlgorithm::ECDSA,
);

impl SigningKey for Pretends {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let Self(scheme, algorithm) = *self;
        let signer = || Box::new(Self(scheme, algorithm)) as Box<dyn Signer>;
        offered.contains(&scheme).then(signer)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.1
    }
}

impl Signer for Pretends {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![1; 128])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// The error that a client has which believes `authority`.
fn refused(
    version: &'static SupportedProtocolVersion,
    authority: &str,
    shown: &str,
    key: Pretends,
) -> String {
    let client = crate::tls::config(Trust::from_pem(authority.as_bytes()).unwrap()).unwrap();
    let server = serve(version, CertifiedKey::new(vec![der(shown)], Arc::new(key)));
    let error = of_tls(&shake_hands(Arc::new(client), server).unwrap_err());
    assert_eq!(error.kind(), secret_resolver::ErrorKind::Refused);
    error.to_string()
}

#[test]
fn a_key_that_is_too_short_is_named_whoevers_it_is() {
    for version in [&TLS13, &TLS12] {
        let own = refused(version, AUTHORITY, SHORT_KEY, RSA_KEY);
        assert!(
            own.contains("the server's certificate has an RSA key of fewer than 2,048 bits"),
            "{own}"
        );
        assert!(own.contains("\"short-key\""), "{own}");
        let issuer = refused(version, SHORT_AUTHORITY, OF_SHORT_AUTHORITY, ECDSA_KEY);
        assert!(
            issuer.contains("has signed with an RSA key of fewer than 2,048 bits"),
            "{issuer}"
        );
        assert!(issuer.contains("\"Short CA\""), "{issuer}");
    }
}

#[test]
fn a_server_without_the_key_of_its_certificate_is_called_that_and_its_authority_is_not_blamed() {
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let issued = ca.issue(&["vault"], Validity::CURRENT).unwrap();
    for version in [&TLS13, &TLS12] {
        // Another of the same kind.
        let error = refused(version, ca.pem(), &issued.certificate_pem, ECDSA_KEY);
        assert!(error.contains("has not proved"), "{error}");
        assert!(!error.contains("vouches"), "{error}");
    }
    // Another of another kind. In TLS 1.2 the kinds have to fit before anything is signed.
    let error = refused(&TLS13, ca.pem(), &issued.certificate_pem, RSA_KEY);
    assert!(error.contains("has not proved"), "{error}");
}

#[test]
fn a_key_is_measured_without_its_zeros_and_garbage_has_none() {
    let of = |pem: &str| {
        let certificate = der(pem);
        let key = parse(&certificate).unwrap().subject_public_key_info();
        AnyRef::from_der(&key).unwrap().value().to_vec()
    };
    let short = of(SHORT_KEY);
    assert!(is_short(&short) && is_short(&of(SHORT_AUTHORITY)));
    assert!(!is_short(&of(AUTHORITY)) && !is_short(&of(OF_SHORT_AUTHORITY)));
    let ca = TestCa::new(Validity::CURRENT).unwrap();
    let long = ca.issue_client_with_rsa("2,048").unwrap();
    assert!(!is_short(&of(&long.certificate_pem)));
    for end in 0..short.len() {
        assert!(!is_short(&short[..end]), "{end}");
    }
    for place in 0..short.len() {
        let mut changed = short.clone();
        changed[place] ^= 0xff;
        // It must only return.
        let _ = is_short(&changed);
    }
}
