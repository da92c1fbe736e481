//! A place for foreign code that may block: wakers of callers, subscribers, recorders.
//!
//! One thread runs the jobs in their order. Another watches it: when jobs wait because each takes
//! long, or blocks, twice as many go on. So a job that blocks holds up no other for long.
//! The threads start with the first job, and end when there was none for a while.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::foreign::foreign;
use crate::sync::lock;

type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs on its own threads. A clone shares them.
#[derive(Clone)]
pub(crate) struct Aside(Option<Arc<Owner>>);

/// Ends the threads when the last clone is dropped; they hold only `Shared`.
struct Owner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    more: Condvar,
    lines: Mutex<Lines>,
}

/// Reports, which are made in their order: one job writes them all.
#[derive(Default)]
struct Lines {
    waiting: VecDeque<Job>,
    /// Whether that job runs, or will.
    is_writing: bool,
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
    /// Whether a thread watches these.
    watched: bool,
    ended: bool,
}

thread_local! {
    /// Where reports from this thread go.
    static HERE: OnceCell<Aside> = const { OnceCell::new() };
}

/// Reports to foreign code: a subscriber, a recorder. A panic of it goes no further. On a thread that must go on, as that of a store, it
/// is made on another one, in the order of that thread's reports, so that a sink that blocks holds up nobody. There a report is dropped when
/// 65,536 wait: a sink that hangs must not fill the memory.
///
/// ```
/// use secret_resolver::backend::report;
///
/// let endpoint = 2;
/// report(move || tracing::warn!(endpoint, "an endpoint refuses a login that another takes"));
/// ```
pub fn report(job: impl FnOnce() + Send + 'static) {
    // A thread that is ending has none any more: then it is not one that must go on.
    let here = HERE.try_with(|here| here.get().cloned());
    match here.ok().flatten() {
        Some(aside) => aside.write(job),
        None => drop(foreign(job)),
    }
}

/// From now on, what this thread [reports](report) is made on another: for a thread of a backend's that must go on.
///
/// ```
/// std::thread::spawn(|| {
///     secret_resolver::backend::report_aside();
///     // What follows an agent's messages.
/// });
/// ```
pub fn report_aside() {
    Aside::new().attend();
}

impl Aside {
    /// At most this many jobs may block at once; all others then wait for one of them.
    const MOST: usize = 512;
    /// A job that waits for longer gets its own thread.
    const PATIENCE: Duration = Duration::from_millis(5);
    /// Unless each thread has run this many in that time.
    const QUICK: u64 = 20;
    const IDLE: Duration = Duration::from_secs(2);
    /// While more jobs wait, no report is added.
    const MOST_WAITING: usize = 65_536;

    pub(crate) fn new() -> Self {
        let state = State {
            width: 1,
            ..State::default()
        };
        Self(Some(Arc::new(Owner(Arc::new(Shared {
            state: Mutex::new(state),
            more: Condvar::new(),
            lines: Mutex::default(),
        })))))
    }

    /// Runs each job where it is given, for the model check.
    #[cfg(test)]
    pub(crate) fn inline() -> Self {
        Self(None)
    }

    /// From now on reports from this thread are made aside.
    pub(crate) fn attend(&self) {
        // Once for a thread.
        let _ = HERE.try_with(|here| here.set(self.clone()));
    }

    /// Makes a report after those before it.
    fn write(&self, line: impl FnOnce() + Send + 'static) {
        let Some(Owner(shared)) = self.0.as_deref() else {
            foreign(line);
            return;
        };
        let mut lines = lock(&shared.lines);
        if lines.waiting.len() >= Self::MOST_WAITING {
            return;
        }
        lines.waiting.push_back(Box::new(line));
        if !std::mem::replace(&mut lines.is_writing, true) {
            drop(lines);
            let shared = Arc::clone(shared);
            self.run(move || shared.write_all());
        }
    }

    /// Ready once the reports so far are made.
    pub(crate) async fn written(&self) {
        let (done, written) = oneshot::channel();
        self.write(move || {
            let _ = done.send(());
        });
        // An error means that too many wait.
        let _ = written.await;
    }

    /// Awaits `future`, and calls the waker of the awaiting task aside: the code that wakes it goes
    /// on, and each waker is its own job.
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

    /// Runs `job` soon, and does not wait for it. If it panics, no other notices.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let Some(Owner(shared)) = self.0.as_deref() else {
            foreign(job);
            return;
        };
        let mut state = lock(&shared.state);
        Shared::start_watcher(shared, &mut state);
        if state.threads == 0 {
            drop(state);
            // When no thread can be started, here is better than never.
            foreign(job);
            return;
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        shared.more.notify_one();
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
        aside.run(move || {
            // Apart, because a drop that panics while a panic unwinds would end the process.
            foreign(|| self.waker.wake_by_ref());
        });
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.0.state).ended = true;
        self.0.more.notify_all();
    }
}

impl Shared {
    /// Makes sure that one thread watches, beside those in a job: the last may have ended
    /// because there were no jobs, while others block.
    fn start_watcher(shared: &Arc<Self>, state: &mut State) {
        if state.threads <= state.busy.min(Aside::MOST) {
            Self::start(shared, state);
        }
    }

    fn start(shared: &Arc<Self>, state: &mut State) {
        let running = Arc::clone(shared);
        let started = std::thread::Builder::new()
            .name("secrets-aside".into())
            .stack_size(256 * 1024)
            .spawn(move || running.work());
        state.threads += usize::from(started.is_ok());
    }

    fn write_all(&self) {
        loop {
            let mut lines = lock(&self.lines);
            let Some(line) = lines.waiting.pop_front() else {
                lines.is_writing = false;
                return;
            };
            drop(lines);
            foreign(line);
        }
    }

