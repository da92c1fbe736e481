//! Certificates for tests: a CA made on the spot, and server certificates good or bad in one chosen way. Keys live in memory only;
//! nothing here is a CA that anything outside a test would trust.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
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
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
    pub(crate) issuer: Issuer<'static, KeyPair>,
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
        let certificate = params
            .self_signed(&key)
            .map_err(Error::during("signing a CA certificate"))?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The CA's certificate, for the client's set of trusted roots.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The CA's certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A server certificate for these host names and IP addresses.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    ///
    /// # Panics
    /// A date of `validity` is in no calendar.
    pub fn issue(&self, names: &[&str], validity: Validity) -> Result<ServerCert, Error> {
        self.issue_changed(names, validity, |_| {})
    }

    pub(crate) fn issue_changed(
        &self,
        names: &[&str],
        validity: Validity,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<ServerCert, Error> {
        let mut params = params(names, validity)?;
        params
            .distinguished_name
            .push(DnType::CommonName, "Test server");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = new_key()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(Error::during("signing a server certificate"))?;
        Ok(ServerCert {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.into(),
            above: Vec::new(),
            key,
        })
    }

    /// A client's certificate with this common name.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    ///
    /// # Panics
    /// A date of `validity` is in no calendar.
    pub fn issue_client(&self, name: &str, validity: Validity) -> Result<ServerCert, Error> {
        self.issue_to_client(Some(name), params(&[], validity)?, new_key()?)
    }

    /// As [`TestCa::issue_client`], with an RSA key.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    pub fn issue_client_with_rsa(&self, name: &str) -> Result<ServerCert, Error> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .map_err(Error::during("generating a key"))?;
        self.issue_to_client(Some(name), params(&[], Validity::CURRENT)?, key)
    }

    /// A client's certificate without any name in its subject, as SPIFFE's are.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    pub fn issue_nameless(&self) -> Result<ServerCert, Error> {
        let params = params(&["client.example"], Validity::CURRENT)?;
        self.issue_to_client(None, params, new_key()?)
    }

    /// A client's certificate with this common name that ends so soon from now.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    #[expect(
        clippy::disallowed_methods,
        reason = "a certificate ends by the wall clock, which no test's clock can steer"
    )]
    pub fn issue_client_for(&self, name: &str, life: Duration) -> Result<ServerCert, Error> {
        let mut params = params(&[], Validity::CURRENT)?;
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(Error::during("reading the clock"))?;
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since + life;
        self.issue_to_client(Some(name), params, new_key()?)
    }

    fn issue_to_client(
        &self,
        name: Option<&str>,
        mut params: CertificateParams,
        key: KeyPair,
    ) -> Result<ServerCert, Error> {
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(Error::during("signing a client certificate"))?;
        Ok(ServerCert {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.into(),
            above: Vec::new(),
            key,
        })
    }
}

impl fmt::Debug for TestCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

/// A server's certificate, or a client's, and its key.
pub struct ServerCert {
    /// The certificate alone, without its CA.
    pub certificate_pem: String,
    /// The private key, in PKCS #8.
    pub key_pem: String,
    pub(crate) certificate: CertificateDer<'static>,
    /// The intermediates that a server shows with it.
    pub(crate) above: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
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
            above: Vec::new(),
            key,
        })
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        let own = std::iter::once(self.certificate.clone());
        own.chain(self.above.iter().cloned()).collect()
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

pub(crate) fn params(names: &[&str], validity: Validity) -> Result<CertificateParams, Error> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params =
        CertificateParams::new(names).map_err(Error::during("naming a certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let ((year, month, day), (last_year, last_month, last_day)) = (validity.from, validity.until);
    params.not_before = rcgen::date_time_ymd(year, month, day);
    params.not_after = rcgen::date_time_ymd(last_year, last_month, last_day);
    Ok(params)
}

pub(crate) fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(Error::during("generating a key"))
}
