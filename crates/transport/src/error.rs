//! The only place where the errors of other libraries become ours.
//!
//! What they say is dropped: it may quote what a server sent. What kind they are is kept, and
//! decides between a store that is away (retry), a peer that is not what it should be (refuse)
//! and an answer that makes no sense.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};
use secret_resolver::{Error, ErrorKind};

use crate::tls::{RefusedCertificate, Why};

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

fn of_tls(error: &rustls::Error) -> Error {
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
        rustls::Error::AlertReceived(ProtocolVersion)
        | rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            malformed("the server speaks neither TLS 1.2 nor 1.3")
        }
        rustls::Error::AlertReceived(HandshakeFailure) | rustls::Error::PeerIncompatible(_) => {
            malformed(
                "the server shares no cipher, curve or signature with this client, or demands a client certificate",
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
        Why::Authority => {
            "the server shows an authority's certificate as its own; issue one for the server, or pin it by Trust::pinned"
        }
        Why::Tls(why) => of_certificate(why),
    });
    match subject {
        Some(subject) => error.with_detail(format!("subject {subject:?}")),
        None => error,
    }
}

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
            "no given authority vouches for the server's certificate, or the server does not have its key"
        }
        Why::UnknownIssuer => "no given authority vouches for the server's certificate",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "the server's certificate is not one for a server; issue it with the purpose serverAuth"
        }
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the server's certificate has a key or a signature of a kind that is not supported; use ECDSA P-256, Ed25519 or RSA of 2,048 bits"
        }
        Why::UnhandledCriticalExtension => {
            "the server's certificate has a critical extension that is not known here"
        }
        Why::BadEncoding => "the server's certificate does not parse",
        Why::Revoked => "the server's certificate was revoked",
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
}
