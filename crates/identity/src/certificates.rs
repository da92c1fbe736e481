//! The X509-SVID as a client certificate.

use std::fmt;
use std::sync::Arc;

use secret_resolver::{Error, IdentityStatus};
use secret_resolver_transport::{CertificateSource, ClientCertificate};
use tokio::sync::watch;

use crate::stream::Stream;

/// The X509-SVID of one identity as a client certificate; from [`SpiffeIdentity::certificates`](crate::SpiffeIdentity::certificates).
///
/// The newest is shown at each handshake. When it is another, connections that were made with the one before are closed, busy ones once
/// their request has ended, and one that is being made is begun again. While there is none, or it has ended, or the agent has withdrawn it, no
/// connection is made. Before the agent's first message, the first connection waits for it, half a second at most.
///
/// The agent says each change by itself. Where it is away, or says nothing while there is nothing to show, the last SVID is shown to its end,
/// and the agent is asked again after 1 to 30 seconds; where it does not take the request, after 24 at least. A message that is not what the
/// Workload API says is passed over. So is one without any SVID: an agent that takes an identity away says so by `PermissionDenied`.
#[derive(Clone)]
pub struct SpiffeCertificates(Arc<Stream>);

impl SpiffeCertificates {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self(stream)
    }
}

impl CertificateSource for SpiffeCertificates {
    fn subscribe(&self) -> watch::Receiver<Result<ClientCertificate, Error>> {
        match self.0.identity().check_process() {
            Ok(()) => self.0.shown(),
            Err(forked) => watch::channel(Err(forked)).1,
        }
    }

    fn is_starting(&self) -> bool {
        self.0.is_starting()
    }

    fn status(&self) -> Option<IdentityStatus> {
        self.0.identity().check_process().ok()?;
        Some(self.0.status())
    }
}

impl fmt::Debug for SpiffeCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpiffeCertificates")
            .field("identity", self.0.identity())
            .finish_non_exhaustive()
    }
}
