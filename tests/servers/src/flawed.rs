//! Certificates that are wrong in one chosen way, and chains with an intermediate.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::tls::{new_key, params};
use crate::{Error, ServerCert, TestCa, Validity};

/// What is wrong with a certificate for a server.
#[derive(Clone, Copy, Debug)]
pub enum Flaw {
    /// It has a critical extension that nobody knows.
    CriticalExtension,
    /// It is one for a client.
    ForClients,
}

/// What an intermediate is, apart from its dates.
#[derive(Clone, Copy, Debug)]
pub enum Between {
    /// An authority as it should be.
    Sound,
    /// It says that it is no authority.
    NoAuthority,
    /// It may vouch for no address on the loopback interface.
    NotForLoopback,
    /// It has a critical extension that nobody knows.
    CriticalExtension,
}

/// An authority that another has vouched for.
pub struct Intermediate {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) ca: TestCa,
}

impl TestCa {
    /// An authority below this one, whose common name is `Intermediate`.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    ///
    /// # Panics
    /// A date of `validity` is in no calendar.
    pub fn intermediate(
        &self,
        between: Between,
        validity: Validity,
    ) -> Result<Intermediate, Error> {
        let mut params = params(&[], validity)?;
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "Intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        match between {
            Between::Sound => {}
            Between::NoAuthority => params.is_ca = IsCa::ExplicitNoCa,
            Between::NotForLoopback => {
                let loopback = CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8);
                params.name_constraints = Some(NameConstraints {
                    permitted_subtrees: Vec::new(),
                    excluded_subtrees: vec![GeneralSubtree::IpAddress(loopback)],
                });
            }
            Between::CriticalExtension => params.custom_extensions.push(unknown()),
        }
        let key = new_key()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(Error::during("signing an intermediate certificate"))?;
        let ca = TestCa {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            issuer: Issuer::new(params, key),
        };
        Ok(Intermediate {
            certificate: certificate.into(),
            ca,
        })
    }

    /// A server's certificate with this flaw and no other.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    pub fn issue_flawed(&self, names: &[&str], flaw: Flaw) -> Result<ServerCert, Error> {
        let change = |params: &mut CertificateParams| match flaw {
            Flaw::CriticalExtension => params.custom_extensions.push(unknown()),
            Flaw::ForClients => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        };
        self.issue_changed(names, Validity::CURRENT, change)
    }
}

impl Intermediate {
    /// A certificate for a server, which shows this intermediate with it.
    ///
    /// # Errors
    /// A certificate cannot be made of this.
    pub fn issue(&self, names: &[&str]) -> Result<ServerCert, Error> {
        let mut issued = self.ca.issue(names, Validity::CURRENT)?;
        issued.above.push(self.certificate.clone());
        Ok(issued)
    }
}

impl ServerCert {
    /// The same as a server that forgets its intermediates shows it.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.above.clear();
        self
    }

    /// A certificate that is in a file alone, and no key that belongs to it.
    ///
    /// # Errors
    /// It is not PEM.
    pub fn without_its_key(pem: &str) -> Result<Self, Error> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(Error::during("reading a certificate"))?;
        let key = new_key()?;
        Ok(Self {
            certificate_pem: pem.to_owned(),
            key_pem: key.serialize_pem(),
            certificate,
            above: Vec::new(),
            key,
        })
    }
}

fn unknown() -> CustomExtension {
    let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4, 5], vec![5, 0]);
    unknown.set_criticality(true);
    unknown
}

impl fmt::Debug for Intermediate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intermediate").finish_non_exhaustive()
    }
}
