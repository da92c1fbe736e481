//! One attempt, from its admission to what it has shown: told exactly once, whatever becomes of it.

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::breaker::Core;
use crate::layers::breaker::endpoint::Evidence;
use crate::resolver::Request;
use crate::secret::Record;

/// An admitted attempt. Dropped without an outcome, it counts for nothing and frees its place.
pub(super) struct Attempt<'a> {
    core: &'a Core,
    endpoint: usize,
    /// `None` when nothing is counted, or once it was.
    generation: Option<u64>,
    began: Moment,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        core: &'a Core,
        endpoint: usize,
        generation: Option<u64>,
        began: Moment,
    ) -> Self {
        Self {
            core,
            endpoint,
            generation,
            began,
        }
    }

    pub(super) fn direct<'r>(&self, request: Request<'r>) -> Request<'r> {
        request.at_endpoint(self.endpoint)
    }

    /// What an answer shows, if the endpoint had a fair time to give a better one.
    pub(super) fn evidence(
        &self,
        request: &Request<'_>,
        answer: &Result<Record, Error>,
    ) -> Evidence {
        let hurried = request
            .deadline()
            .is_some_and(|deadline| deadline.since(self.began) < self.core.config.fair_time);
        match answer {
            Err(error) if hurried && error.kind() == ErrorKind::Timeout => Evidence::Nothing,
            answer => Evidence::of(answer),
        }
    }

    pub(super) fn settle(mut self, evidence: Evidence) {
        if let Some(generation) = self.generation.take() {
            self.core.settle(self.endpoint, generation, evidence);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.take() {
            self.core
                .settle(self.endpoint, generation, Evidence::Nothing);
        }
    }
}
