//! What is reported about the work: audit events, and metrics where the feature is on.
//!
//! Events go to the target `secret_resolver::audit`: fetches at INFO; those that failed, and answers
//! that only the policy let through, once a second at WARN with a count of the others, which are at
//! INFO, or at DEBUG where no store was asked; hits at TRACE; what is refused without a fetch at DEBUG. They
//! name the secret, the store, the
//! outcome, the version and the time it took; never a value. Metrics carry the store and the outcome;
//! never a name, which would be a label without bound.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
#[cfg(feature = "metrics")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::aside::report;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::foreign::foreign;
use crate::name::{NameRef, SecretName};
use crate::secret::{Freshness, Version};
use crate::seldom::Seldom;

const TARGET: &str = "secret_resolver::audit";

/// In no caller's span: many may wait for the fetch. What the backend logs stands inside.
pub(crate) fn fetching(name: NameRef<'_>) -> tracing::Span {
    tracing::info_span!(parent: None, "secret_fetch", %name)
}

/// A get was refused without a fetch: by what the store has said moments ago, by our own bounds, or
/// after shutdown. Quiet, because a loop over one name would fill the log.
pub(crate) fn refused_unasked(name: NameRef<'_>, error: &Error) {
    let kind = error.kind();
    foreign(|| tracing::debug!(target: TARGET, %name, ?kind, "refused without asking"));
}

/// The store of some names, as logs and metrics call it: `primary`, the prefix of a route, or `fallback`.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    label: Arc<str>,
    failures: Arc<Seldom>,
}

impl Store {
    pub(crate) fn new(label: &str) -> Self {
        Self {
            label: Arc::from(label),
            failures: Arc::default(),
        }
    }

    /// The error, with the store's label where it says only that time ran out: a service may have several.
    pub(crate) fn named_by(&self, error: Error) -> Error {
        let bare = error.backend().is_none() && error.detail().is_none();
        match bare && error.kind() == ErrorKind::Timeout {
            true => error.with_detail(format!("store {}", self.label)),
            false => error,
        }
    }

