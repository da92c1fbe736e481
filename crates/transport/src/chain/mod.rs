//! Why a server was refused, as exactly as can be known: whose certificate it is that is wrong, and whether a key is too
//! short. The TLS library names the fault alone, and often one fault for several.
//!
//! It decides nothing: the verdict stands before it is asked. It reads certificates that others have made, and shows
//! no more of them than `trust::subject` does.

use std::fmt;
use std::sync::Arc;

use der::asn1::AnyRef;
use der::{Decode, SliceReader};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::{CertificateError, OtherError};

use crate::trust::{Given, Validity, subject};

/// Why a server's certificate is refused, and whose name it shows.
#[derive(Debug)]
pub(crate) struct RefusedCertificate {
    pub(crate) why: Why,
    pub(crate) subject: Option<String>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Why {
    /// It is one of the given authorities.
    Authority,
    /// A given authority vouches for it, and is out of its dates.
    OldAuthority {
        early: bool,
    },
    /// A certificate between the server's and an authority is out of its dates.
    OldIntermediate {
        early: bool,
    },
    /// An authority, or a certificate below it, has signed with an RSA key that is too short.
    ShortIssuer,
    /// The server's own RSA key is too short.
    ShortKey,
    /// The server has not proved that it has the key of its certificate.
    AnothersKey,
    /// It is not that of the identity that is believed, which has this name.
    AnotherIdentity(String),
    Tls(CertificateError),
}

/// What a server has shown.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) end_entity: &'a CertificateDer<'a>,
    pub(crate) intermediates: &'a [CertificateDer<'a>],
}

impl fmt::Display for RefusedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server's certificate is refused")
    }
}

impl std::error::Error for RefusedCertificate {}

impl From<RefusedCertificate> for rustls::Error {
    fn from(refused: RefusedCertificate) -> Self {
        CertificateError::Other(OtherError(Arc::new(refused))).into()
    }
}

impl RefusedCertificate {
    pub(crate) fn new(why: Why, certificate: &[u8]) -> Self {
        let subject = subject(certificate);
        Self { why, subject }
    }

    /// After a verdict on what was shown; `believes` says whether it would be another if this authority were the one.
    pub(crate) fn explained(
        why: CertificateError,
        shown: Shown<'_>,
        given: &[Given],
        now: UnixTime,
        believes: impl Fn(&TrustAnchor<'static>) -> bool,
    ) -> Self {
        use CertificateError as Tls;
        match &why {
            Tls::Expired
            | Tls::ExpiredContext { .. }
            | Tls::NotValidYet
            | Tls::NotValidYetContext { .. } => {
                if let Some((old, early)) = shown.old_intermediate(now) {
                    return Self::new(Why::OldIntermediate { early }, old);
                }
            }
            Tls::UnknownIssuer => {
                let mut out_of_date = given.iter().filter(|one| !one.validity.contains(now));
                if let Some(old) = out_of_date.find(|old| believes(&old.anchor)) {
                    let early = old.validity.begins_after(now);
                    let subject = old.subject.clone();
                    return Self {
                        why: Why::OldAuthority { early },
                        subject,
                    };
                }
            }
            Tls::BadSignature => {
                if let Some(subject) = shown.issuer_with_short_key(given) {
                    return Self {
                        why: Why::ShortIssuer,
                        subject,
                    };
                }
            }
            _ => {}
        }
        let whose = shown.whose(&why);
        let subject = whose.and_then(|certificate| subject(certificate));
        Self {
            why: Why::Tls(why),
            subject,
        }
    }
}

impl<'a> Shown<'a> {
    /// The certificate that this is about, where only one can be.
    fn whose(self, why: &CertificateError) -> Option<&'a CertificateDer<'a>> {
        use CertificateError as Tls;
        let own = match why {
            Tls::Expired
            | Tls::ExpiredContext { .. }
            | Tls::NotValidYet
            | Tls::NotValidYetContext { .. }
            | Tls::NotValidForName
            | Tls::NotValidForNameContext { .. }
            | Tls::UnknownIssuer => true,
            _ => self.intermediates.is_empty(),
        };
        let parses = |certificate: &CertificateDer<'_>| parse(certificate).is_some();
        let mut broken = self.intermediates.iter().filter(|one| !parses(one));
        match own || !parses(self.end_entity) {
            true => Some(self.end_entity),
            false => broken.next(),
        }
    }

