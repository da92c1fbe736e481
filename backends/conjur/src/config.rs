//! What the backend is made of: the target, fixed in code, and how names map to it. Everything is checked in `build()`; nothing is read
//! from the environment.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secret_resolver::backend::{SystemClock, report};
use secret_resolver::{Clock, Error};
use secret_resolver_session::Session;
use secret_resolver_transport::{
    self as transport, CertificateSource, Endpoints, Limits, Origin, Trust,
};

use crate::auth::{Auth, Conjur};
use crate::batch::Bad;
use crate::client::{Batches, Client};
use crate::error;
use crate::names::{Given, Names};
use crate::resolver::{ConjurBackend, Parts};
use crate::sidecar::Seen;

/// A whole target: endpoints, the CA set that they are checked against, account and login. Its parts belong together: a token goes to
/// these endpoints and nowhere else.
///
/// What is wrong with it is said when the backend is built. `Debug` shows the endpoints, the account and the login.
///
/// ```no_run
/// use secret_resolver_conjur::{Auth, ConjurBackend, ConjurTarget, Credential};
///
/// let auth = Auth::api_key("host/apps/billing", Credential::file("/run/secrets/conjur-key"));
/// let target = ConjurTarget::new("https://leader.internal", "/etc/app/conjur-ca.pem", "myorg", auth)
///     .with_endpoint("https://follower.internal");
/// let backend = ConjurBackend::builder(target).build()?;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone)]
pub struct ConjurTarget {
    endpoints: Vec<Result<Origin, Error>>,
    trust: Result<Trust, Error>,
    certificate: Option<Arc<dyn CertificateSource>>,
    account: String,
    base: &'static str,
    auth: Auth,
}

/// Builds a [`ConjurBackend`]; from [`ConjurBackend::builder`].
///
/// ```no_run
/// # fn target() -> secret_resolver_conjur::ConjurTarget { unimplemented!() }
/// use secret_resolver_conjur::ConjurBackend;
///
/// let backend = ConjurBackend::builder(target())
///     .with_prefix("apps/billing")
///     .with_alias("legacy/db#password", "old//db password")
///     .build()?;
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub struct ConjurBuilder {
    target: ConjurTarget,
    clock: Option<Arc<dyn Clock>>,
    prefix: Option<String>,
    aliases: Vec<(String, String)>,
    records: Vec<Given>,
    with_versions: bool,
    batches: Batches,
    allow_admin: bool,
    value_limit: usize,
    limits: Limits,
}

impl ConjurTarget {
    /// The variables of one account. `endpoint` is an [`Origin`] or its text, `https://host:port`; `trust` is a [`Trust`] or the path of
    /// a file in PEM, as [`Trust::from_file`] reads it.
    #[must_use]
    pub fn new(
        endpoint: impl TryInto<Origin, Error: Into<Error>>,
        trust: impl TryInto<Trust, Error: Into<Error>>,
        account: impl Into<String>,
        auth: Auth,
    ) -> Self {
        Self {
            endpoints: vec![endpoint.try_into().map_err(Into::into)],
            trust: trust.try_into().map_err(Into::into),
            certificate: None,
            account: account.into(),
            base: "",
            auth,
        }
    }

    /// Adds another endpoint of the same store, such as a follower or an Edge: one trust domain. It is asked when those before it give
    /// no answer, and until one of them answers again. A follower may be behind, so the leader comes first: see
    /// [Several endpoints](crate#several-endpoints).
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl TryInto<Origin, Error: Into<Error>>) -> Self {
        self.endpoints.push(endpoint.try_into().map_err(Into::into));
        self
    }

    /// Puts `/api` before every path: for Conjur Cloud, Edge, and appliances that are reached so.
    #[must_use]
    pub fn with_api_prefix(mut self) -> Self {
        self.base = "/api";
        self
    }

    /// Shows a client certificate on every connection, whatever the login method. When it becomes another, connections that were made
    /// with the old one are closed.
    #[must_use]
    pub fn with_client_certificate(mut self, source: impl CertificateSource) -> Self {
        self.certificate = Some(Arc::new(source));
        self
    }
}

impl ConjurBuilder {
    /// The bound on one value unless another is set, in bytes.
    pub const DEFAULT_VALUE_LIMIT: usize = 64 << 10;

    pub(crate) fn new(target: ConjurTarget) -> Self {
        Self {
            target,
            clock: None,
            prefix: None,
            aliases: Vec::new(),
            records: Vec::new(),
            with_versions: false,
            batches: Batches::List,
            allow_admin: false,
            value_limit: Self::DEFAULT_VALUE_LIMIT,
            limits: Limits::default(),
        }
    }

    /// The clock that all of its timers ask. By default the one that the resolvers and the backends of the process share; a test that
    /// gives its resolver another gives it here, too.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// A path that is put before every name's id, except before an alias's.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Says which variable one name is, for an id that does not follow the rule or the grammar: `a//b`, `a/` and `a#b` included.
    #[must_use]
    pub fn with_alias(mut self, name: impl Into<String>, id: impl Into<String>) -> Self {
        self.aliases.push((name.into(), id.into()));
        self
    }

    /// Makes these variables the fields of one record, of one moment: for a user name and its password. With the path `prod/db` and
    /// the fields `user` and `password` they are `prod/db/user` and `prod/db/password`, or where an alias of `prod/db#user` leads;
    /// `get_record("prod/db")` has both. A fetch is three requests for each variable: two looks at its version, which have to agree,
    /// and the read between them. While they are written in between it is asked again, three times in all; then it is
    /// [`ErrorKind::Unavailable`](secret_resolver::ErrorKind::Unavailable). Each of them is read so under all of its names.
    ///
    /// The record's version is the sum of theirs: of two moments the later has the higher. It is no variable's own, so a signal that
    /// says a variable's version is given on by `invalidate`, not by `invalidate_below_version`.
    #[must_use]
    pub fn with_record(
        mut self,
        path: impl Into<String>,
        fields: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let fields = fields.into_iter().map(Into::into).collect();
        self.records.push((path.into(), fields));
        self
    }

