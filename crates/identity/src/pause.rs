//! How long the agent is left alone after a failure.

use std::time::Duration;

use secret_resolver::backend::random_part;
use secret_resolver::{Error, ErrorKind};

pub(crate) const SHORTEST: Duration = Duration::from_secs(1);
/// Up to a quarter more of it is added, where many would ask at the same time.
pub(crate) const LONGEST: Duration = Duration::from_secs(24);

/// At least so long after this error. A request that the agent does not take now it will not take soon: such a one is not to be sent
/// again (SPIFFE Workload Endpoint, 6), but an agent may be replaced by another.
pub(crate) fn after(error: &Error) -> Duration {
    match error.kind() {
        ErrorKind::Misconfigured => LONGEST,
        _ => SHORTEST,
    }
}

/// Pauses that become longer, from 1 to 30 s.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) fn new() -> Self {
        Self(SHORTEST)
    }

    /// All is well: the next one is short again.
    pub(crate) fn reset(&mut self) {
        self.0 = SHORTEST;
    }

    pub(crate) async fn wait_after(&mut self, error: &Error) {
        tokio::time::sleep(spread(self.next(error))).await;
    }

    fn next(&mut self, error: &Error) -> Duration {
        let wait = self.0.max(after(error));
        self.0 = (wait * 2).min(LONGEST);
        wait
    }
}

fn spread(wait: Duration) -> Duration {
    wait + random_part(wait / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    #[test]
    fn pauses_become_longer_up_to_thirty_seconds_and_no_two_are_alike() {
        let away = error::new(ErrorKind::Unavailable, "away");
        let mut pauses = Pauses::new();
        let mut next = |error| pauses.next(error).as_secs();
        let seconds: Vec<_> = (0..7).map(|_| next(&away)).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 24, 24]);
        pauses.reset();
        assert_eq!(pauses.next(&away), SHORTEST);
        let wrong = error::misconfigured("wrong");
        assert_eq!(pauses.next(&wrong), LONGEST);
        let spread: Vec<_> = (0..50).map(|_| spread(LONGEST)).collect();
        let thirty = Duration::from_secs(30);
        assert!(spread.iter().all(|wait| (LONGEST..=thirty).contains(wait)));
        assert!(spread.iter().any(|wait| *wait != spread[0]));
    }
}
