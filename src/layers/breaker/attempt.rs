//! One attempt, from its admission to what it has shown: told exactly once, whatever becomes of it.

use crate::error::{Error, ErrorKind};
use crate::layers::breaker::Core;
use crate::layers::breaker::endpoint::{Admission, Evidence};
use crate::resolver::Request;
use crate::secret::Record;

/// An admitted attempt. Dropped without an outcome, it counts for nothing and frees its place.
pub(super) struct Attempt<'a> {
    core: &'a Core,
    endpoint: usize,
    /// Whether another endpoint is asked next.
    alternative: bool,
    /// `None` when nothing is counted, or once it was.
    admission: Option<Admission>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(core: &'a Core, endpoint: usize, admission: Option<Admission>) -> Self {
        Self {
            core,
            endpoint,
            alternative: false,
            admission,
        }
    }

    pub(super) fn with_alternative(mut self, alternative: bool) -> Self {
        self.alternative = alternative;
        self
    }

    pub(super) fn endpoint(&self) -> usize {
        self.endpoint
    }

    pub(super) fn direct<'r>(&self, request: Request<'r>) -> Request<'r> {
        request
            .at_endpoint(self.endpoint)
            .with_alternative(self.alternative)
    }

    /// Reports what the answer shows, if the endpoint had a fair time to give a better one.
    pub(super) fn settle(mut self, request: &Request<'_>, answer: &Result<Record, Error>) {
        let Some(began) = self.admission.map(|admission| admission.began) else {
            return;
        };
        let fair = self.core.config.fair_time;
        let hurried = request
            .deadline()
            .is_some_and(|deadline| deadline.since(began) < fair);
        self.tell(match answer {
            Err(error) if hurried && error.kind() == ErrorKind::Timeout => Evidence::Nothing,
            answer => Evidence::of(answer),
        });
    }

    fn tell(&mut self, evidence: Evidence) {
        if let Some(admission) = self.admission.take() {
            self.core.settle(self.endpoint, admission, evidence);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.tell(Evidence::Nothing);
    }
}