    /// An intermediate that is out of its dates, where the server's own is within them; and whether it is too early.
    fn old_intermediate(self, now: UnixTime) -> Option<(&'a [u8], bool)> {
        let of = |certificate: &CertificateDer<'_>| Validity::of(certificate).ok();
        of(self.end_entity).filter(|own| own.contains(now))?;
        let mut old = self.intermediates.iter().filter_map(|one| {
            let validity = of(one).filter(|validity| !validity.contains(now))?;
            Some((&**one, validity.begins_after(now)))
        });
        old.next()
    }

    /// What the first that has signed one of these, with an RSA key that is too short, calls itself.
    fn issuer_with_short_key(self, given: &[Given]) -> Option<Option<String>> {
        let all = std::iter::once(self.end_entity).chain(self.intermediates);
        all.filter_map(|certificate| parse(certificate))
            .find_map(|certificate| {
                let issuer = certificate.issuer();
                let authority = given.iter().find(|one| {
                    &*one.anchor.subject == issuer && is_short(&one.anchor.subject_public_key_info)
                });
                let intermediate = || {
                    self.intermediates.iter().find(|one| {
                        parse(one).is_some_and(|parsed| parsed.subject() == issuer)
                            && has_short_key(one)
                    })
                };
                match authority {
                    Some(authority) => Some(authority.subject.clone()),
                    None => intermediate().map(|one| subject(one)),
                }
            })
    }
}

/// After a server could not prove that it has the key of its certificate.
pub(crate) fn of_signature(
    error: rustls::Error,
    certificate: &CertificateDer<'_>,
) -> rustls::Error {
    if !matches!(error, rustls::Error::InvalidCertificate(_)) {
        return error;
    }
    let why = match has_short_key(certificate) {
        true => Why::ShortKey,
        false => Why::AnothersKey,
    };
    RefusedCertificate::new(why, certificate).into()
}

fn parse<'a>(certificate: &'a CertificateDer<'a>) -> Option<webpki::EndEntityCert<'a>> {
    webpki::EndEntityCert::try_from(certificate).ok()
}

fn has_short_key(certificate: &CertificateDer<'_>) -> bool {
    let key = parse(certificate).map(|parsed| parsed.subject_public_key_info());
    let inner = key.as_deref().and_then(|key| AnyRef::from_der(key).ok());
    inner.is_some_and(|inner| is_short(inner.value()))
}

/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Whether this key, the inside of a `SubjectPublicKeyInfo` (RFC 5280, 4.1), is one of RSA with fewer than 2,048 bits.
/// No provider of cryptography takes these here; each says no more than that the signature is wrong.
fn is_short(key: &[u8]) -> bool {
    let bits = || -> der::Result<Option<usize>> {
        let mut key = SliceReader::new(key)?;
        let algorithm = AnyRef::decode(&mut key)?;
        let id = AnyRef::decode(&mut SliceReader::new(algorithm.value())?)?;
        if id.value() != RSA {
            return Ok(None);
        }
        // A bit string begins with the number of bits that it leaves unused.
        let bits = AnyRef::decode(&mut key)?;
        let pair = AnyRef::from_der(bits.value().get(1..).unwrap_or_default())?;
        let modulus = AnyRef::decode(&mut SliceReader::new(pair.value())?)?;
        let mut digits = modulus.value().iter().skip_while(|byte| **byte == 0);
        let first = digits.next().map_or(0, |first| 8 - first.leading_zeros());
        Ok(usize::try_from(first)
            .ok()
            .map(|first| first + 8 * digits.count()))
    };
    bits().is_ok_and(|bits| bits.is_some_and(|bits| bits < 2_048))
}

#[cfg(test)]
mod tests;
