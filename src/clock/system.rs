//! The clock of production: time that counts in suspend too, and one thread that knows what is due.
//!
//! That thread runs no foreign code, so nothing that a waker does makes another late. It calls only
//! the sweeper, which is ours, and hands all other wakers on.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::aside::Aside;
use crate::clock::lost::Lost;
use crate::clock::timers::{SleepUntil, Timed, Timers, call};
use crate::clock::{Clock, Moment, Sleep};
use crate::error::{Error, ErrorKind};
use crate::foreign::foreign;
use crate::fork::Process;
use crate::shared::{OfProcess, Place, shared};
use crate::sync::lock;

/// On Linux `CLOCK_BOOTTIME`, so that a value expires while the machine is suspended; elsewhere
/// the monotonic clock of the standard library, which may stop in suspend.
///
/// One thread wakes the sleepers of all runtimes. The resolvers and the backends of a process share it;
/// it ends when the last clock and the last sleep are dropped. Wakers are called on other threads. These start when a sleeper is due
/// and end when none was for a while; while wakers block there are more, 512 at work at most.
///
/// It reports how long the process was stopped, suspended or starved ([`Clock::lost`]), from what its
/// thread oversleeps while there are sleepers: each stop less half a second at most, and less a tenth of
/// a second when a sleeper is due within ten seconds.
///
/// ```
/// use secret_resolver::backend::SystemClock;
/// use secret_resolver::Clock;
///
/// let clock = SystemClock::shared()?;
/// assert!(clock.now() <= clock.now());
/// # Ok::<(), secret_resolver::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SystemClock(Arc<Handle>);

/// Ends the thread when the clock and all sleeps are gone; the thread itself holds only `Shared`.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    process: Process,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    timers: Timers,
    aside: Aside,
    lost: Lost,
    signal: Mutex<Signal>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Signal {
    earlier: bool,
    ended: bool,
}

/// The clock of this process.
static CLOCK: Place<Handle> = Place::const_empty();

impl SystemClock {
    /// The clock of this process; starts its thread where it is not running.
    ///
    /// # Errors
    /// [`ErrorKind::Overloaded`] when the thread cannot be started.
    pub fn shared() -> Result<Self, Error> {
        shared(&CLOCK, Handle::start).map(Self)
    }
}

impl Handle {
    fn start() -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            source: Source::new(),
            timers: Timers::default(),
            aside: Aside::new(),
            lost: Lost::new(),
            signal: Mutex::default(),
            changed: Condvar::new(),
        });
        let running = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("secrets-clock".into())
            .stack_size(256 * 1024)
            .spawn(move || running.run())
            .map_err(|_| {
                Error::new(
                    ErrorKind::Overloaded,
                    "the clock's thread cannot be started; raise the limit on threads",
                )
            })?;
        let process = Process::current();
        Ok(Self { shared, process })
    }
}

impl OfProcess for Handle {
    fn process(&self) -> &Process {
        &self.process
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn sleep_until(&self, moment: Moment) -> Sleep {
        Box::pin(SleepUntil::new(Arc::clone(&self.0), moment))
    }

    fn lost(&self) -> Duration {
        let Handle { shared, process } = &*self.0;
        if !process.is_this() {
            return Duration::ZERO;
        }
        shared.lost.sum(|| shared.source.now())
    }
}

impl Timed for Handle {
    fn now(&self) -> Moment {
        self.shared.source.now()
    }

    fn timers(&self) -> &Timers {
        &self.shared.timers
    }

    fn earlier(&self) {
        lock(&self.shared.signal).earlier = true;
        self.shared.changed.notify_one();
    }

    fn wakes(&self) -> bool {
        self.process.is_this()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.process.is_this() {
            return;
        }
        lock(&self.shared.signal).ended = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// The condition variable waits on a clock that stops in suspend. So that a sleep which came
    /// due meanwhile is not late by as long as the suspend, no wait is longer than this.
    const LONGEST_WAIT: Duration = Duration::from_millis(500);
    /// A stop shows only in what is overslept. While a sleeper is due this soon, as one that waits for
    /// a store is, waits are shorter, so that short stops show, too.
    const SOON: Duration = Duration::from_secs(10);
    const LONGEST_WAIT_SOON: Duration = Duration::from_millis(100);
    /// Of a sleep that is itself short, a stop may take no more than this part unseen.
    const PART: u32 = 8;
    const SHORTEST_WAIT: Duration = Duration::from_millis(10);

    /// How long to wait at once when the first sleeper is due after `due`.
    fn wait(due: Duration) -> Duration {
        let longest = match due <= Self::SOON {
            true => (due / Self::PART).clamp(Self::SHORTEST_WAIT, Self::LONGEST_WAIT_SOON),
            false => Self::LONGEST_WAIT,
        };
        due.min(longest)
    }

    fn run(&self) {
        loop {
            self.wake_due();
            let signal = lock(&self.signal);
            // Between the look at the timers and the wait a sleeper may come: it sets `earlier`.
            let now = self.source.now();
            let wait = match self.timers.first() {
                Some(first) => Self::wait(first.since(now)),
                None => Duration::MAX,
            };
            self.lost.runs_after(wait, || self.source.now());
            let idle = |signal: &mut Signal| !signal.earlier && !signal.ended;
            let mut signal = if wait == Duration::MAX {
                self.changed
                    .wait_while(signal, idle)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
            } else {
                self.changed
                    .wait_timeout_while(signal, wait, idle)
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .0
            };
            signal.earlier = false;
            let ended = signal.ended;
            drop(signal);
            self.lost.runs_after(Duration::ZERO, || self.source.now());
            if ended {
                return;
            }
        }
    }

    fn wake_due(&self) {
        let now = self.source.now();
        let (ours, foreigners): (Vec<_>, Vec<_>) =
            self.timers.take_due(now).partition(|sleeper| sleeper.ours);
        for sleeper in foreigners {
            self.aside.run(move || call(sleeper.waker));
        }
        for sleeper in ours {
            // Not foreign, but without this thread no deadline fires.
            foreign(|| sleeper.waker.wake());
        }
    }
}

#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Source;

#[cfg(target_os = "linux")]
impl Source {
    fn new() -> Self {
        Self
    }

    fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Neither part is negative: the clock counts from boot.
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Moment::ZERO + Duration::new(seconds, nanos)
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Source(std::time::Instant);

#[cfg(not(target_os = "linux"))]
impl Source {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that all others ask"
    )]
    fn new() -> Self {
        Self(std::time::Instant::now())
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "this is the clock that all others ask"
    )]
    fn now(&self) -> Moment {
        Moment::ZERO + std::time::Instant::now().duration_since(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn a_sleep_ends_once_its_moment_has_come_without_a_timer_of_the_runtime() {
        let clock = SystemClock(Arc::new(Handle::start().unwrap()));
        let moment = clock.now() + Duration::from_millis(20);
        runtime().block_on(clock.sleep_until(moment));
        assert!(clock.now() >= moment);
    }

    #[test]
    fn an_earlier_sleep_is_not_held_up_by_a_later_one() {
        let clock = SystemClock(Arc::new(Handle::start().unwrap()));
        runtime().block_on(async {
            let mut late = clock.sleep_until(clock.now() + Duration::from_secs(3600));
            let early = clock.sleep_until(clock.now() + Duration::from_millis(20));
            tokio::select! {
                biased;
                () = &mut late => panic!("an hour has not passed"),
                () = early => {}
            }
        });
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let clock = SystemClock(Arc::new(Handle::start().unwrap()));
        let mut sleep = clock.sleep_until(clock.now() + Duration::from_secs(3600));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert!(clock.0.timers().first().is_some());
        drop(sleep);
        assert_eq!(clock.0.timers().first(), None);
    }

    /// A waker that calls a closure.
    struct Does<F>(F);

    impl<F: Fn() + Send + Sync + 'static> std::task::Wake for Does<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }

    fn poll(sleep: &mut Sleep, wake: impl Fn() + Send + Sync + 'static) {
        let waker = std::task::Waker::from(Arc::new(Does(wake)));
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
    }

    #[test]
    fn a_waker_of_our_own_is_called_by_the_clock_s_thread_although_all_others_block() {
        let clock = SystemClock(Arc::new(Handle::start().unwrap()));
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        // More than there may be threads for.
        let blocking: Vec<_> = (0..600)
            .map(|_| {
                // Each from its own start, so that none is due before it is polled.
                let mut sleep = clock.sleep_until(clock.now() + Duration::from_millis(200));
                let blocked = Arc::clone(&blocked);
                poll(&mut sleep, move || {
                    let _ = lock(&blocked).recv();
                });
                sleep
            })
            .collect();
        // One of them was polled with another's before.
        for was_foreign in [false, true] {
            let mut sleep = clock.sleep_until(clock.now() + Duration::from_millis(250));
            let (woken, heard) = std::sync::mpsc::channel();
            let notify = move || {
                let name = std::thread::current().name().map(str::to_owned);
                let _ = woken.send(name);
            };
            if was_foreign {
                poll(&mut sleep, || {});
            }
            crate::clock::ours(|| poll(&mut sleep, notify));
            let by = heard.recv_timeout(Duration::from_secs(3)).unwrap();
            assert_eq!(by.as_deref(), Some("secrets-clock"));
        }
        drop((release, blocking));
    }

    #[test]
    fn a_clock_that_ran_has_lost_no_more_than_its_machine_took() {
        let clock = SystemClock(Arc::new(Handle::start().unwrap()));
        assert_eq!(clock.lost(), Duration::ZERO);
        // A sleep is several waits of the clock's thread. Where the machine took time in one of the first,
        // the last may be in time all the same, so it is tried again.
        let lost_no_more = || {
            let (start, before) = (clock.now(), clock.lost());
            runtime().block_on(clock.sleep_until(start + Duration::from_millis(100)));
            let late = clock.now().since(start + Duration::from_millis(100));
            clock.lost() - before <= late
        };
        assert!((0..10).any(|_| lost_no_more()));
    }

    #[test]
    fn the_sooner_a_sleeper_is_due_the_shorter_are_the_stops_that_show() {
        let waits = [1_000, 800, 80, 8, 0].map(|due| Shared::wait(Duration::from_millis(due)));
        assert_eq!(waits.map(|wait| wait.as_millis()), [100, 100, 10, 8, 0]);
        let waits = [3_600, 11, 10].map(|due| Shared::wait(Duration::from_secs(due)));
        assert_eq!(waits.map(|wait| wait.as_millis()), [500, 500, 100]);
    }

    #[test]
    fn the_thread_ends_with_the_clock() {
        let clock = SystemClock(Arc::new(Handle::start().unwrap()));
        let shared = Arc::downgrade(&clock.0.shared);
        drop(clock);
        let limit = std::iter::repeat_with(|| std::thread::sleep(Duration::from_millis(10)));
        let ended = limit.take(500).any(|()| shared.upgrade().is_none());
        assert!(ended, "the thread still holds the clock's state after 5 s");
    }
}
