//! How a resolver and its stores are: for readiness probes, metrics and logs.

use std::fmt;

use super::Resolver;
use super::assemble::{Guarded, Stack};
use crate::error::Error;
// For links in the documentation alone.
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::fork;
use crate::layers::closed_error;
use crate::status::Status;

impl Resolver {
    /// How the resolver and its stores are, for a readiness probe and for metrics. It is a snapshot of all
    /// of them, even in a scope.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.is_elsewhere() {
            return Status {
                closed: true,
                ..Status::default()
            };
        }
        let Stack {
            stores,
            downgrades,
            clock,
            layers,
            ..
        } = &*self.stack;
        let (stale_answers, fallback_answers) = downgrades.counts();
        Status {
            at: Some(clock.now()),
            stale_answers,
            fallback_answers,
            fallback_named: layers.inner().is_named(),
            stores: stores.iter().map(Guarded::status).collect(),
            ..self.cache().status()
        }
    }

    /// Whether reads of each of its stores are answered now, as far as the last ones have shown: for a
    /// readiness probe. It asks no store; one that nothing was asked of yet counts as ready, so call
    /// [`require`](Self::require) first. A store that is not ready is so until a read is answered. Nothing
    /// here reads by itself but handles: where a service that is not ready gets no traffic, let the probe
    /// [`get`](Self::get) a name first.
    ///
    /// A value, "not found" and "denied" are answers. Names below a prefix with its own limit do not count:
    /// they have their own guards, whose state is in [`status`](Self::status).
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the breaker of each endpoint of a store is open.
    /// [`ErrorKind::Unauthenticated`], [`ErrorKind::Refused`] or [`ErrorKind::Misconfigured`] when each
    /// endpoint that is still asked gave that since its last answer, or the last read was not sent because a
    /// login is held back or a credential is missing. Both name the store, each origin and its last failure;
    /// in a scope they do not. [`ErrorKind::Closed`] after a shutdown; [`ErrorKind::Refused`] in a forked
    /// child.
    pub fn ready(&self) -> Result<(), Error> {
        if self.is_elsewhere() {
            return Err(fork::refused());
        }
        let status = self.status();
        if status.closed {
            return Err(closed_error());
        }
        let Some(away) = status.away() else {
            return Ok(());
        };
        let error = away.why_not();
        // Its caller does not see where the secrets are.
        Err(match self.scope {
            Some(_) => error.without_detail(),
            None => error,
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = f.alternate();
        let mut shown = f.debug_struct("Resolver");
        // What a log needs, and no more: the layers, which `{:#?}` shows, fill pages. In a scope not even that:
        // its caller does not see where the secrets are. In a forked child a lock may be held for ever.
        if self.scope.is_none() && !self.is_elsewhere() {
            let stores = self.stack.stores.iter().map(Guarded::name);
            shown.field("stores", &stores.collect::<Vec<_>>());
            shown.field("closed", &self.cache().status().closed);
            if whole {
                shown.field("stack", &self.stack);
            }
        }
        shown.finish_non_exhaustive()
    }
}
