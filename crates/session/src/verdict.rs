//! What a refusal means: a policy that denies, or a token that is dead. A store may say the same for
//! both, so it is asked whether it knows the token.
//!
//! A dead token is one login and one more read; a denial is neither. The question is its own task, so
//! that no caller that leaves ends it, and all reads that were refused meanwhile share its answer. One
//! endpoint's word against another's is not believed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secret_resolver::backend::{first, report};
use secret_resolver::{Clock as _, Error, Moment};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::error;
use crate::session::{Session, Shared};
use crate::state::Token;
use crate::store::Store;
use crate::task::Task;

/// How long a login whose tokens may not look themselves up is not replaced again because of a suspicion.
const BLIND: Duration = Duration::from_secs(60);
/// How long a refused read waits for its verdict, which goes on without it.
const WAIT: Duration = Duration::from_secs(1);
/// How long an endpoint is asked alone, and how long the answers of all are waited for.
const ALONE: Duration = Duration::from_millis(500);
const ALL: Duration = Duration::from_secs(2);

/// What becomes of a read that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The token lives: the policy denies.
    Denied,
    /// The token is not in use any more, for another reason: the read deserves another.
    Replaced,
    /// The store does not know the token: the read deserves another.
    Dead,
}

#[derive(Default)]
pub(crate) struct Verdicts {
    /// Puts the sending of reads and of lookups into one order.
    order: AtomicU64,
    known: Mutex<Known>,
}

/// What lookups have shown. Tokens are distinguished by their numbers.
#[derive(Default)]
struct Known {
    /// The token that lived when the lookup with this place in the order was sent.
    alive: Option<(u64, u64)>,
    /// The last token that was given up by a verdict, and when.
    dead: Option<(u64, Moment)>,
    /// A token that was refused its own lookup when it was new.
    mute: Option<u64>,
    /// Tokens of this login may not look themselves up; until then none is suspected.
    blind_until: Option<Moment>,
    inquiry: Option<Inquiry>,
}

/// A question that is under way.
struct Inquiry {
    task: Task,
    number: u64,
    /// Its place in the order.
    at: u64,
}

impl<S: Store> Session<S> {
    /// A mark to be taken before a read is sent.
    pub fn mark(&self) -> u64 {
        self.0.verdicts.next()
    }

    /// Judges the refusal of a read with `token` by `endpoint`; `sent` is the mark of the read. `again`
    /// says that the same read was made before, with a token that was [`Verdict::Dead`].
    ///
    /// # Errors
    /// As the lookup: when the store is away, nothing is known and no token is given up. `Timeout` after a
    /// second; the question goes on. `Unavailable` when another endpoint knows the token, `Unauthenticated`
    /// when it is the second that is dead.
    ///
    /// # Cancel safety
    /// The question goes on, for others and for the next read.
    pub async fn judge(
        &self,
        token: &Arc<Token>,
        sent: u64,
        endpoint: usize,
        again: bool,
    ) -> Result<Verdict, Error> {
        let shared = &self.0;
        let end = shared.clock.now() + WAIT;
        loop {
            let (task, at) = match shared.look_into(token, sent, endpoint, again)? {
                Look::Verdict(Verdict::Dead) if again => return Err(error::dead_again()),
                Look::Verdict(verdict) => return Ok(verdict),
                Look::Wait(task, at) => (task, at),
            };
            let late = shared.clock.sleep_until(end);
            let Some(outcome) = first(task.wait(&*shared.clock), late).await else {
                // It says nothing about the endpoint that has answered the read.
                return Err(error::no_verdict().held_back());
            };
            // What was asked before the read says nothing about it.
            if at > sent {
                outcome?;
            }
        }
    }
}

enum Look {
    Verdict(Verdict),
    Wait(Task, u64),
}

