//! The sleepers of a clock: which are to be woken, and when.
//!
//! Knows nothing of time's source: a clock asks for those that are due and wakes them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use crate::clock::Moment;
use crate::foreign::foreign;
use crate::sync::lock;

#[derive(Default)]
pub(crate) struct Timers {
    state: Mutex<State>,
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the sleepers: there may be thousands.
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    // The number distinguishes sleepers of one moment.
    sleepers: BTreeMap<(Moment, u64), Sleeper>,
    next: u64,
}

/// What is to be woken.
pub(crate) struct Sleeper {
    pub(crate) waker: Waker,
    /// Whether the waker is code of this crate, which neither blocks nor panics.
    pub(crate) ours: bool,
}

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Polls a sleep, with a waker that is code of this crate: the clock's thread runs it itself, so
/// that no foreign code holds it up.
pub(crate) fn ours<T>(poll: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            set(false);
        }
    }
    // A thread that is ending may have it no more: then a waker is taken for foreign.
    fn set(ours: bool) {
        let _ = OURS.try_with(|cell| cell.set(ours));
    }
    set(true);
    let _reset = Reset;
    poll()
}

fn is_ours() -> bool {
    OURS.try_with(Cell::get).unwrap_or_default()
}

/// Where a sleep reads the time and where its clock learns of an earlier wake-up.
pub(crate) trait Timed: Send + Sync + 'static {
    fn now(&self) -> Moment;
    fn timers(&self) -> &Timers;
    /// Called when a sleeper was added that is due before all others.
    fn earlier(&self);
    /// Whether a sleeper can be woken: not in a forked child, which has no such thread, and where a
    /// lock may be held for ever.
    fn wakes(&self) -> bool {
        true
    }
}

impl Timers {
    /// When the first sleeper is due.
    pub(crate) fn first(&self) -> Option<Moment> {
        let state = lock(&self.state);
        state.sleepers.keys().next().map(|&(moment, _)| moment)
    }

    /// Takes out all that are due at `now`, the first first.
    ///
    /// A waker is foreign code, to be called outside the lock, so that it may sleep again.
    pub(crate) fn take_due(&self, now: Moment) -> impl Iterator<Item = Sleeper> + use<> {
        let mut state = lock(&self.state);
        let due = match now.0.checked_add(1) {
            Some(after) => {
                let later = state.sleepers.split_off(&(Moment(after), 0));
                std::mem::replace(&mut state.sleepers, later)
            }
            None => std::mem::take(&mut state.sleepers),
        };
        due.into_values()
    }

    /// Wakes all that are due at `now`, on this thread; a panic of one stays its own.
    #[cfg(feature = "testing")]
    pub(crate) fn wake_due(&self, now: Moment) {
        for sleeper in self.take_due(now) {
            call(sleeper.waker);
        }
    }

    /// Notes a sleeper; returns whether it is now the first.
    fn insert(&self, moment: Moment, waker: Waker) -> (u64, bool) {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        let ours = is_ours();
        state
            .sleepers
            .insert((moment, number), Sleeper { waker, ours });
        let first = state.sleepers.keys().next() == Some(&(moment, number));
        (number, first)
    }

    /// Gives a sleeper that still waits another waker; returns whether it still waits.
    fn replace(&self, key: (Moment, u64), waker: &Waker) -> bool {
        // Wakers are foreign code, cloned and dropped outside the lock: the last owner of a sleep
        // may go with one.
        let mut new = waker.clone();
        let mut state = lock(&self.state);
        let held = state.sleepers.get_mut(&key);
        let waits = held.is_some();
        if let Some(held) = held {
            held.ours = is_ours();
            std::mem::swap(&mut held.waker, &mut new);
        }
        drop(state);
        drop(new);
        waits
    }

    fn remove(&self, key: (Moment, u64)) {
        // The waker is dropped after the lock: it may be the last owner of something that sleeps.
        let removed = lock(&self.state).sleepers.remove(&key);
        drop(removed);
    }
}

