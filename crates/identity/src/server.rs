//! A store whose own certificate is an SVID: which server is believed, and by which authorities.

use std::fmt;
use std::sync::Arc;

use secret_resolver::Error;
use secret_resolver_transport::{ServerIdentity, Trust};
use spiffe::SpiffeId;
use spiffe::cert::Certificate;
use tokio::sync::watch;
use x509_parser::parse_x509_certificate;

use crate::bundles::Bundle;
use crate::identity::workload_id;
use crate::stream::Stream;

/// The server with this SPIFFE ID, by what the agent says of its trust domain.
struct Server {
    id: SpiffeId,
    stream: Arc<Stream>,
}

/// # Errors
/// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for an ID that is no workload's.
pub(crate) fn trust(id: &str, stream: Arc<Stream>) -> Result<Trust, Error> {
    let id = workload_id(id)?;
    Ok(Trust::of_identity(Server { id, stream }))
}

impl ServerIdentity for Server {
    fn subscribe(&self) -> watch::Receiver<Bundle> {
        match self.stream.identity().check_process() {
            Ok(()) => self.stream.bundle(self.id.trust_domain()),
            Err(forked) => watch::channel(Err(forked)).1,
        }
    }

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn is_starting(&self) -> bool {
        self.stream.is_starting()
    }

    /// The rules for the leaf of an X509-SVID (X509-SVID 5.2): its one URI is the SPIFFE ID, and it signs no certificates. That it is no
    /// authority is checked with the chain.
    fn is_in(&self, certificate: &[u8]) -> bool {
        let id = Certificate::try_from(certificate).and_then(|shown| shown.spiffe_id());
        let signs = || {
            let (_, parsed) = parse_x509_certificate(certificate).ok()?;
            let usage = parsed.key_usage().ok()?.map(|usage| usage.value);
            Some(usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign()))
        };
        id.is_ok_and(|id| id == self.id) && signs() == Some(false)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("id", &self.id.to_string())
            .finish_non_exhaustive()
    }
}
