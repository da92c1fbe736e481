//! The backend itself: a name to a path, a path to a request, an answer to a record.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use secret_resolver::backend::{
    ExcessFuture, Located, NameRef, Request, ResolveFuture, ShutdownFuture,
};
use secret_resolver::{Address, Error, IdentityStatus, Moment, Record, SecretResolver, Version};
use secret_resolver_session::{Attempt, Session, Verdict};
use secret_resolver_transport::{Method, Reply};

use crate::alias::Names;
use crate::answers::{self, Asked};
use crate::auth::Vault;
use crate::client::{Ask, Client};
use crate::config::{VaultBuilder, VaultTarget};
use crate::error;
use crate::path::encode;
use crate::wire;

/// Secrets of one KV v2 store of Vault or OpenBao. A clone shares the login and the connections.
///
/// Each read is one request for the whole record; a login comes first when no token is live. On
/// its own it keeps nothing, retries only what its docs say and bounds only its exchanges:
/// put it into a [`Resolver`](https://docs.rs/secret-resolver) for the rest.
///
/// # Errors
/// | the store says | kind |
/// |---|---|
/// | 404 of the KV store, a deleted or destroyed version, no such field | `NotFound` |
/// | 403, and the token lives | `Denied` |
/// | 403 or 400 at login; a plain token that is dead; a credential's file that is missing | `Unauthenticated` |
/// | it demands a client certificate, or does not take this one; the one to show has ended | `Unauthenticated` |
/// | 404 of the routing: no such mount or namespace; 400 | `Misconfigured` |
/// | 429 | `Throttled`, with the store's `Retry-After` |
/// | 5xx (sealed, no leader), 408, 412, 421, no connection; a KV store that is being upgraded | `Unavailable` |
/// | 307 of the endpoint that a request was directed to, where there are others | `Unavailable` |
/// | nothing or not all in time | `Timeout` |
/// | any other redirect; one from every endpoint, where none was chosen; a certificate that is not trusted | `Refused` |
/// | a value over the bound | `Overloaded` |
/// | anything else: other JSON, no JSON (a proxy's page), an unknown status | `Malformed` |
///
/// While logins are held back after a refusal, each get is answered with that refusal.
///
/// # Cancel safety
/// A future may be dropped at any time; a login that it waits for goes on for others.
///
/// ```no_run
/// use secret_resolver::{SecretBuf, SecretResolverExt};
/// use secret_resolver_transport::{Origin, Trust};
/// use secret_resolver_vault::{Auth, Credential, VaultBackend, VaultTarget};
///
/// # async fn example() -> Result<(), secret_resolver::Error> {
/// let role_id = Credential::value(SecretBuf::from_slice(b"2caefc0d-d83c-646d-5e90-62371d22645a")?);
/// let target = VaultTarget::new(
///     Origin::parse("https://vault.example:8200")?,
///     Trust::from_file("/etc/ssl/vault-ca.pem")?,
///     Auth::approle(role_id, Credential::file("/run/secrets/secret-id")),
/// );
/// let vault = VaultBackend::builder(target).build()?;
/// let password = vault.get("prod/db#password").await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct VaultBackend(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) session: Session<Vault>,
    pub(crate) names: Names,
    /// As policies name it.
    pub(crate) mount: Box<str>,
    /// `/v1/{mount}/data/`, encoded.
    pub(crate) data: String,
    /// Whether the leader must answer every read.
    pub(crate) of_leader: bool,
    /// Whether reads are spread over the endpoints.
    pub(crate) spread: bool,
    pub(crate) value_limit: usize,
}

/// What a backend has done beside reads, since it was built.
///
/// ```
/// # fn gauge(_: &str, _: u64) {}
/// fn export(backend: &secret_resolver_vault::VaultBackend) {
///     let stats = backend.stats();
///     gauge("vault_logins", stats.logins);
///     gauge("vault_renewals", stats.renewals);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultStats {
    /// Logins that were sent; for a plain token, lookups of how long it lives.
    pub logins: u64,
    /// Renewals that the store granted.
    pub renewals: u64,
    /// Lookups that separate a denial from a dead token.
    pub lookups: u64,
}

impl VaultBackend {
    /// Starts a backend for `target`.
    #[must_use]
    pub fn builder(target: VaultTarget) -> VaultBuilder {
        VaultBuilder::new(target)
    }

