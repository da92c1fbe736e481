//! A trust domain for tests: X509-SVIDs, good or bad in one chosen way, and JWT-SVIDs.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::CertificateDer;
use serde_json::json;

use crate::tls::{Validity, new_key, params};
use crate::{Between, Error, ServerCert, TestCa, TestIssuer};

/// Who gives identities below `spiffe://NAME`.
pub struct TestTrustDomain {
    name: String,
    ca: TestCa,
    jwts: TestIssuer,
}

/// One entry of an `X509SVIDResponse`. A test may change each part.
#[derive(Clone, PartialEq, Eq)]
pub struct TestSvid {
    /// The SPIFFE ID that the message names.
    pub id: String,
    /// Certificates in DER, the SVID's own first.
    pub chain: Vec<Vec<u8>>,
    /// PKCS #8, in DER.
    pub key: Vec<u8>,
    /// The trust domain's authorities, in DER, one after the other.
    pub bundle: Vec<u8>,
    /// By what it is distinguished from others of the same workload, or nothing.
    pub hint: String,
}

/// What is wrong with an X509-SVID, or only unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SvidFlaw {
    /// The certificate says that it is an authority's.
    Authority,
    /// Its key may sign certificates.
    KeyCertSign,
    /// Its key may sign lists of revoked certificates.
    CrlSign,
    /// Its key may not make signatures.
    NoDigitalSignature,
    /// It has a second URI.
    TwoUris,
    /// It has no URI.
    NoUri,
    /// Its URI is of another scheme.
    OtherScheme,
    /// Its SPIFFE ID is the trust domain's.
    NoPath,
    /// The private key is of another certificate.
    OtherKey,
    /// It has ended.
    Ended,
    /// It begins in some decades.
    NotYetValid,
    /// It is signed by another authority of the same name.
    OtherAuthority,
    /// It names a host too, which is no flaw.
    WithHost,
    /// An authority between it and the root has signed it, and is in the chain, which is no flaw.
    Intermediate,
}

impl TestTrustDomain {
    /// With new keys.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn new(name: &str) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            ca: TestCa::new(Validity::CURRENT)?,
            jwts: TestIssuer::es256()?,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SPIFFE ID with this path.
    #[must_use]
    pub fn id(&self, path: &str) -> String {
        format!("spiffe://{}{path}", self.name)
    }

    /// The authority of its X509-SVIDs.
    #[must_use]
    pub fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The certificate of its authority, in DER.
    #[must_use]
    pub fn bundle(&self) -> Vec<u8> {
        self.ca.der.clone()
    }

    /// The issuer of its JWT-SVIDs.
    #[must_use]
    pub fn jwts(&self) -> &TestIssuer {
        &self.jwts
    }

