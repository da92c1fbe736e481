//! What runs the fetches of one cache, or the code of one store, whatever runtime a caller uses, or
//! none.
//!
//! A fetch that ran on its caller's runtime would die with it, or stand still while that runtime
//! is blocked or not driven, and with it every other caller that waits for the same secret. So
//! fetches have their own thread, and so has the code of each store: a backend is foreign code,
//! which may block its thread (`threads`). What must happen on time even then (deadlines, wiping)
//! stays on the clock's thread.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::aside::Aside;
use crate::error::Error;
use crate::fork::Process;
pub(crate) use crate::threads::Job;
use crate::threads::Thread;

/// Runs jobs until it is dropped; a job that is not done by then is dropped unfinished.
#[derive(Debug)]
pub(crate) struct Driver {
    jobs: mpsc::UnboundedSender<Job>,
    aside: Aside,
    process: Process,
    /// Lives as long as one of its users. None for a driver that only collects.
    _thread: Option<Arc<Thread>>,
}

impl Driver {
    /// For fetches: what runs here is our own code.
    pub(crate) fn for_fetches() -> Result<Self, Error> {
        Thread::for_fetches().map(Self::on)
    }

    /// For the code of one store.
    pub(crate) fn for_a_store() -> Result<Self, Error> {
        Thread::for_a_store().map(Self::on)
    }

    fn on(thread: Arc<Thread>) -> Self {
        let (jobs, queue) = mpsc::unbounded_channel();
        thread.run(queue);
        Self {
            jobs,
            aside: thread.aside().clone(),
            process: Process::current(),
            _thread: Some(thread),
        }
    }

    /// A driver that only collects its jobs, for the model check to run.
    #[cfg(test)]
    pub(crate) fn collecting() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (jobs, queue) = mpsc::unbounded_channel();
        let driver = Self {
            jobs,
            aside: Aside::inline(),
            process: Process::current(),
            _thread: None,
        };
        (driver, queue)
    }

    /// Where foreign code runs that must not hold up the jobs.
    pub(crate) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// Starts a job.
    ///
    /// A job that cannot be started is dropped; what it holds reports that to the waiters.
    pub(crate) fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        // The thread is not there in a forked child.
        if self.process.is_this() {
            let _ = self.jobs.send(Box::pin(job));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn a_job_that_panics_ends_alone() {
        let driver = Driver::for_a_store().unwrap();
        driver.spawn(async { panic!("of the test's own making") });
        let (done, answer) = oneshot::channel();
        driver.spawn(async {
            let _ = done.send(7);
        });
        assert_eq!(block_on(answer).unwrap(), 7);
    }

    #[test]
    fn dropping_it_drops_the_jobs_that_are_not_done_and_no_others() {
        let (driver, other) = (
            Driver::for_fetches().unwrap(),
            Driver::for_fetches().unwrap(),
        );
        let hangs = |driver: &Driver| {
            let (held, dropped) = oneshot::channel::<()>();
            driver.spawn(async {
                std::future::pending::<()>().await;
                drop(held);
            });
            dropped
        };
        let (dropped, mut goes_on) = (hangs(&driver), hangs(&other));
        drop(driver);
        assert!(block_on(dropped).is_err());
        assert!(
            goes_on
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        drop(other);
        assert!(block_on(goes_on).is_err());
    }
}
