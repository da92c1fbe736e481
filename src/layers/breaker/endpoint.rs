//! The state of one endpoint: a pure machine, moved only by what happens and when.
//!
//! Every change of state begins a new generation. An attempt remembers the one in which it was
//! admitted, and an answer that comes in another says nothing any more.

use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::breaker::BreakerConfig;
use crate::secret::Record;

/// Whether an endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// It is asked.
    Closed,
    /// It is not asked before this moment.
    Open {
        /// When the first trial is due. The state stays until somebody asks.
        until: Moment,
    },
    /// One attempt at a time is let through, to see whether the endpoint is back.
    HalfOpen {
        /// Since when a trial is under way; `None` while nobody tries.
        trial: Option<Moment>,
    },
}

/// What an attempt says about the health of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It answered, if only to refuse.
    Alive,
    /// It did not, in a way that counts.
    Failed,
    /// Nothing: it was not asked, not given its time, or the attempt was given up.
    Nothing,
}

/// What a change of state is to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened { wait: Duration },
    Closed,
}

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) state: BreakerState,
    /// Counted failures since the last answer.
    pub(super) failures: u32,
    /// How often it was opened since it was last closed.
    openings: u32,
    generation: u64,
}

impl Evidence {
    /// What `answer` says.
    ///
    /// Every error that the store's side sent is a sign of life, also one that refuses; what this
    /// process decided by itself is none.
    pub(super) fn of(answer: &Result<Record, Error>) -> Self {
        match answer {
            Ok(_) => Self::Alive,
            Err(error) if super::is_open(error) => Self::Nothing,
            Err(error) if error.kind().permits().counts_for_breaker => Self::Failed,
            Err(error) => match error.kind() {
                ErrorKind::Overloaded
                | ErrorKind::InvalidName
                | ErrorKind::Misconfigured
                | ErrorKind::Closed => Self::Nothing,
                _ => Self::Alive,
            },
        }
    }
}

impl Endpoint {
    pub(super) fn new() -> Self {
        Self {
            state: BreakerState::Closed,
            failures: 0,
            openings: 0,
            generation: 0,
        }
    }

    /// Admits an attempt, or does not; returns the generation in which it was.
    pub(super) fn admit(&mut self, now: Moment, config: &BreakerConfig) -> Option<u64> {
        if self.state == BreakerState::Closed {
            return Some(self.generation);
        }
        if self.admits_at(config) > now {
            return None;
        }
        // Also in place of a trial that is lost: it was begun long ago and never dropped.
        self.enter(BreakerState::HalfOpen { trial: Some(now) });
        Some(self.generation)
    }

    /// Lets an attempt be the trial from `now` on; one that fails leaves it open as the first does.
    pub(super) fn allow_trial(&mut self, now: Moment) {
        if let BreakerState::Open { until } = &mut self.state {
            *until = now.min(*until);
            self.openings = 0;
        }
    }

    /// From when on an attempt is admitted.
    pub(super) fn admits_at(&self, config: &BreakerConfig) -> Moment {
        match self.state {
            BreakerState::Closed | BreakerState::HalfOpen { trial: None } => Moment::ZERO,
            BreakerState::Open { until } => until,
            BreakerState::HalfOpen { trial: Some(since) } => since + config.longest_open,
        }
    }

    /// Takes in what an attempt that was admitted in `generation` has shown.
    pub(super) fn settle(
        &mut self,
        generation: u64,
        evidence: Evidence,
        now: Moment,
        config: &BreakerConfig,
    ) -> Option<Change> {
        if generation != self.generation {
            return None;
        }
        match (self.state, evidence) {
            (BreakerState::Closed, Evidence::Alive) => {
                self.failures = 0;
                None
            }
            (BreakerState::Closed, Evidence::Failed) => {
                self.failures = self.failures.saturating_add(1);
                let enough = self.failures >= config.failures;
                enough.then(|| self.open(now, config))
            }
            (BreakerState::HalfOpen { .. }, Evidence::Alive) => {
                self.failures = 0;
                self.openings = 0;
                self.enter(BreakerState::Closed);
                Some(Change::Closed)
            }
            (BreakerState::HalfOpen { .. }, Evidence::Failed) => {
                self.failures = self.failures.saturating_add(1);
                Some(self.open(now, config))
            }
            (BreakerState::HalfOpen { .. }, Evidence::Nothing) => {
                self.enter(BreakerState::HalfOpen { trial: None });
                None
            }
            // Opening begins a generation, in which nobody is admitted.
            (BreakerState::Closed | BreakerState::Open { .. }, _) => None,
        }
    }

    fn open(&mut self, now: Moment, config: &BreakerConfig) -> Change {
        let doubled = 2_u32.saturating_pow(self.openings);
        let wait = config.first_open.saturating_mul(doubled);
        let wait = wait.min(config.longest_open);
        self.openings = self.openings.saturating_add(1);
        self.enter(BreakerState::Open { until: now + wait });
        Change::Opened { wait }
    }

    fn enter(&mut self, state: BreakerState) {
        self.state = state;
        self.generation += 1;
    }
}