/// Calls a waker; its panic, even when it is dropped, stays its own.
pub(super) fn call(waker: Waker) {
    let woken = foreign(|| waker.wake_by_ref());
    // Apart, because a drop that panics while a panic unwinds would end the process.
    let dropped = foreign(|| drop(waker));
    if woken.is_none() || dropped.is_none() {
        foreign(|| tracing::error!("a waker panicked while a clock was waking it"));
    }
}

/// The sleep of every clock in this crate. Keeps its clock alive.
pub(crate) struct SleepUntil<T: Timed> {
    timed: Arc<T>,
    moment: Moment,
    number: Option<u64>,
}

impl<T: Timed> SleepUntil<T> {
    pub(crate) fn new(timed: Arc<T>, moment: Moment) -> Self {
        Self {
            timed,
            moment,
            number: None,
        }
    }
}

impl<T: Timed> Future for SleepUntil<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // Early is better than never; the task that waits looks at the time again.
        if this.timed.now() >= this.moment || !this.timed.wakes() {
            return Poll::Ready(());
        }
        let timers = this.timed.timers();
        if let Some(number) = this.number
            && timers.replace((this.moment, number), cx.waker())
        {
            return Poll::Pending;
        }
        let (number, first) = timers.insert(this.moment, cx.waker().clone());
        this.number = Some(number);
        if first {
            this.timed.earlier();
        }
        // Time may have passed the moment, and the due have been woken, before the insertion.
        if this.timed.now() >= this.moment {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<T: Timed> Drop for SleepUntil<T> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && self.timed.wakes()
        {
            self.timed.timers().remove((self.moment, number));
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock as _;
    use crate::testing::ManualClock;

    #[test]
    fn what_is_polled_after_a_waker_of_ours_is_foreign_again() {
        assert!(ours(|| OURS.get()) && !OURS.get());
        assert!(foreign(|| ours(|| panic!("of the test's own making"))).is_none());
        assert!(!OURS.get());
    }

    /// A waker that counts.
    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A clock that stands at its beginning.
    #[derive(Default)]
    struct Still(Timers);

    impl Timed for Still {
        fn now(&self) -> Moment {
            Moment::ZERO
        }

        fn timers(&self) -> &Timers {
            &self.0
        }

        fn earlier(&self) {}
    }

    #[test]
    fn a_sleep_that_is_polled_again_wakes_the_last_waker_and_no_other() {
        let clock = ManualClock::strict();
        let mut sleep = clock.sleep_until(clock.now() + Duration::from_secs(2));
        let counts: [Arc<Counts>; 3] = std::array::from_fn(|_| Arc::default());
        for count in &counts {
            let waker = Waker::from(Arc::clone(count));
            let mut cx = Context::from_waker(&waker);
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
        }
        let woken = || {
            counts
                .each_ref()
                .map(|count| count.0.load(Ordering::Relaxed))
        };
        clock.advance(Duration::from_secs(1));
        assert_eq!(woken(), [0, 0, 0]);
        clock.advance(Duration::from_secs(1));
        assert_eq!(woken(), [0, 0, 1]);
        // It was one sleeper all the time.
        assert_eq!(clock.next_wake(), None);
    }

    #[test]
    fn only_a_waker_that_was_polled_as_ours_counts_as_ours() {
        let still = Arc::new(Still::default());
        let moment = Moment::ZERO + Duration::from_secs(1);
        let mut sleep = Box::pin(SleepUntil::new(Arc::clone(&still), moment));
        let waker = Waker::from(Arc::<Counts>::default());
        let mut poll = || {
            let mut cx = Context::from_waker(&waker);
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
        };
        let counts_as_ours = || {
            let state = lock(&still.0.state);
            state.sleepers.values().all(|sleeper| sleeper.ours)
        };
        poll();
        assert!(!counts_as_ours());
        ours(&mut poll);
        assert!(counts_as_ours());
        poll();
        assert!(!counts_as_ours());
        // Even when the poll panicked.
        let panics = || ours(|| panic!("of the test's own making"));
        assert!(foreign(panics).is_none());
        poll();
        assert!(!counts_as_ours());
    }
}
