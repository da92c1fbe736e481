//! Client certificates: an authority whose certificates the server takes, and what the server reads in one.

mod der;

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

pub(crate) use self::der::{Integers, common_name, uris};
use crate::Error;

/// An authority for client certificates.
pub struct ClientCa {
    pem: String,
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl ClientCa {
    /// Makes one with a new key. The server has one of its own: [`crate::ConjurDouble::client_ca`]; another makes certificates that the
    /// server refuses.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    pub fn new() -> Result<Self, Error> {
        let mut params = params(Some("Test client CA"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate = params
            .self_signed(&key)
            .map_err(Error::during("signing a client CA"))?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate with this common name and these URIs, for instance `spiffe://example.org/payments`.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    pub fn issue(
        &self,
        common_name: Option<&str>,
        uris: &[&str],
    ) -> Result<ClientCertificate, Error> {
        let mut params = params(common_name)?;
        for uri in uris {
            let uri = (*uri)
                .try_into()
                .map_err(Error::during("naming a client"))?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = new_key()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(Error::during("signing a client's certificate"))?;
        Ok(ClientCertificate {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().to_vec(),
        })
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa").finish_non_exhaustive()
    }
}

/// A client's certificate and its key.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate alone, without its authority.
    pub certificate_pem: String,
    /// The private key, in PKCS #8.
    pub key_pem: String,
    /// The certificate in DER, as [`crate::Connection::peer_certificate`] shows it.
    pub der: Vec<u8>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

fn params(common_name: Option<&str>) -> Result<CertificateParams, Error> {
    let mut params =
        CertificateParams::new(Vec::new()).map_err(Error::during("naming a client"))?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    Ok(params)
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(Error::during("generating a key"))
}
