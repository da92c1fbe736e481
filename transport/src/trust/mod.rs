//! Whom to believe: the certificate authorities that were given, and nobody else.
//!
//! It parses and dates the authorities. The system's own set is never read; what the set is used
//! for, and the second look at the dates at each handshake, is `tls.rs`.

mod validity;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use secret_resolver::{Error, ErrorKind};

use self::validity::Validity;

/// The largest file of authorities: 1 MiB, several times the whole public set.
const LARGEST: u64 = 1 << 20;

/// The given set of certificate authorities and nothing else. A clone shares it.
///
/// A certificate is good from its first second to its last: the dates of an authority are checked
/// when it is loaded and again at each handshake, because it may expire while the process runs.
///
/// ```
/// use secret_resolver::ErrorKind;
/// use secret_resolver_transport::Trust;
///
/// let error = Trust::from_pem(b"not a certificate").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misconfigured);
/// ```
#[derive(Clone)]
pub struct Trust(Arc<[Authority]>);

struct Authority {
    anchor: TrustAnchor<'static>,
    validity: Validity,
}

impl Trust {
    /// Reads PEM text: one `CERTIFICATE` section or more, all of them authorities (or servers
    /// that signed themselves). Text between the sections is skipped.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when there is no certificate, when there is a section of
    /// another kind (a private key has no business here), and when any of the certificates does
    /// not parse, is expired or is not yet valid.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let now = DefaultTimeProvider
            .current_time()
            .ok_or_else(|| misconfigured("the system clock stands before 1970; set it"))?;
        Self::from_pem_at(pem, now)
    }

    /// Reads the file once, as [`Trust::from_pem`] reads text.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when the file is missing, cannot be read or is over 1 MiB, and
    /// as [`Trust::from_pem`]; with the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let read = || {
            let mut pem = Vec::new();
            File::open(path)?.take(LARGEST + 1).read_to_end(&mut pem)?;
            Ok(pem)
        };
        let located = |error: Error| error.with_detail(path.display().to_string());
        let pem = read().map_err(|_: std::io::Error| {
            located(misconfigured(
                "the file of certificate authorities cannot be read",
            ))
        })?;
        if u64::try_from(pem.len()).is_ok_and(|length| length > LARGEST) {
            return Err(located(misconfigured(
                "the file of certificate authorities is over 1 MiB",
            )));
        }
        Self::from_pem(&pem).map_err(located)
    }

    fn from_pem_at(pem: &[u8], now: UnixTime) -> Result<Self, Error> {
        let mut authorities = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = section
                .map_err(|_| misconfigured("a PEM section of the authorities is damaged"))?;
            if kind != SectionKind::Certificate {
                return Err(misconfigured(
                    "there is something other than a certificate among the authorities",
                ));
            }
            let authority = Authority::parse(der)?;
            authority.validity.check(now)?;
            authorities.push(authority);
        }
        if authorities.is_empty() {
            return Err(misconfigured(
                "there is no PEM certificate among the authorities",
            ));
        }
        Ok(Self(authorities.into()))
    }

    /// Those that are good at `now`; maybe none.
    pub(crate) fn at(&self, now: UnixTime) -> RootCertStore {
        let current = self
            .0
            .iter()
            .filter(|authority| authority.validity.contains(now));
        RootCertStore {
            roots: current.map(|authority| authority.anchor.clone()).collect(),
        }
    }
}

impl Authority {
    fn parse(der: Vec<u8>) -> Result<Self, Error> {
        let unreadable = || misconfigured("a certificate among the authorities does not parse");
        let validity = Validity::of(&der).map_err(|_| unreadable())?;
        let mut one = RootCertStore::empty();
        one.add(CertificateDer::from(der))
            .map_err(|_| unreadable())?;
        let anchor = one.roots.pop().ok_or_else(unreadable)?;
        Ok(Self { anchor, validity })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("authorities", &self.0.len())
            .finish_non_exhaustive()
    }
}

fn misconfigured(reason: &'static str) -> Error {
    Error::new(ErrorKind::Misconfigured, reason)
}

#[cfg(test)]
mod tests;
