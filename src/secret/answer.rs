//! What differs from one answer of a record to the next: its origin and its times.

use std::fmt;
use std::time::Duration;

use crate::clock::Moment;

/// Where an answer came from and how long it may be used: the part of a record that differs from
/// one answer to the next.
///
/// ```
/// use secret_resolver::{Freshness, Record, SecretBuf};
///
/// let answer = Record::single("env", SecretBuf::from_slice(b"x")?).answer();
/// assert_eq!((answer.backend(), answer.freshness()), ("env", Freshness::Fresh));
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    pub(super) backend: &'static str,
    pub(super) freshness: Freshness,
    // `Moment::NEVER` where no layer keeps time: an answer is copied at every hit, so it is small.
    pub(super) fetched_at: Moment,
    pub(super) expires_at: Moment,
}

/// Whether an answer is what the primary store said within its time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// Yes.
    Fresh,
    /// No: the policy allowed a value this much past its expiry, because the store is away.
    Stale {
        /// The time since the value expired.
        by: Duration,
    },
    /// No: the policy allowed the answer of the named fallback, because the store is away.
    Fallback,
}

impl Answer {
    /// The backend that answered.
    #[must_use]
    pub fn backend(self) -> &'static str {
        self.backend
    }

    /// Whether the primary said it within its time to live.
    #[must_use]
    pub fn freshness(self) -> Freshness {
        self.freshness
    }

    /// When it was asked for, on the resolver's clock; `None` where no layer keeps time.
    #[must_use]
    pub fn fetched_at(self) -> Option<Moment> {
        (self.fetched_at != Moment::NEVER).then_some(self.fetched_at)
    }

    /// When the value must no longer be used, on the resolver's clock; `None` where no layer
    /// keeps time.
    #[must_use]
    pub fn expires_at(self) -> Option<Moment> {
        (self.expires_at != Moment::NEVER).then_some(self.expires_at)
    }

    /// The same answer with the times that a cache gives it.
    #[must_use]
    pub fn timed(mut self, fetched_at: Moment, expires_at: Moment) -> Self {
        self.fetched_at = fetched_at;
        self.expires_at = expires_at;
        self
    }

    /// The same answer with a mark of how it was obtained.
    #[must_use]
    pub fn marked(mut self, freshness: Freshness) -> Self {
        self.freshness = freshness;
        self
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("backend", &self.backend)
            .field("freshness", &self.freshness)
            .field("fetched_at", &self.fetched_at())
            .field("expires_at", &self.expires_at())
            .finish()
    }
}
