//! How a resolver is, at one moment.

use crate::clock::Moment;
use crate::layers::BreakerStatus;

/// A snapshot for readiness probes and metrics. It names no secret.
///
/// ```
/// use secret_resolver::{Resolver, testing::MockBackend};
///
/// let resolver = Resolver::builder(MockBackend::new()).build()?;
/// assert_eq!(resolver.status().entries, 0);
/// assert!(resolver.status().last_success.is_none());
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Whether the resolver was shut down.
    pub closed: bool,
    /// When the store last answered a value, on the resolver's clock.
    pub last_success: Option<Moment>,
    /// When the login ends under which the store is asked, where there is one with an end.
    pub login_ends: Option<Moment>,
    /// Whether a policy lets values past their time be answered, for some names at least.
    pub stale_allowed: bool,
    /// Whether a fallback was named, for some names at least.
    pub fallback_named: bool,
    /// Records held now.
    pub entries: usize,
    /// Bytes of values held now.
    pub bytes: usize,
    /// Fetches in flight now.
    pub flights: usize,
    /// The breaker of each endpoint of each store, the primary's first; a store's own before those of
    /// its prefixes with a limit of their own. Reads after a signal have breakers of their own, which are not
    /// shown.
    pub breakers: Vec<BreakerStatus>,
    /// Answers so far from the cache.
    pub hits: u64,
    /// Fetches so far that have ended and for which the store was asked, those that failed included. One that
    /// a breaker refused asked no store.
    pub fetches: u64,
    /// Answers so far that were past their time to live, by `serve_stale_up_to`.
    pub stale_answers: u64,
    /// Answers so far that were a fallback's, by `dangerous_fallback_to`.
    pub fallback_answers: u64,
    /// Values dropped at their expiry while the application still held them: a `Secret` is for one
    /// use.
    pub outlived: u64,
}
