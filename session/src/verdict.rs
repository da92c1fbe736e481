//! What a refusal means: a policy that denies, or a token that is dead. A store may say the same for
//! both, so it is asked whether it knows the token.
//!
//! A dead token is one login and one more read; a denial is neither. However many reads are denied
//! at once, they share one lookup. One endpoint's word against another's is not believed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secret_resolver::{Clock as _, Error, Moment};

use crate::error;
use crate::session::{Session, Shared};
use crate::state::Token;
use crate::store::Store;

/// How long a login whose tokens may not look themselves up goes without another by suspicion.
const BLIND: Duration = Duration::from_secs(60);

/// What becomes of a read that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The token lives: the policy denies.
    Denied,
    /// The token is not in use any more, for another reason: the read deserves another.
    Replaced,
    /// The store does not know the token: the read deserves another.
    Dead,
}

#[derive(Default)]
pub(crate) struct Verdicts {
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

impl<S: Store> Session<S> {
    /// A mark to be taken before a read is sent.
    pub fn mark(&self) -> u64 {
        self.0.verdicts.next()
    }

    /// Judges the refusal of a read with `token` by `endpoint`; `sent` is the mark of the read. `again`
    /// says that the same read was made before, with a token that was [`Verdict::Dead`].
    ///
    /// # Errors
    /// As the lookup: when the store is away, nothing is known and no token is given up. `Unavailable`
    /// when another endpoint knows the token, `Unauthenticated` when it is the second that is dead.
    ///
    /// # Cancel safety
    /// The next that waits sends a lookup of its own.
    pub async fn judge(
        &self,
        token: &Token,
        sent: u64,
        endpoint: usize,
        again: bool,
    ) -> Result<Verdict, Error> {
        let shared = &self.0;
        let mut last = shared.verdicts.last.lock().await;
        let now = shared.clock.now();
        if !shared.lock().uses(token, now) {
            return Ok(Verdict::Replaced);
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
        if shared.knows(token, endpoint).await? {
            *last = Last {
                alive: Some((token.number, at)),
                blind_until: None,
            };
            return Ok(Verdict::Denied);
        }
        if shared.known_elsewhere(token, endpoint).await {
            tracing::warn!(
                backend = S::NAME,
                endpoint,
                "an endpoint refuses a token that another knows"
            );
            return Err(error::stranger());
        }
        // Two tokens in a row that are refused even their own lookup, the second one new:
        // not dead, but without the right to look. Another login would find the same.
        if again && last.alive.is_none() && shared.store.issues_tokens() {
            last.blind_until = Some(now + BLIND);
            tracing::warn!(
                backend = S::NAME,
                "tokens of this login may not look themselves up, so denials and dead tokens look alike; give its role the right to it"
            );
            return Ok(Verdict::Denied);
        }
        // In case it lives, it is revoked after the next login: whatever has answered here would answer
        // the same now.
        shared.lock().bury(token.number, shared.clock.now());
        tracing::info!(backend = S::NAME, "the token is dead");
        match again {
            true => Err(error::dead_again()),
            false => Ok(Verdict::Dead),
        }
    }
}

impl<S: Store> Shared<S> {
    async fn knows(self: &Arc<Self>, token: &Token, endpoint: usize) -> Result<bool, Error> {
        self.counts.lookups.fetch_add(1, Ordering::Relaxed);
        self.store.knows(token.secret(), endpoint).await
    }

    /// Whether another endpoint knows the token; the first that answers decides. Where none does, one
    /// endpoint's word has to be enough: it costs a login, and a token that lives is revoked.
    async fn known_elsewhere(self: &Arc<Self>, token: &Token, endpoint: usize) -> bool {
        let number = self.store.endpoints();
        for step in 1..number {
            if let Ok(knows) = self.knows(token, (endpoint + step) % number).await {
                return knows;
            }
        }
        false
    }
}

impl Verdicts {
    fn next(&self) -> u64 {
        self.order.fetch_add(1, Ordering::Relaxed)
    }
}
