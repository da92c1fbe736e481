//! The backend's settings: the target, fixed in code, and how names map to it. Everything is
//! checked in `build()`; nothing is read from the environment.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secret_resolver::backend::{NameRef, SystemClock};
use secret_resolver::{Clock, Error};
use secret_resolver_session::Session;
use secret_resolver_transport::{
    self as transport, CertificateSource, Endpoints, Limits, Origin, Trust,
};

use crate::alias::{Given, Names};
use crate::auth::{Auth, Vault};
use crate::client::Client;
use crate::error;
use crate::path::{checked, encode};
use crate::resolver::{Parts, VaultBackend};

/// A whole target: endpoints, the CA set that they are checked against, namespace, mount and
/// login. Its parts belong together: a token goes to these endpoints and nowhere else.
///
/// What is wrong with it is said when the backend is built. `Debug` shows the endpoints, the namespace
/// and the mount.
///
/// ```no_run
/// use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
///
/// let auth = Auth::token(Credential::file("/run/secrets/vault-token"));
/// let target = VaultTarget::new("https://vault-1.example:8200", "/etc/ssl/vault-ca.pem", auth)
///     .with_endpoint("https://vault-2.example:8200")
///     .with_mount("team/secret");
/// let backend = VaultBackend::builder(target).build()?;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone)]
pub struct VaultTarget {
    endpoints: Vec<Result<Origin, Error>>,
    spread: bool,
    of_leader: bool,
    trust: Result<Trust, Error>,
    certificate: Option<Arc<dyn CertificateSource>>,
    namespace: Option<String>,
    mount: String,
    auth: Auth,
}

/// Builds a [`VaultBackend`]; from [`VaultBackend::builder`].
///
/// ```no_run
/// # fn target() -> secret_resolver_vault::VaultTarget { unimplemented!() }
/// use secret_resolver_vault::VaultBackend;
///
/// let backend = VaultBackend::builder(target())
///     .with_prefix("services/billing")
///     .with_alias("legacy/db#password", "old//db", Some("pw"))
///     .build()?;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub struct VaultBuilder {
    target: VaultTarget,
    clock: Option<Arc<dyn Clock>>,
    prefix: Option<String>,
    aliases: Vec<Given>,
    default_field: String,
    value_limit: usize,
    limits: Limits,
}

impl VaultTarget {
    /// A KV v2 store mounted at `secret`, in the root namespace.
    ///
    /// `endpoint` is an [`Origin`] or its text, `https://host:port`. `trust` is a [`Trust`] or the path of
    /// a file in PEM, as [`Trust::from_file`] reads it. Both may be borrowed.
    #[must_use]
    pub fn new(
        endpoint: impl TryInto<Origin, Error: Into<Error>>,
        trust: impl TryInto<Trust, Error: Into<Error>>,
        auth: Auth,
    ) -> Self {
        Self {
            endpoints: vec![endpoint.try_into().map_err(Into::into)],
            spread: false,
            of_leader: false,
            trust: trust.try_into().map_err(Into::into),
            certificate: None,
            namespace: None,
            mount: "secret".into(),
            auth,
        }
    }

