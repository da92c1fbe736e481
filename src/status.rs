//! The state of a resolver at one moment.

use std::fmt;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::BreakerState;

/// A snapshot for readiness probes and metrics. It names no secret.
///
/// ```
/// use secret_resolver::{Resolver, testing::MockBackend};
///
/// let resolver = Resolver::builder(MockBackend::new()).build()?;
/// let status = resolver.status();
/// assert_eq!(status.entries, 0);
/// assert!(status.stores[0].endpoints[0].last_success.is_none());
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// When it was taken, on the resolver's clock, as all moments here: `status.at.since(moment)` is how
    /// long ago one was.
    pub at: Option<Moment>,
    /// Whether the resolver was shut down.
    pub closed: bool,
    /// The stores, the primary first; then those of the routes. Not the fallbacks, which have no guards.
    pub stores: Vec<StoreStatus>,
    /// When a store last answered a value.
    pub last_success: Option<Moment>,
    /// When the login ends under which a store is asked, the soonest of all.
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
    /// Answers so far from the cache.
    pub hits: u64,
    /// Fetches so far that have ended and for which the store was asked, those that failed included. A fetch that
    /// a breaker refused has asked no store.
    pub fetches: u64,
    /// Answers so far that were past their time to live, by `serve_stale_up_to`.
    pub stale_answers: u64,
    /// Answers so far that were a fallback's, by `dangerous_fallback_to`.
    pub fallback_answers: u64,
    /// Values dropped at their expiry while the application still held them: a `Secret` is for one
    /// use.
    pub outlived: u64,
}

/// The state of one store, with the guards before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStatus {
    /// `primary`, or the prefix of the route; also the label of its metrics.
    pub name: String,
    /// The prefix whose names have their own limit and guards; `None` for all other names.
    pub limit_for: Option<String>,
    /// Each endpoint, in the order of the configuration.
    pub endpoints: Vec<EndpointStatus>,
    /// Why the last read was not sent to any endpoint although a breaker let it through: its login is held
    /// back, or a credential is missing. `None` again once the store has answered: a value, or that there is
    /// none, or that it is denied.
    pub held_back: Option<Failure>,
    /// When the login ends under which it is asked. `None` where it needs none, is not logged in, or gives
    /// no end.
    pub login_ends: Option<Moment>,
    /// The identity that proves to it who asks, where something else gives it, such as a SPIFFE agent.
    pub identity: Option<IdentityStatus>,
}

/// The state of an identity that something else gives this process, and changes, such as a SPIFFE agent. It holds no part of a credential.
/// All moments are on the clock of its source, which is the resolver's unless either was given another: `ends.since(status.at)` is the time
/// that is left. [`ready`](crate::Resolver::ready) does not look at it, but at what reads have come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityStatus {
    /// Its name, such as `spiffe://example.org/billing`.
    pub name: String,
    /// When what was given last ends; `None` while there is none.
    pub ends: Option<Moment>,
    /// When something was given last.
    pub last_update: Option<Moment>,
    /// What went wrong last. It stays after a success: compare the moments.
    pub last_failure: Option<Failure>,
}

/// The state of one endpoint. Reads after a signal have their own breakers, which are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Its origin, such as `https://bao.internal:8200`, where the backend has one.
    pub origin: Option<String>,
    /// Whether it is asked.
    pub breaker: BreakerState,
    /// Why reads come to nothing here: the last that was not authenticated, refused (as with a certificate that
    /// is not believed) or misconfigured. `None` again once it has answered: a value, or that there is none, or
    /// that it is denied. A read after a signal that fails so changes nothing.
    pub kept_out: Option<Failure>,
    /// Counted failures since its last sign of life, and names that got nothing useful.
    pub failures: u32,
    /// When it last answered: a value, or that there is none.
    pub last_success: Option<Moment>,
    /// What went wrong here last. It stays after a success: compare the moments. What another endpoint gave is
    /// not here, nor what this process has decided on its own, unless it follows from this one.
    pub last_failure: Option<Failure>,
}

/// A failure of an endpoint, without the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// When.
    pub at: Moment,
    /// The kind of the error.
    pub kind: ErrorKind,
    /// Its text, which says what to do.
    pub what: &'static str,
    /// The status code of the store's answer, if there was one.
    pub status: Option<u16>,
}

impl Status {
    /// The endpoints of all stores.
    pub fn endpoints(&self) -> impl Iterator<Item = &EndpointStatus> {
        self.stores.iter().flat_map(|store| &store.endpoints)
    }

    /// Whether the resolver is open and each store is ready: the readiness that a probe wants.
    /// [`Resolver::ready`](crate::Resolver::ready) also says why not. What happens to the names below a prefix
    /// with its own limit does not count: it is their own affair, and shown in [`stores`](Self::stores).
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.closed && self.away().is_none()
    }

    /// The first store that is not ready.
    pub(crate) fn away(&self) -> Option<&StoreStatus> {
        let mut stores = self.stores.iter();
        stores.find(|store| store.limit_for.is_none() && !store.is_ready())
    }
}

impl StoreStatus {
    /// Whether reads of it are held back by nothing, and an endpoint is asked that keeps none out. So it is for
    /// a store that was not asked yet. Only reads change it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let mut asked = self.asked();
        self.held_back.is_none() && asked.any(|endpoint| endpoint.kept_out.is_none())
    }

    /// The endpoints whose breaker lets reads through.
    fn asked(&self) -> impl Iterator<Item = &EndpointStatus> {
        let endpoints = self.endpoints.iter();
        endpoints.filter(|endpoint| endpoint.breaker == BreakerState::Closed)
    }

    /// Why it is not ready, as an error.
    pub(crate) fn why_not(&self) -> Error {
        let last = |endpoint: &EndpointStatus| {
            let origin = endpoint.origin.as_deref().unwrap_or("the store");
            match endpoint
                .kept_out
                .as_ref()
                .or(endpoint.last_failure.as_ref())
            {
                Some(failure) => format!("{origin}: {failure}"),
                None => origin.to_owned(),
            }
        };
        let mut parts = vec![format!("store {}", self.name)];
        parts.extend(self.held_back.as_ref().map(Failure::to_string));
        parts.extend(self.endpoints.iter().map(last));
        // The kind of what keeps the reads out, where a breaker does not.
        let kept_out = self.asked().filter_map(|asked| asked.kept_out.as_ref());
        let kept_out = self.held_back.iter().chain(kept_out).next();
        let (kind, what) = match kept_out {
            Some(failure) => (
                failure.kind,
                "reads of a store are kept out: they are not authenticated, refused or misconfigured",
            ),
            None => (
                ErrorKind::Unavailable,
                "no endpoint of a store is asked: each has failed",
            ),
        };
        Error::new(kind, what).with_detail(parts.join("; "))
    }
}

impl IdentityStatus {
    /// One that nothing is known of yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ends: None,
            last_update: None,
            last_failure: None,
        }
    }
}

impl Failure {
    /// What can be shown of an error without the name that was asked for.
    #[must_use]
    pub fn of(error: &Error, at: Moment) -> Self {
        Self {
            at,
            kind: error.kind(),
            what: error.what(),
            status: error.status(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)?;
        match self.status {
            Some(status) => write!(f, " (status {status})"),
            None => Ok(()),
        }
    }
}