    /// What was done beside reads: for metrics and tests.
    #[must_use]
    pub fn stats(&self) -> VaultStats {
        let stats = self.0.session.stats();
        VaultStats {
            logins: stats.logins,
            renewals: stats.renewals,
            lookups: stats.lookups,
        }
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl SecretResolver for VaultBackend {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        ResolveFuture::new(async move {
            let attempt = self.0.session.attempt(request.deadline());
            let read = pin!(self.0.read(request, &attempt));
            attempt.run(read).await.map_err(error::ours)
        })
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        self.0.names.locate(name)
    }

    fn below<'a>(&'a self, prefix: NameRef<'a>) -> Vec<Address<'a>> {
        self.0.names.below(prefix)
    }

    fn endpoints(&self) -> usize {
        self.0.client().endpoints().origins().len()
    }

    fn spreads(&self) -> bool {
        self.0.spread
    }

    fn excess<'a>(&'a self, names: &'a [NameRef<'a>]) -> ExcessFuture<'a> {
        ExcessFuture::new(async move {
            let attempt = self.0.session.attempt(None);
            let asked = pin!(self.0.excess(names, &attempt));
            attempt.run(asked).await.map_err(error::ours)
        })
    }

    fn identity(&self) -> u64 {
        self.0.session.identity()
    }

    fn origins(&self) -> Vec<String> {
        let origins = self.0.client().endpoints().origins().iter();
        origins.map(ToString::to_string).collect()
    }

    fn login_ends(&self) -> Option<Moment> {
        self.0.session.ends()
    }

    fn identity_status(&self) -> Option<IdentityStatus> {
        self.0.session.store().identity_status()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        ShutdownFuture::new(self.0.session.shutdown(deadline))
    }
}

impl Parts {
    pub(crate) fn client(&self) -> &Client {
        self.session.store().client()
    }

    async fn read(
        &self,
        request: Request<'_>,
        attempt: &Attempt<'_, Vault>,
    ) -> Result<Record, Error> {
        let located = self.names.locate(request.name());
        let target = self.target(located.address().as_str(), request.version())?;
        let mut again = false;
        loop {
            let token = attempt.token(request.endpoint()).await?;
            let sent = self.session.mark();
            let ask = Ask {
                token: Some(token.secret()),
                endpoint: request.endpoint(),
                of_leader: self.of_leader || request.wants_latest(),
                ..Ask::new(Method::Get, &target)
            };
            let reply = self.client().send(ask).await?;
            if reply.status() == 200 {
                token.worked();
                let record = self.record(&reply, request);
                let record = record.map_err(|error| answers::at_place(error, &target, &reply))?;
                return Ok(record.select(located.field()));
            }
            if !answers::is_refusal(&reply, self.session.store().is_inline()) {
                return Err(answers::error_of(Asked::Read, &target, &reply));
            }
            let judged = self.session.judge(&token, sent, reply.endpoint(), again);
            match judged.await {
                Ok(Verdict::Denied) if reply.status() == 403 => {
                    return Err(error::denied(reply.place(&target)));
                }
                // The JWT is good, so it was the request.
                Ok(Verdict::Denied) => {
                    return Err(answers::error_of(Asked::Read, &target, &reply));
                }
                Ok(Verdict::Replaced) => {}
                // Once: a third login would not make a refusal less likely.
                Ok(Verdict::Dead) => again = true,
                Err(error) => {
                    self.client().endpoints().leave_after(&reply);
                    return Err(error);
                }
            }
        }
    }

    fn target(&self, path: &str, version: Option<&Version>) -> Result<String, Error> {
        let mut target = format!("{}{}", self.data, encode(path));
        if let Some(version) = version {
            // The store takes 0 for the current version, which is not what was asked for.
            let number = version
                .as_number()
                .filter(|&number| number > 0)
                .ok_or_else(error::no_such_version)?;
            target.push_str(&format!("?version={number}"));
        }
        Ok(target)
    }

    fn record(&self, reply: &Reply<'_>, request: Request<'_>) -> Result<Record, Error> {
        let record = wire::record(reply.body(), self.value_limit)?;
        if request
            .version()
            .is_some_and(|wanted| wanted != record.version())
        {
            return Err(error::malformed(
                "the store answered another version than the one asked for",
            ));
        }
        if !request.accepts(record.version()) {
            // Perhaps a standby that is behind: another endpoint answers the next attempt.
            self.client().endpoints().leave_after(reply);
        }
        request.admit(record)
    }
}

impl fmt::Debug for VaultBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultBackend")
            .field("data", &self.0.data)
            .field("names", &self.0.names)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