impl<S: Store> Shared<S> {
    /// What is known, or what to wait for, which is started if need be.
    fn look_into(
        self: &Arc<Self>,
        token: &Arc<Token>,
        sent: u64,
        endpoint: usize,
        again: bool,
    ) -> Result<Look, Error> {
        let now = self.clock.now();
        let in_use = self.lock().uses(token, now);
        let mut known = self.verdicts.lock();
        if !in_use {
            let dead = known.dead.is_some_and(|(number, _)| number == token.number);
            return Ok(Look::Verdict(match dead {
                true => Verdict::Dead,
                false => Verdict::Replaced,
            }));
        }
        // A lookup that was sent after the read was begun proves that the token lived then, because
        // no token comes back to life. An older one proves nothing.
        let proven = known
            .alive
            .is_some_and(|(number, at)| number == token.number && at > sent);
        if proven || known.blind_until.is_some_and(|until| now < until) {
            return Ok(Look::Verdict(Verdict::Denied));
        }
        if let Some(inquiry) = &known.inquiry
            && inquiry.number == token.number
        {
            if !inquiry.task.is_over(now) {
                return Ok(Look::Wait(inquiry.task.clone(), inquiry.at));
            }
            // It was asked after this read, too.
            if let Some(error) = inquiry.task.failure().filter(|_| inquiry.at > sent) {
                return Err(error);
            }
        }
        let at = self.verdicts.next();
        let task = Arc::clone(self).inquire(Arc::clone(token), endpoint, at, again);
        let task = Task::start(now, task)?;
        known.inquiry = Some(Inquiry {
            task: task.clone(),
            number: token.number,
            at,
        });
        Ok(Look::Wait(task, at))
    }

    /// Asks whether the token lives, and gives it up if it does not.
    async fn inquire(
        self: Arc<Self>,
        token: Arc<Token>,
        endpoint: usize,
        at: u64,
        again: bool,
    ) -> Result<(), Error> {
        match self.ask(&token, endpoint).await? {
            Answer::Known => {
                self.verdicts.lock().lives(token.number, at);
                return Ok(());
            }
            Answer::KnownElsewhere => {
                // It lives; but what this endpoint refuses is not believed.
                self.verdicts.lock().lives_elsewhere(token.number);
                report(move || {
                    tracing::warn!(
                        backend = S::NAME,
                        endpoint,
                        "an endpoint refuses a token that another knows"
                    );
                });
                return Err(error::stranger());
            }
            Answer::Unknown => {}
        }
        let now = self.clock.now();
        if self.store.issues_tokens() && self.verdicts.lock().is_blind(&token, again, now) {
            report(|| {
                tracing::warn!(
                    backend = S::NAME,
                    "tokens of this login may not look themselves up, so denials and dead tokens look alike; give its role the right to it"
                )
            });
            return Ok(());
        }
        self.verdicts.lock().dead = Some((token.number, now));
        // In case it lives, it is revoked after the next login: whatever has answered here would answer
        // the same now.
        self.lock().bury(token.number, now);
        report(|| tracing::info!(backend = S::NAME, "the token is dead"));
        Ok(())
    }

    /// After a token was given up, and no token of its login was seen to look itself up: asks whether a new one can, so
    /// that the next refusal is not misread. It is asked where it was issued.
    pub(crate) async fn look_at_new(self: &Arc<Self>, token: &Arc<Token>, endpoint: Option<usize>) {
        let now = self.clock.now();
        if !self.store.issues_tokens() || !self.verdicts.lock().suspects(now) {
            return;
        }
        let at = self.verdicts.next();
        let knows = self.knows(token, endpoint);
        match first(knows, self.clock.sleep_until(now + ALONE)).await {
            Some(Ok(true)) => self.verdicts.lock().lives(token.number, at),
            Some(Ok(false)) => self.verdicts.lock().mute = Some(token.number),
            _ => {}
        }
    }

    /// For the shutdown: whether tokens of this login can look themselves up, if that is not known.
    pub(crate) async fn learn(&self, token: &Token) {
        if self.verdicts.lock().alive.is_some() {
            return;
        }
        let at = self.verdicts.next();
        let knows = self.knows(token, None);
        let end = self.clock.now() + ALONE;
        if let Some(Ok(true)) = first(knows, self.clock.sleep_until(end)).await {
            self.verdicts.lock().lives(token.number, at);
        }
    }

