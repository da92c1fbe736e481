//! A handle on one secret: always its current version, without waiting.
//!
//! A handle is a name and the path of a hit, so it obeys expiry and the fence as a `get` does. What
//! keeps its value current is `keeper`, one job for all handles.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::watch;

use crate::aside::Aside;
use crate::error::{Error, ErrorKind};
use crate::fork::{self, Process};
use crate::layers::cache::core::{Core, closed_error};
use crate::layers::deadline::too_late;
use crate::name::SecretName;
use crate::race::race;
use crate::resolver::SecretResolver;
use crate::secret::{Record, Secret, print};

/// The current version of one secret, kept current in the background; from
/// [`Resolver::handle`](crate::Resolver::handle). A clone shares the value, not what
/// [`changed`](Self::changed) has seen.
///
/// For code that reads a secret very often or is not async: a read never waits. It obeys expiry and
/// invalidation like a `get`, but asks neither stale values nor a fallback.
///
/// ```
/// use secret_resolver::{Resolver, testing::MockBackend};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let backend = MockBackend::new().with_value("prod/db#password", "first");
/// let resolver = Resolver::builder(backend.clone()).build()?;
/// let mut handle = resolver.handle("prod/db#password").await?;
/// assert_eq!(handle.secret()?.expose_str()?, "first");
///
/// backend.set("prod/db#password", "second");
/// resolver.invalidator().invalidate("prod/db#password")?;
/// handle.changed().await?;
/// assert_eq!(handle.secret()?.expose_str()?, "second");
/// # Ok::<(), secret_resolver::Error>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct SecretHandle {
    place: Arc<Place>,
    news: watch::Receiver<()>,
    /// A keyed hash of the value that was seen last, to tell it from the next.
    print: Option<u64>,
}

/// A handle's place in the cache, given back when its last clone is dropped.
struct Place {
    cache: Arc<dyn Values>,
    /// Where the wakers of waiters run.
    aside: Aside,
    name: SecretName,
    /// The name as it was asked for, without the path of a scope: for errors.
    shown: SecretName,
    address: Box<str>,
    keys: RandomState,
    process: Process,
}

/// What a handle needs of the cache.
trait Values: Send + Sync {
    /// What a `get` of the name would find in memory.
    fn value(&self, name: &SecretName) -> Option<Record>;
    /// Why there is nothing; `None` while a fetch is under way.
    fn why_not(&self, address: &str) -> Option<Error>;
    /// Ready when a fetch must have ended.
    fn patience(&self) -> crate::clock::Sleep;
    fn release(&self, address: &str);
}

impl SecretHandle {
    /// The current secret. Never waits for a fetch. Takes a lock only while there is no value, once
    /// after a signal for a prefix, and for names of a record beyond its first 16.
    ///
    /// # Errors
    /// Why there is none now: the last fetch's error, or [`ErrorKind::Unavailable`] while the next
    /// fetch is under way; [`current`](Self::current) waits for it. [`ErrorKind::Refused`] in a forked
    /// child.
    pub fn secret(&self) -> Result<Secret, Error> {
        self.now().unwrap_or_else(|| {
            let error = Error::new(
                ErrorKind::Unavailable,
                "the secret has no current value; its next fetch is due or under way",
            );
            Err(error.with_name(self.place.shown.borrowed()))
        })
    }

    /// The answer of now; `None` while a fetch is under way.
    fn now(&self) -> Option<Result<Secret, Error>> {
        let Place {
            cache,
            name,
            shown,
            address,
            process,
            ..
        } = &*self.place;
        if !process.is_this() {
            return Some(Err(fork::refused().with_name(shown.borrowed())));
        }
        let answer = match cache.value(name) {
            Some(record) => record.into_secret(),
            None => Err(cache.why_not(address)?),
        };
        Some(answer.map_err(|error| error.with_name(shown.borrowed())))
    }

