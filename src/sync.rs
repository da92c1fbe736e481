//! Locking without panics, and the points at which a model check interleaves.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`, even after a holder has panicked.
///
/// Every critical section of this crate leaves its data whole at each step, so a poisoned lock
/// says nothing more than that some thread has panicked; refusing every later `get` because of it would
/// turn one bug into an outage.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A point at which another thread may run, where no lock is held. Nothing but in the model check,
/// which runs other tasks here.
#[inline(always)]
pub(crate) fn preempt() {
    #[cfg(test)]
    crate::layers::cache::model::preempted();
}
