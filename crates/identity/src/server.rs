//! A store whose own certificate is an SVID: which server is believed, and by which authorities.

use std::fmt;
use std::sync::Arc;

use secret_resolver::{Error, ErrorKind};
use secret_resolver_transport::{Authorities, ServerIdentity, Trust};
use spiffe::cert::Certificate;
use spiffe::{SpiffeId, X509Bundle, X509Context};
use tokio::sync::watch;
use x509_parser::parse_x509_certificate;

use crate::certificates::Stream;
use crate::error;
use crate::identity::{Inner, workload_id};

/// The authorities of the workload's trust domain, or why there are none.
pub(crate) type Bundle = Result<Authorities, Error>;

/// The server with this SPIFFE ID, by what the agent says of its trust domain.
struct Server {
    id: SpiffeId,
    stream: Arc<Stream>,
}

/// # Errors
/// [`ErrorKind::Misconfigured`] for an ID that is no workload's, or not of the trust domain of `stream`.
pub(crate) fn trust(id: &str, stream: Arc<Stream>) -> Result<Trust, Error> {
    let id = workload_id(id)?;
    match id.trust_domain() == stream.identity.id.trust_domain() {
        true => Ok(Trust::of_identity(Server { id, stream })),
        false => Err(error::misconfigured(
            "the server's SPIFFE ID is of another trust domain than this workload's; federated domains are not read",
        )),
    }
}

/// What a message says of the trust domain is believed from now on.
pub(crate) fn learn(identity: &Inner, context: &X509Context) {
    let bundles = context.bundle_set();
    let bundle = authorities(bundles.get_ref(identity.id.trust_domain()));
    identity.bundle.send_if_modified(|held| {
        let is_same = matches!((&*held, &bundle), (Ok(held), Ok(bundle)) if held == bundle);
        if !is_same {
            *held = bundle;
        }
        !is_same
    });
}

/// Nobody is believed from now on.
pub(crate) fn forget(identity: &Inner, why: &Error) {
    let _ = identity.bundle.send_replace(Err(why.clone()));
}

/// What the agent says of the trust domain.
pub(crate) fn authorities(bundle: Option<&Arc<X509Bundle>>) -> Bundle {
    let certificates = bundle.map(|bundle| bundle.authorities());
    let certificates = certificates
        .filter(|some| !some.is_empty())
        .ok_or_else(|| {
            let what = "the agent has given no authorities of the trust domain";
            error::new(ErrorKind::Refused, what).held_back()
        })?;
    let ders = certificates.iter().map(|one| one.as_bytes().to_vec());
    Authorities::from_der(ders).map_err(|_| {
        error::new(
            ErrorKind::Malformed,
            "the agent has given an authority that does not parse",
        )
    })
}

impl ServerIdentity for Server {
    fn subscribe(&self) -> watch::Receiver<Bundle> {
        self.stream.identity.bundle.subscribe()
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