    /// The current secret; where there is none for the moment, as after an invalidation, waits for the
    /// fetch that is under way.
    ///
    /// # Errors
    /// The error of that fetch; [`ErrorKind::Timeout`] when it has not ended within its budget;
    /// [`ErrorKind::Closed`] when the resolver was shut down or dropped.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn current(&self) -> Result<Secret, Error> {
        if let Some(answer) = self.now() {
            return answer;
        }
        let mut news = self.news.clone();
        let come = async move {
            loop {
                news.mark_unchanged();
                if let Some(answer) = self.now() {
                    return answer;
                }
                if self.place.aside.woken(news.changed()).await.is_err() {
                    return Err(closed_error());
                }
            }
        };
        let late = async {
            self.place.cache.patience().await;
            Err(too_late())
        };
        let Place { process, shown, .. } = &*self.place;
        let answer = process.here(Box::pin(race(come, late))).await;
        answer.unwrap_or_else(|| Err(fork::refused().with_name(shown.borrowed())))
    }

    /// Waits until the secret has another value than when it was last waited for, or than when the
    /// handle was made. A refresh that brings the same value is no change.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] when the resolver was shut down or dropped.
    ///
    /// # Cancel safety
    /// May be dropped at any time; no change is lost.
    pub async fn changed(&mut self) -> Result<(), Error> {
        loop {
            // First: a forked child may take no lock.
            if !self.place.process.is_this() {
                return Err(fork::refused().with_name(self.place.shown.borrowed()));
            }
            self.news.mark_unchanged();
            if let Ok(secret) = self.secret() {
                let print = self.place.print(&secret);
                if self.print.replace(print) != Some(print) {
                    return Ok(());
                }
            }
            let place = Arc::clone(&self.place);
            let news = place.aside.woken(self.news.changed());
            // In a forked child there is none: the loop refuses.
            if let Some(Err(_)) = place.process.here(Box::pin(news)).await {
                return Err(closed_error());
            }
        }
    }

    /// Notes the value of now, so that the next change is one from it.
    pub(crate) async fn seen(mut self) -> Result<Self, Error> {
        // It waits, for a signal may have come since the value was fetched.
        let secret = self.current().await?;
        self.print = Some(self.place.print(&secret));
        Ok(self)
    }
}

impl Place {
    /// A keyed hash, not the value: that one is gone by the time the next comes. A change that it
    /// misses would need two values with the same 64 bits under a secret key.
    fn print(&self, secret: &Secret) -> u64 {
        print(&self.keys, secret.expose_secret())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.process.is_this() {
            self.cache.release(&self.address);
        } else {
            // A lock may be held for ever here: the cache stays as it is.
            std::mem::forget(Arc::clone(&self.cache));
        }
    }
}

impl<R: SecretResolver> Core<R> {
    /// A handle on `name`, and whether the job that keeps handles current is to be started.
    pub(super) fn handle(
        self: &Arc<Self>,
        name: SecretName,
        shown: SecretName,
    ) -> Result<(SecretHandle, bool), Error> {
        let located = self.inner.locate(name.borrowed());
        let address: Box<str> = Box::from(located.address().as_str());
        // Released with the place: a value that was evicted could not be read.
        self.store.retain(&address)?;
        let (news, start) = self.keeper.keep(&located, name.clone());
        let cache: Arc<dyn Values> = Arc::<Self>::clone(self);
        let place = Arc::new(Place {
            cache,
            aside: self.aside.clone(),
            name,
            shown,
            address,
            keys: RandomState::new(),
            process: Process::current(),
        });
        let handle = SecretHandle {
            place,
            news,
            print: None,
        };
        Ok((handle, start))
    }
}

impl<R: SecretResolver> Values for Core<R> {
    fn value(&self, name: &SecretName) -> Option<Record> {
        // When to refresh it is the keeper's to say.
        let hit = self.hit(name.as_str());
        let hit = hit.or_else(|| self.hit_any(name.borrowed()))?;
        Some(hit.record)
    }

    fn why_not(&self, address: &str) -> Option<Error> {
        match self.lock().closed {
            true => Some(closed_error()),
            false => self.keeper.error(address),
        }
    }

    fn patience(&self) -> crate::clock::Sleep {
        let budget = self.config.flight_budget + Duration::from_secs(1);
        self.clock.sleep_until(self.clock.now() + budget)
    }

    fn release(&self, address: &str) {
        self.keeper.release(address);
        self.store.release(address);
    }
}

impl fmt::Debug for SecretHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretHandle").finish_non_exhaustive()
    }
}
