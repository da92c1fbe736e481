//! The end of our tokens: what is not used any more is revoked in the background, and all that is left at
//! the shutdown. What is left, and when it is asked for again, is decided in `leaving`.
//!
//! # Invariants
//! A token is revoked once no request uses it, or after some seconds. Once the shutdown has begun, it alone
//! begins to revoke, except that a login which ends later revokes its own token: each is counted once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future;
use secret_resolver::backend::{first, report};
use secret_resolver::{Clock as _, Error, Moment, ShutdownReport};

use crate::error;
use crate::leaving::Left;
use crate::session::{AUDIT, Session, Shared};
use crate::state::State;
use crate::store::Store;
use crate::task::Task;

/// How long it takes until what passes by itself is asked again, where the store does not say.
const PAUSE: Duration = Duration::from_millis(250);

/// How long requests may go on using a token that was replaced before it is revoked, and how long a login
/// that has outlasted the shutdown tries to revoke its own.
const STILL_USED: Duration = Duration::from_secs(5);

/// The endpoints' answers about a token that is to end.
enum Ending {
    /// As it is noted.
    Done(Option<bool>),
    /// They may do it later, and may say when.
    Passing(Option<Duration>),
}

impl<S: Store> Session<S> {
    /// Refuses new requests and ends those under way, drops the token, and revokes it and all that were
    /// used before if they are the backend's own, until `deadline`. While the store is away, or wants to be left
    /// alone, it is asked again and again until then.
    ///
    /// A token that its store cannot revoke at all, such as a batch token, does not count.
    ///
    /// # Cancel safety
    /// All but the revocation is done at the first poll.
    pub async fn shutdown(&self, deadline: Moment) -> ShutdownReport {
        let shared = &*self.0;
        let now = shared.clock.now();
        let (ours, mut logins, lost, in_use) = {
            let mut state = shared.lock();
            let (live, errands) = state.end();
            let (mut ours, lost) = state.leaving.take(now);
            let in_use = live.as_ref().map(|live| Arc::clone(&live.token));
            ours.extend(live.and_then(|live| live.left(now)));
            (ours, errands, lost, in_use)
        };
        shared.closed.send_replace(true);
        let issues = shared.store.issues_tokens();
        logins.retain(|errand| issues && errand.is_login && !errand.task.is_over(now));
        let due = ours.len() + logins.len();
        let results = Mutex::new(Vec::with_capacity(due));
        let note = |revoked: Option<bool>| {
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            results.push(revoked);
        };
        let work = async {
            // Whether a refusal says anything about a token that may be gone.
            if ours.iter().any(Left::may_be_gone)
                && let Some(live) = &in_use
            {
                shared.learn(live).await;
            }
            // The one in use first.
            let ours = ours.into_iter().rev().collect();
            let late = async {
                for login in logins {
                    // A login that ends now revokes its own token.
                    let _ = login.task.wait(&*shared.clock).await;
                    note(shared.lock().late.pop());
                }
            };
            future::join(shared.end_tokens(ours, deadline, note), late).await;
        };
        let done = first(work, shared.clock.sleep_until(deadline)).await;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = |what| results.iter().filter(|&&revoked| revoked == what).count();
        let mut report = ShutdownReport::default();
        report.revoked = count(Some(true));
        // A login that is still under way may still give a token that nobody revokes.
        report.not_revoked = lost + count(Some(false)) + due - results.len();
        report.timed_out = done.is_none() || results.len() < due;
        report
    }
}

impl<S: Store> Shared<S> {
    /// Begins to revoke what is not used any more, if it is time for it and not under way; `answers` says
    /// that the store has just answered.
    pub(crate) fn revoke_left(self: &Arc<Self>, state: &mut State<S::Credentials>, answers: bool) {
        let now = self.clock.now();
        let is_over = |task: &Task| task.is_over(now);
        let idle = state.revoking.as_ref().is_none_or(is_over);
        if idle && !state.ended && state.leaving.is_due(answers, now) {
            // Without a runtime it is left for the shutdown.
            state.revoking = Task::start(now, Arc::clone(self).revoke_each()).ok();
        }
    }

