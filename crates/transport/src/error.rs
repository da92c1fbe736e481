//! The only place where the errors of other libraries become ours.
//!
//! What they say is dropped: it may quote what a server sent. What kind they are is kept, and
//! decides between a store that is away (retry), a peer that is not what it should be (refuse)
//! and an answer that makes no sense.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};
use secret_resolver::{Error, ErrorKind};

use crate::chain::{RefusedCertificate, Why};

/// While the connection is made.
pub(crate) fn of_connect(error: &io::Error) -> Error {
    tls_in(error).map_or_else(
        || unavailable("connect failed: the server refused or ended the connection"),
        of_tls,
    )
}

/// After the request was handed to the connection.
pub(crate) fn of_exchange(error: &hyper::Error) -> Error {
    if let Some(tls) = tls_in(error) {
        return of_tls(tls);
    }
    if error.is_parse() {
        return malformed("what was answered is not HTTP/1.1 within the limits of this client");
    }
    match io_in(error).map(io::Error::kind) {
        // This is how hyper marks a chunk that breaks the grammar.
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            malformed("the answer's body breaks the rules of HTTP/1.1")
        }
        _ => unavailable("the connection ended before the whole answer had come"),
    }
}

pub(crate) fn of_tls(error: &rustls::Error) -> Error {
    use AlertDescription::{
        CloseNotify, HandshakeFailure, InternalError, ProtocolVersion, UserCanceled,
    };
    if let rustls::Error::AlertReceived(alert) = error
        && let Some(why) = of_client_certificate(*alert)
    {
        return Error::new(ErrorKind::Unauthenticated, why);
    }
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            of_refusal(other.0.downcast_ref())
        }
        rustls::Error::InvalidCertificate(why) => refused(of_certificate(why)),
        rustls::Error::NoCertificatesPresented => refused("the server shows no certificate"),
        rustls::Error::AlertReceived(CloseNotify | InternalError | UserCanceled) => {
            unavailable("connect failed: the server ended the TLS handshake")
        }
        rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            malformed("the server speaks neither TLS 1.2 nor 1.3")
        }
        // A server says so, too, whose certificate has a key that the version does not have.
        rustls::Error::AlertReceived(ProtocolVersion) => malformed(
            "the server says that it shares no version of TLS with this client, which speaks 1.2 and 1.3; does its certificate have another key than ECDSA P-256, Ed25519 or RSA?",
        ),
        rustls::Error::AlertReceived(HandshakeFailure) | rustls::Error::PeerIncompatible(_) => {
            malformed(
                "the server shares no cipher, curve or kind of key with this client, or demands a client certificate; does its certificate have another key than ECDSA P-256, Ed25519 or RSA?",
            )
        }
        rustls::Error::AlertReceived(_) => {
            malformed("the server refuses this client's TLS; does it demand a client certificate?")
        }
        _ => malformed("what listens there does not speak TLS 1.2 or 1.3 with HTTP/1.1"),
    }
}

/// What a server says of the certificate that this client has shown, or has not (RFC 8446, 6.2).
fn of_client_certificate(alert: AlertDescription) -> Option<&'static str> {
    use AlertDescription as Alert;
    Some(match alert {
        Alert::CertificateRequired | Alert::NoCertificate => {
            "the server demands a client certificate, and none was shown; give the target one by with_client_certificate"
        }
        Alert::CertificateExpired => {
            "the server says that the client certificate is expired; check the clocks, too"
        }
        Alert::CertificateRevoked => "the server says that the client certificate was revoked",
        Alert::UnknownCA => "the server knows no authority that vouches for the client certificate",
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::DecryptError
        | Alert::AccessDenied => {
            "the server does not take the client certificate, or demands one and none was shown"
        }
        _ => return None,
    })
}

fn of_refusal(certificate: Option<&RefusedCertificate>) -> Error {
    let Some(RefusedCertificate { why, subject }) = certificate else {
        return refused("the server's certificate cannot be used for this");
    };
    let error = refused(match why {
        Why::Authority => AN_AUTHORITY,
        Why::OldAuthority { early: false } => {
            "the authority that vouches for the server's certificate is expired; take its successor into the given ones"
        }
        Why::OldAuthority { early: true } => {
            "the authority that vouches for the server's certificate is not valid yet; check the system clock too"
        }
        Why::OldIntermediate { early: false } => {
            "an intermediate certificate that the server shows is expired; the server's own is not"
        }
        Why::OldIntermediate { early: true } => {
            "an intermediate certificate that the server shows is not valid yet; check the system clock too"
        }
        Why::ShortIssuer => {
            "an authority, or an intermediate, of the server's certificate has signed with an RSA key of fewer than 2,048 bits, which is not believed"
        }
        Why::ShortKey => {
            "the server's certificate has an RSA key of fewer than 2,048 bits, which is not believed"
        }
        Why::AnothersKey => "the server has not proved that it has the key of its certificate",
        Why::AnotherIdentity(_) => {
            "the server's certificate is good, and is not that of the one identity that is believed here"
        }
        Why::Tls(why) => of_certificate(why),
    });
    let believed = match why {
        Why::AnotherIdentity(name) => Some(format!("believed is {name}")),
        _ => None,
    };
    let shown = subject
        .as_ref()
        .map(|subject| format!("subject {subject:?}"));
    match (believed, shown) {
        (Some(believed), Some(shown)) => error.with_detail(format!("{believed}, {shown}")),
        (Some(fact), None) | (None, Some(fact)) => error.with_detail(fact),
        (None, None) => error,
    }
}

const AN_AUTHORITY: &str = "the server shows an authority's certificate as its own; issue one for the server, or pin it by Trust::pinned";

