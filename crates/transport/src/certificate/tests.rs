//! Which pairs are taken, and that nothing of a key is told.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::pki_types::pem::PemObject;
use test_servers::{ServerCert, TestCa, Validity};

use super::*;

fn ca() -> TestCa {
    TestCa::new(Validity::CURRENT).unwrap()
}

fn pair(issued: &ServerCert) -> Result<ClientCertificate, Error> {
    let (chain, key) = (&issued.certificate_pem, &issued.key_pem);
    ClientCertificate::from_pem(chain.as_bytes(), key.as_bytes())
}

/// What stands inside of a key in PKCS #8: the third of its parts (RFC 5958, 2), in a form of its own.
fn inner_key(key_pem: &str) -> Vec<u8> {
    use der::asn1::AnyRef;
    use der::{Decode, SliceReader};
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let whole = AnyRef::from_der(key.secret_der()).unwrap();
    let mut parts = SliceReader::new(whole.value()).unwrap();
    let _version_and_algorithm = (
        AnyRef::decode(&mut parts).unwrap(),
        AnyRef::decode(&mut parts).unwrap(),
    );
    AnyRef::decode(&mut parts).unwrap().value().to_vec()
}

fn section(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).collect();
    let lines = String::from_utf8(lines.join(&b'\n')).unwrap();
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

#[test]
fn a_key_is_taken_in_each_of_its_three_forms() {
    let ca = ca();
    let rsa = ca.issue_client_with_rsa("rsa").unwrap();
    let curve = ca.issue_client("curve", Validity::CURRENT).unwrap();
    pair(&curve).unwrap();
    pair(&rsa).unwrap();
    let sec1 = section("EC PRIVATE KEY", &inner_key(&curve.key_pem));
    // As `openssl ecparam -genkey` writes them.
    let parameters = section("EC PARAMETERS", b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07");
    for text in [sec1.clone(), format!("a note\n{parameters}{sec1}")] {
        ClientCertificate::from_pem(curve.certificate_pem.as_bytes(), text.as_bytes()).unwrap();
    }
    let pkcs1 = section("RSA PRIVATE KEY", &inner_key(&rsa.key_pem));
    ClientCertificate::from_pem(rsa.certificate_pem.as_bytes(), pkcs1.as_bytes()).unwrap();
    let pkcs8 = PrivateKeyDer::from_pem_slice(curve.key_pem.as_bytes()).unwrap();
    let by_der = ClientCertificate::from_der(vec![curve.der().to_vec()], pkcs8.secret_der());
    assert_eq!(by_der.unwrap(), pair(&curve).unwrap());
}

#[test]
fn a_chain_is_shown_whole_and_in_its_order() {
    let ca = ca();
    let leaf = ca.issue_client("leaf", Validity::CURRENT).unwrap();
    let chain = format!("{}\nthe issuer\n{}", leaf.certificate_pem, ca.pem());
    let shown = ClientCertificate::from_pem(chain.as_bytes(), leaf.key_pem.as_bytes()).unwrap();
    assert_eq!(shown.0.pair.cert.len(), 2);
    assert_eq!(&*shown.0.pair.cert[0], leaf.der());
    assert_ne!(shown, pair(&leaf).unwrap());
    // The key is the first one's, not that of any.
    let turned = format!("{}{}", ca.pem(), leaf.certificate_pem);
    assert!(ClientCertificate::from_pem(turned.as_bytes(), leaf.key_pem.as_bytes()).is_err());
}

#[test]
fn a_pair_that_cannot_be_shown_is_refused_with_its_reason_and_quotes_nothing() {
    let ca = ca();
    let good = ca.issue_client("good", Validity::CURRENT).unwrap();
    let other = ca.issue_client("other", Validity::CURRENT).unwrap();
    let expired = ca.issue_client("old", Validity::EXPIRED).unwrap();
    let future = ca.issue_client("new", Validity::FUTURE).unwrap();
    let both = format!("{}{}", good.certificate_pem, good.key_pem);
    let twice = good.key_pem.repeat(2);
    let (begun, _) = good.key_pem.split_once("-----END").unwrap();
    let inside = format!(
        "-----BEGIN X-----\n{begun}-----END X-----\n{}",
        good.key_pem
    );
    let (_, half) = good.key_pem.split_at(good.key_pem.len() / 2);
    let half = format!("{half}{}", good.key_pem);
    let pgp = section("PGP PRIVATE KEY BLOCK", b"x") + &good.key_pem;
    let cut = &good.key_pem[..good.key_pem.len() / 2];
    let wrong_end = good.key_pem.replace("END PRIVATE", "END RSA PRIVATE");
    let encrypted = good.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let no_key = section("PRIVATE KEY", b"\x30\x03\x02\x01\x00");
    let odd = good.key_pem.replacen("\nM", "\n!", 1);
    for (chain, key, words) in [
        (&*good.certificate_pem, &*other.key_pem, "not the one of"),
        (&expired.certificate_pem, &expired.key_pem, "is expired"),
        (&future.certificate_pem, &future.key_pem, "not valid yet"),
        ("", &good.key_pem, "no PEM certificate"),
        (&both, &good.key_pem, "its key belongs elsewhere"),
        (&good.certificate_pem, "", "no PEM private key"),
        (
            &good.certificate_pem,
            &good.certificate_pem,
            "no PEM private key",
        ),
        (&good.certificate_pem, &twice, "more than one private key"),
        (&good.certificate_pem, cut, "is damaged"),
        (&good.certificate_pem, &inside, "is damaged"),
        (&good.certificate_pem, &half, "is damaged"),
        (&good.certificate_pem, &pgp, "of a kind that is not known"),
        (&good.certificate_pem, &wrong_end, "is damaged"),
        (&good.certificate_pem, &odd, "is damaged"),
        (&good.certificate_pem, &encrypted, "is encrypted"),
        (
            &good.certificate_pem,
            &no_key,
            "of a kind that TLS does not use",
        ),
    ] {
        let error = ClientCertificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misconfigured, "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(words), "{shown}");
        let secret = good.key_pem.lines().nth(1).unwrap();
        assert!(!shown.contains(&secret[1..]), "{shown}");
    }
    let shown = format!("{:#?}", pair(&good).unwrap());
    assert_eq!(shown.matches("good").count(), 1, "{shown}");
}

#[test]
fn a_certificate_is_good_from_its_first_second_to_its_last() {
    let certificate = pair(&ca().issue_client("c", Validity::CURRENT).unwrap()).unwrap();
    let (from, until) = certificate.0.validity.bounds();
    let at = |second| certificate.why_not(UnixTime::since_unix_epoch(Duration::from_secs(second)));
    assert_eq!((at(from), at(until)), (None, None));
    assert!(at(from - 1).is_some_and(|why| why.contains("not valid yet")));
    assert!(at(until + 1).is_some_and(|why| why.contains("is expired")));
}
