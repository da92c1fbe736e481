//! Whose turn it is: which endpoint an attempt goes to, whether it waits for a trial, and what is said when none
//! lets it through.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::aside::report;
use crate::clock::{Clock, Moment};
use crate::error::{Error, ErrorKind};
use crate::in_time::{TimeLimit, in_time};
use crate::layers::breaker::BreakerConfig;
use crate::layers::breaker::attempt::Attempt;
use crate::layers::breaker::endpoint::{Admission, Change, Endpoint, Evidence};
use crate::layers::breaker::known::Known;
use crate::resolver::{Request, SecretResolver};
use crate::status::{EndpointStatus, Failure};
use crate::sync::lock;

/// The endpoints of a store, and the waiters for them.
pub(super) struct Turns {
    clock: Arc<dyn Clock>,
    pub(super) config: BreakerConfig,
    /// Whether attempts are spread over the endpoints; else the first that answers is preferred.
    spreads: bool,
    pub(super) state: Mutex<State>,
    /// Wakes those that wait for a trial.
    settled: Notify,
}

pub(super) struct State {
    pub(super) endpoints: Box<[Endpoint]>,
    /// The same for requests for the latest version: one that cannot reach its leader may well answer others.
    latest: Box<[Endpoint]>,
    /// Whose turn it is, where attempts are spread.
    next: usize,
    pub(super) known: Known,
    /// Why no endpoint was asked at the last read, where that is not the breakers' doing.
    held_back: Option<Failure>,
    closed: bool,
}

impl Turns {
    /// For as many endpoints as `store` has now.
    pub(super) fn new(
        store: &impl SecretResolver,
        clock: Arc<dyn Clock>,
        config: BreakerConfig,
    ) -> Self {
        let number = store.endpoints().max(1);
        let origins = store.origins();
        let origin = |at: usize| origins.get(at).map(|origin| Arc::from(origin.as_str()));
        let endpoints = || (0..number).map(|at| Endpoint::new(origin(at))).collect();
        Self {
            clock,
            config,
            spreads: store.spreads(),
            state: Mutex::new(State {
                endpoints: endpoints(),
                latest: endpoints(),
                next: 0,
                known: Known::new(),
                held_back: None,
                closed: false,
            }),
            settled: Notify::new(),
        }
    }

    pub(super) fn allow_trial(&self) {
        let now = self.clock.now();
        let state = &mut *lock(&self.state);
        for endpoint in state.endpoints.iter_mut().chain(&mut state.latest) {
            endpoint.allow_trial(now);
        }
    }