    fn work(self: Arc<Self>) {
        let mut state = lock(&self.state);
        loop {
            // Two may rest. More would take turns at the jobs, and none would ever end.
            let surplus = state.rests() && state.threads > state.busy + 2;
            let timed_out;
            (state, timed_out) = match surplus {
                true => (state, true),
                false => self.wait(state),
            };
            if timed_out || state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
            if state.busy >= state.width {
                state = self.watch(state);
                continue;
            }
            let Some(job) = state.jobs.pop_front() else {
                continue;
            };
            state.begun += 1;
            state.busy += 1;
            Self::start_watcher(&self, &mut state);
            if state.wants_another() {
                self.more.notify_one();
            }
            drop(state);
            foreign(job);
            state = lock(&self.state);
            state.busy -= 1;
            if state.busy == 0 {
                state.width = 1;
            }
        }
    }

    /// Lets more jobs run at once if one waits for longer than it should, because each takes long.
    fn watch<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.watched = true;
        let begun = state.begun;
        let newest = begun + state.jobs.len() as u64;
        drop(state);
        std::thread::sleep(Aside::PATIENCE);
        let mut state = lock(&self.state);
        state.watched = false;
        // Many quick jobs need no more threads: a processor is not faster for it.
        let slow = state.begun - begun < Aside::QUICK * state.width as u64;
        let waits = state.begun < newest;
        if slow && waits && state.busy >= state.width {
            state.width = (state.busy * 2).min(Aside::MOST);
            self.more.notify_all();
        }
        state
    }

    /// Waits for something to do; returns whether there was nothing for long.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        let rests = |state: &mut State| state.rests();
        let waited = self.more.wait_timeout_while(state, Aside::IDLE, rests);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }
}

impl State {
    /// Whether there is something for one more thread: to run a job, or to watch those that do.
    fn wants_another(&self) -> bool {
        !self.jobs.is_empty() && (self.busy < self.width || !self.watched)
    }

    fn rests(&self) -> bool {
        !self.ended && !self.wants_another()
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
    fn a_job_that_blocks_or_panics_holds_up_no_other() {
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
    fn a_job_that_blocks_for_long_holds_up_no_other_after_a_quiet_time_either() {
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

    #[test]
    fn each_job_counts_once_as_begun() {
        let aside = Aside::new();
        let (done, all) = mpsc::channel();
        for number in 1..=20 {
            let done = done.clone();
            aside.run(move || done.send(()).unwrap());
            all.recv_timeout(Duration::from_secs(10)).unwrap();
            let begun = lock(&aside.0.as_ref().unwrap().0.state).begun;
            assert_eq!(begun, number);
        }
    }

    fn threads(aside: &Aside) -> usize {
        lock(&aside.0.as_ref().unwrap().0.state).threads
    }

    #[test]
    fn the_threads_that_blocking_jobs_needed_end_even_while_other_jobs_come() {
        let aside = Aside::new();
        let (free, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        for _ in 0..50 {
            let blocked = Arc::clone(&blocked);
            aside.run(move || {
                let _ = lock(&blocked).recv();
            });
        }
        let (done, all) = mpsc::channel();
        aside.run(move || done.send(()).unwrap());
        all.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(threads(&aside) > 50);
        drop(free);
        let rounds = (Aside::IDLE * 3).as_millis() / 20;
        for _ in 0..rounds {
            if threads(&aside) <= 3 {
                break;
            }
            aside.run(|| {});
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(threads(&aside) <= 3, "{}", threads(&aside));
    }

    /// A waker that panics.
    struct Explodes;

    impl Wake for Explodes {
        fn wake(self: Arc<Self>) {
            panic!("of the test's own making");
        }
    }

    impl Drop for Explodes {
        fn drop(&mut self) {
            panic!("of the test's own making, too");
        }
    }

    #[test]
    fn a_waker_that_panics_as_it_is_called_and_dropped_ends_no_thread() {
        let aside = Aside::new();
        let proxy = Proxy {
            aside: aside.clone(),
            waker: Waker::from(Arc::new(Explodes)),
        };
        Arc::new(proxy).wake();
        let (done, all) = mpsc::channel();
        aside.run(move || done.send(()).unwrap());
        all.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_report_is_dropped_while_too_many_wait() {
        let aside = Aside::new();
        // No thread has been started, so they stay.
        let shared = Arc::clone(&aside.0.as_ref().unwrap().0);
        let waiting = || lock(&shared.lines).waiting.len();
        let lines = (0..Aside::MOST_WAITING).map(|_| Box::new(|| {}) as Job);
        lock(&shared.lines).waiting.extend(lines);
        let one_more = std::thread::spawn(move || {
            aside.attend();
            report(|| {});
        });
        one_more.join().unwrap();
        assert_eq!(waiting(), Aside::MOST_WAITING);
    }

    #[test]
    fn reports_are_made_in_their_order_although_each_takes_long() {
        let aside = Aside::new();
        let (done, all) = mpsc::channel();
        for number in 0..20 {
            let done = done.clone();
            aside.write(move || {
                // Far longer than the first of other jobs may take alone.
                std::thread::sleep(Aside::PATIENCE * (20 - number) / 2);
                done.send(number).unwrap();
            });
        }
        let written = Box::pin(aside.written());
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(written);
        assert!(all.try_iter().eq(0..20));
    }

    #[test]
    fn many_jobs_that_each_take_a_little_hold_up_none_for_long() {
        let aside = Aside::new();
        for _ in 0..1500 {
            aside.run(|| std::thread::sleep(Duration::from_millis(4)));
        }
        let (done, all) = mpsc::channel();
        aside.run(move || done.send(()).unwrap());
        // One by one they take six seconds.
        all.recv_timeout(Duration::from_secs(3)).unwrap();
    }
}
