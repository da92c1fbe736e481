//! The certificate that this client shows, with its key, and where the two come from.
//!
//! It parses them and sees to it that they belong together. When it is shown, and what becomes of connections
//! once it is another, is `identity.rs`.

mod files;
mod pem;

pub use files::CertificateFiles;
#[cfg(fuzzing)]
pub(crate) use pem::properties::hold as key_properties;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use secret_resolver::{Error, ErrorKind, IdentityStatus};
use tokio::sync::watch;

use crate::error::misconfigured;
use crate::tls;
use crate::trust::{Validity, now, subject};

/// Where a client's certificate comes from. It is shown on every connection of that client.
///
/// # What holds
/// - While the channel's value is an error, no connection is made and each request fails with that error, as
///   [`Error::of_credential`] says: nothing is sent without a certificate.
/// - When the value changes, connections that were made with the one before are closed: idle ones at once, busy
///   ones when their request has ended. A value that is equal to the one before closes nothing.
/// - When the sender is gone, the last value stays.
///
/// ```
/// use secret_resolver::Error;
/// use secret_resolver_transport::{CertificateSource, ClientCertificate};
/// use tokio::sync::watch;
///
/// /// What an agent has given last.
/// #[derive(Debug)]
/// struct FromAgent(watch::Sender<Result<ClientCertificate, Error>>);
///
/// impl CertificateSource for FromAgent {
///     fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
///         self.0.subscribe()
///     }
/// }
/// ```
pub trait CertificateSource: fmt::Debug + Send + Sync + 'static {
    /// The certificate to show from now on, and each change of it.
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>>;

    /// Looks whether there is another by now, for a source that is not told. It may block: it is called on a
    /// thread for that, while requests are sent, at most once in ten seconds, or in one where a certificate was
    /// refused or has ended. By default it does nothing.
    fn look_again(&self) {}

    /// Whether it has not said anything yet, and will soon, as a source that asks an agent first. The first connections wait for its
    /// first word, until half a second after the first of them at most; the channel tells it, whatever the word is. By default it is not.
    fn is_starting(&self) -> bool {
        false
    }

    /// The identity that the certificate proves, where the source knows it; for readiness probes. By default there is none.
    fn status(&self) -> Option<IdentityStatus> {
        None
    }
}

/// A certificate for this client, with those of its issuers, and its private key. A clone shares them.
///
/// The key cannot be read back. The buffers through which it came are wiped; the library that signs with it
/// keeps it while a clone lives. `Debug` shows the subject alone.
///
/// ```
/// use secret_resolver::ErrorKind;
/// use secret_resolver_transport::ClientCertificate;
///
/// let error = ClientCertificate::from_pem(b"no certificate", b"no key").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Misconfigured);
/// ```
#[derive(Clone)]
pub struct ClientCertificate(Arc<Inner>);

struct Inner {
    pair: Arc<CertifiedKey>,
    validity: Validity,
}

impl ClientCertificate {
    /// Reads PEM text: the certificate and then those of its issuers, without the root, as `CERTIFICATE`
    /// sections; and the key as one section that is `PRIVATE KEY` (PKCS #8), `EC PRIVATE KEY` (SEC 1) or
    /// `RSA PRIVATE KEY` (PKCS #1), not encrypted.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when one of the two does not parse, when the key is of a kind that TLS
    /// does not use or is not the certificate's, and when the certificate is expired or not valid yet.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::new(pem::chain(chain)?, &pem::key(key)?.der())
    }

    /// From DER: the certificate and then those of its issuers; the key in PKCS #8. The caller wipes its
    /// own copy of the key.
    ///
    /// # Errors
    /// As [`ClientCertificate::from_pem`].
    pub fn from_der(chain: Vec<Vec<u8>>, key: &[u8]) -> Result<Self, Error> {
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Self::new(chain, &PrivateKeyDer::Pkcs8(key.into()))
    }

    fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKeyDer<'_>) -> Result<Self, Error> {
        let leaf = chain
            .first()
            .ok_or_else(|| misconfigured("there is no client certificate"))?;
        let validity = Validity::of(leaf)
            .map_err(|_| misconfigured("the client certificate does not parse"))?;
        let key = tls::signing_key(key)?;
        let pair = CertifiedKey::new(chain, key);
        // Not known is not good enough, either.
        pair.keys_match().map_err(|_| {
            misconfigured("the private key is not the one of the client certificate")
        })?;
        let certificate = Self(Arc::new(Inner {
            pair: Arc::new(pair),
            validity,
        }));
        match certificate.why_not(now()?) {
            None => Ok(certificate),
            Some(why) => Err(misconfigured(why)),
        }
    }

    /// The last second in which it is shown, counted from 1970.
    #[must_use]
    pub fn valid_until(&self) -> Duration {
        self.0.validity.until()
    }

    /// Why it cannot be shown at `now`, if it cannot.
    fn why_not(&self, now: UnixTime) -> Option<&'static str> {
        let validity = self.0.validity;
        if validity.contains(now) {
            return None;
        }
        Some(match validity.begins_after(now) {
            true => "the client certificate is not valid yet; check the system clock too",
            false => "the client certificate is expired",
        })
    }

    /// Whether it can be shown now.
    pub(crate) fn is_good(&self) -> bool {
        now().is_ok_and(|now| self.why_not(now).is_none())
    }

    /// What shows it, if it is good now.
    pub(crate) fn resolver(&self) -> Result<Arc<SingleCertAndKey>, Error> {
        match self.why_not(now()?) {
            None => Ok(Arc::new(Arc::clone(&self.0.pair).into())),
            Some(why) => Err(Error::new(ErrorKind::Unauthenticated, why).held_back()),
        }
    }
}

impl<S: CertificateSource + ?Sized> CertificateSource for Arc<S> {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        (**self).subscribe()
    }

    fn look_again(&self) {
        (**self).look_again();
    }

    fn is_starting(&self) -> bool {
        (**self).is_starting()
    }

    fn status(&self) -> Option<IdentityStatus> {
        (**self).status()
    }
}

impl PartialEq for ClientCertificate {
    /// Whether the certificates are the same. Then the keys are, too.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.pair.cert == other.0.pair.cert
    }
}

impl Eq for ClientCertificate {}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.0.pair.cert.first().and_then(|leaf| subject(leaf));
        f.debug_struct("ClientCertificate")
            .field("subject", &subject)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