    /// A JWT-SVID that lives so long, in whole seconds; each is another.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn jwt(&self, path: &str, audience: &str, life: Duration) -> Result<String, Error> {
        let head = json!({"alg": "ES256", "typ": "JWT", "kid": "first"});
        let ends = since_1970()? + life;
        let claims = json!({"sub": self.id(path), "aud": [audience], "exp": ends.as_secs()});
        self.jwts.sign_claims(&head, &claims)
    }

    /// A good X509-SVID that lives for an hour.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn svid(&self, path: &str) -> Result<TestSvid, Error> {
        self.make(&self.id(path), Duration::from_secs(3600), None)
    }

    /// A good X509-SVID that lives so long, in whole seconds.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn svid_for(&self, path: &str, life: Duration) -> Result<TestSvid, Error> {
        self.make(&self.id(path), life, None)
    }

    /// An X509-SVID with one flaw.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn flawed_svid(&self, path: &str, flaw: SvidFlaw) -> Result<TestSvid, Error> {
        let id = match flaw {
            SvidFlaw::NoPath => self.id(""),
            _ => self.id(path),
        };
        self.make(&id, Duration::from_secs(3600), Some(flaw))
    }

    /// An X509-SVID of this trust domain's authority with this SPIFFE ID, which may be another's.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn svid_of(&self, id: &str) -> Result<TestSvid, Error> {
        self.make(id, Duration::from_secs(3600), None)
    }

    fn make(&self, id: &str, life: Duration, flaw: Option<SvidFlaw>) -> Result<TestSvid, Error> {
        let mut leaf = leaf(id, flaw)?;
        match flaw {
            Some(SvidFlaw::Ended | SvidFlaw::NotYetValid) => {}
            _ => leaf.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970()? + life,
        }
        let key = new_key()?;
        let sign = |ca: &TestCa| {
            let signed = leaf.signed_by(&key, &ca.issuer);
            let signed = signed.map_err(Error::during("signing an SVID"))?;
            Ok::<_, Error>(signed.der().to_vec())
        };
        let chain = match flaw {
            Some(SvidFlaw::Intermediate) => {
                let between = self.ca.intermediate(Between::Sound, Validity::CURRENT)?;
                vec![sign(&between.ca)?, between.certificate.to_vec()]
            }
            Some(SvidFlaw::OtherAuthority) => vec![sign(&TestCa::new(Validity::CURRENT)?)?],
            _ => vec![sign(&self.ca)?],
        };
        let key = match flaw {
            Some(SvidFlaw::OtherKey) => new_key()?,
            _ => key,
        };
        Ok(TestSvid {
            id: id.to_owned(),
            chain,
            key: key.serialize_der(),
            bundle: self.bundle(),
            hint: String::new(),
        })
    }
}

impl TestSvid {
    /// As a server's certificate.
    ///
    /// # Errors
    /// The chain is empty, or the key does not parse.
    pub fn server_cert(&self) -> Result<ServerCert, Error> {
        let key = KeyPair::try_from(&self.key[..]).map_err(Error::during("reading a key"))?;
        let mut chain = self.chain.iter().cloned().map(CertificateDer::from);
        let certificate = chain.next();
        let certificate = certificate.ok_or_else(|| Error::new("a chain is empty"))?;
        Ok(ServerCert {
            certificate_pem: pem(&certificate),
            key_pem: key.serialize_pem(),
            certificate,
            above: chain.collect(),
            key,
        })
    }
}

fn pem(certificate: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(certificate);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    let lines = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

fn leaf(id: &str, flaw: Option<SvidFlaw>) -> Result<CertificateParams, Error> {
    let validity = match flaw {
        Some(SvidFlaw::Ended) => Validity::EXPIRED,
        Some(SvidFlaw::NotYetValid) => Validity::FUTURE,
        _ => Validity::CURRENT,
    };
    let names: &[&str] = match flaw {
        Some(SvidFlaw::WithHost) => &["billing.example"],
        _ => &[],
    };
    let mut leaf = params(names, validity)?;
    let uris = match flaw {
        Some(SvidFlaw::NoUri) => vec![],
        Some(SvidFlaw::TwoUris) => vec![id.to_owned(), format!("{id}-2")],
        Some(SvidFlaw::OtherScheme) => vec![id.replacen("spiffe:", "https:", 1)],
        _ => vec![id.to_owned()],
    };
    for uri in uris {
        let uri = uri.try_into().map_err(Error::during("naming an SVID"))?;
        leaf.subject_alt_names.push(SanType::URI(uri));
    }
    leaf.is_ca = match flaw {
        Some(SvidFlaw::Authority) => IsCa::Ca(BasicConstraints::Unconstrained),
        _ => IsCa::ExplicitNoCa,
    };
    leaf.key_usages = match flaw {
        Some(SvidFlaw::NoDigitalSignature) => vec![KeyUsagePurpose::KeyAgreement],
        Some(SvidFlaw::KeyCertSign) => vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ],
        Some(SvidFlaw::CrlSign) => {
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]
        }
        _ => vec![KeyUsagePurpose::DigitalSignature],
    };
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(leaf)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an SVID ends by the wall clock, which no test's clock can steer"
)]
fn since_1970() -> Result<Duration, Error> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_err(Error::during("reading the clock"))
}

impl fmt::Debug for TestTrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTrustDomain")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TestSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestSvid")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
