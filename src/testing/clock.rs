//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Moment, Sleep, SleepUntil, Timed, Timers};

/// Time that passes when [`advance`](ManualClock::advance) is called. A clone shares it.
///
/// Back-offs between two attempts pass by themselves, and move the clock by as long: so a scripted outage
/// ends in its error, or in the answer that comes after it, without a call of `advance`. A clock that is
/// [`strict`](ManualClock::strict) leaves them to the test, too. What waits for the store
/// ([`Reply::Hang`](crate::testing::Reply::Hang)) always waits for `advance`.
///
/// Sleepers that come due are woken before `advance` returns, on the caller's thread; so is the
/// cache's sweep: what has expired is wiped when `advance` returns.
///
/// ```
/// use std::time::Duration;
/// use secret_resolver::{Clock, testing::ManualClock};
///
/// let clock = ManualClock::new();
/// let start = clock.now();
/// clock.advance(Duration::from_secs(300));
/// assert_eq!(clock.now().since(start), Duration::from_secs(300));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    nanos: AtomicU64,
    lost: AtomicU64,
    timers: Timers,
    strict: bool,
}

impl ManualClock {
    /// A clock at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock at its beginning that moves only by [`advance`](Self::advance): a `get` that backs off
    /// between two attempts waits for it.
    #[must_use]
    pub fn strict() -> Self {
        Self(Arc::new(Shared {
            strict: true,
            ..Shared::default()
        }))
    }

    /// Lets `duration` pass at once and wakes the sleepers that are then due.
    pub fn advance(&self, duration: Duration) {
        add(&self.0.nanos, duration);
        self.0.timers.wake_due(self.now());
    }

    /// Lets `duration` pass in which nothing ran, as when the process was stopped, and wakes the
    /// sleepers that are then due.
    pub fn stall(&self, duration: Duration) {
        // Before the time: a thread that sees the time must see why.
        add(&self.0.lost, duration);
        self.advance(duration);
    }

    /// When the next sleeper is due, if there is one.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        self.0.timers.first()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        Box::pin(SleepUntil::new(Arc::clone(&self.0), moment))
    }

    fn pause_until(&self, moment: Moment) -> Sleep {
        if !self.0.strict {
            self.0.nanos.fetch_max(moment.nanos(), Ordering::AcqRel);
            self.0.timers.wake_due(self.now());
        }
        self.sleep_until(moment)
    }

    fn lost(&self) -> Duration {
        Duration::from_nanos(self.0.lost.load(Ordering::Acquire))
    }
}

impl Timed for Shared {
    fn now(&self) -> Moment {
        Moment::ZERO + Duration::from_nanos(self.nanos.load(Ordering::Acquire))
    }

    fn timers(&self) -> &Timers {
        &self.timers
    }

    fn earlier(&self) {
        // Nothing waits for real time here: `advance` looks at all sleepers.
    }
}

fn add(sum: &AtomicU64, duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let add = |now: u64| Some(now.saturating_add(nanos));
    // The closure never declines, so neither does the update.
    let _ = sum.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
}
