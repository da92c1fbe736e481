//! What is set on a client before it is built: the origins that it may speak to, and its bounds.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use secret_resolver::{Clock, Error};

use super::{Client, Inner};
use crate::certificate::CertificateSource;
use crate::engine::{Pool, Target};
use crate::error::misconfigured;
use crate::identity::Identity;
use crate::origin::Origin;
use crate::tls;
use crate::trust::Trust;

/// The bounds of a client, for a backend that passes its own on; the `with_…` calls of [`ClientBuilder`] say what each means.
///
/// ```
/// use secret_resolver_transport::Limits;
///
/// assert_eq!(Limits::default().connections, 8);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Default: 2 s.
    pub connect_timeout: Duration,
    /// Default: 4 s.
    pub response_timeout: Duration,
    /// Default: 1 MiB.
    pub body_limit: usize,
    /// Default: 8.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(4),
            body_limit: 1 << 20,
            connections: 8,
        }
    }
}

/// Builds a [`Client`]; from [`Client::builder`].
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder {
    trust: Trust,
    certificate: Option<Arc<dyn CertificateSource>>,
    clock: Arc<dyn Clock>,
    origins: Vec<Origin>,
    limits: Limits,
}

impl ClientBuilder {
    pub(super) fn new(trust: Trust, clock: Arc<dyn Clock>) -> Self {
        Self {
            trust,
            certificate: None,
            clock,
            origins: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// Puts `origin` on the list of those that may be spoken to. At least one is needed.
    ///
    /// # Security
    /// One client is one trust domain: code that may send through it may send to each of these.
    pub fn allow(mut self, origin: Origin) -> Self {
        self.origins.push(origin);
        self
    }

    /// Shows a client certificate on every connection. While its source has none, or one that is out of its dates,
    /// no connection is made. By default none is shown.
    pub fn with_client_certificate(mut self, source: impl CertificateSource) -> Self {
        self.certificate = Some(Arc::new(source));
        self
    }

    /// All of the bounds below at once.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a connection may take to be made: name, TCP and TLS. Default: 2 s. The response
    /// timeout ends it too.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// How long a whole exchange may take, from the call of `send` to the last byte of the body,
    /// the connection included. Default: 4 s.
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.limits.response_timeout = timeout;
        self
    }

    /// How many connections to each origin are open at a time as a rule, from 1 to 1,024. Further requests wait
    /// for one, for a quarter of a second: where they are all in use for that long, because the store is far away
    /// or slow or requests hang, another is opened, up to 64 times as many. Default: 8. As
    /// many are kept as are used; a second later two, and none after half a minute.
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// The largest body that is read. Default: 1 MiB.
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.limits.body_limit = bytes;
        self
    }

    /// The client. Opens no connection; needs no runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) when no origin is allowed, when one can stand in no
    /// certificate, when a timeout is zero, and when the number of connections is out of its bounds.
    pub fn build(self) -> Result<Client, Error> {
        if self.origins.is_empty() {
            return Err(misconfigured("no origin is allowed; name at least one"));
        }
        if self.limits.connect_timeout.is_zero() || self.limits.response_timeout.is_zero() {
            return Err(misconfigured(
                "a timeout of zero leaves no time for an answer",
            ));
        }
        let connections = self.limits.connections;
        if !(1..=1_024).contains(&connections) {
            return Err(misconfigured(
                "from 1 to 1,024 connections to an origin may be open",
            ));
        }
        let target =
            |origin: Origin| Target::new(&origin, connections).map(|target| (origin, target));
        let tls = Arc::new(tls::config(self.trust.clone())?);
        let identity = Arc::new(Identity::new(self.trust, self.certificate));
        Ok(Client(Arc::new(Inner {
            tls,
            identity: Arc::clone(&identity),
            targets: self
                .origins
                .into_iter()
                .map(target)
                .collect::<Result<_, _>>()?,
            limits: self.limits,
            pool: Pool::new(Arc::clone(&self.clock), identity),
            clock: self.clock,
            first_word_until: OnceLock::new(),
        })))
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("trust", &self.trust)
            .field("certificate", &self.certificate)
            .field("origins", &self.origins)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
