//! Tokens of ours that are not used any more, until they are revoked.
//!
//! A token that was replaced, given up or never fit for use would otherwise live on at the store for
//! the rest of its life. What the store does not revoke is asked for again, less and less often.

use std::sync::Arc;
use std::time::Duration;

use secret_resolver::{Error, ErrorKind, Moment, SecretBuf};
use tokio::sync::watch;

use crate::error;

/// What is left to revoke, oldest first.
#[derive(Default)]
pub(crate) struct Leaving {
    all: Vec<Left>,
    /// The ends of those that did not fit.
    lost: Vec<Option<Moment>>,
    /// Before this moment no one asks again, unless a login or a renewal shows that the store answers.
    again_at: Option<Moment>,
    failures: u32,
}

/// A token that no new request uses.
#[derive(Clone)]
pub(crate) struct Left {
    pub(crate) secret: Arc<SecretBuf>,
    /// Its end by itself; `None` for never.
    dies: Option<Moment>,
    /// Ends when no request uses it any more.
    pub(crate) in_use: Option<watch::Receiver<()>>,
    /// The store has called it dead before.
    pub(crate) suspected: bool,
    /// A revocation was sent whose answer is not known.
    pub(crate) unanswered: bool,
    /// How often the store has refused to revoke it.
    pub(crate) refusals: u32,
}

impl Left {
    /// This many refusals, further and further apart, are believed about a token that may be gone.
    pub(crate) const BELIEVED: u32 = 4;

    pub(crate) fn new(secret: Arc<SecretBuf>, dies: Option<Moment>) -> Self {
        Self {
            secret,
            dies,
            in_use: None,
            suspected: false,
            unanswered: false,
            refusals: 0,
        }
    }

    /// Ready when no request uses it any more.
    pub(crate) async fn unused(&self) {
        if let Some(mut in_use) = self.in_use.clone() {
            // It is never sent to: the wait ends with the sender.
            let _ = in_use.changed().await;
        }
    }

    /// Whether it may be gone already.
    pub(crate) fn may_be_gone(&self) -> bool {
        self.unanswered || self.suspected
    }

    /// Whether a refusal of its revocation says that it is gone. `can_look` says that tokens of this login
    /// have the right to end themselves.
    pub(crate) fn is_gone(&self, refusal: &Error, can_look: bool) -> bool {
        refusal.kind() == ErrorKind::Unauthenticated && self.may_be_gone() && can_look
    }
}

impl Leaving {
    /// This many tokens are left only while nothing can be revoked and logins go on.
    const MOST: usize = 64;
    const FIRST_WAIT: Duration = Duration::from_secs(10);
    const LONGEST_WAIT: Duration = Duration::from_secs(300);

    pub(crate) fn push(&mut self, left: Left) {
        if self.all.len() >= Self::MOST {
            self.lost.push(self.all.remove(0).dies);
        }
        self.all.push(left);
    }

    pub(crate) fn extend(&mut self, left: Option<Left>) {
        left.into_iter().for_each(|left| self.push(left));
    }

    /// Whether there is something to revoke now; `answers` says that the store has just answered.
    pub(crate) fn is_due(&mut self, answers: bool, now: Moment) -> bool {
        let lives = |dies: Option<Moment>| dies.is_none_or(|dies| now < dies);
        self.all.retain(|left| lives(left.dies));
        self.lost.retain(|dies| lives(*dies));
        let waits = self.again_at.is_some_and(|at| now < at);
        !self.all.is_empty() && (answers || !waits)
    }

    /// All that is to be revoked now.
    pub(crate) fn all(&self) -> Vec<Left> {
        self.all.clone()
    }

    /// It is revoked.
    pub(crate) fn revoked(&mut self, left: &Left) {
        self.failures = 0;
        self.again_at = None;
        self.remove(left);
    }

    /// A revocation was sent.
    pub(crate) fn sent(&mut self, left: &Left) {
        if let Some(left) = self.find(left) {
            left.unanswered = true;
        }
    }

    /// The store did not revoke it.
    pub(crate) fn failed(&mut self, left: &Left, error: &Error, can_look: bool, now: Moment) {
        let wait = Self::FIRST_WAIT * 2_u32.saturating_pow(self.failures.min(8));
        self.again_at = Some(now + wait.min(Self::LONGEST_WAIT));
        self.failures = self.failures.saturating_add(1);
        let outage = error::is_outage(error);
        let gone = left.is_gone(error, can_look);
        let Some(kept) = self.find(left) else {
            return;
        };
        kept.unanswered = outage || left.unanswered;
        kept.refusals += u32::from(!outage);
        // A proxy may have said so; then it says so for a while.
        if gone && kept.refusals >= Left::BELIEVED {
            self.remove(left);
        }
    }