    async fn knows(&self, token: &Token, endpoint: Option<usize>) -> Result<bool, Error> {
        self.counts.lookups.fetch_add(1, Ordering::Relaxed);
        self.store.knows(token.secret(), endpoint).await
    }

    /// Asks `endpoint` whether it knows the token, and when it does not, or does not say, all others at
    /// once. If one knows it, the token lives. Where none does in time, the word of one has to be
    /// enough: it costs a login, and a token that lives is revoked.
    async fn ask(&self, token: &Token, endpoint: usize) -> Result<Answer, Error> {
        let number = self.store.endpoints();
        let ask = async |endpoint| (endpoint, self.knows(token, Some(endpoint)).await);
        let mut asked = FuturesUnordered::new();
        asked.push(ask(endpoint));
        let began = self.clock.now();
        let (mut alone, mut unknown) = (true, false);
        loop {
            let end = began + if alone { ALONE } else { ALL };
            match first(asked.next(), self.clock.sleep_until(end)).await {
                Some(Some((at, Ok(true)))) if at == endpoint => return Ok(Answer::Known),
                Some(Some((_, Ok(true)))) => return Ok(Answer::KnownElsewhere),
                Some(Some((_, Ok(false)))) => unknown = true,
                // Nothing is known about the read's own endpoint.
                Some(Some((at, Err(error)))) if at == endpoint => return Err(error),
                Some(Some(_)) => {}
                None if alone && number > 1 => {}
                // All have answered, or have had their time.
                _ if unknown => return Ok(Answer::Unknown),
                Some(None) => return Err(error::no_verdict()),
                // The only one: the transport bounds it.
                None if number == 1 => match asked.next().await {
                    Some((_, Ok(true))) => return Ok(Answer::Known),
                    Some((_, Ok(false))) => return Ok(Answer::Unknown),
                    Some((_, Err(error))) => return Err(error),
                    None => return Err(error::no_verdict()),
                },
                None => return Err(error::no_verdict()),
            }
            if std::mem::take(&mut alone) {
                (1..number).for_each(|step| asked.push(ask((endpoint + step) % number)));
            }
        }
    }
}

/// What the endpoints say about a token.
enum Answer {
    Known,
    /// Not by the one that refused, but by another.
    KnownElsewhere,
    Unknown,
}

impl Verdicts {
    fn next(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether tokens of this login have been seen to look themselves up, and none to be refused it when it
    /// was new: then they may end themselves, too.
    pub(crate) fn can_look(&self) -> bool {
        let known = self.lock();
        known.alive.is_some() && known.mute.is_none() && known.blind_until.is_none()
    }
}

impl Known {
    fn lives(&mut self, number: u64, at: u64) {
        self.alive = Some((number, at));
        self.mute = None;
        self.blind_until = None;
    }

    /// Some endpoint knows the token: it can look itself up.
    fn lives_elsewhere(&mut self, number: u64) {
        // Its place in the order proves nothing about a read.
        let at = self.alive.filter(|(alive, _)| *alive == number);
        self.lives(number, at.map_or(0, |(_, at)| at));
    }

    /// Whether a token that is refused its lookup is not dead, but without the right to look; then another
    /// login would find the same, for a minute from when it is noticed.
    fn is_blind(&mut self, token: &Token, again: bool, now: Moment) -> bool {
        // Two in a row, the second one new, from a login whose tokens were never seen to look.
        let two = again && self.alive.is_none();
        // Or a token that could not look when it was new, and works. If it has died since, that is found a minute
        // after its login.
        let mute = self.mute == Some(token.number) && token.has_worked();
        let until = match (two, mute) {
            (true, _) => now + BLIND,
            (false, true) => token.since + BLIND,
            (false, false) => return false,
        };
        self.blind_until = Some(until);
        now < until
    }

    /// Whether the last token that was given up may have lived.
    fn suspects(&self, now: Moment) -> bool {
        let Some((dead, at)) = self.dead else {
            return false;
        };
        let could_look = self.alive.is_some_and(|(number, _)| number == dead);
        !could_look && now < at + BLIND
    }
}
