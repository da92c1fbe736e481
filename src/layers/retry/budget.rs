//! How many retries all requests together may make: a share of what is asked, and no more.
//!
//! When a store dies, every request fails, and retries would multiply the load on it just when it
//! comes back. The budget bounds them by what was asked at first.

use std::sync::atomic::{AtomicU32, Ordering};

/// A bucket of hundredths of a retry.
#[derive(Debug)]
pub(super) struct Budget {
    hundredths: AtomicU32,
    most: u32,
    share: u32,
}

impl Budget {
    const ONE: u32 = 100;

    /// Full, with room for `most` retries; each first attempt adds `percent` of one.
    pub(super) fn new(most: u32, percent: u32) -> Self {
        let most = most.saturating_mul(Self::ONE);
        Self {
            hundredths: AtomicU32::new(most),
            most,
            share: percent,
        }
    }

    /// Notes a first attempt.
    pub(super) fn deposit(&self) {
        let add = |held: u32| Some(held.saturating_add(self.share).min(self.most));
        // The closure never declines, so neither does the update.
        let _ = self
            .hundredths
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
    }

    /// Takes one retry out, if there is one.
    pub(super) fn withdraw(&self) -> bool {
        self.hundredths
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                held.checked_sub(Self::ONE)
            })
            .is_ok()
    }
}
