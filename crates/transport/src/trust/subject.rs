//! What a certificate calls its owner, for errors that name it.
//!
//! It is not proved: the maker of the certificate chose it. So only printable ASCII of it is shown, and
//! not much.

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

/// The longest part that is shown.
const LONGEST: usize = 64;

/// The common name, id-at-commonName of X.520.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// The common name of a certificate in DER, cut and with `?` for what is not printable; `None` where it
/// has none.
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let name = common_name(certificate).ok().flatten()?;
    let shown = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte),
        _ => '?',
    };
    Some(name.iter().take(LONGEST).map(shown).collect())
}

/// RFC 5280, 4.1: the subject is the sixth field of the signed part, of which the first is often left
/// out.
fn common_name(certificate: &[u8]) -> der::Result<Option<&[u8]>> {
    let whole = AnyRef::from_der(certificate)?;
    let signed = AnyRef::decode(&mut SliceReader::new(whole.value())?)?;
    let mut signed = SliceReader::new(signed.value())?;
    let version = Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(0),
    };
    if Tag::peek(&signed)? == version {
        AnyRef::decode(&mut signed)?;
    }
    for _serial_algorithm_issuer_validity in 0..4 {
        AnyRef::decode(&mut signed)?;
    }
    let subject = AnyRef::decode(&mut signed)?;
    let mut parts = SliceReader::new(subject.value())?;
    while !parts.is_finished() {
        let part = AnyRef::decode(&mut parts)?;
        let pair = AnyRef::decode(&mut SliceReader::new(part.value())?)?;
        let mut pair = SliceReader::new(pair.value())?;
        let what = AnyRef::decode(&mut pair)?;
        if what.value() == COMMON_NAME {
            return AnyRef::decode(&mut pair).map(|name| Some(name.value()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use test_servers::{TestCa, Validity};

    use super::*;

    #[test]
    fn the_common_name_of_a_real_certificate_is_found_and_garbage_has_none() {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let der = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
        assert!(
            subject(&der).is_some_and(|name| !name.is_empty()),
            "{:?}",
            subject(&der)
        );
        for length in 0..der.len() {
            let _ = subject(&der[..length]);
        }
        assert_eq!(subject(b"hunter2"), None);
    }

    #[test]
    fn what_is_not_printable_and_what_is_too_long_is_not_shown() {
        // A certificate down to its subject: nothing else of it is looked at.
        let wrap = |tag: u8, value: &[u8]| {
            let length = u8::try_from(value.len()).unwrap();
            let long = if length < 128 {
                vec![length]
            } else {
                vec![0x81, length]
            };
            [&[tag][..], &long, value].concat()
        };
        let named = |name: &[u8]| {
            let pair = [wrap(0x06, &COMMON_NAME), wrap(0x0c, name)].concat();
            let subject = wrap(0x30, &wrap(0x31, &wrap(0x30, &pair)));
            let before = wrap(0x30, b"").repeat(3);
            let signed = [wrap(0x02, b"\x01"), before, subject].concat();
            wrap(0x30, &wrap(0x30, &signed))
        };
        assert_eq!(subject(&named(b"vault")).unwrap(), "vault");
        assert_eq!(
            subject(&named("a\n\u{1b}[1mü".as_bytes())).unwrap(),
            "a??[1m??"
        );
        assert_eq!(subject(&named(&[b'a'; 90])).unwrap(), "a".repeat(64));
    }
}
