//! The assembled resolver: what applications call.
//!
//! What can be set is in `builder`; the one place where layers are put in order is `assemble`.

mod assemble;
mod builder;

pub use builder::ResolverBuilder;

use assemble::Stack;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::fork;
use crate::invalidate::Invalidator;
use crate::layers::{
    BreakerConfig, BreakerMonitor, Cache, CacheConfig, LimitConfig, RetryConfig, Scoped,
    SecretHandle, pass_on,
};
use crate::name::AsName;
use crate::resolver::{
    Request, RequireError, Required, ResolveFuture, ResolveManyFuture, SecretResolver,
    SecretResolverExt, ShutdownFuture, ShutdownReport, required,
};
use crate::rules::ByPrefix;
use crate::secret::Secret;
use crate::status::Status;

/// What an application asks for its secrets: a backend behind the default stack of layers.
///
/// Cheap to clone; clones share everything. Needs no runtime: fetches run on a thread of the
/// resolver's own, so that a caller's runtime may be of any kind, blocked, or gone. A forked child has
/// none of its threads: there every call is refused at once. Build it after daemonizing.
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
        }
    }

    /// The secret of this name, current within its time to live. A cached one costs no allocation.
    ///
    /// # Errors
    /// As the kinds of [`ErrorKind`] say; [`ErrorKind::Timeout`] when the deadline has passed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get<N>(&self, name: &N) -> Result<Secret, Error>
    where
        N: AsName + ?Sized + Sync,
    {
        if self.is_elsewhere() {
            return Err(elsewhere(name));
        }
        // What the cache holds fresh, no layer above it changes.
        match self.cache().peek_text(name.as_text()) {
            Some(record) => record.into_secret(),
            None => SecretResolverExt::get(&*self.stack, name).await,
        }
    }

    /// The secrets of these names, in their order; each fails alone.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get_many<N>(&self, names: &[N]) -> Vec<Result<Secret, Error>>
    where
        N: AsName + Sync,
    {
        SecretResolverExt::get_many(self, names).await
    }

    /// Checks that all of these names resolve, as a service does when it starts. From then on
    /// their records are exempt from eviction, whatever other names are asked for.
    ///
    /// # Errors
    /// One error that lists every name that does not resolve, and why.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn require<N>(&self, names: &[N]) -> Result<Required, RequireError>
    where
        N: AsName + Sync,
    {
        let required = required(self, names, None).await?;
        self.pinned(names, required)
    }

    /// The secrets, their records exempt from eviction. Only once all resolve: names that do not must
    /// not take the places of those that do.
    fn pinned<N: AsName>(&self, names: &[N], required: Required) -> Result<Required, RequireError> {
        let valid = names.iter().filter_map(|name| name.as_name().ok());
        let records = required.secrets().iter().map(Secret::record);
        match self.cache().pin(valid.zip(records)) {
            Ok(()) => Ok(required),
            Err(error) => Err(Required::none(names, error)),
        }
    }

    /// As [`require`](Self::require), asking again every quarter of a second until all resolve or
    /// `limit` is over, for a service that starts together with its store. Only errors that may pass
    /// are waited for, also a credential's file that does not exist yet and a login that is held back; a
    /// denied or missing secret is answered at once, and so is a login that the store refuses now. An open
    /// breaker does not keep it from asking.
    ///
    /// # Errors
    /// As [`require`](Self::require), from the last try.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn require_within<N>(
        &self,
        names: &[N],
        limit: Duration,
    ) -> Result<Required, RequireError>
    where
        N: AsName + Sync,
    {
        let clock = &self.stack.clock;
        let end = clock.now() + limit;
        loop {
            // Asked first: a breaker has a lock, which may be held for ever elsewhere.
            if !self.is_elsewhere() {
                for breaker in &self.stack.breakers {
                    breaker.allow_trial();
                }
            }
            let error = match required(self, names, Some(end)).await {
                Ok(required) => return self.pinned(names, required),
                Err(error) => error,
            };
            let next = clock.now() + Self::REQUIRE_AGAIN;
            if !error.may_pass() || next >= end {
                return Err(error);
            }
            // In a forked child nothing wakes it, and the next try is refused.
            let _ = self.stack.process.here(clock.sleep_until(next)).await;
        }
    }

    /// How long `require_within` waits between two tries.
    const REQUIRE_AGAIN: Duration = Duration::from_millis(250);

    /// The secret of this name if it is cached and within its time; never asks the store and never
    /// waits. For code that is not async, after a `get` or `require` of the same name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it is not cached now, which says nothing about the store;
    /// [`ErrorKind::InvalidName`] when the name breaks the grammar.
    pub fn peek(&self, name: &(impl AsName + ?Sized)) -> Result<Secret, Error> {
        if self.is_elsewhere() {
            return Err(elsewhere(name));
        }
        let name = name.as_name()?;
        let Some(record) = self.cache().peek_any(name) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the secret is not cached now; get it first",
            )
            .with_name(name));
        };
        record.into_secret()
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
    pub async fn handle<N>(&self, name: &N) -> Result<SecretHandle, Error>
    where
        N: AsName + ?Sized + Sync,
    {
        if self.is_elsewhere() {
            return Err(elsewhere(name));
        }
        // Before the get, so that its value is not evicted again before the handle has it.
        let handle = self.cache().handle(name.as_name()?)?;
        self.get(name).await?;
        handle.seen().await
    }

    /// How the resolver is, for a readiness probe and for metrics.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.is_elsewhere() {
            return Status {
                closed: true,
                ..Status::default()
            };
        }
        let (stale_answers, fallback_answers) = self.stack.downgrades.counts();
        Status {
            stale_answers,
            fallback_answers,
            fallback_named: self.stack.layers.inner().is_named(),
            breakers: self
                .stack
                .breakers
                .iter()
                .flat_map(BreakerMonitor::status)
                .collect(),
            ..self.cache().status()
        }
    }

    /// The same resolver for a caller who chooses names and may not leave the path `prefix`: it is
    /// put before every name.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] or [`ErrorKind::InvalidName`] when `prefix` is no path.
    pub fn scoped(&self, prefix: &str) -> Result<Scoped<Self>, Error> {
        Scoped::new(self.clone(), prefix)
    }

    /// What a rotation signal calls.
    #[must_use]
    pub fn invalidator(&self) -> Invalidator {
        self.stack.invalidator.clone()
    }

    /// Whether this is a child of the process that it was built in.
    #[inline]
    fn is_elsewhere(&self) -> bool {
        !self.stack.process.is_this()
    }

    fn cache(&self) -> &Cache<Arc<dyn SecretResolver>> {
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
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Resolver");
        // Layers ask their locks, one of which may be held for ever elsewhere.
        if !self.is_elsewhere() {
            shown.field("stack", &self.stack);
        }
        shown.finish_non_exhaustive()
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
fn elsewhere(name: &(impl AsName + ?Sized)) -> Error {
    match name.as_name() {
        Ok(name) => fork::refused().with_name(name),
        Err(error) => error,
    }
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Resolver {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        // Asked at the first poll: an answer that is polled late is not older than its poll.
        ResolveFuture::lazy(&*self.stack, request)
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        self.stack.resolve_many(requests)
    }

    pass_on!(self => self.stack);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        SecretResolver::shutdown(&*self.stack, deadline)
    }
}

/// The layers in the process in which they were built, and in no other, however long a call waits.
#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Stack {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        let refused = move || Err(elsewhere(&request.name()));
        if !self.process.is_this() {
            return ResolveFuture::ready(refused());
        }
        let answer = self.layers.resolve(request);
        if answer.is_ready() {
            return answer;
        }
        let here = self.process.here(answer);
        ResolveFuture::new(async move { here.await.unwrap_or_else(refused) })
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        let refused = || {
            let names = requests.iter().map(Request::name);
            names.map(|name| Err(elsewhere(&name))).collect()
        };
        // Lazy, as a shutdown is: nothing below takes a lock before the first poll.
        let here = self.process.here(self.layers.resolve_many(requests));
        ResolveManyFuture::new(async move { here.await.unwrap_or_else(refused) })
    }

    pass_on!(self => self.layers, remembers: true);

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        let refused = || ShutdownReport {
            timed_out: true,
            ..ShutdownReport::default()
        };
        let here = self.process.here(self.layers.shutdown(deadline));
        ShutdownFuture::new(async move { here.await.unwrap_or_else(refused) })
    }
}
