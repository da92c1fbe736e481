//! The threads on which drivers run their jobs. The resolvers of a process share them.
//!
//! A thread has a small runtime, starts with its first user and ends with its last.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::aside::Aside;
use crate::error::{Error, ErrorKind};
use crate::foreign::contained;
use crate::fork::Process;
use crate::shared::{OfProcess, Place, living, shared};

pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;
type Jobs = mpsc::UnboundedReceiver<Job>;

/// One thread; it runs the jobs of its users until each of them ends its queue.
#[derive(Debug)]
pub(crate) struct Thread {
    users: mpsc::UnboundedSender<Jobs>,
    aside: Aside,
    process: Process,
}

/// The one thread for fetches: only our own code runs on it.
static FETCHES: Place<Thread> = Place::const_empty();

/// The threads for the code of stores.
static STORES: [Place<Thread>; Thread::MOST_STORES] =
    [const { Place::const_empty() }; Thread::MOST_STORES];

impl Thread {
    /// How many stores have their own thread. Further stores share these.
    pub(crate) const MOST_STORES: usize = 16;

    pub(crate) fn for_fetches() -> Result<Arc<Self>, Error> {
        shared(&FETCHES, || Self::start("secrets-fetch", false))
    }

    /// A thread that no other store uses, as long as there are few.
    pub(crate) fn for_a_store() -> Result<Arc<Self>, Error> {
        let users = |place: &&Place<Self>| match living(place) {
            // Without the reference of this look.
            Some(thread) => Arc::strong_count(&thread) - 1,
            None => 0,
        };
        // There is one: the array is not empty.
        let place = STORES.iter().min_by_key(users).unwrap_or(&STORES[0]);
        shared(place, || Self::start("secrets-store", true))
    }

    /// Starts a thread; `foreign` says whether backends run on it, which may want I/O and timers.
    fn start(name: &str, foreign: bool) -> Result<Self, Error> {
        let failed = |_: std::io::Error| {
            Error::new(
                ErrorKind::Overloaded,
                "a thread for fetches cannot be started; raise the limits on threads and files",
            )
        };
        let process = Process::current();
        let (users, queues) = mpsc::unbounded_channel();
        let (built, started) = std::sync::mpsc::sync_channel(1);
        let aside = Aside::new();
        let attends = aside.clone();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                attends.attend();
                // Made where it is dropped: a runtime must not be dropped within another, which a
                // thread that cannot be started would do.
                match runtime(foreign, attends) {
                    Ok(runtime) => {
                        let _ = built.send(Ok(()));
                        serve(runtime, queues);
                    }
                    Err(error) => {
                        let _ = built.send(Err(error));
                    }
                }
            })
            .map_err(failed)?;
        // The thread reports one of the two, unless it panics.
        match started.recv() {
            Ok(Ok(())) => Ok(Self {
                users,
                aside,
                process,
            }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed(std::io::Error::other("the thread panicked"))),
        }
    }

    /// Runs the jobs of one user until its queue ends; those that are not done by then are dropped.
    pub(crate) fn run(&self, jobs: Jobs) {
        let _ = self.users.send(jobs);
    }

    /// Where foreign code runs that must not hold up the jobs.
    pub(crate) fn aside(&self) -> &Aside {
        &self.aside
    }
}

impl OfProcess for Thread {
    fn process(&self) -> &Process {
        &self.process
    }
}

/// What is reported on its threads for blocking work goes aside, too.
fn runtime(foreign: bool, aside: Aside) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    if foreign {
        builder
            .enable_all()
            // Blocking work is only name resolution and small files. A name server that hangs holds
            // a thread for each look-up, so there are some to spare; they end when they are idle.
            .max_blocking_threads(32)
            .thread_name("secrets-blocking")
            .on_thread_start(move || aside.attend());
    }
    builder.build()
}

fn serve(runtime: Runtime, mut queues: mpsc::UnboundedReceiver<Jobs>) {
    runtime.block_on(async {
        while let Some(jobs) = queues.recv().await {
            tokio::spawn(of_one_user(jobs));
        }
    });
    // Waits for nothing: a name resolution that hangs must not keep the thread.
    runtime.shutdown_background();
}

/// Runs the jobs of one user. The end of its queue drops those that are not done.
async fn of_one_user(mut jobs: Jobs) {
    let mut under_way = JoinSet::new();
    let mut next = async || {
        poll_fn(|cx| {
            // What has ended is taken out, so that it holds no memory.
            while let Poll::Ready(Some(_)) = under_way.poll_join_next(cx) {}
            jobs.poll_recv(cx).map(|job| {
                // A job that panics ends alone.
                job.map(|job| under_way.spawn(contained(job)))
            })
        })
        .await
    };
    while next().await.is_some() {}
}
