//! Servers that are known by an identity in their certificate, and not by the name of their host.

use std::fmt;

use secret_resolver::Error;
use tokio::sync::watch;

use super::Authorities;

/// The identity that a server must have; for [`Trust::of_identity`](crate::Trust::of_identity). Its certificate is believed when one of
/// these authorities vouches for it, within its dates and for a server, and this identity is in it. The host's name is not looked for.
///
/// # What holds
/// - While the channel's value is an error, no connection is made, and each request fails with that error, as
///   [`Error::of_credential`] says: no store was asked, so it is no evidence against one.
/// - When the value changes, connections that were made with the one before are closed: idle ones at once, busy ones when their
///   request has ended. A value that is equal to the one before should not be sent.
/// - When the sender is gone, the last value stays.
///
/// ```
/// use secret_resolver::Error;
/// use secret_resolver_transport::{Authorities, ServerIdentity};
/// use tokio::sync::watch;
///
/// /// A server of a mesh, and what the mesh's agent has said of its authorities.
/// #[derive(Debug)]
/// struct OfMesh {
///     authorities: watch::Receiver<Result<Authorities, Error>>,
///     certificate: Vec<u8>,
/// }
///
/// impl ServerIdentity for OfMesh {
///     fn subscribe(&self) -> watch::Receiver<Result<Authorities, Error>> {
///         self.authorities.clone()
///     }
///     fn name(&self) -> String {
///         "the store of this mesh".to_owned()
///     }
///     fn is_in(&self, certificate: &[u8]) -> bool {
///         certificate == self.certificate
///     }
/// }
/// ```
pub trait ServerIdentity: fmt::Debug + Send + Sync + 'static {
    /// The authorities that stand for the identity from now on, and each change of them.
    fn subscribe(&self) -> watch::Receiver<Result<Authorities, Error>>;

    /// Its name, such as a SPIFFE ID, for the error where a server is another one.
    fn name(&self) -> String;

    /// Whether it has not said anything yet, and will soon: as [`CertificateSource::is_starting`](crate::CertificateSource::is_starting).
    /// By default it is not.
    fn is_starting(&self) -> bool {
        false
    }

    /// Whether this certificate, in DER, has the identity and no other. It is called in a handshake, after one of the authorities has
    /// vouched for the certificate. It may not block. Where it panics, the server is not believed.
    fn is_in(&self, certificate: &[u8]) -> bool;
}
