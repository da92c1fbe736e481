//! Certificate authorities: parsed, dated, and told from another set of them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use secret_resolver::Error;

use super::{Validity, misconfigured};

/// A set of certificate authorities, for a [`ServerIdentity`](crate::ServerIdentity). A clone shares it. Two are equal when their
/// certificates are, in the same order.
///
/// ```
/// use secret_resolver::ErrorKind;
/// use secret_resolver_transport::Authorities;
///
/// let error = Authorities::from_der([b"not a certificate".to_vec()]).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misconfigured);
/// ```
#[derive(Clone, Default)]
pub struct Authorities {
    number: u64,
    set: Arc<[Authority]>,
}

pub(crate) struct Authority {
    pub(super) der: Vec<u8>,
    pub(super) validity: Validity,
    /// `None` for the certificate of a server that is believed as it is.
    pub(super) anchor: Option<TrustAnchor<'static>>,
}

impl Authorities {
    /// From certificates in DER. One that is out of its dates vouches for nobody while it is. From none, nobody is believed.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) when one of them does not parse.
    pub fn from_der(certificates: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Error> {
        let set = certificates.into_iter().map(Authority::parse);
        set.collect::<Result<_, _>>().map(Self::new)
    }

    pub(super) fn new(set: Vec<Authority>) -> Self {
        /// 0 is for none at all.
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            number: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            set: set.into(),
        }
    }

    pub(super) fn list(&self) -> &[Authority] {
        &self.set
    }

    /// No other set of this process has it.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        let ders = self.set.iter().map(|one| &one.der);
        ders.eq(other.set.iter().map(|one| &one.der))
    }
}

impl Eq for Authorities {}

impl Authority {
    pub(super) fn parse(der: Vec<u8>) -> Result<Self, Error> {
        let unreadable = || misconfigured("a certificate among the authorities does not parse");
        let mut authority = Self::pin(der)?;
        let mut one = RootCertStore::empty();
        one.add(CertificateDer::from(authority.der.as_slice()))
            .map_err(|_| unreadable())?;
        authority.anchor = Some(one.roots.pop().ok_or_else(unreadable)?);
        Ok(authority)
    }

    pub(super) fn pin(der: Vec<u8>) -> Result<Self, Error> {
        let validity = Validity::of(&der)
            .map_err(|_| misconfigured("a certificate among the authorities does not parse"))?;
        Ok(Self {
            der,
            validity,
            anchor: None,
        })
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("certificates", &self.set.len())
            .finish_non_exhaustive()
    }
}
