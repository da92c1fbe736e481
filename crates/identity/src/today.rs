//! The time of day, by which what the agent gives ends. All other times here are a `Clock`'s.

use std::time::{Duration, SystemTime};

use secret_resolver::{Error, ErrorKind};

use crate::error;

/// Since 1970.
///
/// # Errors
/// [`ErrorKind::Unavailable`] where the system clock stands before that: nothing can be known to live.
pub(crate) fn today() -> Result<Duration, Error> {
    #[allow(
        clippy::disallowed_methods,
        reason = "the agent on this machine sets ends by the time of day"
    )]
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    today.map_err(|_| {
        let what = "the system clock stands before 1970; set it";
        error::new(ErrorKind::Unavailable, what)
    })
}
