//! The state of one endpoint: a pure machine, moved only by what happens and when.
//!
//! Every change of state begins a new generation. An attempt remembers the one in which it was
//! admitted, and an answer that comes in another says nothing any more, except that the store asks
//! to be left alone: that holds whenever it comes.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind};
use crate::layers::breaker::BreakerConfig;
use crate::secret::Record;
use crate::status::{EndpointStatus, Failure};

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
    /// It answered a record.
    Good,
    /// It answered about the secret, even if it refused.
    Alive,
    /// It did not answer, or answered nothing useful; and for how long it asks to be left alone.
    Bad(ErrorKind, Option<Duration>),
    /// Nothing: it was not asked, not given its time, or the attempt was given up.
    Nothing,
}

/// An attempt that was let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    generation: u64,
    /// Whether it has the place of names that the store has answered before.
    known: bool,
    pub(super) name: u64,
    pub(super) began: Moment,
}

/// What a log says about a change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened { wait: Duration, cause: ErrorKind },
    Closed,
}

#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) origin: Option<Arc<str>>,
    pub(super) last_failure: Option<Failure>,
    last_success: Option<Moment>,
    /// Why reads were kept out since the last useful answer.
    kept_out: Option<Failure>,
    pub(super) state: BreakerState,
    /// How many attempts are under way.
    pub(super) busy: u32,
    generation: u64,
    /// Counted failures since the last sign of life.
    failures: u32,
    /// The names, by their hashes, that got nothing useful since then. Each counts once: one broken
    /// record does not close a store, and a few that are read all the time do not either. No more
    /// than it takes to open.
    useless: Vec<u64>,
    /// The names that were throttled lately, and since when: a quota that others get something of is used
    /// up anyway.
    throttled: Vec<u64>,
    throttled_since: Moment,
    last_alive: Moment,
    /// The error that opened it, or has kept it open.
    pub(super) cause: ErrorKind,
    /// How often it was opened since it was last closed, and when last.
    openings: u32,
    opened: Moment,
    /// Before this moment no attempt is let through: the store has asked for it.
    pause: Moment,
    /// From when on a known name may try beside the trial.
    known_from: Moment,
    /// The generation since which the answers of known names count.
    known_since: u64,
}

impl Evidence {
    /// What `answer` says. What this process decided on its own says nothing.
    pub(super) fn of(answer: &Result<Record, Error>) -> Self {
        let error = match answer {
            Ok(_) => return Self::Good,
            Err(error) => error,
        };
        match error.kind() {
            _ if error.is_held_back() => Self::Nothing,
            ErrorKind::Overloaded
            | ErrorKind::InvalidName
            | ErrorKind::Misconfigured
            | ErrorKind::Closed => Self::Nothing,
            // One name's answer, which closes the store for no other.
            ErrorKind::NotFound | ErrorKind::Denied => Self::Alive,
            // The delay is about logins, which the backend holds back itself, unless it is given another
            // credential meanwhile.
            kind @ ErrorKind::Unauthenticated => Self::Bad(kind, None),
            kind => Self::Bad(kind, error.retry_after().filter(|wait| !wait.is_zero())),
        }
    }
}