    /// Adds another endpoint of the same cluster: one store, one trust domain. It is asked when those before
    /// it give no answer, and until one of them answers again.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl TryInto<Origin, Error: Into<Error>>) -> Self {
        self.endpoints.push(endpoint.try_into().map_err(Into::into));
        self
    }

    /// Shows a client certificate on every connection, whatever the login is:
    /// [`CertificateFiles`](crate::CertificateFiles), or another source. While the source has none, or one that is out
    /// of its dates, no connection is made. When it becomes another, connections that were made with the one before
    /// are closed: idle ones at once, busy ones when their request has ended.
    ///
    /// ```no_run
    /// use secret_resolver_vault::{Auth, CertificateFiles, JwtFile, VaultTarget};
    ///
    /// let auth = Auth::jwt("billing", JwtFile::new("/run/tokens/bao.jwt"));
    /// let target = VaultTarget::new("https://bao.internal:8200", "/etc/app/bao-ca.pem", auth)
    ///     .with_client_certificate(CertificateFiles::new("/run/tls/tls.crt", "/run/tls/tls.key")?);
    /// # Ok::<(), secret_resolver::Error>(())
    /// ```
    #[must_use]
    pub fn with_client_certificate(mut self, source: impl CertificateSource) -> Self {
        self.certificate = Some(Arc::new(source));
        self
    }

    /// Spreads reads over all endpoints, which take turns, instead of the first that answers.
    ///
    /// Standbys that answer reads themselves may be behind the leader; spread reads meet more of them. See
    /// [what a standby may answer](crate#standbys).
    #[must_use]
    pub fn spread(mut self) -> Self {
        self.spread = true;
        self
    }

    /// Lets the leader answer every read, whichever endpoint is asked: for a service that must never read what
    /// was replaced. Without it that holds after a signal; see
    /// [what a standby may answer](crate#standbys). While the cluster has no leader, no read is answered.
    #[must_use]
    pub fn read_at_leader(mut self) -> Self {
        self.of_leader = true;
        self
    }

    /// The namespace of the store, sent as `X-Vault-Namespace`; it holds the mount and the login.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Where the KV v2 store is mounted; `secret` by default.
    #[must_use]
    pub fn with_mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = mount.into();
        self
    }
}

impl VaultBuilder {
    /// The bound on one value unless another is set, in bytes.
    pub const DEFAULT_VALUE_LIMIT: usize = 64 << 10;

    pub(crate) fn new(target: VaultTarget) -> Self {
        Self {
            target,
            clock: None,
            prefix: None,
            aliases: Vec::new(),
            default_field: "value".into(),
            value_limit: Self::DEFAULT_VALUE_LIMIT,
            limits: Limits::default(),
        }
    }

    /// The clock that all of its timers ask. By default the one that the resolvers and the backends of
    /// the process share; a test that gives its resolver another gives it here, too.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// A path that is put before the path of every name, but not before that of an alias.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Says where one name is, for an id that does not follow the rule or the grammar: `path` as
    /// it is below the mount, `a//b` and `a#b` included, and the field; the default field without
    /// one. The name's other fields follow the rule as before.
    #[must_use]
    pub fn with_alias(
        mut self,
        name: impl Into<String>,
        path: impl Into<String>,
        field: Option<&str>,
    ) -> Self {
        self.aliases
            .push((name.into(), path.into(), field.map(str::to_owned)));
        self
    }

    /// The field that a name without one means; `value` by default. It follows the grammar of names.
    #[must_use]
    pub fn with_default_field(mut self, field: impl Into<String>) -> Self {
        self.default_field = field.into();
        self
    }

    /// The most bytes that one value may have, from 1; 64 KiB by default. A record with a larger one is
    /// refused as a whole, as [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded).
    #[must_use]
    pub fn with_value_limit(mut self, bytes: usize) -> Self {
        self.value_limit = bytes;
        self
    }

