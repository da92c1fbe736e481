//! The assembled resolver: the one place where layers are put in order.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment, SystemClock};
use crate::downgrade::{Callback, Downgrade, Downgrades};
use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
use crate::invalidate::Invalidator;
use crate::layers::{
    Breaker, BreakerConfig, BreakerMonitor, Cache, CacheConfig, Deadline, Fallback, Limit,
    LimitConfig, Retry, RetryConfig, Route, Scoped, SecretHandle,
};
use crate::name::{AsName, Located, NameRef};
use crate::race::race;
use crate::resolver::{
    Request, RequireError, Required, ResolveFuture, ResolveManyFuture, SecretResolver,
    SecretResolverExt, ShutdownFuture, ShutdownReport,
};
use crate::rules::ByPrefix;
use crate::secret::Secret;
use crate::status::Status;

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
pub struct ResolverBuilder {
    primary: Arc<dyn SecretResolver>,
    clock: Option<Arc<dyn Clock>>,
    cache: CacheConfig,
    deadline: Duration,
    routes: Vec<(String, Arc<dyn SecretResolver>)>,
    retry: RetryConfig,
    breaker: BreakerConfig,
    limit: LimitConfig,
    fallbacks: ByPrefix<Option<Arc<dyn SecretResolver>>>,
    on_downgrade: Option<Box<Callback>>,
}

