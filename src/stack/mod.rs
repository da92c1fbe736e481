//! The assembled resolver: what applications call.
//!
//! What can be set is in `builder`; the one place where layers are put in order is `assemble`.

mod assemble;
mod builder;
mod health;
mod passing;
mod privilege;

pub use builder::ResolverBuilder;

use assemble::Stack;

use std::sync::Arc;
use std::time::Duration;

use crate::blocking::block_on;
use crate::clock::Clock;
use crate::error::Error;
// For links in the documentation alone.
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::fork;
use crate::invalidate::Invalidator;
use crate::layers::{
    BreakerConfig, Cache, CacheConfig, LimitConfig, RetryConfig, Scope, Scoped, SecretHandle,
};
use crate::name::{NameRef, SecretName};
use crate::resolver::{
    Request, RequireError, Required, SecretResolver, SecretResolverExt, ShutdownReport, field_of,
    named, required,
};
use crate::rules::ByPrefix;
use crate::secret::{Record, Secret, Version};

/// What an application asks for its secrets: a backend behind the default stack of layers.
///
/// Cheap to clone; clones share everything. Needs no runtime: fetches run on a few threads that all
/// resolvers of the process share, so that a caller's runtime may be of any kind, blocked, or gone. A forked
/// child has none of these threads: there every call is refused at once. Build it after daemonizing.
///
/// In the destructor of a thread-local what is cached is answered, and what would have to be waited for is
/// [`ErrorKind::Refused`]. A resolver may be dropped there, too.
///
/// # Cancel safety
/// Every future may be dropped at any time; a fetch that others wait for goes on.
///
/// # Security
/// Fails closed: nothing is answered that the backend did not answer within its time to live.
///
/// ```
/// use std::sync::Arc;
/// use secret_resolver::{ExposeSecret, Resolver, testing::MockBackend};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backend = MockBackend::new().with_value("prod/db#password", "hunter2");
/// let resolver = Resolver::builder(backend).build()?;
/// let password = resolver.get("prod/db#password").await?;
/// assert_eq!(password.expose_secret(), b"hunter2");
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct Resolver {
    stack: Arc<Stack>,
    scope: Option<Scoped<Arc<Stack>>>,
}

impl Resolver {
    /// Starts a resolver of what `primary` answers.
    pub fn builder(primary: impl SecretResolver) -> ResolverBuilder {
        ResolverBuilder {
            primary: Arc::new(primary),
            clock: None,
            cache: CacheConfig::default(),
            deadline: Duration::from_secs(5),
            routes: Vec::new(),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
            limit: ByPrefix::new(LimitConfig::default()),
            fallbacks: ByPrefix::new(None),
            on_downgrade: None,
            least_privilege: false,
        }
    }

