//! A place for foreign code that may block: wakers of callers, subscribers, recorders.
//!
//! One thread runs the jobs in their order. Another watches it: when the first makes no progress,
//! because a job blocks it, twice as many go on. So a job that blocks holds up no other for long.
//! The threads start with the first job, and end when there was none for a while.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::foreign::foreign;
use crate::sync::lock;

type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs on threads of its own. A clone shares them.
#[derive(Clone)]
pub(crate) struct Aside(Option<Arc<Owner>>);

/// Ends the threads when the last clone is dropped; they hold only `Shared`.
struct Owner(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many jobs were begun.
    begun: u64,
    threads: usize,
    /// The threads that are in a job, and how many may be.
    busy: usize,
    width: usize,
    ended: bool,
}

thread_local! {
    /// Where reports from this thread go.
    static HERE: RefCell<Option<Aside>> = const { RefCell::new(None) };
}

/// Reports to foreign code: a subscriber, a recorder. On a thread that must go on, it does so aside.
pub(crate) fn tell(job: impl FnOnce() + Send + 'static) {
    let aside = HERE.with(|here| here.try_borrow().ok().and_then(|here| here.clone()));
    match aside {
        Some(aside) => aside.run(job),
        None => drop(foreign(job)),
    }
}

impl Aside {
    /// At most this many jobs may block at once; all others then wait for one of them.
    const MOST: usize = 512;
    /// A job that takes longer, while others wait, is taken to block.
    const PATIENCE: Duration = Duration::from_millis(5);
    const IDLE: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self(Some(Arc::new(Owner(Arc::default()))))
    }

    /// One that runs each job where it is given, for the model check.
    #[cfg(test)]
    pub(crate) fn inline() -> Self {
        Self(None)
    }

    /// From now on reports from this thread are made aside.
    pub(crate) fn attend(&self) {
        HERE.set(Some(self.clone()));
    }

    /// Awaits `future`, and calls the waker of the awaiting task aside: the code that wakes it goes
    /// on, and each waker is a job of its own.
    ///
    /// # Cancel safety
    /// Dropping it drops the future.
    pub(crate) async fn woken<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(move |cx| {
            let waker = Waker::from(Arc::new(Proxy {
                aside: self.clone(),
                waker: cx.waker().clone(),
            }));
            future.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }

    /// Runs `job` soon, and does not wait for it. What it panics with is its own.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let Some(Owner(shared)) = self.0.as_deref() else {
            foreign(job);
            return;
        };
        let mut state = lock(&shared.state);
        state.jobs.push_back(Box::new(job));
        Shared::watch(shared, &mut state);
        let nobody = state.threads == 0;
        drop(state);
        shared.more.notify_one();
        // When no thread can be started, here is better than never.
        while nobody && shared.run_next() {}
    }
}

/// A waker of ours in front of a foreign one.
struct Proxy {
    aside: Aside,
    waker: Waker,
}

impl Wake for Proxy {
    fn wake(self: Arc<Self>) {
        let aside = self.aside.clone();
        aside.run(move || self.waker.wake_by_ref());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.0.state).ended = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    /// Sees that beside the threads in a job there is one that watches: the last may have ended
    /// because there were no jobs, while others block.
    fn watch(shared: &Arc<Self>, state: &mut State) {
        while state.threads <= state.busy.clamp(1, Aside::MOST) && Self::start(shared, state) {}
    }

    fn start(shared: &Arc<Self>, state: &mut State) -> bool {
        let running = Arc::clone(shared);
        let started = std::thread::Builder::new()
            .name("secrets-aside".into())
            .stack_size(256 * 1024)
            .spawn(move || running.work());
        state.threads += usize::from(started.is_ok());
        started.is_ok()
    }

    fn work(self: Arc<Self>) {
        let mut state = lock(&self.state);
        loop {
            if state.jobs.is_empty() {
                let mut timed_out = state.ended;
                if !timed_out {
                    let nothing = |state: &mut State| state.jobs.is_empty() && !state.ended;
                    (state, timed_out) = self.wait(state, Aside::IDLE, nothing);
                }
                if timed_out && state.jobs.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            }
            state.width = state.width.max(1);
            if state.busy >= state.width {
                let begun = state.begun;
                let waits = |state: &mut State| {
                    state.begun == begun && state.busy >= state.width && !state.jobs.is_empty()
                };
                let stuck;
                (state, stuck) = self.wait(state, Aside::PATIENCE, waits);
                if stuck {
                    state.width = (state.busy * 2).min(Aside::MOST);
                    // A thread has to watch these, too.
                    while state.threads <= state.width && Self::start(&self, &mut state) {}
                }
                // The thread that comes first goes on.
                if state.jobs.is_empty() || state.busy >= state.width {
                    continue;
                }
            }
            state.busy += 1;
            Self::watch(&self, &mut state);
            drop(state);
            self.run_next();
            state = lock(&self.state);
            state.busy -= 1;
            if state.busy == 0 {
                state.width = 1;
            }
        }
    }

    /// Waits while `so` holds; returns whether it still does when the time is over.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
        so: impl FnMut(&mut State) -> bool,
    ) -> (MutexGuard<'a, State>, bool) {
        let waited = self.more.wait_timeout_while(state, time, so);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }

    /// Runs the first job in the queue; returns whether there was one.
    fn run_next(&self) -> bool {
        let mut state = lock(&self.state);
        let Some(job) = state.jobs.pop_front() else {
            return false;
        };
        state.begun += 1;
        drop(state);
        foreign(job);
        true
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_blocks_or_panics_holds_up_nobody_else() {
        let aside = Aside::new();
        let (free, blocked) = mpsc::channel::<()>();
        aside.run(move || {
            let _ = blocked.recv();
        });
        aside.run(|| panic!("of the test's own making"));
        let (done, all) = mpsc::channel();
        for number in 0..100 {
            let done = done.clone();
            aside.run(move || done.send(number).unwrap());
        }
        let limit = Duration::from_secs(10);
        let answered: Vec<_> = (0..100).map(|_| all.recv_timeout(limit).unwrap()).collect();
        assert_eq!(answered.len(), 100);
        drop(free);
    }
    #[test]
    fn who_blocks_for_long_holds_up_nobody_after_a_quiet_time_either() {
        for blockers in 1..5 {
            let aside = Aside::new();
            let (free, blocked) = mpsc::channel::<()>();
            let blocked = Arc::new(Mutex::new(blocked));
            let (begun, begins) = mpsc::channel();
            let block = |aside: &Aside| {
                let (begun, blocked) = (begun.clone(), Arc::clone(&blocked));
                aside.run(move || {
                    begun.send(()).unwrap();
                    let _ = lock(&blocked).recv();
                });
                begins.recv_timeout(Duration::from_secs(10)).unwrap();
            };
            (0..blockers).for_each(|_| block(&aside));
            // So that the thread that watched has ended.
            std::thread::sleep(Aside::IDLE + Duration::from_millis(500));
            block(&aside);
            let (done, all) = mpsc::channel();
            aside.run(move || done.send(()).unwrap());
            let answered = all.recv_timeout(Duration::from_secs(10));
            drop(free);
            answered.expect("no thread came");
        }
    }
}