    /// One fetch has ended, at `now`.
    pub(crate) fn fetched(
        &self,
        name: NameRef<'_>,
        outcome: Result<(&'static str, Version), Error>,
        now: Moment,
        took: Duration,
    ) {
        let (name, label) = (name.to_owned(), Arc::clone(&self.label));
        // Also what this process has decided on its own: a login that is held back is all that there is to see.
        let failed = outcome.is_err();
        let warns = failed.then(|| self.failures.warns(now)).flatten();
        report(move || fetch_ended(&label, &name, outcome, took, warns));
    }
}

fn fetch_ended(
    store: &Arc<str>,
    name: &SecretName,
    outcome: Result<(&'static str, Version), Error>,
    took: Duration,
    warns: Option<u64>,
) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let label: &str = store;
    match &outcome {
        Ok((backend, version)) => {
            tracing::info!(target: TARGET, store = label, %name, backend, ?version, micros, "fetched");
        }
        Err(error) => {
            let (kind, backend) = (error.kind(), error.backend());
            match warns {
                // No store was asked: there are as many as there are gets.
                None if error.is_held_back() => {
                    tracing::debug!(target: TARGET, store = label, %name, ?kind, %error, "not asked");
                }
                None => {
                    tracing::info!(target: TARGET, store = label, %name, backend, ?kind, %error, micros, "not fetched");
                }
                Some(others) => {
                    tracing::warn!(target: TARGET, store = label, %name, backend, ?kind, %error, micros, others, "not fetched");
                }
            }
        }
    }
    #[cfg(feature = "metrics")]
    if was_asked(&outcome) {
        let kind = outcome.map_or_else(|error| error.kind().as_str(), |_| "ok");
        let store = metrics::SharedString::from(Arc::clone(store));
        metrics::counter!("secret_resolver_fetches_total", "store" => store.clone(), "outcome" => kind)
            .increment(1);
        metrics::histogram!("secret_resolver_fetch_seconds", "store" => store).record(took);
    }
}

/// Whether a fetch with this answer asked its store: not where no breaker let it through, nor where its login
/// was held back.
pub(crate) fn was_asked<T>(answer: &Result<T, Error>) -> bool {
    let refused = |error: &Error| error.endpoint().is_none() || error.kind().is_of_access();
    !answer
        .as_ref()
        .is_err_and(|error| error.is_held_back() && refused(error))
}

/// A version that went back was believed.
pub(crate) fn created_anew(name: NameRef<'_>) {
    let name = name.to_owned();
    report(move || {
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
pub(crate) fn downgraded(
    name: NameRef<'_>,
    freshness: Freshness,
    cause: ErrorKind,
    warns: Option<u64>,
) {
    const WHAT: &str = "the policy let an answer through that the primary did not give";
    match warns {
        Some(others) => {
            tracing::warn!(target: TARGET, %name, ?freshness, ?cause, others, "{WHAT}");
        }
        None => tracing::info!(target: TARGET, %name, ?freshness, ?cause, "{WHAT}"),
    }
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

/// The identity of a store may do more than read what was declared.
pub(crate) fn excess(found: &dyn std::fmt::Display) {
    foreign(
        || tracing::warn!(target: TARGET, %found, "the identity at the store may do more than read what is required; narrow its policy"),
    );
}

/// What the identity of a store may do could not be asked.
pub(crate) fn excess_unknown(error: &Error) {
    let kind = error.kind();
    foreign(
        || tracing::warn!(target: TARGET, ?kind, %error, "not known whether the identity at the store may do more than read what is required"),
    );
}

/// The versions of a record were forgotten on purpose.
pub(crate) fn forgot_versions(name: &SecretName, warns: Option<u64>) {
    const WHAT: &str = "forgot the versions seen";
    foreign(|| match warns {
        Some(others) => tracing::warn!(%name, others, "{WHAT}"),
        None => tracing::info!(%name, "{WHAT}"),
    });
}

/// Hits are counted apart, by thread; what was counted is handed on when something else happens
/// anyway. `reported` is how many were handed on before: a process may have several caches.
pub(crate) fn hits(sum: u64, reported: &AtomicU64) {
    #[cfg(feature = "metrics")]
    {
        let new = sum.saturating_sub(reported.fetch_max(sum, Ordering::Relaxed));
        if new > 0 {
            report(move || metrics::counter!("secret_resolver_hits_total").increment(new));
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (sum, reported);
}

/// What is said of a resolver that has ended: it holds nothing, leaves no endpoint alone and has no login.
#[cfg(feature = "metrics")]
pub(crate) fn has_ended(stores: Vec<crate::status::StoreStatus>, now: Moment) {
    holds(0, 0);
    for mut store in stores {
        store.login_ends = None;
        for endpoint in &mut store.endpoints {
            endpoint.breaker = crate::layers::BreakerState::Closed;
        }
        store_is(store, now);
    }
}

/// What each metric counts, and in what, for recorders that show it.
#[cfg(feature = "metrics")]
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    report(|| {
        describe_counter!(
            "secret_resolver_fetches_total",
            Unit::Count,
            "fetches that asked a store and have ended, by their outcome"
        );
        describe_histogram!(
            "secret_resolver_fetch_seconds",
            Unit::Seconds,
            "how long these fetches took"
        );
        describe_counter!(
            "secret_resolver_hits_total",
            Unit::Count,
            "answers from the cache, without those of a fallback's"
        );
        describe_counter!(
            "secret_resolver_downgrades_total",
            Unit::Count,
            "answers that only the policy let through"
        );
        describe_counter!(
            "secret_resolver_invalidations_total",
            Unit::Count,
            "invalidations, by what was named"
        );
        describe_gauge!(
            "secret_resolver_entries",
            Unit::Count,
            "records that the cache holds"
        );
        describe_gauge!(
            "secret_resolver_bytes",
            Unit::Bytes,
            "bytes of values that the cache holds"
        );
        describe_gauge!(
            "secret_resolver_breaker_open",
            Unit::Count,
            "1 while an endpoint is left alone"
        );
        describe_gauge!(
            "secret_resolver_login_seconds",
            Unit::Seconds,
            "how much longer the login lasts; 0 where there is none"
        );
    });
}

/// How often metrics get what is not an event.
#[cfg(feature = "metrics")]
pub(crate) const PERIOD: Duration = Duration::from_secs(5);

/// What the cache holds now.
#[cfg(feature = "metrics")]
pub(crate) fn holds(entries: usize, bytes: usize) {
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
    report(move || {
        metrics::gauge!("secret_resolver_entries").set(entries as f64);
        metrics::gauge!("secret_resolver_bytes").set(bytes as f64);
    });
}

/// The state of one store.
#[cfg(feature = "metrics")]
pub(crate) fn store_is(status: crate::status::StoreStatus, now: Moment) {
    use crate::layers::BreakerState;
    report(move || {
        let store = metrics::SharedString::from(status.name);
        if status.limit_for.is_none() {
            let left = status
                .login_ends
                .map_or(0.0, |ends| ends.since(now).as_secs_f64());
            metrics::gauge!("secret_resolver_login_seconds", "store" => store.clone()).set(left);
        }
        let limit_for = status.limit_for.unwrap_or_default();
        for (number, endpoint) in status.endpoints.into_iter().enumerate() {
            let open = endpoint.breaker != BreakerState::Closed;
            let endpoint = endpoint.origin.unwrap_or_else(|| number.to_string());
            let labels = [
                ("store", store.clone()),
                ("limit_for", limit_for.clone().into()),
                ("endpoint", endpoint.into()),
            ];
            metrics::gauge!("secret_resolver_breaker_open", &labels).set(f64::from(u8::from(open)));
        }
    });
}