    /// The most bytes that one answer may have, from 1; 1 MiB by default. A larger one is
    /// [`ErrorKind::Malformed`](secret_resolver::ErrorKind::Malformed). It has to have room for a whole record.
    #[must_use]
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.limits.body_limit = bytes;
        self
    }

    /// How many connections to each endpoint are open at a time as a rule, from 1 to 1,024; 8 by default. Where
    /// they are all in use for a quarter of a second, further ones are opened: for a store that is far away or
    /// slow, and for reads that hang. The [`Resolver`](secret_resolver::Resolver)'s limit of 64 requests bounds
    /// them.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// The bound on connecting, name resolution and TLS included; 2 s by default, and more than zero. The response
    /// timeout ends it, too.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// The bound on one exchange, from its begin to the last byte of its answer, the connection included; 4 s by
    /// default, and more than zero. The attempt's time of the [`Resolver`](secret_resolver::Resolver), 2 s by default,
    /// ends it, too.
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.limits.response_timeout = timeout;
        self
    }

    /// Checks everything and builds the backend. Nothing is sent, and no file of a credential is read. Works
    /// outside a runtime; the backend's futures need one of tokio's with its I/O driver.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for an endpoint that is not an
    /// origin or is given twice, for more than 64 of them, for authorities that cannot be read, for a mount, namespace,
    /// prefix or alias that is not a path, for a default field that no name can have, for a credential in code that no
    /// login could use, for a token with an auth mount, for a role that is empty or of a login that has none, for a login
    /// by certificate without a client certificate, for a bound of zero, or where the transport cannot be built;
    /// [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded) when the clock's thread cannot be started.
    pub fn build(self) -> Result<VaultBackend, Error> {
        let VaultTarget {
            endpoints,
            spread,
            of_leader,
            trust,
            certificate,
            namespace,
            mount,
            auth,
        } = self.target;
        let endpoints = origins(endpoints)?;
        let trust = trust.map_err(error::ours)?;
        auth.check(certificate.is_some())?;
        let mount = checked(&mount, "mount")?;
        let namespace = namespace
            .map(|namespace| checked(&namespace, "namespace"))
            .transpose()?;
        // It goes into a header as it is.
        if namespace
            .as_ref()
            .is_some_and(|namespace| !namespace.is_ascii())
        {
            return Err(error::misconfigured("a namespace is ASCII text"));
        }
        let prefix = self
            .prefix
            .map(|prefix| checked(&prefix, "prefix"))
            .transpose()?;
        let default_field = field(self.default_field)?;
        let names = Names::new(prefix, default_field, self.aliases)?;
        if self.value_limit == 0 {
            return Err(error::misconfigured(
                "a bound of zero on a value leaves no room for one",
            ));
        }
        if self.limits.body_limit == 0 {
            return Err(error::misconfigured(
                "a bound of zero on the body leaves no room for an answer",
            ));
        }
        let clock = match self.clock {
            Some(clock) => clock,
            None => Arc::new(SystemClock::shared().map_err(error::ours)?),
        };
        let mut http =
            transport::Client::builder(trust, Arc::clone(&clock)).with_limits(self.limits);
        if let Some(source) = certificate {
            http = http.with_client_certificate(source);
        }
        for endpoint in &endpoints {
            http = http.allow(endpoint.clone());
        }
        let http = http.build().map_err(error::ours)?;
        let endpoints = Endpoints::new(http, endpoints).map_err(error::ours)?;
        let client = Client::new(endpoints, namespace, auth.inline()?);
        let data = format!("/v1/{}/data/", encode(&mount));
        Ok(VaultBackend::new(Parts {
            session: Session::new(Vault::new(client, auth), clock),
            names,
            mount,
            data,
            spread,
            of_leader,
            value_limit: self.value_limit,
        }))
    }
}

/// The endpoints, where each is an origin. Of several the one that is not is numbered, because it is not quoted.
fn origins(endpoints: Vec<Result<Origin, Error>>) -> Result<Vec<Origin>, Error> {
    let number = endpoints.len();
    let origins = endpoints.into_iter().enumerate().map(|(at, endpoint)| {
        endpoint.map_err(|error| match number {
            1 => error::ours(error),
            _ => error::at(error, format!("endpoint {}", at + 1)),
        })
    });
    origins.collect()
}

/// A field that a name could have. Another key is named by an alias.
fn field(text: String) -> Result<Box<str>, Error> {
    match NameRef::parse(&format!("a#{text}")).is_ok_and(|name| name.field() == Some(&*text)) {
        true => Ok(text.into()),
        false => Err(error::misconfigured(
            "the default field is not one that a name can have; name another key by with_alias",
        )),
    }
}

impl fmt::Debug for VaultTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultTarget")
            .field("endpoints", &self.endpoints)
            .field("spread", &self.spread)
            .field("of_leader", &self.of_leader)
            .field("certificate", &self.certificate)
            .field("namespace", &self.namespace)
            .field("mount", &self.mount)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for VaultBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultBuilder")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