struct Stack {
    layers: Deadline<Fallback>,
    clock: Arc<dyn Clock>,
    downgrades: Downgrades,
    invalidator: Invalidator,
    breakers: Vec<BreakerMonitor>,
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
            limit: LimitConfig::default(),
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
        // What the cache holds fresh, no layer above it changes.
        match self.cache().peek_text(name.as_text()) {
            Some(record) => record.into_secret(),
            None => self.stack.layers.get(name).await,
        }
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
        // Before the fetch: a value that lands is safe at once.
        for (position, name) in names.iter().enumerate() {
            // A name that is none gets its error from the get.
            if let Ok(name) = name.as_name() {
                let failed = |error| Required::none(names.len(), position, name, error);
                self.cache().pin(name).map_err(failed)?;
            }
        }
        self.stack.layers.require(names).await
    }

    /// As [`require`](Self::require), asking again until all resolve or `limit` is over, for a
    /// service that starts together with its store. Only errors that may pass are waited for; a
    /// denied or missing secret is answered at once.
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
            let error = match self.require(names).await {
                Ok(required) => return Ok(required),
                Err(error) => error,
            };
            let next = clock.now() + Self::REQUIRE_AGAIN;
            if !error.may_pass() || next >= end {
                return Err(error);
            }
            clock.sleep_until(next).await;
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
    /// background until its last clone is dropped.
    ///
    /// # Errors
    /// As [`get`](Self::get), by which the first value is fetched.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn handle<N>(&self, name: &N) -> Result<SecretHandle, Error>
    where
        N: AsName + ?Sized + Sync,
    {
        self.get(name).await?;
        let mut handle = self.cache().handle(name.as_name()?);
        // The job has only to find what the get has brought.
        let late = self
            .stack
            .clock
            .sleep_until(self.stack.clock.now() + HANDLE_WAIT);
        let late = async {
            late.await;
            Ok(())
        };
        race(handle.changed(), late).await?;
        handle.secret().map(|_| handle)
    }

    /// How the resolver is, for a readiness probe and for metrics.
    #[must_use]
    pub fn status(&self) -> Status {
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

impl ResolverBuilder {
    /// How long a value is used after the store answered it, less a jitter of up to 10 %. A lease
    /// that ends earlier counts instead. Default 300 s; from 1 s to 24 h.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.cache.ttl = ttl;
        self
    }

    /// Another time to live for the names at and below the path `prefix`; the longest prefix
    /// counts. A record has the time of the name that fetched it, under all of its names.
    #[must_use]
    pub fn with_ttl_for(mut self, prefix: &str, ttl: Duration) -> Self {
        self.cache = self.cache.with_ttl_for(prefix, ttl);
        self
    }

    /// Asks `store` for the names at and below the path `prefix`, and never the primary; the
    /// longest prefix counts. Each store has a breaker and a limit of its own.
    #[must_use]
    pub fn with_route(mut self, prefix: &str, store: impl SecretResolver) -> Self {
        self.routes.push((prefix.to_owned(), Arc::new(store)));
        self
    }

    /// How often a fetch that fails for a passing reason is attempted within its budget, the first
    /// time included. Default 3; from 1 to 10. Back-offs pass on the resolver's clock: on a manual
    /// one they wait for the test, which may rather want 1.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.retry.max_attempts = attempts;
        self
    }

    /// All of the bounds and times of retries.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryConfig) -> Self {
        self.retry = retry;
        self
    }

    /// When an endpoint that fails is left alone, and for how long.
    #[must_use]
    pub fn with_breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = breaker;
        self
    }

    /// How many requests a store has at once, and how many wait. Default 64 and 16,384.
    #[must_use]
    pub fn with_limit(mut self, limit: LimitConfig) -> Self {
        self.limit = limit;
        self
    }

    /// Lets a value be answered, marked as stale, for up to `limit` past its time to live when the
    /// store is unavailable, times out or throttles. Never past its lease, never after it was
    /// invalidated. Default: not at all. At most 24 h.
    #[must_use]
    pub fn serve_stale_up_to(mut self, limit: Duration) -> Self {
        self.cache = self.cache.serve_stale_up_to(limit);
        self
    }

    /// As [`serve_stale_up_to`](Self::serve_stale_up_to), for the names at and below the path
    /// `prefix`; zero for not at all.
    #[must_use]
    pub fn serve_stale_up_to_for(mut self, prefix: &str, limit: Duration) -> Self {
        self.cache = self.cache.serve_stale_up_to_for(prefix, limit);
        self
    }

    /// Asks `fallback` when the store is unavailable or times out, and no stale value is allowed.
    /// Its answer is marked, and kept for 2 s at most. Default: nobody is asked.
    ///
    /// # Security
    /// Whoever can cut the store off makes the fallback the source of the secret.
    #[must_use]
    pub fn dangerous_fallback_to(mut self, fallback: impl SecretResolver) -> Self {
        self.fallbacks.set_all(Some(Arc::new(fallback)));
        self
    }

    /// As [`dangerous_fallback_to`](Self::dangerous_fallback_to), for the names at and below the
    /// path `prefix`.
    #[must_use]
    pub fn dangerous_fallback_to_for(
        mut self,
        prefix: &str,
        fallback: impl SecretResolver,
    ) -> Self {
        self.fallbacks.set(prefix, Some(Arc::new(fallback)));
        self
    }

    /// Called for every answer that the policy allowed although the primary did not give it, in
    /// the task of the caller who gets it; so it must be quick. What it panics with is caught.
    #[must_use]
    pub fn on_downgrade(
        mut self,
        callback: impl Fn(&Downgrade<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_downgrade = Some(Box::new(callback));
        self
    }

    /// How long an answer that may still be the old one is distrusted after an invalidation.
    /// Default 2 s; at most 60 s.
    #[must_use]
    pub fn with_settle_time(mut self, settle: Duration) -> Self {
        self.cache.settle = settle;
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
    let ResolverBuilder {
        primary,
        routes,
        retry,
        breaker,
        limit,
        cache,
        deadline,
        fallbacks,
        on_downgrade,
        clock: _,
    } = config;
    let downgrades = Downgrades::new(on_downgrade);
    // Fetches of every cache run on one thread.
    let driver = Arc::new(Driver::start()?);
    let mut breakers = Vec::new();
    let mut guarded = |store: Arc<dyn SecretResolver>| {
        // An attempt has half of the fetch's budget, so that one which hangs leaves time for
        // another. Innermost: it measures the store's time and nothing of ours.
        let attempt = cache.flight_budget / 2;
        let layers = Deadline::new(store, Arc::clone(&clock), attempt);
        // Waiting for a permit is no failure of the store: outside the attempt's time, and below
        // the breaker, which does not count it.
        let mut limit = limit;
        limit.fair_time = limit.fair_time.max(cache.flight_budget / 4);
        let layers = Limit::new(layers, Arc::clone(&clock), limit)?;
        // The breaker counts attempts, and directs each to the next endpoint that answers.
        let layers = Breaker::new(layers, Arc::clone(&clock), breaker)?;
        breakers.push(layers.monitor());
        // Retries go round the breaker, so that the next attempt finds the next endpoint.
        let layers = Retry::new(layers, Arc::clone(&clock), retry)?;
        // One virtual call, at the edge: what is above is compiled as one.
        Ok::<Arc<dyn SecretResolver>, Error>(Arc::new(layers))
    };
    let primary = guarded(primary)?;
    let layers = match routes.is_empty() {
        true => primary,
        false => {
            // Above the guards, so that a store which is away takes no other with it; below the
            // cache, so that there is one.
            let mut route = Route::builder();
            for (prefix, store) in routes {
                route = route.route(prefix, guarded(store)?);
            }
            Arc::new(route.otherwise(primary).build()?)
        }
    };
    // The cache shares one fetch among all who wait and gives it its own budget, which no caller
    // shortens. Stale values are its decision: only it knows what was invalidated.
    let layers = Cache::shared(
        layers,
        Arc::clone(&clock),
        cache,
        Arc::clone(&driver),
        downgrades.clone(),
    )?;
    let mut fences = vec![layers.fence()];
    // The fallback stands outside the cache, so that its answer can neither replace the primary's
    // entry nor hide the primary's error from the decision above.
    fallbacks.check()?;
    let fallbacks = fallbacks.map(|fallback| {
        let Some(fallback) = fallback else {
            return Ok(None);
        };
        tracing::warn!(
            "a dangerous fallback is configured: an outage of the store makes it the source"
        );
        let mut short = CacheConfig::default();
        short.ttl = FALLBACK_TTL;
        // What is left of a caller's deadline after the primary's budget, and no more.
        short.flight_budget = deadline / 5;
        let none = Downgrades::default();
        let cache = Cache::shared(
            fallback,
            Arc::clone(&clock),
            short,
            Arc::clone(&driver),
            none,
        )?;
        fences.push(cache.fence());
        Ok(Some(cache))
    })?;
    let layers = Fallback::new(layers, fallbacks, Arc::clone(&clock), downgrades.clone());
    // The caller's deadline is outermost: it covers waiting for another's fetch and the fallback,
    // and ends a wait without ending the fetch.
    let layers = Deadline::new(layers, Arc::clone(&clock), deadline);
    Ok(Stack {
        layers,
        clock,
        downgrades,
        invalidator: Invalidator::new(fences),
        breakers,
    })
}

/// How long a fallback's answer is kept: enough that an outage does not ask it at every get.
const FALLBACK_TTL: Duration = Duration::from_secs(2);

/// How long a new handle may take to find the value that was just fetched.
const HANDLE_WAIT: Duration = Duration::from_secs(1);

impl fmt::Debug for ResolverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolverBuilder")
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
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

    fn login_ends(&self) -> Option<Moment> {
        self.stack.layers.login_ends()
    }

    fn shutdown(&self, deadline: Moment) -> ShutdownFuture<'_> {
        self.stack.layers.shutdown(deadline)
    }
}
