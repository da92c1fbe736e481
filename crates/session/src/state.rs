//! What a session knows, and what follows from it: pure decisions, given the time, under one lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secret_resolver::{Error, Moment, SecretBuf};
use tokio::sync::watch;

use crate::error;
use crate::leaving::{Leaving, Left};
use crate::life::Life;
use crate::pace::Pace;
use crate::store::Grant;
use crate::task::Task;
use crate::waiting::Waiting;

pub(crate) struct State<C> {
    pub(crate) live: Option<Live<C>>,
    /// Logins and renewals under way, one login for each endpoint at most.
    pub(crate) errands: Vec<Errand>,
    /// The task that revokes what was left.
    pub(crate) revoking: Option<Task>,
    pub(crate) leaving: Leaving,
    pace: Pace,
    held: Option<Held<C>>,
    /// Why the last token or credential was of no use, for a login that comes too soon after it.
    last: Option<Error>,
    /// How many tokens were put into use.
    pub(crate) issued: u64,
    pub(crate) ended: bool,
    /// Whether tokens that were issued after the end could be revoked.
    pub(crate) late: Vec<bool>,
}

pub(crate) struct Live<C> {
    pub(crate) token: Arc<Token>,
    pub(crate) life: Life,
    revocable: bool,
    /// The credential, where it is the token.
    given: Option<C>,
    /// The client certificate that was in use when it was last looked at.
    certificate: u64,
}

#[derive(Clone)]
pub(crate) struct Errand {
    pub(crate) task: Task,
    /// What it waits for beside the store.
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) is_login: bool,
    /// Where it was begun, and when.
    pub(crate) endpoint: Option<usize>,
    pub(crate) began: Moment,
}

/// What holds back logins with the same credentials.
struct Held<C> {
    until: Moment,
    credentials: C,
    error: Error,
}

/// A token in use. The number distinguishes tokens without a look at them; `Debug` shows it alone.
pub struct Token {
    secret: Arc<SecretBuf>,
    pub(crate) number: u64,
    /// The client certificate that vouched for its login.
    pub(crate) certificate: u64,
    /// When it was put into use.
    pub(crate) since: Moment,
    /// Whether a request with it was answered.
    worked: AtomicBool,
    /// Dropped with the last request that uses it.
    in_use: watch::Sender<()>,
}

/// What a login has brought, to be put into use.
pub(crate) struct New<C> {
    pub(crate) secret: Arc<SecretBuf>,
    pub(crate) life: Life,
    pub(crate) revocable: bool,
    pub(crate) given: Option<C>,
    pub(crate) certificate: u64,
    /// When its login was sent.
    pub(crate) asked: Moment,
}

/// A login that no endpoint has taken.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// How many endpoints have refused the credential.
    pub(crate) refusals: usize,
    /// How many of these refusals the store may count for a lockout.
    pub(crate) counted: u32,
    /// There are other endpoints, and none that was asked could say anything.
    pub(crate) unconfirmed: bool,
}

/// What became of a new token.
pub(crate) enum Installed {
    InUse(Arc<Token>),
    /// Another login was quicker; this token is left.
    Surplus,
    /// The session has ended.
    Ended,
}

impl Failed {
    /// By what the first endpoint has answered; `counts` says that the store may count it for a lockout.
    pub(crate) fn first(error: Error, counts: bool) -> Self {
        Self {
            refusals: usize::from(error::is_refusal(&error)),
            counted: u32::from(counts),
            error,
            unconfirmed: false,
        }
    }

    /// What another endpoint has answered.
    pub(crate) fn note(&mut self, error: Error, counts: bool) {
        if error::is_outage(&error) {
            return;
        }
        self.unconfirmed = false;
        self.counted += u32::from(counts);
        if error::is_refusal(&error) {
            self.refusals += 1;
            // The first that made sense.
            if self.refusals == 1 {
                self.error = error;
            }
        }
    }
}

impl Token {
    /// The token, for a header.
    #[must_use]
    pub fn secret(&self) -> &SecretBuf {
        &self.secret
    }