/// Where this is about any certificate of a chain, the text says no more.
fn of_certificate(why: &CertificateError) -> &'static str {
    use CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => "the server's certificate is expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet; check the system clock too"
        }
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            "the server's certificate is for another host name"
        }
        Why::BadSignature => {
            "no given authority vouches for the server's certificate: one has the name of its issuer, and another key"
        }
        Why::UnknownIssuer => "no given authority vouches for the server's certificate",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "a certificate that the server shows is not one for a server; issue it with the purpose serverAuth"
        }
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a certificate that the server shows is signed in a way that is not supported; the keys of its authorities are to be ECDSA P-256, Ed25519 or RSA of 2,048 bits, with SHA-256 or better"
        }
        Why::UnhandledCriticalExtension => CRITICAL,
        Why::BadEncoding => "a certificate that the server shows does not parse",
        Why::Revoked => "the server's certificate was revoked",
        Why::Other(other) => of_webpki(other.0.downcast_ref()),
        _ => "the server's certificate cannot be used for this",
    }
}

const CRITICAL: &str =
    "a certificate that the server shows has a critical extension that is not known here";

/// For what the TLS library has no word of its own.
fn of_webpki(why: Option<&webpki::Error>) -> &'static str {
    use webpki::Error as Why;
    match why {
        Some(Why::UnsupportedCriticalExtension) => CRITICAL,
        Some(Why::CaUsedAsEndEntity) => AN_AUTHORITY,
        Some(Why::EndEntityUsedAsCa) => {
            "an intermediate certificate that the server shows is not an authority's; issue it with CA:TRUE"
        }
        Some(Why::NameConstraintViolation) => {
            "an authority or an intermediate may not vouch for a name in the server's certificate: its name constraints forbid it"
        }
        Some(Why::PathLenConstraintViolated) => {
            "an authority allows fewer intermediates than the server shows: its path length forbids it"
        }
        Some(
            Why::MaximumPathDepthExceeded
            | Why::MaximumPathBuildCallsExceeded
            | Why::MaximumSignatureChecksExceeded
            | Why::MaximumNameConstraintComparisonsExceeded,
        ) => "the server shows more certificates than are looked at",
        Some(Why::UnsupportedCertVersion) => {
            "a certificate that the server shows is not of version 3 of X.509"
        }
        Some(
            Why::EmptyEkuExtension
            | Why::ExtensionValueInvalid
            | Why::InvalidNetworkMaskConstraint
            | Why::InvalidSerialNumber
            | Why::MalformedDnsIdentifier
            | Why::MalformedExtensions
            | Why::MalformedNameConstraint
            | Why::SignatureAlgorithmMismatch
            | Why::UnsupportedNameType,
        ) => "a certificate that the server shows breaks the rules of X.509",
        _ => "the server's certificate cannot be used for this",
    }
}

fn refused(reason: &'static str) -> Error {
    Error::new(ErrorKind::Refused, reason)
}

/// The TLS error inside, if there is one. It stands within an I/O error, which hides it from
/// `source`.
fn tls_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    io_in(error)?.get_ref()?.downcast_ref()
}

fn io_in<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref())
}

pub(crate) fn unavailable(reason: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, reason)
}

pub(crate) fn malformed(reason: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, reason)
}

pub(crate) fn misconfigured(reason: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_to_refuse_a_certificate_has_its_own_text() {
        use CertificateError as Why;
        let all = [
            Why::Expired,
            Why::NotValidYet,
            Why::NotValidForName,
            Why::BadSignature,
            Why::UnknownIssuer,
            Why::InvalidPurpose,
            Why::UnhandledCriticalExtension,
            Why::BadEncoding,
            Why::Revoked,
            Why::ApplicationVerificationFailure,
        ];
        let texts: std::collections::HashSet<_> = all.iter().map(of_certificate).collect();
        assert_eq!(texts.len(), all.len());
        for why in all {
            let error = of_tls(&rustls::Error::InvalidCertificate(why));
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
    }

    #[test]
    fn what_ends_a_handshake_says_what_is_to_be_looked_at() {
        use AlertDescription as Alert;
        use ErrorKind::{Malformed, Refused, Unauthenticated, Unavailable};
        use rustls::Error::{AlertReceived, NoCertificatesPresented};
        let incompatible = rustls::Error::PeerIncompatible;
        for (error, kind, text) in [
            (NoCertificatesPresented, Refused, "shows no certificate"),
            (
                AlertReceived(Alert::CloseNotify),
                Unavailable,
                "ended the TLS handshake",
            ),
            (
                AlertReceived(Alert::InternalError),
                Unavailable,
                "ended the TLS handshake",
            ),
            (
                AlertReceived(Alert::UserCanceled),
                Unavailable,
                "ended the TLS handshake",
            ),
            (
                AlertReceived(Alert::CertificateRequired),
                Unauthenticated,
                "demands a client certificate",
            ),
            (
                AlertReceived(Alert::ProtocolVersion),
                Malformed,
                "shares no version of TLS",
            ),
            (
                incompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                Malformed,
                "neither TLS 1.2 nor 1.3",
            ),
            (
                AlertReceived(Alert::HandshakeFailure),
                Malformed,
                "shares no cipher",
            ),
            (
                incompatible(PeerIncompatible::NoCipherSuitesInCommon),
                Malformed,
                "shares no cipher",
            ),
            (
                AlertReceived(Alert::DecodeError),
                Malformed,
                "refuses this client's TLS",
            ),
            (rustls::Error::DecryptError, Malformed, "does not speak TLS"),
        ] {
            let ours = of_tls(&error);
            assert_eq!(ours.kind(), kind, "{error}");
            assert!(ours.to_string().contains(text), "{error}: {ours}");
        }
    }
}