    /// Lets nothing through from now on. An open breaker must not hide that all is over.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.settled.notify_waiters();
    }

    /// Admits an attempt, perhaps after the trial that is under way: it ends soon where the store is healthy
    /// again, and what it shows is worth more than a refusal.
    ///
    /// # Cancel safety
    /// Nothing is held while it waits.
    pub(super) async fn admit_or_wait(&self, request: &Request<'_>) -> Result<Attempt<'_>, Error> {
        loop {
            let mut settled = pin!(self.settled.notified());
            // From here on no end of a trial is missed.
            settled.as_mut().enable();
            let (refusal, until) = match self.admit(request) {
                Ok(attempt) => return Ok(attempt),
                Err(refused) => refused,
            };
            let clock = &*self.clock;
            let end = request.ends(clock).unwrap_or(Moment::NEVER);
            let until = until.filter(|until| clock.now() < *until && *until < end);
            let Some(until) = until else {
                return Err(refusal);
            };
            let _ = in_time(TimeLimit::strict(clock, until), settled).await;
        }
    }

    /// Admits an attempt at the endpoint that it is directed to, or at the best that lets it through. If
    /// none does, says until when it is worth to wait for a trial.
    fn admit(&self, request: &Request<'_>) -> Result<Attempt<'_>, (Error, Option<Moment>)> {
        let now = self.clock.now();
        let state = &mut *lock(&self.state);
        if state.closed {
            let closed = Error::new(ErrorKind::Closed, "the resolver was shut down");
            return Err((closed, None));
        }
        let (asked, number) = (request.endpoint(), state.endpoints.len());
        if let Some(nowhere) = asked.filter(|&endpoint| endpoint >= number) {
            // The backend says what that means.
            return Ok(Attempt::new(self, nowhere, None));
        }
        let latest = request.wants_latest();
        let mut tries: Vec<usize> = match asked {
            Some(endpoint) => vec![endpoint],
            None if self.spreads => state.by_turns(),
            None => (0..number).collect(),
        };
        tries.retain(|&endpoint| request.may_ask(endpoint));
        if tries.is_empty() {
            // No outage: each has answered.
            let all = Error::new(ErrorKind::Refused, "every endpoint was asked before");
            return Err((all.with_backend("breaker").held_back(), None));
        }
        if latest {
            // An endpoint that answers no other request does not answer this one either.
            tries.sort_by_key(|&at| !state.endpoints.get(at).is_some_and(Endpoint::is_closed));
        }
        let tries = tries.iter().copied();
        let name = state.known.hash(request.name());
        let is_known = state.known.has(name);
        let endpoints = state.of(latest);
        let alone = !endpoints.iter().any(Endpoint::answers);
        let config = &self.config;
        let mut first = |admit: &dyn Fn(&mut Endpoint) -> Option<Admission>| {
            tries
                .clone()
                .find_map(|at| Some((at, admit(endpoints.get_mut(at)?)?)))
        };
        let mut admitted = first(&|endpoint| endpoint.admit(name, alone, now, config));
        if admitted.is_none() && is_known {
            admitted = first(&|endpoint| endpoint.admit_known(name, now, config));
        }
        let mut closed = tries.filter_map(|at| Some((at, endpoints.get(at)?)));
        let Some((endpoint, admission)) = admitted else {
            let closed = closed.map(|(_, endpoint)| endpoint);
            let until = closed.clone().filter_map(Endpoint::trial_until).max();
            return Err((refusal(closed, alone, now, config), until));
        };
        // A standby may hold a request for a leader that is away until it knows another: it is asked again then.
        let again = latest && number > 1;
        let other = again || closed.any(|(at, other)| at != endpoint && other.is_closed());
        if asked.is_none() {
            state.next = (endpoint + 1) % number;
        }
        let attempt = Attempt::new(self, endpoint, Some(admission));
        Ok(attempt.of(latest, other))
    }

    pub(super) fn settle(
        &self,
        endpoint: usize,
        latest: bool,
        admission: Admission,
        evidence: Evidence,
        failure: Option<&Error>,
    ) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        // Of reads of either kind: it is one server.
        state.note(endpoint, latest, evidence, failure, now);
        if evidence == Evidence::Good {
            state.known.note(admission.name);
        }
        let breaker = state.of(latest).get_mut(endpoint);
        let change =
            breaker.and_then(|breaker| breaker.settle(admission, evidence, now, &self.config));
        state.share_pause(endpoint, now, &self.config);
        let shown = state.endpoints.get(endpoint);
        let origin = shown.and_then(|shown| shown.origin.clone());
        let last = shown.and_then(|shown| shown.last_failure.clone());
        drop(state);
        self.settled.notify_waiters();
        // Reported outside the lock: a subscriber is foreign code.
        match change {
            Some(Change::Opened { wait, cause }) => report(move || {
                let (origin, last) = (origin.as_deref(), last.map(|last| last.to_string()));
                tracing::warn!(
                    endpoint,
                    origin,
                    ?wait,
                    ?cause,
                    last,
                    "the breaker of an endpoint opened"
                );
            }),
            Some(Change::Closed) => report(move || {
                let origin = origin.as_deref();
                tracing::info!(endpoint, origin, "the breaker of an endpoint closed");
            }),
            None => {}
        }
    }

    pub(super) fn status(&self) -> Vec<EndpointStatus> {
        lock(&self.state).status()
    }

    pub(super) fn held_back(&self) -> Option<Failure> {
        lock(&self.state).held_back.clone()
    }
}

impl State {
    /// The breakers for requests for the latest version, or for all others.
    fn of(&mut self, latest: bool) -> &mut [Endpoint] {
        match latest {
            true => &mut self.latest,
            false => &mut self.endpoints,
        }
    }

