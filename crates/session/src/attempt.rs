//! One attempt of a read: the token that it sends, and whether the store had its time, where the attempt's is over.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::backend::{first, foreign};
use secret_resolver::{Clock, Error, Moment};

use crate::error;
use crate::session::{Look, PATIENCE, Session};
use crate::state::Token;
use crate::store::Store;
use crate::waiting::{Waiting, Waits};

/// How many tokens may die while a request waits for one.
const DEATHS: usize = 3;

/// How long before its end an attempt looks at what it waits for: a thread that is late by that makes no outage of a slow source.
const EARLY: Duration = Duration::from_millis(250);

/// One attempt of a read, or of what else needs a token.
pub struct Attempt<'a, S: Store> {
    session: &'a Session<S>,
    deadline: Option<Moment>,
    waited: Mutex<Waited>,
}

/// What it has waited for beside the store.
#[derive(Default)]
struct Waited {
    /// With the logins that it does not wait for any more.
    before: Waits,
    /// The login that it waits for, and how long that had waited when the attempt came.
    login: Option<(Arc<Waiting>, Duration)>,
}

impl<'a, S: Store> Attempt<'a, S> {
    pub(crate) fn new(session: &'a Session<S>, deadline: Option<Moment>) -> Self {
        Self {
            session,
            deadline,
            waited: Mutex::default(),
        }
    }

    /// A token that may be sent now. A login that it takes begins at `endpoint`, where the request goes, so
    /// that a failure there counts against it. A login that others have begun at another endpoint is waited
    /// for, but not for long, and if it fails by an outage, this request's own endpoint is asked.
    ///
    /// To be polled on a tokio runtime, once at a time. It waits 20 s for a login whose runtime stands still.
    ///
    /// # Errors
    /// What the login failed with. While a refusal of the same credentials holds logins back, that refusal,
    /// with the time that is left as its [`retry_after`](Error::retry_after);
    /// [`Closed`](secret_resolver::ErrorKind::Closed) after the shutdown.
    ///
    /// # Cancel safety
    /// A login that it waits for goes on, for others and for the next request.
    pub async fn token(&self, endpoint: Option<usize>) -> Result<Arc<Token>, Error> {
        let shared = &self.session.0;
        let clock = &*shared.clock;
        let mut installed = shared.installed.subscribe();
        let patience = clock.now() + PATIENCE;
        let mut deaths = 0;
        loop {
            installed.mark_unchanged();
            let (errand, until) = match shared.look(endpoint, patience)? {
                Look::Token(token) => return Ok(token),
                Look::Wait(errand, until) => (errand, until),
            };
            let is_own = until.is_none();
            let _joined = Joined::begin(self, errand.waiting);
            let ended = first(errand.task.wait(clock), async {
                // Any login will do.
                let changed = async {
                    let _ = installed.changed().await;
                };
                match until {
                    None => changed.await,
                    Some(until) => {
                        first(changed, clock.sleep_until(until)).await;
                    }
                }
            });
            match ended.await {
                Some(Ok(())) if is_own => deaths += 1,
                Some(Err(error)) if is_own => {
                    // Another endpoint may have given a token meanwhile.
                    return shared.live().ok_or(error);
                }
                // A renewal, or a login elsewhere: its error is not an answer here.
                _ => {}
            }
            if deaths > DEATHS {
                return Err(error::dead_again());
            }
        }
    }

    /// What `request` answers, if it does so before the session is shut down and before the deadline.
    ///
    /// # Errors
    /// [`Closed`](secret_resolver::ErrorKind::Closed) and [`Timeout`](secret_resolver::ErrorKind::Timeout), and
    /// what `request` fails with. A source of credentials that hangs or is slow is no store that is away:
    /// [`Unauthenticated`](secret_resolver::ErrorKind::Unauthenticated) where the login waits for it still, or where that has left the store
    /// less than half of the time so far. A request that waits for its login gets it 250 ms before the deadline (a quarter of the time where
    /// that is less, a sixteenth where that is more), and is [not sent](Error::not_sent); one that was sent gets it when a sixteenth of
    /// the time is left.
    ///
    /// # Cancel safety
    /// Dropping it leaves `request` where it is; the caller drops it.
    pub async fn run<T>(
        &self,
        request: Pin<&mut impl Future<Output = Result<T, Error>>>,
    ) -> Result<T, Error> {
        let shared = &self.session.0;
        let open = async {
            let answer = first(request, shared.closed()).await;
            answer.unwrap_or_else(|| Err(error::closed()))
        };
        let Some(deadline) = self.deadline else {
            return open.await;
        };
        let mut open = pin!(open);
        let clock = &*shared.clock;
        let began = clock.now();
        let time = deadline.since(began);
        let early = (time / 4).min(EARLY).max(time / 16);
        for (left, is_sent) in [(early, false), (time / 16, true)] {
            let soon = clock.sleep_until(began + (time - left));
            if let Some(answer) = first(open.as_mut(), soon).await {
                return answer;
            }
            if let Some(error) = self.held_up(began, is_sent) {
                return Err(error);
            }
        }
        let answer = first(open, clock.sleep_until(deadline)).await;
        answer.unwrap_or_else(|| Err(error::deadline()))
    }

    /// Why there is no answer yet, where that is not the store's part. What `is_sent` may be answered any moment.
    fn held_up(&self, began: Moment, is_sent: bool) -> Option<Error> {
        let now = self.session.0.clock.now();
        let waited = self.lock();
        let waits = waited.at(now);
        let is_waiting = waited.login.is_some();
        let much = waits.lasts || waits.took > now.since(began) / 2;
        let why = waits.why.filter(|_| much)?;
        match is_waiting {
            // Another attempt waits for the same login, with its whole time.
            true => Some(why.not_sent()),
            false if is_sent => Some(why.with_retry_after(Duration::ZERO)),
            false => None,
        }
    }

    /// Each critical section leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Waited> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waited {
    fn at(&self, now: Moment) -> Waits {
        let Some((waiting, before)) = &self.login else {
            return self.before.clone();
        };
        let waits = waiting.at(now);
        // What others have waited for before it came is not its own.
        let took = waits.took.saturating_sub(*before);
        match waits.lasts || !took.is_zero() {
            true => Waits {
                took: self.before.took + took,
                ..waits
            },
            false => self.before.clone(),
        }
    }
}

impl<S: Store> fmt::Debug for Attempt<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("session", self.session)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// An attempt that waits for a login, and may be dropped meanwhile.
struct Joined<'a, S: Store>(&'a Attempt<'a, S>);

impl<'a, S: Store> Joined<'a, S> {
    fn begin(attempt: &'a Attempt<'a, S>, waiting: Arc<Waiting>) -> Self {
        let before = waiting.at(attempt.session.0.clock.now()).took;
        attempt.lock().login = Some((waiting, before));
        Self(attempt)
    }
}

impl<S: Store> Drop for Joined<'_, S> {
    fn drop(&mut self) {
        // The application's clock may be what panics just now.
        let now = foreign(|| self.0.session.0.clock.now());
        let mut waited = self.0.lock();
        let waits = now.map_or_else(|| waited.before.clone(), |now| waited.at(now));
        *waited = Waited {
            before: Waits {
                lasts: false,
                ..waits
            },
            login: None,
        };
    }
}
