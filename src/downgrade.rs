//! Answers that are not what the primary store says now: each is counted, logged and reported.
//!
//! The decision is `policy`'s; here is what makes it visible. A log line can be filtered away, so
//! there are counters and a callback, too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::audit;
use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::foreign::foreign;
use crate::name::NameRef;
use crate::secret::Freshness;
use crate::seldom::Seldom;

/// One answer that the policy allowed although the primary did not give it.
///
/// ```
/// # fn page_somebody(_: &str) {}
/// use secret_resolver::{Downgrade, Freshness};
///
/// fn on_downgrade(downgrade: &Downgrade<'_>) {
///     if downgrade.freshness == Freshness::Fallback {
///         page_somebody(downgrade.name.as_str());
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Downgrade<'a> {
    /// The name that was asked for.
    pub name: NameRef<'a>,
    /// How the answer was obtained.
    pub freshness: Freshness,
    /// Why the primary did not answer.
    pub cause: ErrorKind,
}

pub(crate) type Callback = dyn Fn(&Downgrade<'_>) + Send + Sync;

/// Where downgrades are reported; shared by the layers that make them.
#[derive(Clone, Default)]
pub(crate) struct Downgrades(Arc<Shared>);

#[derive(Default)]
struct Shared {
    stale: AtomicU64,
    fallback: AtomicU64,
    callback: Option<Box<Callback>>,
    seldom: Seldom,
}

impl Downgrades {
    pub(crate) fn new(callback: Option<Box<Callback>>) -> Self {
        Self(Arc::new(Shared {
            callback,
            ..Shared::default()
        }))
    }

    /// How many stale values and how many of a fallback were answered.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.0.stale), read(&self.0.fallback))
    }

    pub(crate) fn report(
        &self,
        name: NameRef<'_>,
        freshness: Freshness,
        cause: &Error,
        now: Moment,
    ) {
        let cause = cause.kind();
        let count = match freshness {
            Freshness::Fresh => return,
            Freshness::Stale { .. } => &self.0.stale,
            Freshness::Fallback => &self.0.fallback,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let warns = self.0.seldom.warns(now);
        // The application's code, all of it: its panic must not cost the caller its answer.
        foreign(|| audit::downgraded(name, freshness, cause, warns));
        if let Some(callback) = &self.0.callback {
            let downgrade = Downgrade {
                name,
                freshness,
                cause,
            };
            if foreign(|| callback(&downgrade)).is_none() {
                foreign(|| tracing::error!("the on_downgrade callback panicked"));
            }
        }
    }
}

impl fmt::Debug for Downgrades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downgrades")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
