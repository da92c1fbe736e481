//! Bounds and times of a cache.

use std::time::Duration;

use crate::audit::Store;
use crate::error::{Error, ErrorKind};
use crate::rules::ByPrefix;

/// Bounds and times of a [`Cache`](super::Cache).
#[derive(Clone, Debug)]
pub(crate) struct CacheConfig {
    /// How long a value is used after the store was asked for it, less a jitter of up to 10 %; a
    /// lease that ends earlier counts instead. A record has the time of the name that fetched it, under
    /// all of its names. Default 300 s; from 1 s to 24 h.
    pub ttl: ByPrefix<Duration>,
    /// How long past its time to live a value may be answered, marked as stale, when the store is
    /// unavailable, times out or throttles. Never past its lease, never after it was invalidated.
    /// Default zero, for not at all; at most 24 h.
    pub stale: ByPrefix<Duration>,
    /// How long one fetch may take. Default 4 s, less than the caller's 5 s.
    pub flight_budget: Duration,
    /// How many records are held at most. Default 10,000.
    pub max_entries: u32,
    /// How many bytes of values are held at most. Default 16 MiB.
    pub max_bytes: u32,
    /// How large one record may be. A larger one is answered as an error, since it could be
    /// neither cached nor bounded. Default 64 KiB.
    pub max_record_bytes: u32,
    /// How many fetches may be in flight at once. Those of a prefix with a bound of its own take no
    /// place of others. Default 16,384.
    pub max_flights: ByPrefix<usize>,
    /// How long after an invalidation an answer that may still be the old value is trusted for a
    /// moment only: a quarter of a second, or as long as the invalidation is past. Default 2 s; at
    /// most 60 s.
    pub settle: Duration,
    /// Whether metrics count its hits: not those of a fallback, which are exceptions.
    pub counts_hits: bool,
    /// What logs and metrics call the store of a name.
    pub stores: ByPrefix<Store>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            ttl: ByPrefix::new(Duration::from_secs(300)),
            stale: ByPrefix::new(Duration::ZERO),
            flight_budget: Duration::from_secs(4),
            max_entries: 10_000,
            max_bytes: 16 << 20,
            max_record_bytes: 64 << 10,
            max_flights: ByPrefix::new(16_384),
            settle: Duration::from_secs(2),
            counts_hits: true,
            stores: ByPrefix::new(Store::new("primary")),
        }
    }
}

impl CacheConfig {
    const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);
    const LONGEST_SETTLE: Duration = Duration::from_secs(60);

    /// How long past its expiry a value may be of use to some name.
    pub(super) fn longest_stale(&self) -> Duration {
        self.stale.values().max().copied().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.ttl.check()?;
        self.stale.check()?;
        let possible = |ttl: &Duration| (Duration::from_secs(1)..=Self::LONGEST_TTL).contains(ttl);
        let rule = if !self.ttl.values().all(possible) {
            "a time to live must be from 1 s to 24 h"
        } else if self.flight_budget.is_zero() {
            "the budget of a flight must not be zero"
        } else if self.max_entries == 0 || self.max_flights.values().any(|&most| most == 0) {
            "the bounds on entries and flights must not be zero"
        } else if self.max_record_bytes == 0 || self.max_bytes == 0 {
            "the bounds on bytes must not be zero: no record would fit"
        } else if self.max_record_bytes > self.max_bytes {
            "one record may not be larger than the whole cache: lower with_max_record_bytes, or raise with_max_bytes"
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
