//! Whether this is still the process in which something was built.
//!
//! A forked child has a copy of the memory and none of the threads: what waits for one of them waits
//! for ever, and a lock that one of them held stays locked. So everything here that has threads
//! asks first, before it takes a lock; what waits asks again at each poll.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, ErrorKind};

/// The process in which it was made, for what has threads: a forked child has none of them. Asking costs one load; only forks by `fork` are
/// seen, not those by a bare system call.
///
/// ```
/// use secret_resolver::backend::Process;
///
/// assert!(Process::current().is_this());
/// ```
#[derive(Clone, Debug)]
pub struct Process {
    /// `None` where forks cannot be watched: when memory ran out at the first try.
    guard: Option<forkguard::Guard>,
}

impl Process {
    /// This one.
    #[must_use]
    pub fn current() -> Self {
        Self {
            guard: forkguard::Guard::try_new().ok(),
        }
    }

    /// Whether this is still the process in which it was made.
    #[inline]
    #[must_use]
    pub fn is_this(&self) -> bool {
        // A copy is asked: a guard that has seen a fork does not report it twice.
        self.guard
            .as_ref()
            .is_none_or(|guard| !guard.clone().detected_fork())
    }

    /// What `future` answers; `None` in a forked child, at once, even when it was polled before the
    /// fork.
    ///
    /// # Cancel safety
    /// Dropping it drops the future. In a forked child that is left as it is: to end, it may need a lock.
    pub(crate) fn here<F: Future + Unpin>(&self, future: F) -> Here<'_, F> {
        Here {
            process: self,
            future: Some(future),
        }
    }
}

/// What [`Process::here`] returns.
#[must_use = "a future does nothing until it is awaited"]
pub(crate) struct Here<'a, F> {
    process: &'a Process,
    future: Option<F>,
}

impl<F> Here<'_, F> {
    fn leave(&mut self) {
        std::mem::forget(self.future.take());
    }
}

impl<F: Future + Unpin> Future for Here<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.process.is_this() {
            self.leave();
        }
        match &mut self.future {
            Some(future) => Pin::new(future).poll(cx).map(Some),
            None => Poll::Ready(None),
        }
    }
}

impl<F> Drop for Here<'_, F> {
    fn drop(&mut self) {
        if !self.process.is_this() {
            self.leave();
        }
    }
}

#[cold]
pub(crate) fn refused() -> Error {
    Error::new(
        ErrorKind::Refused,
        "the resolver was built before a fork; build it in the process that uses it, after daemonizing",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;

    use super::*;

    #[test]
    fn in_the_process_itself_what_waits_is_dropped_with_its_wait() {
        let process = Process::current();
        let held = Arc::new(());
        let inner = Arc::clone(&held);
        let mut wait = process.here(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(inner);
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut wait).poll(&mut cx).is_pending());
        assert_eq!(Arc::strong_count(&held), 2);
        drop(wait);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
