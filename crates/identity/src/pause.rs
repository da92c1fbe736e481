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
        let wait = self.0.max(after(error));
        tokio::time::sleep(wait + random_part(wait / 4)).await;
        self.0 = (wait * 2).min(LONGEST);
    }
}
