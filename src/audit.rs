//! What is told of the work: audit events, and metrics where the feature is on.
//!
//! Events go to the target `secret_resolver::audit`: fetches at INFO, refusals and downgrades at
//! WARN, hits at TRACE; what is refused without asking at DEBUG. They name the secret, the backend,
//! the outcome, the version and the time it took; never a value. Metrics carry the outcome; never a
//! name, which would be a label without bound.

use std::sync::atomic::AtomicU64;
#[cfg(feature = "metrics")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::aside::tell;
use crate::error::{Error, ErrorKind};
use crate::foreign::foreign;
use crate::name::{NameRef, SecretName};
use crate::secret::{Freshness, Version};

const TARGET: &str = "secret_resolver::audit";

/// Of nobody's span: many may wait for the fetch. What the backend logs stands inside.
pub(crate) fn fetching(name: NameRef<'_>) -> tracing::Span {
    tracing::info_span!(parent: None, "secret_fetch", %name)
}

/// A get was refused without a fetch: by what the store has said moments ago, by our own bounds, or
/// after shutdown. Quiet, because a loop over one name would fill the log.
pub(crate) fn refused_unasked(name: NameRef<'_>, error: &Error) {
    let kind = error.kind();
    foreign(|| tracing::debug!(target: TARGET, %name, ?kind, "refused without asking"));
}

/// One fetch has ended.
pub(crate) fn fetched(
    name: NameRef<'_>,
    outcome: Result<(&'static str, Version), Error>,
    took: Duration,
) {
    let name = name.to_owned();
    tell(move || fetch_ended(&name, outcome, took));
}

fn fetch_ended(name: &SecretName, outcome: Result<(&'static str, Version), Error>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match &outcome {
        Ok((backend, version)) => {
            tracing::info!(target: TARGET, %name, backend, ?version, micros, "fetched");
        }
        Err(error) => {
            let (kind, backend) = (error.kind(), error.backend());
            if error.is_held_back() {
                // No store was asked: in an outage there are as many as there are gets.
                tracing::debug!(target: TARGET, %name, ?kind, "not asked");
            } else if is_refusal(kind) {
                tracing::warn!(target: TARGET, %name, backend, ?kind, micros, "refused");
            } else {
                tracing::info!(target: TARGET, %name, backend, ?kind, micros, "not fetched");
            }
        }
    }
    #[cfg(feature = "metrics")]
    {
        let kind = outcome.map_or_else(|error| error.kind().as_str(), |_| "ok");
        metrics::counter!("secret_resolver_fetches_total", "outcome" => kind).increment(1);
        metrics::histogram!("secret_resolver_fetch_seconds").record(took);
    }
}

/// A version that went back was believed.
pub(crate) fn created_anew(name: NameRef<'_>) {
    let name = name.to_owned();
    tell(move || {
        tracing::warn!(%name, "a lower version has stayed: taken for a record that was created again");
    });
}

/// A cached value was answered.
pub(crate) fn hit(name: &str) {
    // One load. To ask the subscriber itself would be foreign code outside of `foreign`.
    if tracing::level_filters::LevelFilter::current() >= tracing::Level::TRACE {
        foreign(|| tracing::trace!(target: TARGET, name, "hit"));
    }
}

/// An answer was let through that the primary did not give.
pub(crate) fn downgraded(name: NameRef<'_>, freshness: Freshness, cause: ErrorKind) {
    tracing::warn!(
        target: TARGET,
        %name,
        ?freshness,
        ?cause,
        "the policy let an answer through that the primary did not give"
    );
    #[cfg(feature = "metrics")]
    {
        let how = match freshness {
            Freshness::Fresh => return,
            Freshness::Stale { .. } => "stale",
            Freshness::Fallback => "fallback",
        };
        metrics::counter!("secret_resolver_downgrades_total", "how" => how).increment(1);
    }
}

/// Values were invalidated: one record, a prefix or everything.
pub(crate) fn invalidated(what: &dyn std::fmt::Display, how: &'static str) {
    foreign(|| {
        tracing::info!(target: TARGET, what = %what, how, "invalidated");
        #[cfg(feature = "metrics")]
        metrics::counter!("secret_resolver_invalidations_total", "how" => how).increment(1);
    });
}

/// Hits are counted apart, by thread; what has come together is handed on when something else happens
/// anyway. `told` is how many were handed on before: a process may have several caches.
pub(crate) fn hits(sum: u64, told: &AtomicU64) {
    #[cfg(feature = "metrics")]
    {
        let new = sum.saturating_sub(told.fetch_max(sum, Ordering::Relaxed));
        if new > 0 {
            tell(move || metrics::counter!("secret_resolver_hits_total").increment(new));
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (sum, told);
}

/// The kinds that say that somebody was kept from something.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied | ErrorKind::Refused | ErrorKind::Unauthenticated | ErrorKind::Malformed
    )
}
