//! The assembled resolver: the one place where layers are put in order.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment, SystemClock};
use crate::error::{Error, ErrorKind};
use crate::invalidate::Invalidator;
use crate::layers::{Cache, CacheConfig, Deadline};
use crate::name::{AsName, Located, NameRef};
use crate::policy::Policy;
use crate::resolver::{
    Request, RequireError, Required, ResolveFuture, ResolveManyFuture, SecretResolver,
    SecretResolverExt, ShutdownFuture, ShutdownReport,
};
use crate::secret::Secret;

/// What an application asks for its secrets: a backend behind the default stack of layers.
///
/// Cheap to clone; clones share everything. Needs no runtime: fetches run on a thread of the
/// resolver's own, so that a caller's runtime may be of any kind, blocked, or gone.
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
#[derive(Clone, Debug)]
pub struct Resolver {
    stack: Arc<Stack>,
}

/// Builds a [`Resolver`]; from [`Resolver::builder`].
#[derive(Debug)]
pub struct ResolverBuilder {
    primary: Arc<dyn SecretResolver>,
    clock: Option<Arc<dyn Clock>>,
    cache: CacheConfig,
    deadline: Duration,
    policy: Policy,
}

#[derive(Debug)]
struct Stack {
    layers: Deadline<Cache<Arc<dyn SecretResolver>>>,
    clock: Arc<dyn Clock>,
    policy: Policy,
}

impl Resolver {
    /// Starts a resolver of what `primary` answers.
    pub fn builder(primary: impl SecretResolver) -> ResolverBuilder {
        ResolverBuilder {
            primary: Arc::new(primary),
            clock: None,
            cache: CacheConfig::default(),
            deadline: Duration::from_secs(5),
            policy: Policy::fail_closed(),
        }
    }

    /// The secret of this name, current within its time to live. A cached one costs no allocation.
    ///
    /// # Errors
    /// As the kinds of [`ErrorKind`] say; [`ErrorKind::Timeout`] when the deadline has passed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub fn get<'a, N>(
        &'a self,
        name: &'a N,
    ) -> impl Future<Output = Result<Secret, Error>> + Send + 'a
    where
        N: AsName + ?Sized + Sync,
    {
        self.stack.layers.get(name)
    }

    /// The secrets of these names, in their order; each fails alone.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub fn get_many<'a, N>(
        &'a self,
        names: &'a [N],
    ) -> impl Future<Output = Vec<Result<Secret, Error>>> + Send + 'a
    where
        N: AsName + Sync,
    {
        self.stack.layers.get_many(names)
    }

    /// Checks that all of these names resolve, as a service does when it starts.
    ///
    /// # Errors
    /// One error that lists every name that does not resolve, and why.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub fn require<'a, N>(
        &'a self,
        names: &'a [N],
    ) -> impl Future<Output = Result<Required, RequireError>> + Send + 'a
    where
        N: AsName + Sync,
    {
        self.stack.layers.require(names)
    }

    /// What a rotation signal calls.
    #[must_use]
    pub fn invalidator(&self) -> Invalidator {
        self.stack.layers.inner().invalidator()
    }

    /// The clock that decides its expiries and deadlines.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.stack.clock
    }

    /// What may happen when the primary does not answer.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.stack.policy
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

impl ResolverBuilder {
    /// How long a value is used after the store answered it, less a jitter of up to 10 %. A lease
    /// that ends earlier counts instead. Default 300 s; from 1 s to 24 h.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.cache.ttl = ttl;
        self
    }

    /// How long a `get` may take in all. Default 5 s; the fetch behind it has at most four fifths
    /// of it, so that time is left to act on a failure.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many records are cached at most. Default 10,000.
    #[must_use]
    pub fn with_max_entries(mut self, entries: u32) -> Self {
        self.cache.max_entries = entries;
        self
    }

    /// How many bytes of values are cached at most. Default 16 MiB.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u32) -> Self {
        self.cache.max_bytes = bytes;
        self
    }

    /// How large one record may be. Default 64 KiB.
    #[must_use]
    pub fn with_max_record_bytes(mut self, bytes: u32) -> Self {
        self.cache.max_record_bytes = bytes;
        self
    }

    /// Another clock, such as the manual one of the testing kit. Default: a [`SystemClock`].
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The resolver. Works outside a runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Misconfigured`] when a bound or a time makes no sense;
    /// [`ErrorKind::Overloaded`] when a thread cannot be started.
    pub fn build(mut self) -> Result<Resolver, Error> {
        if self.deadline.is_zero() {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "the deadline of a get must not be zero",
            ));
        }
        // A fetch ends before its callers do, so that they learn why it failed.
        self.cache.flight_budget = self.deadline / 5 * 4;
        let clock: Arc<dyn Clock> = match self.clock.take() {
            Some(clock) => clock,
            None => Arc::new(SystemClock::start()?),
        };
        let stack = assemble(self, Arc::clone(&clock))?;
        Ok(Resolver {
            stack: Arc::new(stack),
        })
    }
}

/// Puts the layers in order, innermost first.
fn assemble(config: ResolverBuilder, clock: Arc<dyn Clock>) -> Result<Stack, Error> {
    // One virtual call, at the edge, so that every layer above is compiled as one.
    let layers: Arc<dyn SecretResolver> = config.primary;
    // The cache shares one fetch among all who wait and gives it its own budget, which no caller
    // shortens.
    let layers = Cache::new(layers, Arc::clone(&clock), config.cache)?;
    // The caller's deadline is outermost: it covers waiting for another's fetch, and ends a wait
    // without ending the fetch.
    let layers = Deadline::new(layers, Arc::clone(&clock), config.deadline);
    Ok(Stack {
        layers,
        clock,
        policy: config.policy,
    })
}

#[deny(clippy::missing_trait_methods)]
impl SecretResolver for Resolver {
    fn resolve<'a>(&'a self, request: Request<'a>) -> ResolveFuture<'a> {
        // Asked at the first poll: an answer that is polled late is not older than its poll.
        ResolveFuture::lazy(&self.stack.layers, request)
    }

    fn resolve_many<'a>(&'a self, requests: &'a [Request<'a>]) -> ResolveManyFuture<'a> {
        ResolveManyFuture::new(async move { self.stack.layers.resolve_many(requests).await })
    }

    fn locate<'a>(&'a self, name: NameRef<'a>) -> Located<'a> {
        self.stack.layers.locate(name)
    }

    fn endpoints(&self) -> usize {
        self.stack.layers.endpoints()
    }

    fn identity(&self) -> u64 {
        self.stack.layers.identity()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.stack.layers.shutdown(deadline)
    }
}
