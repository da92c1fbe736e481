//! A warning once a second at most, with a count of those in between: an outage must not fill a log.

use std::sync::Mutex;
use std::time::Duration;

use crate::clock::Moment;
use crate::sync::lock;

/// Decides which of many like events is a warning: one a second, at most.
///
/// ```
/// use secret_resolver::{Moment, backend::Seldom};
///
/// let seldom = Seldom::default();
/// assert_eq!(seldom.warns(Moment::ZERO), Some(0));
/// assert_eq!(seldom.warns(Moment::ZERO), None);
/// ```
#[derive(Debug, Default)]
pub struct Seldom(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: Option<Moment>,
    between: u64,
}

impl Seldom {
    const PAUSE: Duration = Duration::from_secs(1);

    /// Whether the event of `now` is a warning: then how many were not one since the last warning.
    pub fn warns(&self, now: Moment) -> Option<u64> {
        let mut state = lock(&self.0);
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
    fn one_event_a_second_warns_and_counts_those_in_between() {
        let seldom = Seldom::default();
        let at = |millis| Moment::ZERO + Duration::from_millis(millis);
        assert_eq!(seldom.warns(at(0)), Some(0));
        assert_eq!(seldom.warns(at(1)), None);
        assert_eq!(seldom.warns(at(999)), None);
        assert_eq!(seldom.warns(at(1000)), Some(2));
        assert_eq!(seldom.warns(at(1999)), None);
        assert_eq!(seldom.warns(at(5000)), Some(1));
        assert_eq!(seldom.warns(at(6000)), Some(0));
    }
}