    /// Reads each value together with the number of its version: for a service that must not go back to an older value when a follower
    /// is behind. It costs a second request for each read, and names are not read together. Without it a value's
    /// version is a mark without an order.
    #[must_use]
    pub fn with_versions(mut self) -> Self {
        self.with_versions = true;
        self
    }

    /// Reads many names by `POST /secrets/values`, which Conjur Cloud and its Edge have and other servers do not: up to 250 in one
    /// request, each with an answer of its own. It is asked for where [`ConjurTarget::with_api_prefix`] says.
    #[must_use]
    pub fn with_saas_batches(mut self) -> Self {
        self.batches = Batches::Saas;
        self
    }

    /// Lets the backend log in as `admin`, whose token may do anything. A warning is logged when it is built.
    #[must_use]
    pub fn dangerous_allow_admin(mut self) -> Self {
        self.allow_admin = true;
        self
    }

    /// The most bytes that one value may have; 64 KiB by default, at least 1. A larger one is
    /// [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded). More than 1 MiB needs a larger
    /// [body limit](Self::with_body_limit), too.
    #[must_use]
    pub fn with_value_limit(mut self, bytes: usize) -> Self {
        self.value_limit = bytes;
        self
    }

    /// The most bytes that one answer may have; 1 MiB by default. A larger one is
    /// [`ErrorKind::Malformed`](secret_resolver::ErrorKind::Malformed).
    #[must_use]
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.limits.body_limit = bytes;
        self
    }

    /// How many connections to each endpoint are open at a time as a rule, from 1 to 1,024; 8 by default.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// The bound on connecting, TLS included; 2 s by default.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.limits.connect_timeout = timeout;
        self
    }

    /// The bound on one exchange, to the last byte of its answer; 4 s by default.
    #[must_use]
    pub fn with_response_timeout(mut self, timeout: Duration) -> Self {
        self.limits.response_timeout = timeout;
        self
    }

    /// Checks everything and builds the backend. Nothing is sent, and no file of a credential is read. Works outside a runtime; the
    /// backend's futures need one of tokio's with its I/O driver.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`](secret_resolver::ErrorKind::Misconfigured) for an endpoint that is not an origin, for authorities
    /// that cannot be read, for an account with a slash, for a login, service, prefix or alias that is not one, for the administrator's
    /// login, for a login by certificate without a client certificate, for a bound of zero, or where the transport cannot be built;
    /// [`ErrorKind::Unauthenticated`](secret_resolver::ErrorKind::Unauthenticated) for an empty credential;
    /// [`ErrorKind::Overloaded`](secret_resolver::ErrorKind::Overloaded) when the clock's thread cannot be started.
    pub fn build(self) -> Result<ConjurBackend, Error> {
        let ConjurTarget {
            endpoints,
            trust,
            certificate,
            account,
            base,
            auth,
        } = self.target;
        let endpoints: Vec<_> = endpoints
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(error::ours)?;
        let trust = trust.map_err(error::ours)?;
        let is_wrong = |text: &str| {
            text.is_empty()
                || matches!(text, "." | "..")
                || text.contains(['/', ':', ','])
                || text.chars().any(char::is_control)
        };
        if is_wrong(&account) {
            return Err(error::misconfigured(
                "the account is empty, '.' or '..', or has a '/', ':', ',' or a control character",
            ));
        }
        if self.value_limit == 0 || self.limits.body_limit == 0 {
            return Err(error::misconfigured(
                "a bound of zero lets no value through",
            ));
        }
        if self.limits.body_limit < self.value_limit {
            return Err(error::misconfigured(
                "with_body_limit leaves no room for a value of with_value_limit; raise it",
            ));
        }
        auth.check(certificate.is_some(), self.allow_admin)
            .map_err(error::ours)?;
        let names = Names::new(self.prefix, self.aliases, self.records)?;
        let clock = match self.clock {
            Some(clock) => clock,
            None => Arc::new(SystemClock::shared().map_err(error::ours)?),
        };
        let mut http =
            transport::Client::builder(trust, Arc::clone(&clock)).with_limits(self.limits);
        for endpoint in &endpoints {
            http = http.allow(endpoint.clone());
        }
        if let Some(source) = certificate {
            http = http.with_client_certificate(source);
        }
        let http = http.build().map_err(error::ours)?;
        let endpoints = Endpoints::new(http, endpoints).map_err(error::ours)?;
        if self.allow_admin {
            report(|| {
                tracing::warn!(
                    backend = error::BACKEND,
                    "dangerous: the administrator may log in here, whose token may do anything"
                );
            });
        }
        let conjur = Conjur {
            client: Client::new(endpoints, base, account, self.batches),
            auth,
            allow_admin: self.allow_admin,
            clock: Arc::clone(&clock),
            refused: Mutex::default(),
            seen: Seen::default(),
        };
        Ok(ConjurBackend::new(Parts {
            session: Session::new(conjur, Arc::clone(&clock)),
            names,
            clock,
            with_versions: self.with_versions,
            value_limit: self.value_limit,
            bad: Bad::default(),
        }))
    }
}

impl fmt::Debug for ConjurTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConjurTarget")
            .field("endpoints", &self.endpoints)
            .field("account", &self.account)
            .field("base", &self.base)
            .field("auth", &self.auth)
            .field("client_certificate", &self.certificate.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConjurBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConjurBuilder")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}
