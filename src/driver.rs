//! The thread on which fetches run, whatever runtime a caller uses, or none.
//!
//! A fetch that ran on its caller's runtime would die with it, or stand still while that runtime
//! is blocked or not driven, and with it every other caller who waits for the same secret. So a
//! resolver has a small runtime of its own for its fetches, and one for each store: a backend is
//! foreign code, which may block its thread. What must happen on time even then (deadlines, wiping)
//! stays on the clock's thread.

use std::future::Future;
use std::pin::Pin;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::aside::Aside;
use crate::error::{Error, ErrorKind};
use crate::foreign::contained;
use crate::fork::Process;

pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

const FETCHES: &str = "secrets-fetch";

/// Runs jobs until it is dropped; a job that is not done by then is dropped unfinished.
#[derive(Debug)]
pub(crate) struct Driver {
    jobs: mpsc::UnboundedSender<Job>,
    aside: Aside,
    process: Process,
}

impl Driver {
    /// For a cache alone, whose backend runs here, too.
    pub(crate) fn start() -> Result<Self, Error> {
        Self::named(FETCHES, true)
    }

    /// For the fetches of a stack whose stores have threads of their own: what runs here is ours.
    pub(crate) fn of_our_own() -> Result<Self, Error> {
        Self::named(FETCHES, false)
    }

    /// For the code of one store.
    pub(crate) fn of_a_store() -> Result<Self, Error> {
        Self::named("secrets-store", true)
    }

    /// Starts the thread; `foreign` says whether backends run on it, which may want I/O and timers.
    fn named(name: &str, foreign: bool) -> Result<Self, Error> {
        let failed = |_: std::io::Error| {
            Error::new(
                ErrorKind::Overloaded,
                "a thread for fetches cannot be started; raise the limits on threads and files",
            )
        };
        let process = Process::current();
        let (jobs, queue) = mpsc::unbounded_channel::<Job>();
        let (built, started) = std::sync::mpsc::sync_channel(1);
        let aside = Aside::new();
        // Reports from our own code must not hold it up; a backend's log is up to the backend.
        let attends = (name == FETCHES).then(|| aside.clone());
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                if let Some(aside) = attends {
                    aside.attend();
                }
                // Made where it is dropped: a runtime must not be dropped within another, which a
                // thread that cannot be started would do.
                match runtime(foreign) {
                    Ok(runtime) => {
                        let _ = built.send(Ok(()));
                        drive(runtime, queue);
                    }
                    Err(error) => {
                        let _ = built.send(Err(error));
                    }
                }
            })
            .map_err(failed)?;
        // The thread says one of both, unless it panics.
        match started.recv() {
            Ok(Ok(())) => Ok(Self {
                jobs,
                aside,
                process,
            }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(std::io::Error::other("the thread panicked"))),
        }
    }

    /// A driver that only collects its jobs, for the model check to run.
    #[cfg(test)]
    pub(crate) fn collecting() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (aside, process) = (Aside::inline(), Process::current());
        let driver = Self {
            jobs,
            aside,
            process,
        };
        (driver, queue)
    }

    /// Where foreign code runs that must not hold up the jobs.
    pub(crate) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// Starts a job.
    ///
    /// A job that cannot be started is dropped; what it holds tells those who wait for it.
    pub(crate) fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        // The thread is not there in a forked child.
        if self.process.is_this() {
            let _ = self.jobs.send(Box::pin(job));
        }
    }
}

fn runtime(foreign: bool) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if foreign {
        builder
            .enable_all()
            // Blocking work is only name resolution and small files. A name server that hangs holds
            // a thread for each look-up, so there are some to spare; they end when they are idle.
            .max_blocking_threads(32)
            .thread_name("secrets-blocking");
    }
    builder.build()
}

fn drive(runtime: Runtime, mut queue: mpsc::UnboundedReceiver<Job>) {
    runtime.block_on(async {
        while let Some(job) = queue.recv().await {
            // A job that panics ends alone.
            tokio::spawn(contained(job));
        }
    });
    // Waits for nothing: a name resolution that hangs must not keep the thread.
    runtime.shutdown_background();
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
        let driver = Driver::start().unwrap();
        driver.spawn(async { panic!("of the test's own making") });
        let (done, answer) = oneshot::channel();
        driver.spawn(async {
            let _ = done.send(7);
        });
        assert_eq!(block_on(answer).unwrap(), 7);
    }

    #[test]
    fn dropping_it_drops_the_jobs_that_are_not_done() {
        let driver = Driver::start().unwrap();
        let (held, dropped) = oneshot::channel::<()>();
        driver.spawn(async {
            std::future::pending::<()>().await;
            drop(held);
        });
        drop(driver);
        assert!(block_on(dropped).is_err());
    }
}
