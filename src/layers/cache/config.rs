//! Bounds and times of a cache.

use std::time::Duration;

use crate::audit::Store;
use crate::error::{Error, ErrorKind};
use crate::name::NameRef;
use crate::rules::ByPrefix;

/// Bounds and times of a [`Cache`](super::Cache).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub(crate) struct CacheConfig {
    /// How long a value is used after the store was asked for it, less a jitter of up to 10 %; a
    /// lease that ends earlier counts instead. Default 300 s; from 1 s to 24 h.
    pub ttl: Duration,
    /// How long one fetch may take. Default 4 s, less than the caller's 5 s.
    pub flight_budget: Duration,
    /// How many records are held at most. Default 10,000.
    pub max_entries: u32,
    /// How many bytes of values are held at most. Default 16 MiB.
    pub max_bytes: u32,
    /// How large one record may be. A larger one is answered as an error, since it could be
    /// neither cached nor bounded. Default 64 KiB.
    pub max_record_bytes: u32,
    /// How many fetches may be in flight at once. Default 16,384.
    pub max_flights: usize,
    /// How long a NotFound or Denied is answered again without asking. Default 5 s, which is also
    /// the most; zero for not at all.
    pub negative_ttl: Duration,
    /// How long after an invalidation an answer that may still be the old value is trusted for a
    /// moment only: a quarter of a second, or as long as the invalidation is past. Default 2 s; at
    /// most 60 s.
    pub settle: Duration,
    /// Bounds of their own for some prefixes.
    pub(super) flights_for: ByPrefix<Option<usize>>,
    pub(super) ttl_for: ByPrefix<Option<Duration>>,
    pub(super) stale: ByPrefix<Option<Duration>>,
    /// What logs and metrics call the store of a name.
    pub(crate) stores: ByPrefix<Store>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            flight_budget: Duration::from_secs(4),
            max_entries: 10_000,
            max_bytes: 16 << 20,
            max_record_bytes: 64 << 10,
            max_flights: 16_384,
            negative_ttl: Self::LONGEST_NEGATIVE,
            settle: Duration::from_secs(2),
            flights_for: ByPrefix::new(None),
            ttl_for: ByPrefix::new(None),
            stale: ByPrefix::new(None),
            stores: ByPrefix::new(Store::new("primary")),
        }
    }
}

impl CacheConfig {
    const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);
    const LONGEST_NEGATIVE: Duration = Duration::from_secs(5);
    const LONGEST_SETTLE: Duration = Duration::from_secs(60);

    /// Another time to live for the names at and below the path `prefix`; the longest prefix
    /// counts. A record has the time of the name that fetched it, under all of its names.
    #[must_use]
    pub(crate) fn with_ttl_for(mut self, prefix: &str, ttl: Duration) -> Self {
        self.ttl_for.set(prefix, Some(ttl));
        self
    }

    /// Lets a value be answered, marked as stale, for up to `limit` past its time to live when the
    /// store is unavailable, times out or throttles. Never past its lease, never after it was
    /// invalidated. Default: not at all. At most 24 h.
    #[must_use]
    pub(crate) fn serve_stale_up_to(mut self, limit: Duration) -> Self {
        self.stale.set_all(Some(limit));
        self
    }

    /// As [`serve_stale_up_to`](Self::serve_stale_up_to), for the names at and below the path
    /// `prefix`; zero for not at all.
    #[must_use]
    pub(crate) fn serve_stale_up_to_for(mut self, prefix: &str, limit: Duration) -> Self {
        self.stale.set(prefix, Some(limit));
        self
    }

    /// Another bound on the fetches for the names at and below the path `prefix`, so that a flood there
    /// takes no place of others.
    pub(crate) fn with_max_flights_for(mut self, prefix: &str, most: usize) -> Self {
        self.flights_for.set(prefix, Some(most));
        self
    }

    /// Which bound the fetches for `name` count for, and how many there may be.
    pub(super) fn bound_of(&self, name: NameRef<'_>) -> (usize, usize) {
        let (bound, most) = self.flights_for.numbered(name.path());
        (bound, most.unwrap_or(self.max_flights))
    }

    pub(super) fn ttl_of(&self, name: NameRef<'_>) -> Duration {
        self.ttl_for.get(name.path()).unwrap_or(self.ttl)
    }

    pub(super) fn store_of(&self, name: NameRef<'_>) -> &Store {
        self.stores.get(name.path())
    }

    pub(super) fn stale_for(&self, name: NameRef<'_>) -> Option<Duration> {
        *self.stale.get(name.path())
    }

    /// How long past its expiry a value may be of use to some name.
    pub(super) fn longest_stale(&self) -> Duration {
        let limits = self.stale.values().flatten();
        limits.max().copied().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.ttl_for.check()?;
        self.stale.check()?;
        let lives = || self.ttl_for.values().flatten().chain([&self.ttl]);
        let possible = |ttl: &Duration| (Duration::from_secs(1)..=Self::LONGEST_TTL).contains(ttl);
        let rule = if !lives().all(possible) {
            "a time to live must be from 1 s to 24 h"
        } else if self.flight_budget.is_zero() {
            "the budget of a flight must not be zero"
        } else if self.max_entries == 0 || self.max_flights == 0 {
            "the bounds on entries and flights must not be zero"
        } else if self.max_record_bytes > self.max_bytes {
            "one record may not be larger than the whole cache: lower with_max_record_bytes, or raise with_max_bytes"
        } else if self.negative_ttl > Self::LONGEST_NEGATIVE {
            "what is not there may be remembered for 5 s at most"
        } else if self.settle > Self::LONGEST_SETTLE {
            "the settle time may be 60 s at most"
        } else if self.longest_stale() > Self::LONGEST_TTL {
            "stale values may be allowed for 24 h at most"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Misconfigured, rule))
    }
}