impl Endpoint {
    /// The longest time for which a store is left alone because it asks for it.
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);

    /// How long others wait for a trial: one at a store that is healthy again takes no longer.
    const TRIAL: Duration = Duration::from_millis(500);

    /// How many names that get nothing useful weigh as much as one failure.
    const USELESS: usize = 4;

    /// Notes that it has answered, for the status.
    pub(super) fn note_answer(&mut self, now: Moment) {
        self.last_success = Some(now);
        self.kept_out = None;
    }

    /// Notes a failure that it gave, for the status. One of a read for the latest version may be its leader's.
    pub(super) fn note_failure(&mut self, failure: Failure, latest: bool) {
        if failure.kind.is_of_access() && !latest {
            self.kept_out = Some(failure.clone());
        }
        self.last_failure = Some(failure);
    }

    pub(super) fn status(&self) -> EndpointStatus {
        EndpointStatus {
            origin: self.origin.as_deref().map(str::to_owned),
            breaker: self.state,
            kept_out: self.kept_out.clone(),
            failures: self.failures(),
            last_success: self.last_success,
            last_failure: self.last_failure.clone(),
        }
    }

    /// Its origin and what went wrong there last.
    pub(super) fn last_failure(&self) -> Option<String> {
        let last = self.last_failure.as_ref()?;
        Some(match &self.origin {
            Some(origin) => format!("{origin}: {last}"),
            None => last.to_string(),
        })
    }

    pub(super) fn new(origin: Option<Arc<str>>) -> Self {
        Self {
            origin,
            last_failure: None,
            last_success: None,
            kept_out: None,
            state: BreakerState::Closed,
            busy: 0,
            generation: 0,
            failures: 0,
            useless: Vec::new(),
            throttled: Vec::new(),
            throttled_since: Moment::ZERO,
            last_alive: Moment::ZERO,
            cause: ErrorKind::Unavailable,
            openings: 0,
            opened: Moment::ZERO,
            pause: Moment::ZERO,
            known_from: Moment::ZERO,
            known_since: 0,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// Whether it is closed, and its last answers were useful.
    pub(super) fn answers(&self) -> bool {
        self.is_closed() && self.failures() == 0
    }

    /// Admits an attempt for a name, or does not. `alone` says that no endpoint answers.
    pub(super) fn admit(
        &mut self,
        name: u64,
        alone: bool,
        now: Moment,
        config: &BreakerConfig,
    ) -> Option<Admission> {
        if self.admits_at(alone, config) > now {
            return None;
        }
        if self.state != BreakerState::Closed {
            // Even in place of a trial that is lost: it was begun long ago and never dropped.
            self.enter(BreakerState::HalfOpen { trial: Some(now) });
        }
        Some(self.admission(false, name, now))
    }

    /// Admits an attempt for a name that the store has answered before, although it is open or another
    /// tries: otherwise a flood of names that fail could have every trial.
    pub(super) fn admit_known(
        &mut self,
        name: u64,
        now: Moment,
        config: &BreakerConfig,
    ) -> Option<Admission> {
        if now < self.known_from.max(self.pause) {
            return None;
        }
        self.known_from = now + config.first_open;
        Some(self.admission(true, name, now))
    }

    /// Lets an attempt be the trial from `now` on, but not before the store wants to be asked; one
    /// that fails leaves it open as the first does.
    pub(super) fn allow_trial(&mut self, now: Moment) {
        if let BreakerState::Open { until } = &mut self.state {
            *until = now.min(*until).max(self.pause);
            self.openings = 0;
        }
    }

    /// From when on an attempt is admitted. In an outage it makes sense to wait longer and longer only
    /// while another endpoint answers.
    pub(super) fn admits_at(&self, alone: bool, config: &BreakerConfig) -> Moment {
        match self.state {
            BreakerState::Closed | BreakerState::HalfOpen { trial: None } => Moment::ZERO,
            BreakerState::Open { until } if alone && self.cause.permits().counts_for_breaker => {
                until.min(self.opened + config.first_open).max(self.pause)
            }
            BreakerState::Open { until } => until,
            BreakerState::HalfOpen { trial: Some(since) } => since + config.longest_open,
        }
    }

    /// When it may be worth to ask again: a trial that is under way ends soon.
    pub(super) fn worth_asking_at(
        &self,
        alone: bool,
        now: Moment,
        config: &BreakerConfig,
    ) -> Moment {
        let at = self.admits_at(alone, config);
        match self.state {
            BreakerState::HalfOpen { trial: Some(_) } => at.min(now + config.first_open),
            _ => at,
        }
    }

    /// Until when it is worth to wait for the trial that is under way, if one is.
    pub(super) fn trial_until(&self) -> Option<Moment> {
        match self.state {
            BreakerState::HalfOpen { trial: Some(since) } => Some(since + Self::TRIAL),
            _ => None,
        }
    }

    /// What was counted against it since the last sign of life.
    pub(super) fn failures(&self) -> u32 {
        // There are no more of them than a few times a number of failures.
        let useless = u32::try_from(self.useless.len()).unwrap_or(u32::MAX);
        self.failures.saturating_add(useless)
    }

    /// Takes in what an attempt that was admitted has shown.
    pub(super) fn settle(
        &mut self,
        admission: Admission,
        evidence: Evidence,
        now: Moment,
        config: &BreakerConfig,
    ) -> Option<Change> {
        self.busy = self.busy.saturating_sub(1);
        if let Evidence::Bad(kind, Some(asked)) = evidence {
            self.count(kind, admission.name, config);
            return self.leave_alone(kind, asked, now, config);
        }
        if let Evidence::Bad(kind @ ErrorKind::Throttled, None) = evidence
            && self.is_used_up(admission.name, now, config)
        {
            return self.leave_alone(kind, config.first_open, now, config);
        }
        let closed = self.state == BreakerState::Closed;
        let counts = match admission.known {
            true => !closed && admission.generation == self.known_since,
            false => admission.generation == self.generation,
        };
        match evidence {
            _ if !counts => None,
            Evidence::Good | Evidence::Alive => {
                self.failures = 0;
                self.useless.clear();
                self.openings = 0;
                self.last_alive = now;
                if closed {
                    return None;
                }
                self.enter(BreakerState::Closed);
                Some(Change::Closed)
            }
            // It has answered others since this attempt began.
            Evidence::Bad(..) if closed && admission.began < self.last_alive => None,
            Evidence::Bad(kind, _) if admission.known => {
                // It prolongs nothing. But a store that answers, even nothing useful, is not away.
                if !kind.permits().counts_for_breaker {
                    self.cause = kind;
                }
                None
            }
            Evidence::Bad(kind, _) => {
                let enough = self.count(kind, admission.name, config);
                match enough || !closed {
                    true => self.open(kind, now, config),
                    false => None,
                }
            }
            Evidence::Nothing => {
                if !closed && !admission.known {
                    self.enter(BreakerState::HalfOpen { trial: None });
                }
                None
            }
        }
    }

    /// Notes a name that was throttled. Returns whether so many were throttled lately that the names themselves
    /// are not the reason.
    fn is_used_up(&mut self, name: u64, now: Moment, config: &BreakerConfig) -> bool {
        if now.since(self.throttled_since) >= config.first_open {
            self.throttled.clear();
            self.throttled_since = now;
        }
        if !self.throttled.contains(&name) {
            self.throttled.push(name);
        }
        self.throttled.len() >= Self::most_useless(config)
    }

    fn most_useless(config: &BreakerConfig) -> usize {
        (config.failures as usize).saturating_mul(Self::USELESS)
    }

    /// Counts an error, and returns whether it is one too many.
    fn count(&mut self, kind: ErrorKind, name: u64, config: &BreakerConfig) -> bool {
        let most = Self::most_useless(config);
        if kind.permits().counts_for_breaker {
            self.failures = self.failures.saturating_add(1);
        } else if self.useless.len() < most && !self.useless.contains(&name) {
            self.useless.push(name);
        }
        let enough = self.failures >= config.failures;
        enough || self.useless.len() >= most
    }

    fn open(&mut self, kind: ErrorKind, now: Moment, config: &BreakerConfig) -> Option<Change> {
        let doubled = 2_u32.saturating_pow(self.openings);
        let wait = config.first_open.saturating_mul(doubled);
        let wait = wait.min(config.longest_open);
        self.openings = self.openings.saturating_add(1);
        let was_closed = self.state == BreakerState::Closed;
        self.cause = kind;
        self.opened = now;
        self.enter(BreakerState::Open { until: now + wait });
        if was_closed {
            // At once: five failures of a flood need not be those of the names that are known.
            self.known_from = now;
            self.known_since = self.generation;
        }
        was_closed.then_some(Change::Opened { wait, cause: kind })
    }

    /// Opens it for as long as the store asks for, within bounds.
    fn leave_alone(
        &mut self,
        kind: ErrorKind,
        asked: Duration,
        now: Moment,
        config: &BreakerConfig,
    ) -> Option<Change> {
        let wait = asked.clamp(config.first_open, Self::LONGEST_PAUSE);
        let news = self.pause <= now;
        self.pause = self.pause.max(now + wait);
        self.cause = kind;
        let until = match self.state {
            BreakerState::Open { until } => until.max(self.pause),
            _ => self.pause,
        };
        self.enter(BreakerState::Open { until });
        // No answer to an earlier attempt may close it.
        self.known_since = self.generation;
        news.then_some(Change::Opened { wait, cause: kind })
    }

    /// Leaves it alone for as long as another breaker of the same endpoint does.
    pub(super) fn leave_alone_like(&mut self, other: &Self, now: Moment, config: &BreakerConfig) {
        if other.pause > self.pause && other.pause > now {
            let _ = self.leave_alone(other.cause, other.pause.since(now), now, config);
        }
    }

    fn admission(&mut self, known: bool, name: u64, began: Moment) -> Admission {
        self.busy = self.busy.saturating_add(1);
        let generation = if known {
            self.known_since
        } else {
            self.generation
        };
        Admission {
            generation,
            known,
            name,
            began,
        }
    }

    fn enter(&mut self, state: BreakerState) {
        self.state = state;
        self.generation += 1;
    }
}