    /// Notes what an attempt has shown, for the status: at the endpoint that gave it. What this process has
    /// decided on its own is of no endpoint that it does not name: a login that is held back may have failed at
    /// another.
    fn note(
        &mut self,
        endpoint: usize,
        latest: bool,
        evidence: Evidence,
        failure: Option<&Error>,
        now: Moment,
    ) {
        if matches!(evidence, Evidence::Good | Evidence::Alive) {
            self.held_back = None;
            if let Some(answered) = self.endpoints.get_mut(endpoint) {
                answered.note_answer(now);
            }
            return;
        }
        let Some(error) = failure else {
            return;
        };
        let failure = Failure::of(error, now);
        if error.is_held_back() && error.kind().is_of_access() {
            self.held_back = Some(failure.clone());
        }
        let asked = (!error.is_held_back()).then_some(endpoint);
        let gave = self.named_by(error).or(asked);
        if let Some(gave) = gave.and_then(|gave| self.endpoints.get_mut(gave)) {
            gave.note_failure(failure, latest);
        }
    }

    /// The endpoint whose origin the error names: a login that one endpoint needs may fail at another.
    fn named_by(&self, error: &Error) -> Option<usize> {
        let detail = error.detail()?;
        let names = |endpoint: &Endpoint| {
            let rest = detail.strip_prefix(endpoint.origin.as_deref()?)?;
            // Not only the beginning of another: a port has more digits.
            let ends = !rest.starts_with(|next: char| next.is_alphanumeric());
            ends.then_some(())
        };
        let mut endpoints = self.endpoints.iter();
        endpoints.position(|endpoint| names(endpoint).is_some())
    }

    /// A store that wants to be left alone wants that from all.
    fn share_pause(&mut self, endpoint: usize, now: Moment, config: &BreakerConfig) {
        let both = (
            self.endpoints.get_mut(endpoint),
            self.latest.get_mut(endpoint),
        );
        if let (Some(one), Some(other)) = both {
            one.leave_alone_like(other, now, config);
            other.leave_alone_like(one, now, config);
        }
    }

    /// The endpoints in the order in which they are asked where attempts are spread: those with the least
    /// under way first, so that one which is slow does not get as many as the others; and by turns.
    fn by_turns(&self) -> Vec<usize> {
        let number = self.endpoints.len();
        let mut order: Vec<usize> = (0..number)
            .map(|step| (self.next + step) % number)
            .collect();
        // Stable: among equals it is whose turn it is.
        let busy = |of: &[Endpoint], at| of.get(at).map_or(0, |endpoint: &Endpoint| endpoint.busy);
        order.sort_by_key(|&at| busy(&self.endpoints, at) + busy(&self.latest, at));
        order
    }

    fn status(&self) -> Vec<EndpointStatus> {
        self.endpoints.iter().map(Endpoint::status).collect()
    }
}

/// The answer when none of `endpoints` lets an attempt through.
///
/// It is an outage only where each of them has one: no exception of a policy may follow from a store
/// that answers, even nothing useful.
fn refusal<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint> + Clone,
    alone: bool,
    now: Moment,
    config: &BreakerConfig,
) -> Error {
    let at = |endpoint: &&Endpoint| endpoint.worth_asking_at(alone, now, config);
    let soonest = endpoints.clone().min_by_key(at);
    let useless = endpoints
        .filter(|endpoint| !endpoint.cause.permits().counts_for_breaker)
        .min_by_key(at);
    let kind = useless.map_or(ErrorKind::Unavailable, |endpoint| endpoint.cause);
    let what = match kind {
        ErrorKind::Unavailable => {
            "the breaker is open: the store failed, and is left alone for now"
        }
        _ => {
            "the breaker is open: the store gave this answer or asked for a pause, and is left alone"
        }
    };
    let until = soonest.as_ref().map_or(now, at);
    let error = Error::new(kind, what)
        .with_backend("breaker")
        .with_retry_after(until.since(now))
        .held_back();
    match useless.or(soonest).and_then(Endpoint::last_failure) {
        Some(last) => error.with_detail(last),
        None => error,
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Does not wait: in a forked child the lock may be held for ever.
        let endpoints = self.state.try_lock().ok().map(|state| state.status());
        f.debug_struct("Turns")
            .field("config", &self.config)
            .field("endpoints", &endpoints)
            .finish_non_exhaustive()
    }
}
