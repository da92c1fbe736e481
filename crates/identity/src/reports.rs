//! What one source reports of itself, for `status()`.

use std::sync::Mutex;

use secret_resolver::{Error, Failure, IdentityStatus, Moment};
use spiffe::SpiffeId;

use crate::identity::lock;

#[derive(Default)]
pub(crate) struct Reports(Mutex<Last>);

#[derive(Default)]
struct Last {
    ends: Option<Moment>,
    update: Option<Moment>,
    failure: Option<Failure>,
}

impl Reports {
    /// The agent has given something.
    pub(crate) fn updated(&self, now: Moment) {
        lock(&self.0).update = Some(now);
    }

    /// What was given ends then; or there is nothing.
    pub(crate) fn ends(&self, ends: Option<Moment>) {
        lock(&self.0).ends = ends;
    }

    pub(crate) fn failed(&self, error: &Error, now: Moment) {
        lock(&self.0).failure = Some(Failure::of(error, now));
    }

    pub(crate) fn status(&self, id: &SpiffeId) -> IdentityStatus {
        let last = lock(&self.0);
        let mut status = IdentityStatus::new(id.to_string());
        status.ends = last.ends;
        status.last_update = last.update;
        status.last_failure = last.failure.clone();
        status
    }
}
