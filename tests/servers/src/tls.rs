//! Certificates for tests: a CA made on the spot, and server certificates good or bad in one chosen way. Keys live in memory only;
//! nothing here is a CA that anything outside a test would trust.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Error;

/// A certificate authority.
///
/// # Example
/// ```
/// use test_servers::{TestCa, Validity};
/// let ca = TestCa::new(Validity::CURRENT)?;
/// let wrong_name = ca.issue(&["elsewhere.example"], Validity::CURRENT)?;
/// let expired = ca.issue(&["127.0.0.1", "localhost"], Validity::EXPIRED)?;
/// assert!(ca.pem().starts_with("-----BEGIN CERTIFICATE-----"));
/// # Ok::<(), test_servers::Error>(())
/// ```
pub struct TestCa {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    /// Makes a CA with a new key. Any two have the same name, so only checking a signature distinguishes them.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    ///
    /// # Panics
    /// A date of `validity` is in no calendar.
    pub fn new(validity: Validity) -> Result<Self, Error> {
        let mut params = params(&[], validity)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let pem = params
            .self_signed(&key)
            .map_err(Error::during("signing a CA certificate"))?
            .pem();
        Ok(Self {
            pem,
            issuer: Issuer::new(params, key),
        })
    }

    /// The CA's certificate, for the client's set of trusted roots.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server certificate for these host names and IP addresses.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    ///
    /// # Panics
    /// A date of `validity` is in no calendar.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<ServerCert, Error> {
        let mut params = params(names, validity)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Test server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = new_key()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(Error::during("signing a server certificate"))?;
        Ok(ServerCert {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.into(),
            key,
        })
    }
}

impl fmt::Debug for TestCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

/// A server's certificate and its key.
pub struct ServerCert {
    /// The certificate alone, without its CA.
    pub certificate_pem: String,
    /// The private key, in PKCS #8.
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl ServerCert {
    /// A certificate that its own key has signed, and that says it is an authority's: what `openssl req -x509` makes by default.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    ///
    /// # Panics
    /// A date is in no calendar.
    pub fn signed_by_itself(names: &[&str]) -> Result<Self, Error> {
        let mut params = params(names, Validity::CURRENT)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Test server");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = new_key()?;
        let certificate = params
            .self_signed(&key)
            .map_err(Error::during("signing a server certificate"))?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.into(),
            key,
        })
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

impl fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCert").finish_non_exhaustive()
    }
}

/// From when until when a certificate is good: year, month and day, each at midnight UTC.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// The first moment at which it is good.
    pub from: (i32, u8, u8),
    /// The last moment at which it is good.
    pub until: (i32, u8, u8),
}

impl Validity {
    /// Good now.
    pub const CURRENT: Self = Self {
        from: (2020, 1, 1),
        until: (2099, 1, 1),
    };
    /// Good once.
    pub const EXPIRED: Self = Self {
        from: (2020, 1, 1),
        until: (2021, 1, 1),
    };
    /// Good one day.
    pub const FUTURE: Self = Self {
        from: (2098, 1, 1),
        until: (2099, 1, 1),
    };
}

fn params(names: &[&str], validity: Validity) -> Result<CertificateParams, Error> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params =
        CertificateParams::new(names).map_err(Error::during("naming a certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let ((year, month, day), (last_year, last_month, last_day)) = (validity.from, validity.until);
    params.not_before = rcgen::date_time_ymd(year, month, day);
    params.not_after = rcgen::date_time_ymd(last_year, last_month, last_day);
    Ok(params)
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(Error::during("generating a key"))
}
