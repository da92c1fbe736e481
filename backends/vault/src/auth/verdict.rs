//! What a 403 means: a policy that denies, or a token that is dead. The store says the same for
//! both, so the token is asked to look itself up.
//!
//! A dead token is one login and one more read; a denial is neither. However many reads are denied
//! at once, they share one lookup.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secret_resolver::{Clock as _, Error, ErrorKind, Moment};

use crate::auth::session::Session;
use crate::auth::state::Token;
use crate::auth::token;
use crate::error;

/// How long a login whose tokens may not look themselves up goes without another by suspicion.
const BLIND: Duration = Duration::from_secs(60);

/// What becomes of a read that was answered 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The token lives: the policy denies.
    Denied,
    /// The token is not in use any more: the read deserves another.
    TokenGone,
}

#[derive(Default)]
pub(super) struct Verdicts {
    /// Puts the sending of reads and of lookups into one order.
    order: AtomicU64,
    // Held across the lookup, so that others wait for it instead of sending their own.
    last: tokio::sync::Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// The token that lived when the lookup with this place in the order was sent.
    alive: Option<(u64, u64)>,
    /// Tokens of this login may not look themselves up; until then none is suspected.
    blind_until: Option<Moment>,
}

impl Session {
    /// A mark to be taken before a read is sent.
    pub(crate) fn mark(&self) -> u64 {
        self.0.verdicts.next()
    }

    /// Judges a 403 for a read with `token`, whose mark is `sent`. `again` says that the same read
    /// was made before, with a token that is gone.
    ///
    /// # Errors
    /// As the lookup: when the store is away, nothing is known and no token is given up.
    ///
    /// # Cancel safety
    /// The next who waits sends a lookup of its own.
    pub(crate) async fn judge(
        &self,
        token: &Token,
        sent: u64,
        again: bool,
    ) -> Result<Verdict, Error> {
        let shared = &*self.0;
        let mut last = shared.verdicts.last.lock().await;
        let now = shared.clock.now();
        if !shared.lock().uses(token, now) {
            return Ok(Verdict::TokenGone);
        }
        // A lookup that was sent after the read proves that the token lived at the read, because
        // no token comes back to life. An older one proves nothing.
        let proven = last
            .alive
            .is_some_and(|(number, at)| number == token.number && at > sent);
        if proven || last.blind_until.is_some_and(|until| now < until) {
            return Ok(Verdict::Denied);
        }
        let at = shared.verdicts.next();
        shared.counts.lookups.fetch_add(1, Ordering::Relaxed);
        match token::lookup(&shared.client, &token.secret, None).await {
            Ok(_) => {
                *last = Last {
                    alive: Some((token.number, at)),
                    blind_until: None,
                };
                Ok(Verdict::Denied)
            }
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                // Two tokens in a row that are refused even their own lookup, the second one new:
                // not dead, but without the right to look. Another login would find the same.
                if again && last.alive.is_none() && shared.auth.issues_tokens() {
                    last.blind_until = Some(now + BLIND);
                    tracing::warn!(
                        backend = error::BACKEND,
                        "tokens of this login may not look themselves up, so denials and dead tokens look alike; give its role the default policy"
                    );
                    return Ok(Verdict::Denied);
                }
                shared
                    .lock()
                    .bury(token.number, shared.auth.issues_tokens());
                tracing::info!(backend = error::BACKEND, "the token is dead");
                Ok(Verdict::TokenGone)
            }
            Err(error) => Err(error),
        }
    }
}

impl Verdicts {
    fn next(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }
}
