//! The thread on which the agent is asked. It is this identity's own, so a caller whose runtime stands still holds up no other, and what
//! goes wrong on it goes wrong there.

use std::future::Future;
use std::sync::Arc;

use secret_resolver::backend::report_aside;
use secret_resolver::{Error, ErrorKind};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::error;

/// It runs while somebody holds this.
pub(crate) struct Worker {
    runtime: Handle,
    /// Dropped with it, which ends the thread.
    _running: oneshot::Sender<()>,
}

impl Worker {
    /// # Errors
    /// [`ErrorKind::Overloaded`] when the thread cannot be started.
    pub(crate) fn start() -> Result<Arc<Self>, Error> {
        let overloaded = |_| {
            let what = "no thread can be started for the agent's messages; raise the limits on threads and files";
            error::new(ErrorKind::Overloaded, what)
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(overloaded)?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("secrets-spiffe".to_owned())
            .spawn(move || {
                report_aside();
                // Its sender is gone.
                let _ = runtime.block_on(ended);
            })
            .map_err(overloaded)?;
        Ok(Arc::new(Self {
            runtime: handle,
            _running: running,
        }))
    }

    pub(crate) fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.runtime.spawn(job).abort_handle()
    }
}
