//! Whether this is still the process in which something was built.
//!
//! A forked child has a copy of the memory and none of the threads: what waits for one of them waits
//! for ever, and a lock that one of them held stays locked. So everything here that has threads
//! asks first, before it takes a lock.

use crate::error::{Error, ErrorKind};

/// The process in which it was made. Asking costs one load; only forks by `fork` are seen, not those
/// by a bare system call.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// `None` where forks cannot be watched: for want of memory, once, in the beginning.
    guard: Option<forkguard::Guard>,
}

impl Process {
    pub(crate) fn current() -> Self {
        Self {
            guard: forkguard::Guard::try_new().ok(),
        }
    }

    #[inline]
    pub(crate) fn is_this(&self) -> bool {
        // A copy is asked, for one that has seen a fork does not tell it twice.
        self.guard
            .as_ref()
            .is_none_or(|guard| !guard.clone().detected_fork())
    }
}

#[cold]
pub(crate) fn refused() -> Error {
    Error::new(
        ErrorKind::Refused,
        "the resolver was built before a fork; build it in the process that uses it, after daemonizing",
    )
}
