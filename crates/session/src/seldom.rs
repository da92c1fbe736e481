//! A warning once a second at most, with a count of those in between. The core has the same for fetches; it makes
//! nothing public for it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secret_resolver::Moment;

/// Decides which of many like events is a warning.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<State>);

#[derive(Default)]
struct State {
    next: Option<Moment>,
    between: u64,
}

impl Seldom {
    const PAUSE: Duration = Duration::from_secs(1);

    /// Whether the event of `now` is a warning: then how many were not one since the last warning.
    pub(crate) fn warns(&self, now: Moment) -> Option<u64> {
        // Each step leaves it whole.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_some_and(|next| now < next) {
            state.between += 1;
            return None;
        }
        state.next = Some(now + Self::PAUSE);
        Some(std::mem::take(&mut state.between))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_login_a_second_is_a_warning_and_counts_the_others() {
        let seldom = Seldom::default();
        let at = |millis| Moment::ZERO + Duration::from_millis(millis);
        let warned = [0, 1, 999, 1000, 1999, 5000, 6000].map(|millis| seldom.warns(at(millis)));
        assert_eq!(
            warned,
            [Some(0), None, None, Some(2), None, Some(1), Some(0)]
        );
    }
}
