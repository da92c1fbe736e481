//! What a tour of the endpoints has shown: the error to answer with, and when it makes sense to ask again.
//! These are two questions: an answer that permits no exception hides no outage that may pass.

use std::time::Duration;

use crate::error::{Error, Repeat};

/// A tour that has brought no useful answer.
pub(super) struct Failed {
    pub(super) error: Error,
    /// How long to wait before asking again, where that makes sense: the least that an endpoint wants.
    pub(super) soonest: Option<Duration>,
    /// Whether a store was asked.
    pub(super) asked: bool,
    /// Whether another attempt takes nothing from the budget: nothing was sent.
    pub(super) is_free: bool,
}

/// The endpoints so far.
#[derive(Default)]
pub(super) struct Tour {
    shown: Option<Error>,
    soonest: Option<Duration>,
    asked: bool,
}

impl Tour {
    /// When a store whose quota is used up is asked again, if it does not say for how long.
    const THROTTLED: Duration = Duration::from_secs(1);

    /// An endpoint has given no useful answer; another may.
    pub(super) fn met(mut self, error: Error) -> Self {
        self.asked = true;
        let wait = match error.kind().permits().retry {
            Repeat::Never => None,
            // A store that is away may say for how long, too.
            Repeat::Yes => Some(error.retry_after().unwrap_or_default()),
            Repeat::AfterDelay => {
                let asked = error.retry_after().filter(|asked| !asked.is_zero());
                Some(asked.unwrap_or(Self::THROTTLED))
            }
        };
        self.soonest = [self.soonest, wait].into_iter().flatten().min();
        // No exception of the policy may follow from an outage of one, where another gives nonsense.
        self.shown = match self.shown {
            Some(before) if !is_outage(&before) || is_outage(&error) => Some(before),
            _ => Some(error),
        };
        self
    }

    /// None of those that are left lets an attempt through, perhaps because it gives nonsense.
    pub(super) fn refused(self, error: Error) -> Failed {
        let Some(before) = self.shown else {
            return self.ended(error);
        };
        let keeps = !is_outage(&before) || is_outage(&error) || error.is_our_own_overload();
        Failed {
            error: if keeps { before } else { error },
            soonest: self.soonest,
            asked: self.asked,
            is_free: false,
        }
    }

    /// The last word is this error: the store's own, or one of ours, which may ask for another attempt at once.
    pub(super) fn ended(self, error: Error) -> Failed {
        let zero = error.retry_after().is_some_and(|after| after.is_zero());
        let at_once = error.was_not_sent() || (zero && error.is_held_back());
        Failed {
            asked: self.asked || error.endpoint().is_some(),
            is_free: error.was_not_sent() && !self.asked,
            soonest: at_once.then_some(Duration::ZERO),
            error,
        }
    }

    /// No endpoint is left.
    pub(super) fn over(self, nothing: impl FnOnce() -> Error) -> Failed {
        Failed {
            error: self.shown.unwrap_or_else(nothing),
            soonest: self.soonest,
            asked: self.asked,
            is_free: false,
        }
    }
}

fn is_outage(error: &Error) -> bool {
    error.kind().permits().counts_for_breaker
}
