//! Time, injected: every expiry, deadline and back-off of the project asks a [`Clock`].
//!
//! The clock alone decides whether a value has expired, at each read; timers only clean up and
//! end waits. It never gives a date: nobody can set it back.

mod lost;
mod system;
mod timers;

pub use system::SystemClock;
pub(crate) use timers::ours;
#[cfg(feature = "testing")]
pub(crate) use timers::{SleepUntil, Timed, Timers};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A source of time and of sleeps.
///
/// # Contract
/// `now` never goes back and costs no more than a system call. A sleep is ready once `now` has
/// reached its moment, at the latest one second after, whatever runtime polls it and whether or
/// not that runtime is driven: its waker is called from a thread of the clock's, never from
/// within the sleep's own `poll`.
///
/// ```
/// use std::time::Duration;
/// use secret_resolver::backend::SystemClock;
/// use secret_resolver::Clock;
///
/// let clock = SystemClock::shared()?;
/// let start = clock.now();
/// assert!(clock.now() < start + Duration::from_secs(60));
/// # Ok::<(), secret_resolver::Error>(())
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time since some fixed moment before the clock was made.
    fn now(&self) -> Moment;

    /// A future that is ready once `now` has reached `moment`.
    ///
    /// # Cancel safety
    /// Dropping it costs nothing and leaves nothing behind.
    fn sleep_until(&self, moment: Moment) -> Sleep;

    /// As [`sleep_until`](Self::sleep_until), for a pause of our own choice: a back-off between two
    /// attempts. A clock for tests may let it pass at once.
    ///
    /// Provided: a sleep like any other.
    fn pause_until(&self, moment: Moment) -> Sleep {
        self.sleep_until(moment)
    }

    /// How much time, in all and as far as the clock can see, this process did not run although it
    /// should have: stopped, suspended, starved. Never goes back. A store is not blamed for it.
    ///
    /// Provided: none that it knows of.
    fn lost(&self) -> Duration {
        Duration::ZERO
    }
}

/// What [`Clock::sleep_until`] returns.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync + 'static>>;

/// A point on one clock's time line. Moments of two clocks say nothing about each other.
///
/// ```
/// use std::time::Duration;
/// use secret_resolver::Moment;
///
/// let start = Moment::ZERO;
/// let later = start + Duration::from_secs(300);
/// assert_eq!(later.since(start), Duration::from_secs(300));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Moment(u64);

impl Moment {
    /// The clock's beginning.
    pub const ZERO: Self = Self(0);

    /// How long `earlier` was before this moment; zero when it was not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Moment {
    /// The moment this long before, or the clock's beginning.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }

    /// For keeping a moment in an atomic.
    pub(crate) fn nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Later than every moment that comes.
    pub(crate) const NEVER: Self = Self(u64::MAX);
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// Saturates after 584 years.
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Moment {
        (**self).now()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        (**self).sleep_until(moment)
    }

    fn pause_until(&self, moment: Moment) -> Sleep {
        (**self).pause_until(moment)
    }

    fn lost(&self) -> Duration {
        (**self).lost()
    }
}