    /// To be called when a request with it was answered: it shows that the token lives, which counts if its next request is refused.
    pub fn worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_worked(&self) -> bool {
        self.worked.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<C> Live<C> {
    /// The client certificate now: once it is another, the token is to be replaced.
    pub(crate) fn vouched_by(&mut self, certificate: u64, now: Moment) {
        if std::mem::replace(&mut self.certificate, certificate) != certificate {
            self.life.replace(now);
        }
    }

    /// The token, if it is to be revoked once nobody uses it.
    pub(crate) fn left(self, now: Moment) -> Option<Left> {
        let dies = self.life.dead_by();
        let to_revoke = self.revocable && dies.is_none_or(|dies| now < dies);
        to_revoke.then(|| {
            let mut left = Left::new(Arc::clone(&self.token.secret), dies);
            left.in_use = Some(self.token.in_use.subscribe());
            left
        })
    }
}

impl<C> Default for State<C> {
    fn default() -> Self {
        Self {
            live: None,
            errands: Vec::new(),
            revoking: None,
            leaving: Leaving::default(),
            pace: Pace::default(),
            held: None,
            last: None,
            issued: 0,
            ended: false,
            late: Vec::new(),
        }
    }
}

impl<C: PartialEq> State<C> {
    /// The live token, if it is still this one.
    pub(crate) fn live_of(&mut self, number: u64) -> Option<&mut Live<C>> {
        self.live
            .as_mut()
            .filter(|live| live.token.number == number)
    }

    /// The new life of a renewed token, unless another is in use by now.
    pub(crate) fn renewed(&mut self, number: u64, asked: Moment, grant: Grant) -> Option<Life> {
        let live = self.live_of(number)?;
        live.life = live.life.renewed(asked, grant);
        Some(live.life)
    }

    /// Whether this token is the one in use, and may still be sent.
    pub(crate) fn uses(&self, token: &Token, now: Moment) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|live| live.token.number == token.number && !live.life.is_over(now))
    }

    /// The store calls this token dead. A given one is asked about again after a back-off; one of
    /// ours is revoked, in case it lives.
    pub(crate) fn bury(&mut self, number: u64, now: Moment) {
        let Some(mut dead) = self.live.take_if(|live| live.token.number == number) else {
            return;
        };
        if let Some(given) = dead.given.take() {
            self.refused(given, &error::given_is_dead(), now);
        } else if let Some(mut left) = dead.left(now) {
            left.suspected = true;
            self.leaving.push(left);
        }
    }

    /// The life of the token in use is over by our count. Nobody has refused it: a given token that
    /// somebody else may have renewed is asked about at once. A token that nobody can renew is dead.
    pub(crate) fn end_life(&mut self, now: Moment) {
        let Some(mut over) = self.live.take() else {
            return;
        };
        match over.given.take() {
            Some(_) if over.life.is_renewable() => {}
            Some(given) => self.refused(given, &error::given_is_dead(), now),
            None => self.leaving.extend(over.left(now)),
        }
    }

    /// Whether a login with these credentials may be sent.
    pub(crate) fn admit(&mut self, credentials: &C, now: Moment) -> Result<(), Error> {
        if self.ended {
            return Err(error::closed());
        }
        if let Some(held) = &self.held {
            let same = held.credentials == *credentials;
            if same && now < held.until {
                let error = held.error.clone().with_retry_after(held.until.since(now));
                return Err(error.held_back());
            }
            if !same {
                // A changed credential ends the back-off.
                self.pace.changed(now);
                self.held = None;
            }
        }
        self.pace.admit(now).map_err(|wait| {
            let last = self.last.clone().unwrap_or_else(error::too_many);
            last.with_retry_after(wait).held_back()
        })
    }

    /// A login that was sent at `asked` has failed. What the store has refused is held back, longer each
    /// time, but not for long where other endpoints could not confirm it; an answer that is not the store's
    /// for a moment, as does one that this process did not send. What would lead to a lockout is held back until the store has forgotten it.
    /// An outage holds back nothing, and neither does a login that another has overtaken.
    pub(crate) fn failed(&mut self, credentials: C, failed: &Failed, asked: Moment, now: Moment) {
        use secret_resolver::ErrorKind as Kind;
        let error = &failed.error;
        let refused = !error.is_held_back()
            && matches!(
                error.kind(),
                Kind::Unauthenticated | Kind::Denied | Kind::Misconfigured | Kind::Throttled
            );
        if refused {
            (0..failed.refusals.max(1)).for_each(|_| self.pace.answered(now));
        }
        let rarely = self.pace.counted(now, failed.counted);
        let overtaken = |live: &Live<C>| live.token.since > asked;
        if self.live.as_ref().is_some_and(overtaken) {
            return;
        }
        // What was not sent shortens no wait that a refusal has set.
        let waits =
            |held: &Held<C>| held.credentials == credentials && held.until > now + Pace::MOMENT;
        if error.is_held_back() && self.held.as_ref().is_some_and(waits) {
            return;
        }
        match error.kind() {
            Kind::Unavailable | Kind::Timeout | Kind::Closed => {}
            _ if refused && failed.unconfirmed => {
                let until = rarely.unwrap_or(now + Self::UNCONFIRMED);
                self.hold(credentials, error, until);
            }
            _ if refused => {
                let until = self.pace.refused(now, error.retry_after());
                self.hold(credentials, error, rarely.unwrap_or(until));
            }
            _ => self.hold(credentials, error, now + Pace::MOMENT),
        }
    }