    async fn revoke_each(self: Arc<Self>) -> Result<(), Error> {
        let all = self.lock().leaving.all();
        for left in all {
            let end = self.clock.now() + STILL_USED;
            first(left.unused(), self.clock.sleep_until(end)).await;
            {
                let mut state = self.lock();
                if state.ended {
                    // The shutdown does it.
                    return Ok(());
                }
                state.leaving.sent(&left);
            }
            let revoked = self.revoke(&left, None).await;
            let can_look = self.verdicts.can_look();
            let now = self.clock.now();
            let mut state = self.lock();
            match revoked {
                Ok(()) => state.leaving.revoked(&left),
                Err(error) => {
                    state.leaving.failed(&left, &error, can_look, now);
                    if error::is_outage(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Revokes the token of a login that has outlasted the shutdown, which waits for it.
    pub(crate) async fn end_late(&self, left: &Left) {
        let end = self.clock.now() + STILL_USED;
        let revoked = AtomicBool::new(false);
        let note = |ended| revoked.store(ended != Some(false), Ordering::Relaxed);
        self.end_tokens(vec![left.clone()], end, note).await;
        self.lock().late.push(revoked.into_inner());
    }

    /// Revokes tokens for the shutdown, and notes for each whether that worked; `None` when it is gone already.
    /// What passes by itself is asked again until `deadline`; nothing is noted about what is left then.
    async fn end_tokens(
        &self,
        mut tokens: Vec<Left>,
        deadline: Moment,
        note: impl Fn(Option<bool>),
    ) {
        loop {
            let mut passing = Vec::new();
            let mut pause = PAUSE;
            for mut left in tokens {
                match self.end_token(&mut left, deadline).await {
                    Ending::Done(revoked) => note(revoked),
                    Ending::Passing(asked) => {
                        pause = asked.map_or(pause, |asked| pause.max(asked));
                        passing.push(left);
                    }
                }
            }
            tokens = passing;
            if tokens.is_empty() {
                return;
            }
            let now = self.clock.now();
            let asked = Some(now + pause).filter(|&asked| asked < deadline);
            let next = asked.unwrap_or(now + PAUSE).min(deadline);
            self.clock.sleep_until(next).await;
            if self.clock.now() >= deadline {
                return;
            }
        }
    }

    /// Asks each endpoint once to revoke a token.
    async fn end_token(&self, left: &mut Left, deadline: Moment) -> Ending {
        let number = self.store.endpoints().max(1);
        let (mut gone, mut refused) = (false, false);
        let (mut away, mut passes, mut asked) = (false, false, None);
        for endpoint in 0..number {
            let now = self.clock.now();
            let share = deadline.since(now) / u32::try_from(number - endpoint).unwrap_or(1);
            let revocation = self.revoke(left, Some(endpoint));
            let revoked = match endpoint + 1 == number {
                // It ends with the shutdown.
                true => Some(revocation.await),
                false => first(revocation, self.clock.sleep_until(now + share)).await,
            };
            let error = match revoked {
                Some(Ok(())) => return Ending::Done(Some(true)),
                Some(Err(error)) => error,
                None => error::deadline(),
            };
            // Another may know it.
            gone |= left.is_gone(&error, self.verdicts.can_look());
            refused |= error::is_refusal(&error);
            away |= error::is_outage(&error);
            if error::passes(&error) {
                passes = true;
                asked = asked.max(error.retry_after());
            }
        }
        left.refusals += u32::from(refused);
        // Beside others that are away, one that refuses may be behind, or not be the store. It is believed after some time
        // about a token that may be gone; for any other token nothing is lost by asking again.
        if passes && !(gone && refused && left.refusals >= Left::BELIEVED) {
            // If no one refuses it yet, a later refusal may mean that an endpoint has revoked it without an answer.
            left.unanswered |= away && !refused;
            return Ending::Passing(asked);
        }
        Ending::Done((!gone).then_some(false))
    }

    async fn revoke(&self, left: &Left, endpoint: Option<usize>) -> Result<(), Error> {
        let revoked = self.store.revoke(&left.secret, endpoint).await;
        let failed = revoked.as_ref().err().cloned();
        report(move || match failed {
            None => tracing::info!(target: AUDIT, backend = S::NAME, "token revoked"),
            Some(error) => {
                tracing::warn!(target: AUDIT, backend = S::NAME, %error, "token not revoked");
            }
        });
        revoked
    }
}
