//! What can be set on a resolver, and its defaults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::downgrade::{Callback, Downgrade};
use crate::error::{Error, ErrorKind};
use crate::layers::{BreakerConfig, CacheConfig, LimitConfig, RetryConfig};
use crate::resolver::SecretResolver;
use crate::rules::ByPrefix;

use super::Resolver;
use super::assemble::assemble;

/// Builds a [`Resolver`]; from [`Resolver::builder`].
pub struct ResolverBuilder {
    pub(super) primary: Arc<dyn SecretResolver>,
    pub(super) clock: Option<Arc<dyn Clock>>,
    pub(super) cache: CacheConfig,
    pub(super) deadline: Duration,
    pub(super) routes: Vec<(String, Arc<dyn SecretResolver>)>,
    pub(super) retry: RetryConfig,
    pub(super) breaker: BreakerConfig,
    pub(super) limit: ByPrefix<LimitConfig>,
    pub(super) fallbacks: ByPrefix<Option<Arc<dyn SecretResolver>>>,
    pub(super) on_downgrade: Option<Box<Callback>>,
    pub(super) least_privilege: bool,
}

impl ResolverBuilder {
    /// A shorter deadline leaves no time for an attempt.
    const SHORTEST_DEADLINE: Duration = Duration::from_millis(1);

    /// How long a value is used after the store was asked for it, less a jitter of up to 10 %. A lease
    /// that ends earlier counts instead. Default 300 s; from 1 s to 24 h.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.cache.ttl.set_all(ttl);
        self
    }

    /// Another time to live for the names at and below the path `prefix`; the longest prefix
    /// counts. A record has the time of the name that fetched it, under all of its names.
    #[must_use]
    pub fn with_ttl_for(mut self, prefix: &str, ttl: Duration) -> Self {
        self.cache.ttl.set(prefix, ttl);
        self
    }

    /// Asks `store` for the names at and below the path `prefix`, and never the primary; the
    /// longest prefix counts. Each store has its own breaker and its own limit.
    #[must_use]
    pub fn with_route(mut self, prefix: &str, store: impl SecretResolver) -> Self {
        self.routes.push((prefix.to_owned(), Arc::new(store)));
        self
    }

    /// How often a fetch that fails for a passing reason is attempted within its budget, the first
    /// time included. Default 3; from 1 to 10. Back-offs pass on the resolver's clock: on a strict manual
    /// one they wait for the test, which may prefer 1; any other manual one moves on by itself.
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
        self.limit.set_all(limit);
        self
    }

    /// Their own limit, and with it their own guards, for the names at and below the path `prefix`; the
    /// longest prefix counts. A flood of names there, whatever the store answers, holds up no
    /// others: these names have their own breakers, their own retries, and as many fetches may be in
    /// flight for them as pass the limit and wait for it. The store then has at most the sum of its
    /// limits, and each prefix finds out on its own that the store is away or asks to be left alone.
    #[must_use]
    pub fn with_limit_for(mut self, prefix: &str, limit: LimitConfig) -> Self {
        self.limit.set(prefix, limit);
        self
    }

    /// Lets a value be answered, marked as stale, for up to `limit` past its time to live when the
    /// store is unavailable, times out or throttles. Never past its lease, never after it was
    /// invalidated. Default: not at all. At most 24 h.
    #[must_use]
    pub fn serve_stale_up_to(mut self, limit: Duration) -> Self {
        self.cache.stale.set_all(limit);
        self
    }

    /// As [`serve_stale_up_to`](Self::serve_stale_up_to), for the names at and below the path
    /// `prefix`; zero for not at all.
    #[must_use]
    pub fn serve_stale_up_to_for(mut self, prefix: &str, limit: Duration) -> Self {
        self.cache.stale.set(prefix, limit);
        self
    }

    /// Asks `fallback` when the store is unavailable or times out, and no stale value is allowed.
    /// Its answer is marked, and kept for 2 s at most. Default: nobody is asked.
    ///
    /// # Security
    /// Anyone who can cut the store off makes the fallback the source of the secret.
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
    /// the task of the caller who gets it; so it must be quick. Its panics are caught.
    #[must_use]
    pub fn on_downgrade(
        mut self,
        callback: impl Fn(&Downgrade<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.on_downgrade = Some(Box::new(callback));
        self
    }

    /// Makes [`Resolver::require`] an error where a store's identity may do more than read what is required: change it, see
    /// other secrets, anything; or where the store cannot say it. Without this it is a warning. An attacker
    /// that takes over such a service has all of these rights.
    ///
    /// Require all names in one call: what is required later is another secret until then. The answer may take a minute.
    ///
    /// What is looked for is a list, and is not complete: it finds rights around the declared names, and the usual ways to more rights
    /// (K-03 of the threat model).
    ///
    /// Conjur is asked a small request for each variable and two for each policy above one, Vault and OpenBao one for about 50 names.
    #[must_use]
    pub fn require_least_privilege(mut self) -> Self {
        self.least_privilege = true;
        self
    }

    /// How long an answer that may still be the old one is distrusted after an invalidation.
    /// Default 2 s; at most 60 s.
    #[must_use]
    pub fn with_settle_time(mut self, settle: Duration) -> Self {
        self.cache.settle = settle;
        self
    }

    /// How long a `get` may take in all. Default 5 s, at least 1 ms; the fetch behind it has at
    /// most four fifths of it, so that time is left to act on a failure.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many records are cached at most. Default 10,000; at least 1.
    #[must_use]
    pub fn with_max_entries(mut self, entries: u32) -> Self {
        self.cache.max_entries = entries;
        self
    }

    /// How many bytes of values are cached at most. Default 16 MiB; at least what one record may have, and at
    /// most 4 GiB.
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u32) -> Self {
        self.cache.max_bytes = bytes;
        self
    }

    /// How many fetches may be in flight at once, except those of prefixes with their own limit.
    /// Default 16,384; at least 1.
    #[must_use]
    pub fn with_max_flights(mut self, flights: usize) -> Self {
        self.cache.max_flights.set_all(flights);
        self
    }

    /// How large one record may be. Default 64 KiB; at least 1 byte, and at most what the whole cache may have.
    #[must_use]
    pub fn with_max_record_bytes(mut self, bytes: u32) -> Self {
        self.cache.max_record_bytes = bytes;
        self
    }

    /// Another clock, such as the manual one of the testing kit. Default: the clock that
    /// the resolvers and the backends of the process share.
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
        if self.deadline < Self::SHORTEST_DEADLINE {
            return Err(Error::new(
                ErrorKind::Misconfigured,
                "the deadline of a get is too short: give with_deadline at least 1 ms",
            ));
        }
        // A fetch ends before its callers do, so that they learn why it failed.
        self.cache.flight_budget = self.deadline / 5 * 4;
        let clock: Arc<dyn Clock> = match self.clock.take() {
            Some(clock) => clock,
            None => Arc::new(SystemClock::shared()?),
        };
        let stack = assemble(self, Arc::clone(&clock))?;
        Ok(Resolver {
            stack: Arc::new(stack),
            scope: None,
        })
    }
}

impl fmt::Debug for ResolverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolverBuilder")
            .field("primary", &self.primary)
            .finish_non_exhaustive()
    }
}
