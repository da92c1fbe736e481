//! A place for foreign code that may block: wakers of callers, above all.
//!
//! One thread calls what is given, in its order. Another watches it: when the first does not get on,
//! because somebody blocks it, the second goes on and a third watches. So whoever blocks holds up
//! nobody else for long. The threads start with the first job, and end when there was none for a while.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    /// Of the threads, those that are in a job.
    busy: usize,
    ended: bool,
}

impl Aside {
    /// So many jobs may block at once; all others then wait for one of them.
    const MOST: usize = 32;
    /// A job that takes longer, while others wait, is taken to block.
    const PATIENCE: Duration = Duration::from_millis(5);
    const IDLE: Duration = Duration::from_secs(10);

    pub(crate) fn new() -> Self {
        Self(Some(Arc::new(Owner(Arc::default()))))
    }

    /// One that runs each job where it is given, for the model check.
    #[cfg(test)]
    pub(crate) fn inline() -> Self {
        Self(None)
    }

    /// Runs `job` soon, and does not wait for it. What it panics with is its own.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let Some(Owner(shared)) = self.0.as_deref() else {
            foreign(job);
            return;
        };
        let mut state = lock(&shared.state);
        state.jobs.push_back(Box::new(job));
        // Who works and who watches.
        while state.threads < 2 {
            if !Shared::start(shared, &mut state) {
                break;
            }
        }
        let nobody = state.threads == 0;
        drop(state);
        shared.more.notify_one();
        // Without a thread to be had, here is better than never.
        while nobody && shared.run_next() {}
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.0.state).ended = true;
        self.0.more.notify_all();
    }
}

impl Shared {
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
                    (state, timed_out) = self.wait(state, Aside::IDLE);
                }
                if timed_out && state.jobs.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            }
            if state.busy > 0 {
                let begun = state.begun;
                state = self.wait(state, Aside::PATIENCE).0;
                if state.jobs.is_empty() || state.begun != begun || state.busy == 0 {
                    continue;
                }
                // They are stuck.
            }
            state.busy += 1;
            if state.busy == state.threads && state.threads < Aside::MOST {
                // Somebody has to watch this one, too.
                Self::start(&self, &mut state);
            }
            drop(state);
            self.run_next();
            state = lock(&self.state);
            state.busy -= 1;
        }
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
    ) -> (MutexGuard<'a, State>, bool) {
        let waited = self.more.wait_timeout(state, time);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }

    /// Runs the first in the queue; tells whether there was one.
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
}
