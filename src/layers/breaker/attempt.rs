//! One attempt, from its admission to what it has shown: reported exactly once, whatever becomes of it.

use crate::error::{Error, ErrorKind};
use crate::layers::breaker::endpoint::{Admission, Evidence};
use crate::layers::breaker::turns::Turns;
use crate::resolver::Request;
use crate::secret::Record;

/// An admitted attempt. Dropped without an outcome, it counts for nothing and frees its place.
pub(super) struct Attempt<'a> {
    turns: &'a Turns,
    endpoint: usize,
    /// Whether it is for the latest version.
    latest: bool,
    /// Whether another endpoint is asked next.
    alternative: bool,
    /// `None` when nothing is counted, or once it was.
    admission: Option<Admission>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(turns: &'a Turns, endpoint: usize, admission: Option<Admission>) -> Self {
        Self {
            turns,
            endpoint,
            latest: false,
            alternative: false,
            admission,
        }
    }

    pub(super) fn of(mut self, latest: bool, alternative: bool) -> Self {
        self.latest = latest;
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
        let fair = self.turns.config.fair_time;
        let hurried = request
            .deadline()
            .is_some_and(|deadline| deadline.since(began) < fair);
        let evidence = match answer {
            Err(error) if hurried && error.kind() == ErrorKind::Timeout => Evidence::Nothing,
            answer => Evidence::of(answer),
        };
        self.report(evidence, answer.as_ref().err());
    }

    fn report(&mut self, evidence: Evidence, failure: Option<&Error>) {
        if let Some(admission) = self.admission.take() {
            self.turns
                .settle(self.endpoint, self.latest, admission, evidence, failure);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.report(Evidence::Nothing, None);
    }
}