    /// All, for the shutdown, and how many more live on.
    pub(crate) fn take(&mut self, now: Moment) -> (Vec<Left>, usize) {
        self.is_due(true, now);
        (
            std::mem::take(&mut self.all),
            std::mem::take(&mut self.lost).len(),
        )
    }

    fn remove(&mut self, left: &Left) {
        self.all
            .retain(|other| !Arc::ptr_eq(&other.secret, &left.secret));
    }

    fn find(&mut self, left: &Left) -> Option<&mut Left> {
        let same = |other: &&mut Left| Arc::ptr_eq(&other.secret, &left.secret);
        self.all.iter_mut().find(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::ZERO;

    fn left(dies: Option<u64>) -> Left {
        let secret = Arc::new(SecretBuf::from_slice(b"token").unwrap());
        Left::new(secret, dies.map(at))
    }

    fn at(seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "of the test's own making")
    }

    #[test]
    fn what_is_refused_is_asked_for_again_less_and_less_often_and_counts_until_it_dies() {
        let mut leaving = Leaving::default();
        leaving.push(left(Some(10_000)));
        let refusal = error(ErrorKind::Unauthenticated);
        let (mut now, mut asked) = (START, 0);
        while now < at(9_999) {
            if leaving.is_due(false, now) {
                asked += 1;
                leaving.failed(&leaving.all()[0].clone(), &refusal, true, now);
                assert!(!leaving.is_due(false, now) && leaving.is_due(true, now));
            }
            now = now + Duration::from_secs(1);
        }
        assert!((30..45).contains(&asked), "{asked}");
        let (rest, _) = leaving.take(now);
        assert_eq!(rest.len(), 1);
        leaving.push(left(Some(10_000)));
        assert_eq!(leaving.take(at(10_000)).0.len(), 0);
    }

    #[test]
    fn a_revocation_that_works_ends_the_back_off_of_those_before_it() {
        let mut leaving = Leaving::default();
        let away = error(ErrorKind::Unavailable);
        leaving.push(left(None));
        let first = leaving.all()[0].clone();
        (0..6).for_each(|_| leaving.failed(&first, &away, true, START));
        assert!(!leaving.is_due(false, at(60)));
        leaving.revoked(&first);
        leaving.push(left(None));
        assert!(leaving.is_due(false, START));
        leaving.failed(&leaving.all()[0].clone(), &away, true, START);
        assert!(!leaving.is_due(false, at(9)) && leaving.is_due(false, at(10)));
    }

    #[test]
    fn what_may_be_gone_is_so_after_some_refusals_and_not_where_tokens_may_not_end_themselves() {
        let refusal = error(ErrorKind::Unauthenticated);
        let refuse = |leaving: &mut Leaving, can_look| {
            let left = leaving.all()[0].clone();
            leaving.failed(&left, &refusal, can_look, START);
            leaving.all().len()
        };
        let mut leaving = Leaving::default();
        let suspected = true;
        leaving.push(Left {
            suspected,
            ..left(None)
        });
        // Tokens of this login may not end themselves, as far as is known.
        assert!((0..20).all(|_| refuse(&mut leaving, false) == 1));
        assert_eq!(refuse(&mut leaving, true), 0);
        leaving.push(Left {
            suspected,
            ..left(None)
        });
        let kept = (0..4).map(|_| refuse(&mut leaving, true));
        assert!(kept.eq([1, 1, 1, 0]));
        leaving.push(left(None));
        leaving.sent(&leaving.all()[0].clone());
        let kept = (0..4).map(|_| refuse(&mut leaving, true));
        assert!(kept.eq([1, 1, 1, 0]));
        // Only the store's refusal counts as that.
        leaving.push(left(None));
        let left = leaving.all()[0].clone();
        for kind in [
            ErrorKind::Throttled,
            ErrorKind::Malformed,
            ErrorKind::Refused,
        ] {
            leaving.failed(&left, &error(kind), true, START);
        }
        assert_eq!(leaving.all().len(), 1);
    }

    #[test]
    fn no_more_than_a_bound_are_kept_and_the_others_count() {
        let mut leaving = Leaving::default();
        (0..Leaving::MOST + 3).for_each(|_| leaving.push(left(None)));
        (0..2).for_each(|_| leaving.push(left(Some(10))));
        let (rest, living) = leaving.take(at(10));
        assert_eq!((rest.len(), living), (Leaving::MOST - 2, 5));
        // Also these die.
        (0..Leaving::MOST + 3).for_each(|_| leaving.push(left(Some(10))));
        assert_eq!(leaving.take(at(10)).1, 0);
    }
}