    /// The secret of this name, current within its time to live. A cached one costs no allocation.
    ///
    /// # Errors
    /// As the kinds of [`ErrorKind`] say; [`ErrorKind::Timeout`] when the deadline has passed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get(&self, name: &str) -> Result<Secret, Error> {
        if self.is_elsewhere() {
            return Err(elsewhere(name));
        }
        if self.scope.is_some() {
            return SecretResolverExt::get(self, name).await;
        }
        // What the cache holds fresh, no layer above it changes.
        match self.cache().peek_text(name) {
            Some(record) => match record.into_secret() {
                Ok(secret) => Ok(secret),
                // The long way, for an error that says which field is missing.
                Err(_) => SecretResolverExt::get(&*self.stack, name).await,
            },
            None => SecretResolverExt::get(&*self.stack, name).await,
        }
    }

    /// As [`get`](Self::get), for code that is not async: it blocks the thread until the answer or the
    /// deadline (5 s by default). It works on every thread, even on one of an async runtime, whose other
    /// tasks then wait. Use `get` there. Not in the code of a backend: on the thread of its own store it waits
    /// for itself, until the deadline.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_blocking(&self, name: &str) -> Result<Secret, Error> {
        block_on(self.get(name))
    }

    /// The secrets of these names, in their order; each fails alone.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get_many(&self, names: &[impl AsRef<str> + Sync]) -> Vec<Result<Secret, Error>> {
        SecretResolverExt::get_many(self, names).await
    }

    /// All fields of the record at `path`: of one version, and fetched together. A name without its
    /// field, as `prod/db`. A store without records, such as the environment, answers its one value.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ErrorKind::InvalidName`] when a field is named.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get_record(&self, path: &str) -> Result<Record, Error> {
        SecretResolverExt::get_record(self, path).await
    }

    /// The secret of this name in one given version, as far as the store still has it. It is neither
    /// cached nor answered from the cache.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`ErrorKind::NotFound`] when the store does not have that version.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get_version(&self, name: &str, version: &Version) -> Result<Secret, Error> {
        let name = NameRef::parse(name)?;
        let request = Request::new(name).with_version(version);
        let answer = self.resolve(request).await;
        let answer = answer.and_then(|record| field_of(self, name, record));
        answer.map_err(|error| named(error, name))
    }

    /// Checks that all of these names resolve, as a service does when it starts. From then on
    /// their records are exempt from eviction, whatever other names are asked for.
    ///
    /// Then it asks each store what its identity may do beyond reading what was required so far: change it, see other
    /// secrets, anything. What it finds is a warning in the log, or an error with
    /// [`ResolverBuilder::require_least_privilege`]. It is asked once for each name and login, and may take two seconds more.
    ///
    /// # Errors
    /// One error that lists every name that does not resolve, and why.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn require(
        &self,
        names: &[impl AsRef<str> + Sync],
    ) -> Result<Required, RequireError> {
        let required = required(self, names, None).await?;
        self.kept(names, required).await
    }

    /// As [`require`](Self::require), for code that is not async. See
    /// [`get_blocking`](Self::get_blocking).
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub fn require_blocking(
        &self,
        names: &[impl AsRef<str> + Sync],
    ) -> Result<Required, RequireError> {
        block_on(self.require(names))
    }

    /// The secrets, their records exempt from eviction. Only once all resolve: names that do not must
    /// not take the places of those that do.
    async fn kept(
        &self,
        names: &[impl AsRef<str>],
        required: Required,
    ) -> Result<Required, RequireError> {
        let keep = async {
            let full = required.names().map(|name| self.full(name.borrowed()));
            let full: Vec<_> = full.collect::<Result<_, Error>>()?;
            let checked = self.least_privilege(full.clone()).await;
            // The caller of a scope does not see where the secrets are.
            checked.map_err(|error| match self.scope {
                Some(_) => error.without_detail(),
                None => error,
            })?;
            let records = required.secrets().map(Secret::record);
            let full = full.iter().map(SecretName::borrowed);
            self.cache().pin(full.zip(records))
        };
        match keep.await {
            Ok(()) => Ok(required),
            Err(error) => Err(Required::none(names, error)),
        }
    }

    /// As [`require`](Self::require), asking again every quarter of a second until all resolve or
    /// `limit` is over, for a service that starts together with its store. Only errors that may pass
    /// are waited for, including a credential's file that does not exist yet and a login that is held back; a
    /// denied or missing secret is answered at once, and so is a login that the store refuses now. An open
    /// breaker does not keep it from asking.
    ///
    /// # Errors
    /// As [`require`](Self::require), from the last try.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn require_within(
        &self,
        names: &[impl AsRef<str> + Sync],
        limit: Duration,
    ) -> Result<Required, RequireError> {
        let clock = &self.stack.clock;
        let end = clock.now() + limit;
        loop {
            // Asked first: a breaker has a lock, which may be held for ever elsewhere.
            if !self.is_elsewhere() {
                for store in &self.stack.stores {
                    store.breaker.allow_trial();
                }
            }
            let kept = match required(self, names, Some(end)).await {
                Ok(required) => self.kept(names, required).await,
                Err(error) => Err(error),
            };
            let error = match kept {
                Ok(required) => return Ok(required),
                Err(error) => error,
            };
            let next = clock.now() + Self::REQUIRE_AGAIN;
            if !error.may_pass() || next >= end {
                return Err(error);
            }
            // In a forked child nothing wakes it, and the next try is refused.
            let _ = self.stack.process.here(clock.pause_until(next)).await;
        }
    }

    /// How long `require_within` waits between two tries.
    const REQUIRE_AGAIN: Duration = Duration::from_millis(250);

    /// The secret of this name if it is cached and within its time; never asks the store and never
    /// waits. For code that is not async, after a `get` or `require` of the same name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not cached now, which says nothing about the store;
    /// [`ErrorKind::Closed`] after a shutdown; [`ErrorKind::InvalidName`] when the name breaks the
    /// grammar.
    pub fn peek(&self, name: &str) -> Result<Secret, Error> {
        if self.is_elsewhere() {
            return Err(elsewhere(name));
        }
        let name = NameRef::parse(name)?;
        let record = match self.full(name) {
            Ok(full) => self.cache().peek(full.borrowed()),
            Err(error) => return Err(error),
        };
        let answer = record.ok_or_else(|| self.cache().not_cached());
        let answer = answer.and_then(|record| field_of(self, name, record));
        answer.map_err(|error| error.with_name(name))
    }

    /// A handle on this secret, which is current when it is returned and is kept so in the
    /// background until its last clone is dropped. Until then its record is exempt from eviction.
    ///
    /// # Errors
    /// As [`get`](Self::get), by which the first value is fetched; [`ErrorKind::Overloaded`] when
    /// half of the entries are exempt from eviction already.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn handle(&self, name: &str) -> Result<SecretHandle, Error> {
        if self.is_elsewhere() {
            return Err(elsewhere(name));
        }
        let asked = NameRef::parse(name)?;
        // Before the get, so that its value is not evicted again before the handle has it.
        let handle = self.cache().handle(self.full(asked)?, asked)?;
        self.get(name).await?;
        handle.seen().await
    }

    /// The name in full: with the path of the scope, if there is one.
    fn full(&self, name: NameRef<'_>) -> Result<SecretName, Error> {
        match &self.scope {
            Some(scoped) => scoped.full(name),
            None => Ok(name.to_owned()),
        }
    }

    /// The same resolver for a caller that chooses names and may not leave the path `prefix`, which is
    /// put before every name: in the scope `tenants/42`, `db#password` is `tenants/42/db#password`. Errors
    /// name a secret as it was asked for. Each call allocates the full name, even for a cached secret.
    ///
    /// All else is shared: the cache, `status`, and the shutdown, which ends the resolver for everybody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidName`] when `prefix` is not a path. The error does not quote it.
    ///
    /// # Security
    /// A scope holds only where two names are two secrets. A read is [`ErrorKind::Misconfigured`] where the
    /// store could mean the same secret by a name outside: the environment has `tenants/x/y` and `tenants/x_y`
    /// in one variable, unless its names are listed. A store that takes `A` for `a` takes the scopes
    /// `tenants/A` and `tenants/a` for one.
    ///
    /// The path is the boundary: text that chooses a part of *it* chooses the scope. Check that an id
    /// taken from a request is one segment before it goes into the path: `42/admin` is a valid path. It is
    /// not the store's access control, which decides by the identity of this process.
    ///
    /// ```
    /// use secret_resolver::{Resolver, testing::MockBackend};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let backend = MockBackend::new().with_value("tenants/42/db#password", "hunter2");
    /// let tenant = Resolver::builder(backend).build()?.scoped("tenants/42")?;
    /// assert_eq!(tenant.get("db#password").await?.expose_str()?, "hunter2");
    /// assert!(tenant.get("../43/db#password").await.is_err());
    /// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
    /// ```
    pub fn scoped(&self, prefix: &str) -> Result<Self, Error> {
        let scope = match &self.scope {
            Some(scoped) => scoped.scope().within(prefix)?,
            None => Scope::new(prefix)?,
        };
        Ok(Self {
            stack: Arc::clone(&self.stack),
            scope: Some(Scoped::new(Arc::clone(&self.stack), scope)),
        })
    }

    /// What a rotation signal calls. That of a scope invalidates names of the scope alone.
    #[must_use]
    pub fn invalidator(&self) -> Invalidator {
        let scope = self.scope.as_ref().map(|scoped| scoped.scope().clone());
        self.stack.invalidator.clone().within(scope)
    }

    /// Whether this is a child of the process that it was built in.
    #[inline]
    fn is_elsewhere(&self) -> bool {
        !self.stack.process.is_this()
    }

    fn cache(&self) -> &Cache {
        self.stack.layers.inner().primary()
    }

    /// The clock that decides its expiries and deadlines.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.stack.clock
    }

    /// Refuses new gets, ends fetches, wipes what is cached and revokes at the store what was
    /// issued for this resolver, for at most `limit`.
    ///
    /// # Cancel safety
    /// Dropping it after the first poll only ends the wait for revocations.
    pub async fn shutdown_within(&self, limit: Duration) -> ShutdownReport {
        let deadline = self.stack.clock.now() + limit;
        SecretResolver::shutdown(self, deadline).await
    }

    /// As [`shutdown_within`](Self::shutdown_within), for code that is not async. See
    /// [`get_blocking`](Self::get_blocking).
    pub fn shutdown_blocking(&self, limit: Duration) -> ShutdownReport {
        block_on(self.shutdown_within(limit))
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // In a forked child a lock may be held for ever: what would take one to end stays as it is.
        if self.is_elsewhere() {
            std::mem::forget(Arc::clone(&self.stack));
        }
    }
}

#[cold]
fn elsewhere(name: &str) -> Error {
    match NameRef::parse(name) {
        Ok(name) => fork::refused().with_name(name),
        Err(error) => error,
    }
}
