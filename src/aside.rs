//! A place for foreign code that may block: wakers of callers, above all.
//!
//! A few threads that are started when they are needed, and one more while all others are busy. So
//! whoever blocks one holds up nobody else. They end when they have had nothing to do for a while.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::foreign::foreign;
use crate::sync::lock;

type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs on threads of its own. A clone shares them.
#[derive(Clone)]
pub(crate) struct Aside(Option<Arc<Shared>>);

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Aside {
    /// How many threads there are at most, each blocked by somebody.
    const MOST: usize = 64;
    const IDLE: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self(Some(Arc::new(Shared {
            queue: Mutex::default(),
            more: Condvar::new(),
        })))
    }

    /// One that runs each job where it is given, for the model check.
    #[cfg(test)]
    pub(crate) fn inline() -> Self {
        Self(None)
    }

    /// Runs `job` soon, and does not wait for it. What it panics with is its own.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let Some(shared) = &self.0 else {
            foreign(job);
            return;
        };
        let mut queue = lock(&shared.queue);
        queue.jobs.push_back(Box::new(job));
        if queue.idle >= queue.jobs.len() {
            drop(queue);
            shared.more.notify_one();
            return;
        }
        if queue.threads >= Self::MOST {
            return;
        }
        queue.threads += 1;
        drop(queue);
        let running = Arc::clone(shared);
        let started = std::thread::Builder::new()
            .name("secrets-aside".into())
            .stack_size(256 * 1024)
            .spawn(move || running.work());
        if started.is_err() {
            let mut queue = lock(&shared.queue);
            queue.threads -= 1;
            // Others will come to it; where there are none, it is done here.
            let alone = queue.threads == 0;
            let jobs = std::mem::take(&mut queue.jobs);
            if alone {
                drop(queue);
                for job in jobs {
                    foreign(job);
                }
            } else {
                queue.jobs = jobs;
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                foreign(job);
                queue = lock(&self.queue);
                continue;
            }
            queue.idle += 1;
            let waited = self.more.wait_timeout(queue, Aside::IDLE);
            let (mut woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            woken.idle -= 1;
            if timeout.timed_out() && woken.jobs.is_empty() {
                woken.threads -= 1;
                return;
            }
            queue = woken;
        }
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