    /// Whether the next refusal is the first, which is worth a second opinion.
    pub(crate) fn is_calm(&self, now: Moment) -> bool {
        self.pace.is_calm(now)
    }

    /// A login has brought a token that may not be used. The store may change its mind about the next;
    /// a `given` token stays what it is, and each further look at it would use it up.
    pub(crate) fn unfit(&mut self, credentials: C, error: &Error, given: bool, now: Moment) {
        self.pace.answered(now);
        match given {
            true => self.hold(credentials, error, now + Self::UNFIT),
            false => self.refused(credentials, error, now),
        }
    }

    /// How long a refusal holds logins back that no other endpoint could confirm.
    const UNCONFIRMED: Duration = Duration::from_secs(2);

    /// How long a token that was given is not looked at again when it is unfit for use.
    const UNFIT: Duration = Duration::from_secs(3600);

    /// Puts a token into use in place of the one before.
    pub(crate) fn install(&mut self, new: New<C>, now: Moment) -> Installed {
        self.pace.answered(now);
        if self.ended {
            return Installed::Ended;
        }
        let quicker = |live: &Live<C>| live.token.since > new.asked && !live.life.is_over(now);
        if new.given.is_none() && self.live.as_ref().is_some_and(quicker) {
            if new.revocable {
                self.leaving.push(Left::new(new.secret, new.life.dead_by()));
            }
            return Installed::Surplus;
        }
        self.pace.accepted();
        self.held = None;
        self.last = None;
        self.issued += 1;
        let token = Arc::new(Token {
            secret: new.secret,
            number: self.issued,
            certificate: new.certificate,
            since: now,
            worked: AtomicBool::new(false),
            in_use: watch::Sender::new(()),
        });
        let live = Live {
            token: Arc::clone(&token),
            life: new.life,
            revocable: new.revocable && new.given.is_none(),
            given: new.given,
            certificate: new.certificate,
        };
        let before = self.live.replace(live);
        self.leaving.extend(before.and_then(|live| live.left(now)));
        Installed::InUse(token)
    }

    fn refused(&mut self, credentials: C, error: &Error, now: Moment) {
        let until = self.pace.refused(now, error.retry_after());
        self.hold(credentials, error, until);
    }

    fn hold(&mut self, credentials: C, error: &Error, until: Moment) {
        self.last = Some(error.clone());
        self.held = Some(Held {
            until,
            credentials,
            error: error.clone(),
        });
    }

    /// Ends it: no login is begun, and what is live is given out.
    pub(crate) fn end(&mut self) -> (Option<Live<C>>, Vec<Errand>) {
        self.ended = true;
        self.held = None;
        (self.live.take(), std::mem::take(&mut self.errands))
    }
}

#[cfg(test)]
mod tests {
    use secret_resolver::ErrorKind;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_changed_credential_begins_with_the_shortest_back_off() {
        let mut state = State::default();
        let refuse = |state: &mut State<u8>, credentials, now| {
            let error = Error::new(ErrorKind::Denied, "of the test's own making");
            let failed = Failed::first(error, false);
            state.failed(credentials, &failed, now, now);
        };
        for attempt in 1..6 {
            refuse(&mut state, 1, at(attempt * 100));
        }
        assert!(state.admit(&1, at(505)).is_err());
        assert!(!state.is_calm(at(505)));
        state.admit(&2, at(505)).unwrap();
        // Its first refusal is worth a second opinion, and holds it back for a second at most.
        assert!(state.is_calm(at(505)));
        refuse(&mut state, 2, at(505));
        assert!(state.admit(&2, at(505)).is_err());
        state.admit(&2, at(506)).unwrap();
    }

    #[test]
    fn of_a_token_its_number_alone_is_shown() {
        let mut state = State::<u8>::default();
        let new = New {
            secret: Arc::new(SecretBuf::from_slice(b"hvs.canary").unwrap()),
            life: Life::begin(
                Moment::ZERO,
                Grant {
                    lease: None,
                    renewable: false,
                },
            ),
            revocable: true,
            given: None,
            certificate: 0,
            asked: Moment::ZERO,
        };
        let Installed::InUse(token) = state.install(new, Moment::ZERO) else {
            panic!("it is in use");
        };
        assert_eq!(format!("{token:?}"), "Token { number: 1, .. }");
    }
}
