//! Tokens of ours that are not used any more, until they are revoked.
//!
//! A token that was replaced, given up or never fit for use would otherwise live on at the store for
//! the rest of its life.

use std::sync::Arc;

use secret_resolver::{Error, ErrorKind, Moment, SecretBuf};
use tokio::sync::watch;

/// What is left to revoke, oldest first.
#[derive(Default)]
pub(crate) struct Leaving {
    all: Vec<Left>,
    /// How many did not fit.
    lost: usize,
}

/// A token that no new request uses.
#[derive(Clone)]
pub(crate) struct Left {
    pub(crate) secret: Arc<SecretBuf>,
    /// Its end by itself; `None` for never.
    pub(crate) dies: Option<Moment>,
    /// Ends when no request uses it any more.
    pub(crate) in_use: Option<watch::Receiver<()>>,
    /// The store has called it dead before.
    pub(crate) suspected: bool,
    /// The store has refused to revoke it.
    pub(crate) refused: bool,
}

impl Left {
    pub(crate) fn new(secret: Arc<SecretBuf>, dies: Option<Moment>) -> Self {
        Self {
            secret,
            dies,
            in_use: None,
            suspected: false,
            refused: false,
        }
    }

    /// Whether an error of its revocation says that there is nothing to revoke.
    pub(crate) fn is_dead(&self, error: &Error) -> bool {
        self.suspected && error.kind() == ErrorKind::Unauthenticated
    }

    /// Ready when no request uses it any more.
    pub(crate) async fn unused(&self) {
        if let Some(mut in_use) = self.in_use.clone() {
            // It is never sent to: the wait ends with the sender.
            let _ = in_use.changed().await;
        }
    }
}

impl Leaving {
    /// So many tokens are left only while nothing can be revoked and logins go on.
    const MOST: usize = 64;

    pub(crate) fn push(&mut self, left: Left) {
        if self.all.len() >= Self::MOST {
            self.all.remove(0);
            self.lost += 1;
        }
        self.all.push(left);
    }

    /// The next to revoke.
    pub(crate) fn next(&mut self, now: Moment) -> Option<Left> {
        self.forget_dead(now);
        self.all.iter().find(|left| !left.refused).cloned()
    }

    /// It is revoked, or dead.
    pub(crate) fn remove(&mut self, left: &Left) {
        self.all
            .retain(|other| !Arc::ptr_eq(&other.secret, &left.secret));
    }

    /// The store does not revoke it: it counts, and is not asked for again.
    pub(crate) fn refuse(&mut self, left: &Left) {
        let same = |other: &&mut Left| Arc::ptr_eq(&other.secret, &left.secret);
        if let Some(left) = self.all.iter_mut().find(same) {
            left.refused = true;
        }
    }

    /// All that may still be revoked, and how many live on.
    pub(crate) fn take(&mut self, now: Moment) -> (Vec<Left>, usize) {
        self.forget_dead(now);
        let all = std::mem::take(&mut self.all);
        let (refused, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|left| left.refused);
        (rest, refused.len() + std::mem::take(&mut self.lost))
    }

    fn forget_dead(&mut self, now: Moment) {
        self.all
            .retain(|left| left.dies.is_none_or(|dies| now < dies));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn left(dies: Option<u64>) -> Left {
        let secret = Arc::new(SecretBuf::from_slice(b"token").unwrap());
        let dies = dies.map(|seconds| Moment::ZERO + Duration::from_secs(seconds));
        Left::new(secret, dies)
    }

    #[test]
    fn what_is_refused_counts_until_it_dies_and_is_not_asked_for_again() {
        let mut leaving = Leaving::default();
        let (first, second) = (left(Some(10)), left(None));
        leaving.push(first.clone());
        leaving.push(second.clone());
        leaving.refuse(&first);
        let next = leaving.next(Moment::ZERO).unwrap();
        assert!(Arc::ptr_eq(&next.secret, &second.secret));
        leaving.remove(&second);
        assert!(leaving.next(Moment::ZERO).is_none());
        let (rest, living) = leaving.take(Moment::ZERO);
        assert_eq!((rest.len(), living), (0, 1));
        leaving.push(first.clone());
        leaving.refuse(&first);
        let (rest, living) = leaving.take(Moment::ZERO + Duration::from_secs(10));
        assert_eq!((rest.len(), living), (0, 0));
    }

    #[test]
    fn no_more_than_a_bound_are_kept_and_the_others_count() {
        let mut leaving = Leaving::default();
        (0..Leaving::MOST + 3).for_each(|_| leaving.push(left(None)));
        let (rest, living) = leaving.take(Moment::ZERO);
        assert_eq!((rest.len(), living), (Leaving::MOST, 3));
    }
}
