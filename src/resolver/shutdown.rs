//! What a resolver did when it was shut down.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a shutdown ended, wiped and revoked, summed over all layers.
///
/// ```
/// let report = secret_resolver::ShutdownReport::default();
/// assert!(report.is_complete());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Fetches that were in flight and were ended; their waiters got an error of kind `Closed`.
    pub flights_ended: usize,
    /// Cached values that were dropped.
    pub values_dropped: usize,
    /// Of these, values that a clone held by the application still keeps in memory.
    pub values_still_held: usize,
    /// Tokens and leases that were revoked at their store.
    pub revoked: usize,
    /// Tokens and leases that could not be revoked in time; they die with their own life time.
    pub not_revoked: usize,
    /// Whether the deadline passed before every layer was done.
    pub timed_out: bool,
}

/// What [`SecretResolver::shutdown`](crate::SecretResolver::shutdown) returns.
#[must_use = "a future does nothing until it is awaited"]
pub struct ShutdownFuture<'a>(Pin<Box<dyn Future<Output = ShutdownReport> + Send + 'a>>);

impl ShutdownReport {
    /// Whether nothing is left that would have to end by itself.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.values_still_held == 0 && self.not_revoked == 0 && !self.timed_out
    }

    /// The sum of two layers' reports.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.flights_ended += other.flights_ended;
        self.values_dropped += other.values_dropped;
        self.values_still_held += other.values_still_held;
        self.revoked += other.revoked;
        self.not_revoked += other.not_revoked;
        self.timed_out |= other.timed_out;
        self
    }
}

impl<'a> ShutdownFuture<'a> {
    /// A report that is there.
    pub fn ready(report: ShutdownReport) -> Self {
        Self::new(std::future::ready(report))
    }

    /// From any future of a report.
    pub fn new(future: impl Future<Output = ShutdownReport> + Send + 'a) -> Self {
        Self(Box::pin(future))
    }
}

impl Future for ShutdownFuture<'_> {
    type Output = ShutdownReport;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ShutdownReport> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ShutdownFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownFuture").finish_non_exhaustive()
    }
}
