//! How TLS is spoken: 1.3 or 1.2, with the given authorities, every certificate checked at every
//! connection.
//!
//! The verdict on a server's certificate is rustls's own. This file only removes, before each
//! verdict, the authorities that are out of date, which rustls does not do; takes a certificate that
//! is pinned; and asks for an identity in place of the host's name, where one is believed. Why a server is refused is explained by `chain`.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::SigningKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use secret_resolver::backend::foreign;
use secret_resolver::{Error, ErrorKind};

use crate::certificate::ClientCertificate;
use crate::chain::{RefusedCertificate, Shown, Why, of_signature};
use crate::error::misconfigured;
use crate::trust::Trust;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use rustls::crypto::ring as chosen;

/// The client's side of TLS.
pub(crate) fn config(trust: Trust) -> Result<ClientConfig, Error> {
    // Given explicitly: the process-wide default is the application's, and may be missing.
    let provider = Arc::new(chosen::default_provider());
    let verifier = CurrentAuthorities {
        trust,
        provider: Arc::clone(&provider),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|_| {
            Error::new(
                ErrorKind::Misconfigured,
                "the TLS provider speaks neither TLS 1.2 nor 1.3",
            )
        })?
        // The name is a warning about what a verifier could do; this one takes trust away, and accepts pins.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        // `showing` adds the certificate, where there is one, for each connection.
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session is not checked again: it would outlive its authority and keep an old client
    // certificate. Its tickets are secrets in memory, too. A handshake costs a
    // millisecond, and the pool makes it rare.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The same, for a connection that shows this certificate.
pub(crate) fn showing(
    config: &ClientConfig,
    certificate: &ClientCertificate,
) -> Result<ClientConfig, Error> {
    let mut config = config.clone();
    config.client_auth_cert_resolver = certificate.resolver()?;
    Ok(config)
}

/// The private key, for signatures. Its bytes are not taken, so that the caller can wipe them.
pub(crate) fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, Error> {
    chosen::sign::any_supported_type(key).map_err(|_| {
        misconfigured("the private key is damaged, or of a kind that TLS does not use here; use ECDSA P-256 or P-384, Ed25519 or RSA of 2,048 bits")
    })
}

struct CurrentAuthorities {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for CurrentAuthorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.trust.pins(end_entity, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let verdict = |roots: RootCertStore| {
            let names = (intermediates, server_name);
            match self.trust.server() {
                None => self.of_host(end_entity, names, ocsp_response, roots, now),
                Some(_) => self.of_any_host(end_entity, intermediates, roots, now),
            }
        };
        let refused = |why| Err(RefusedCertificate::new(why, end_entity).into());
        let why = match (verdict(self.trust.at(now)), self.trust.server()) {
            (Ok(_), Some(server)) if foreign(|| server.is_in(end_entity)) != Some(true) => {
                let believed = foreign(|| server.name()).unwrap_or_default();
                return refused(Why::AnotherIdentity(believed));
            }
            (Err(_), _) if self.trust.is_authority(end_entity) => return refused(Why::Authority),
            (Err(rustls::Error::InvalidCertificate(why)), _) => why,
            (verdict, _) => return verdict,
        };
        let shown = Shown {
            end_entity,
            intermediates,
        };
        let believes = |one: &TrustAnchor<'static>| {
            let roots = vec![one.clone()];
            verdict(RootCertStore { roots }).is_ok()
        };
        let given = self.trust.given();
        Err(RefusedCertificate::explained(why, shown, &given, now, believes).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
            .map_err(|error| of_signature(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
            .map_err(|error| of_signature(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl CurrentAuthorities {
    /// What rustls says of a server that is known by the name of its host.
    fn of_host(
        &self,
        end_entity: &CertificateDer<'_>,
        (intermediates, server_name): (&[CertificateDer<'_>], &ServerName<'_>),
        ocsp_response: &[u8],
        roots: RootCertStore,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            // It fails only when no authority is left to believe.
            .map_err(|_| rustls::Error::from(CertificateError::UnknownIssuer))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    /// What it says of the chain and the purpose alone.
    fn of_any_host(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        roots: RootCertStore,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }
}

impl fmt::Debug for CurrentAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentAuthorities")
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{
        ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion,
    };
    use test_servers::{ServerCert, TestCa, Validity};

    use super::*;

    fn at(year: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_556_952))
    }

    #[test]
    fn an_authority_that_expired_while_the_process_ran_is_not_believed_at_the_next_handshake() {
        let until_2050 = Validity {
            from: (2020, 1, 1),
            until: (2050, 1, 1),
        };
        let ca = TestCa::new(until_2050).unwrap();
        // The server's own certificate stays good: only its authority has gone.
        let server = ca.issue(&["vault"], Validity::CURRENT).unwrap();
        let server = certificate(&server);
        let verifier = CurrentAuthorities {
            trust: Trust::from_pem(ca.pem().as_bytes()).unwrap(),
            provider: Arc::new(chosen::default_provider()),
        };
        let name = ServerName::try_from("vault").unwrap();
        let verdict = |now| verifier.verify_server_cert(&server, &[], &name, &[], now);
        assert!(verdict(at(2049)).is_ok());
        let Err(rustls::Error::InvalidCertificate(CertificateError::Other(other))) =
            verdict(at(2051))
        else {
            panic!("it is believed");
        };
        let refused: &RefusedCertificate = other.0.downcast_ref().unwrap();
        assert_eq!(refused.why, Why::OldAuthority { early: false });
        assert_eq!(refused.subject.as_deref(), Some("Test CA"));
    }

    #[test]
    fn a_pin_is_good_within_its_dates_alone() {
        let until_2050 = Validity {
            from: (2020, 1, 1),
            until: (2050, 1, 1),
        };
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let issued = ca.issue(&["vault"], until_2050).unwrap();
        let verifier = CurrentAuthorities {
            trust: Trust::pinned(issued.certificate_pem.as_bytes()).unwrap(),
            provider: Arc::new(chosen::default_provider()),
        };
        let (shown, name) = (certificate(&issued), ServerName::try_from("vault").unwrap());
        let verdict = |now| verifier.verify_server_cert(&shown, &[], &name, &[], now);
        assert!(verdict(at(2019)).is_err());
        assert!(verdict(at(2049)).is_ok());
        assert!(verdict(at(2051)).is_err());
        for out_of_date in [Validity::EXPIRED, Validity::FUTURE] {
            let issued = ca.issue(&["vault"], out_of_date).unwrap();
            let refused = Trust::pinned(issued.certificate_pem.as_bytes()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        }
    }

    /// Hands bytes back and forth in memory until neither side has anything to send, or one has an objection.
    pub(crate) fn shake_hands(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> Result<ClientConnection, rustls::Error> {
        let mut client = ClientConnection::new(client, "vault".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();
        while client.wants_write() || server.wants_write() {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            while !there.is_empty() {
                let read = server.read_tls(&mut &*there).unwrap();
                there.drain(..read);
                server.process_new_packets()?;
            }
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            while !back.is_empty() {
                let read = client.read_tls(&mut &*back).unwrap();
                back.drain(..read);
                client.process_new_packets()?;
            }
        }
        Ok(client)
    }

    fn certificate(issued: &ServerCert) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()
    }

    /// A server that shows `shown`'s certificate and signs with `held`'s key.
    fn server(
        version: &'static SupportedProtocolVersion,
        shown: &ServerCert,
        held: &ServerCert,
    ) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::from_pem_slice(held.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(chosen::default_provider());
        let key = provider.key_provider.load_private_key(key).unwrap();
        // Here nothing checks that the two belong together.
        serve(version, CertifiedKey::new(vec![certificate(shown)], key))
    }

    /// A server that has these, whether they belong together or not.
    pub(crate) fn serve(
        version: &'static SupportedProtocolVersion,
        both: CertifiedKey,
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(chosen::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(both)));
        Arc::new(config)
    }

    #[test]
    fn a_server_with_the_right_certificate_and_another_key_is_refused() {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let issued = ca.issue(&["vault"], Validity::CURRENT).unwrap();
        // Of the same authority and for the same name: what is missing is the key alone.
        let other = ca.issue(&["vault"], Validity::CURRENT).unwrap();
        let by_authority = Trust::from_pem(ca.pem().as_bytes()).unwrap();
        let pinned = Trust::pinned(issued.certificate_pem.as_bytes()).unwrap();
        for trust in [by_authority, pinned] {
            let client = Arc::new(config(trust).unwrap());
            for version in [&TLS13, &TLS12] {
                let talk = |held| shake_hands(Arc::clone(&client), server(version, &issued, held));
                assert!(talk(&issued).is_ok());
                let refused = talk(&other).unwrap_err();
                let rustls::Error::InvalidCertificate(CertificateError::Other(why)) = refused
                else {
                    panic!("{version:?}: {refused}");
                };
                let refused: &RefusedCertificate = why.0.downcast_ref().unwrap();
                assert_eq!(refused.why, Why::AnothersKey, "{version:?}");
            }
        }
    }

    #[test]
    fn no_session_is_resumed_although_the_server_offers_it() {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let issued = ca.issue(&["vault"], Validity::CURRENT).unwrap();
        for version in [&TLS13, &TLS12] {
            let server = server(version, &issued, &issued);
            let trust = Trust::from_pem(ca.pem().as_bytes()).unwrap();
            let client = Arc::new(config(trust).unwrap());
            for _ in 0..2 {
                let talk = shake_hands(Arc::clone(&client), Arc::clone(&server)).unwrap();
                // A hello retry is a whole handshake, too.
                assert!(matches!(
                    talk.handshake_kind(),
                    Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
                ));
            }
        }
    }

    #[test]
    fn the_client_offers_http_1_1_alone() {
        let ca = TestCa::new(Validity::CURRENT).unwrap();
        let config = config(Trust::from_pem(ca.pem().as_bytes()).unwrap()).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
        assert!(!config.enable_early_data && !config.enable_secret_extraction);
        assert!(!config.client_auth_cert_resolver.has_certs());
    }
}
